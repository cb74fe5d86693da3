"""Tries the network, loss, metric and augmentation of config.py before they are trained: a minute.

python src/test_model.py                          with the images of output/train_folds.csv, if any
python src/test_model.py --model-name mine        a row of your own

Prints the parts of the network, its cost at CROP_SIZE, what each check found, and the machine.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.errors import UserError, script
from core.flags import load_config
from core.quantities import counted

if TYPE_CHECKING:
    from runs.run import Run


def machine_lines() -> list[str]:
    """Versions and devices, a line each."""
    import torch

    lines = [f"torch {torch.__version__}, Python {platform.python_version()}"]
    if torch.cuda.is_available():
        cudnn = torch.backends.cudnn.version()
        lines.append(f"CUDA {torch.version.cuda}, cuDNN {cudnn}")
        for at in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(at)
            lines.append(f"device {at}: {device.name}, {device.total_memory / 1e9:.1f} GB")
    else:
        lines.append(
            f"no CUDA device: {counted(torch.get_num_threads(), 'thread')} of the processor"
        )
    return lines


def summary_lines(model: Any) -> list[str]:
    """Parts of the network with their parameters, then the total."""
    from looking.measuring import count_parameters

    net = getattr(model, "net", model)
    parts = [
        (name, type(part).__name__, count_parameters(part)) for name, part in net.named_children()
    ]
    lines = [f"  {name:<20} {kind:<28} {count:>12,}" for name, kind, count in parts if count]
    return [*lines, f"{count_parameters(model):,} parameters"]


def cost_lines(cost: Any, size: tuple[int, int]) -> list[str]:
    """Operations, memory, speed and the largest batch."""
    return [
        f"at {size[0]} x {size[1]}: {cost.flops / 1e9:.2f} GFLOP an image, "
        f"{1000 * cost.train:.0f} ms to train on, {1000 * cost.infer:.0f} ms to predict",
        f"memory: {cost.kept / 1e6:.0f} MB an image in training, {counted(cost.batch, 'image')} in "
        f"{cost.memory / 1e9:.1f} GB",
    ]


def bench_of(config: Any) -> Any:
    """What is tried: images of train_folds.csv where there are any, else drawn ones."""
    import torch

    from Lightning_datamodule import collate_samples
    from Lightning_module import build_module
    from looking.self_test import Bench, drawn_batch
    from runs.experiment import fit_of, run_of
    from training.precision import uses_cuda

    run, fit = run_of(config), fit_of(config)
    spec = run.spec
    torch.manual_seed(fit.seed)  # two calls say the same
    module = build_module(
        fit.model_name, spec, recipe=fit.recipe, encoder_weights=fit.encoder_weights
    )
    module = module.to("cuda" if uses_cuda(config.ACCELERATOR) else "cpu")
    dataset = training_data(run, augment=config.AUGMENTATION, seed=fit.seed)
    if dataset is None:
        print(f"no {config.FOLDS_CSV}: drawn images are tried")
        batch = drawn_batch(spec, spec.size)
    else:
        step = max(1, len(dataset) // 2)
        batch = collate_samples([dataset[(at * step % len(dataset), 0)] for at in range(2)])
    moved = {
        key: value.to(module.device) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    return Bench(spec, moved, config.LOSS, config.METRIC, module.loss, module, dataset)


def training_data(run: "Run", *, augment: str, seed: int) -> Any:
    """The augmented training images, None where folds.py has not run."""
    from dataset import SegmentationDataset
    from Lightning_datamodule import rows_in

    if not run.folds_csv.is_file():
        return None
    return SegmentationDataset(
        rows_in(run.table), run.input, spec=run.spec, masks=run.masks, augment=augment, seed=seed
    )


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 2 when a check fails."""
    config, _ = load_config(argv, description=__doc__)
    from looking.measuring import measure_cost
    from looking.self_test import CHECKS
    from runs.names import check_names

    check_names(config)
    bench = bench_of(config)
    print("\n".join([*machine_lines(), config.MODEL_NAME, *summary_lines(bench.module.model)]))
    print(
        "\n".join(cost_lines(measure_cost(bench.module, bench.batch), bench.spec.size)), flush=True
    )
    failed = []
    for name, check in CHECKS.items():
        problem = check(bench)
        print(
            f"{'FAIL' if problem else 'ok  '} {name}{': ' + problem if problem else ''}", flush=True
        )
        failed += [f"{name}: {problem}"] if problem else []
    if failed:
        raise UserError(
            "\n".join([f"{counted(len(failed), 'check')} failed:", *(f"  {one}" for one in failed)])
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
