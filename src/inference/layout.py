"""The memory layout in which a loaded network predicts."""

import torch

from Lightning_module import SegmentationModule
from training.checkpoints import notes_of
from training.memory_format import WORTH, gain_of_channels_last, machine_of
from training.precision import choose_precision, cpu_has_bf16

# (network, spec, machine) to whether channels_last is faster, within this process.
_measured: dict[tuple[object, ...], bool] = {}


def lay_out(module: SegmentationModule, device: torch.device) -> None:
    """Puts a network on its device into the layout that predicts faster there.

    Its training has measured that, if it was on such a machine or CHANNELS_LAST was on or off; else
    one image a layout is predicted here, once for all folds of a run.
    """
    module.to(device)
    here = machine_of(device)
    known = notes_of(module.hparams).get("channels_last")
    if known and known["machine"] in (here, "any"):
        module.set_channels_last(known["predict"])
        return
    key = (module.hparams["model_name"], module.spec, here)
    if key not in _measured:
        on_gpu = device.type == "cuda"
        precision = choose_precision("auto", cuda=on_gpu, cpu_bf16=cpu_has_bf16())
        image = torch.zeros(1, module.spec.channels, *module.spec.size, device=device)
        gain = gain_of_channels_last(module.model, image, precision=precision, training=False)
        _measured[key] = gain > WORTH
    module.set_channels_last(_measured[key])
