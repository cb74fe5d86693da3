"""Tries every architecture with encoders of every kind: works, refused in one line, or crashed.

python benchmarks/networks_matrix.py [architecture ...]    some ten minutes on a core, no weights

A pair works when the trial before a training lets it pass.
"""

import gc
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

SIZE = (64, 96)
BATCH = 2
ENCODERS = {
    "SMP": "resnet18 resnext50_32x4d dpn68 vgg11_bn se_resnet50 densenet121 inceptionresnetv2 "
    "inceptionv4 efficientnet-b0 mobilenet_v2 xception timm-efficientnet-b0 "
    "timm-tf_efficientnet_lite0 timm-skresnet18 mit_b0 mobileone_s0",
    "SMP's aliases": "timm-regnetx_002 timm-res2net50_26w_4s timm-resnest14d "
    "timm-mobilenetv3_small_075 timm-gernet_s",
    "timm, convolutions": "tu-resnet18 tu-convnext_atto tu-mobilenetv3_small_050 tu-regnety_002 "
    "tu-tresnet_m tu-dla34 tu-hrnet_w18_small_v2 tu-vgg11",
    "timm, hierarchical": "tu-swin_tiny_patch4_window7_224 tu-swinv2_tiny_window8_256 "
    "tu-maxvit_tiny_tf_224 tu-coatnet_nano_rw_224 tu-hiera_tiny_224 tu-mvitv2_tiny tu-pvt_v2_b0 "
    "tu-mobilevitv2_050 tu-gcvit_xxtiny tu-nest_tiny",
    "timm, plain": "tu-vit_tiny_patch16_224 tu-vit_small_patch14_dinov2 tu-vit_base_patch8_224 "
    "tu-beit_base_patch16_224 tu-eva02_tiny_patch14_224 tu-xcit_nano_12_p16_224 "
    "tu-samvit_base_patch16",
}


def outcome(name: str) -> tuple[str, str]:
    """(works, refused or crashed, why) of one network."""
    from core.errors import UserError
    from training.trial import try_network

    try:
        try_network(name, channels=3, outputs=2, gates=0, size=SIZE, batch=BATCH, crops=False)
    except UserError as error:
        return ("crashed" if "\n" in str(error) else "refused"), str(error)
    except Exception as error:
        return "crashed", repr(error)
    return "works", ""


def main(architectures: Sequence[str]) -> int:
    """Prints a line a pair that does not work, then the counts; 1 where one crashed."""
    from networks.smp import ARCHITECTURES

    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    for architecture in architectures or ARCHITECTURES:
        for encoder in " ".join(ENCODERS.values()).split():
            kind, why = outcome(f"smp_{architecture}_{encoder}")
            counts[kind] += 1
            if why:
                print(f"{kind}: {architecture} {encoder}: {why}", flush=True)
            gc.collect()
        print(f"{architecture}: {dict(counts)}", flush=True)
    told = ", ".join(f"{counts[kind]} {kind}" for kind in ("works", "refused", "crashed"))
    print(f"{counts.total()} pairs at {SIZE[0]} x {SIZE[1]}: {told}")
    return int(counts["crashed"] > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
