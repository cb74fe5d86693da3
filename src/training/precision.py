"""Which number format a machine multiplies fast."""

from pathlib import Path
from typing import Any


def choose_precision(asked: str, *, cuda: bool, cpu_bf16: bool) -> Any:
    """Lightning's precision name: auto is fp16 on CUDA, bf16 on a CPU that has it, else fp32.

    fp16 asked on a CPU is the wrong type there: it becomes what auto chooses.
    """
    if asked != "auto" and (cuda or asked != "16-mixed"):
        return asked
    if cuda:
        return "16-mixed"
    return "bf16-mixed" if cpu_bf16 else "32-true"


def precision_here(asked: str, accelerator: str) -> Any:
    """`choose_precision` for this machine and Lightning's accelerator name."""
    return choose_precision(asked, cuda=uses_cuda(accelerator), cpu_bf16=cpu_has_bf16())


def uses_cuda(accelerator: str) -> bool:
    """Whether that accelerator name ends on a CUDA device here."""
    import torch

    return torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX512-BF16, AMX or Arm's)."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))
