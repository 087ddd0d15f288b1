"""What a run runs on: its accelerator, its command, and the machine as a card tells it."""

import os
import platform
import re
import shlex
import sys
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

import psutil
import torch
from accelerate import Accelerator
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    is_tensorboard_available,
    is_trackio_available,
)

from robust_hub.launch.output import Output
from robust_hub.launch.processes import watch
from robust_hub.names import public

# How weights and batches may be divided over devices.
TRIED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
PACKAGES = ("robust_hub", "torch", "timm", "accelerate")


def make_accelerator(output: Output, *, gradient_accumulation_steps: int = 1) -> Accelerator:
    """Makes the accelerator that `accelerate launch` asked for, and lets its processes watch each other.

    Args:
        output: says where curves go.
        gradient_accumulation_steps: into how many parts a batch is divided.

    Raises:
        ValueError: when the tracker is not installed, the device is none that second derivatives were tried on, or
            gradient accumulation was asked of accelerate launch, which passes it on to DeepSpeed alone.
    """
    if any(word.startswith("--gradient_accumulation_steps") for word in _launcher()):
        raise ValueError(
            "accelerate launch does not pass --gradient_accumulation_steps on; say --gradient-accumulation-steps N "
            "behind the recipe's name"
        )
    available = {"none": True, "tensorboard": is_tensorboard_available(), "trackio": is_trackio_available()}
    if not available[output.log_with]:
        raise ValueError(f"--log-with {output.log_with} needs a package that is missing; pip install {output.log_with}")
    accelerator = Accelerator(
        gradient_accumulation_steps=gradient_accumulation_steps,
        log_with=None if output.log_with == "none" else output.log_with,
        project_dir=output.folder,
        # Some of timm's architectures have weights that take no part in the logits, and a discriminator rests at times.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    if accelerator.device.type == "mps":
        raise ValueError(
            "attacks and second derivatives were never tried on mps; say accelerate launch --cpu, before the recipe's "
            "name"
        )
    if accelerator.distributed_type not in TRIED:
        raise ValueError(
            f"{accelerator.distributed_type.value} was never tried; let accelerate launch say --multi_gpu instead, and "
            "where the student does not fit into one device, --grad-checkpointing behind the recipe's name"
        )
    watch(accelerator)
    return accelerator


def _launcher() -> list[str]:
    """Gives the options that the process which started this one has before the recipe's name; none where it is gone."""
    try:
        parent = psutil.Process().parent()
        words = parent.cmdline() if parent is not None else []
    except psutil.Error:
        return []
    return list(takewhile(lambda word: not word.endswith(".py") and not word.startswith("robust_hub."), words[1:]))


def versions() -> dict[str, str]:
    """Tells the versions of the packages that matter."""
    return {package: version(package) for package in PACKAGES}


def told_command(launcher: str = "accelerate launch") -> str:
    """Writes the command that runs, as a card tells it: of paths that lead elsewhere, only the last name."""
    option = re.compile(r"(--[\w-]+=)?(.*)", re.DOTALL)
    words = [option.sub(lambda told: (told[1] or "") + public(told[2]), word, count=1) for word in sys.argv[1:]]
    return f"{launcher} {shlex.join([os.path.relpath(sys.argv[0]), *words])}"


def peak_memory(accelerator: Accelerator) -> int:
    """Tells the most bytes that this process has held so far: of the accelerator's memory, or of the machine's."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated(accelerator.device)
    if platform.system() == "Windows":
        return psutil.Process().memory_info().peak_wset
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Of bytes on macOS, of kilobytes elsewhere.
    return most * (1 if platform.system() == "Darwin" else 1024)


def hardware(accelerator: Accelerator) -> str:
    """Names the machine: processes, device and precision."""
    if accelerator.device.type == "cuda":
        device = torch.cuda.get_device_name(accelerator.device)
    else:
        device = f"{_cpu_name()}, {torch.get_num_threads()} threads"
    return f"{accelerator.num_processes} x ({device}), {accelerator.mixed_precision.replace('no', 'float32')}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.is_file() else None
    return found.group(1) if found else platform.processor() or platform.machine()
