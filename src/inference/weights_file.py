"""A network as .safetensors with a .json beside, which describes it."""

from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from torch import nn

from core.files import write_json, writing
from Lightning_module import SegmentationModule

# Of a checkpoint's notes: with the measured memory layout the same machine predicts the same bytes.
TRAVELLING_NOTES = ("run", "fold", "channels_last")


_distributions = cache(packages_distributions)


def packages_of(network: nn.Module) -> dict[str, str]:
    """Versions of the installed packages that the parts of a network are written in, by name."""
    modules = {type(part).__module__.partition(".")[0] for part in network.modules()}
    names = {name for module in modules for name in _distributions().get(module, [])}
    versions = {name: version(name).partition("+")[0] for name in sorted(names)}
    return {name.replace("_", "-").lower(): one for name, one in versions.items()}


def write_weights(module: SegmentationModule, path: Path, *, half: bool = False) -> None:
    """Weights as .safetensors, and a .json beside that describes the network; `load_module` reads.

    Args:
        half: floats become fp16, half the size; probabilities move in their third digit.
    """
    from safetensors.torch import save

    state = {}
    for key, value in module.state_dict().items():
        kept = value.half() if half and value.is_floating_point() else value
        state[key] = kept.detach().clone().contiguous()
    values = dict(module.hparams)
    notes = values.get("notes") or {}
    # The full configuration holds paths of this machine.
    values["notes"] = {key: notes[key] for key in TRAVELLING_NOTES if key in notes}
    with writing(path) as part:
        part.write_bytes(save(state))  # save_file has an error of its own for a full disk
    described = {"module": values, "packages": packages_of(module.model)}
    write_json(path.with_suffix(".json"), described)
