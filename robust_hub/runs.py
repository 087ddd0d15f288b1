"""A run: one output folder that belongs to one configuration."""

import json
import os
import platform
import re
import resource
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, is_tensorboard_available, is_trackio_available

from robust_hub.messages import public
from robust_hub.records import UNFINISHED, write_json

IDENTITY = "run.json"


@dataclass(frozen=True)
class Run:
    """Where a run writes.

    Attributes:
        output: the folder; it must be new, unless the run is resumed.
        resume: goes on from the last checkpoint of the same run, killed at whatever moment.
        log_with: a tracker for the curves.
    """

    output: Path
    resume: bool = False
    log_with: Literal["none", "tensorboard", "trackio"] = "none"

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are kept."""
        return self.output / "checkpoints"


def make_accelerator(run: Run) -> Accelerator:
    """Makes the accelerator that `accelerate launch` asked for; writes nothing.

    Raises:
        ValueError: when the tracker is not installed.
    """
    available = {"none": True, "tensorboard": is_tensorboard_available(), "trackio": is_trackio_available()}
    if not available[run.log_with]:
        raise ValueError(f"--log-with {run.log_with} needs a package that is missing; pip install {run.log_with}")
    return Accelerator(
        log_with=None if run.log_with == "none" else run.log_with,
        project_dir=run.output,
        # Some of timm's architectures have weights that take no part in the logits, and a discriminator rests at times.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def identity_of(
    accelerator: Accelerator, method: str, config: Any, *, sha256: Mapping[str, str] = MappingProxyType({})
) -> dict:
    """Collects what decides a run's result, as plain values.

    Args:
        accelerator: its processes, precision and accumulation count.
        method: with its arguments.
        config: a dataclass; every field but `run` counts.
        sha256: fingerprints of what the configuration only names, such as the teacher.
    """
    chosen = {key: value for key, value in asdict(config).items() if key != "run"}
    layout = {
        "processes": accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
        "gradient_accumulation": accelerator.gradient_accumulation_steps,
    }
    # As JSON reads it back, so that a tuple is compared with what it was written as.
    return json.loads(
        json.dumps(
            {"method": method, **chosen, **{f"{name}_sha256": value for name, value in sha256.items()}, **layout}
        )
    )


def claim_folder(accelerator: Accelerator, run: Run, identity: dict) -> None:
    """Writes the configuration into the output folder and starts the tracker; from here on the folder is this run's."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        run.output.mkdir(parents=True, exist_ok=True)
        write_json(run.output / IDENTITY, identity)
        run.checkpoints.mkdir(exist_ok=True)
    accelerator.wait_for_everyone()
    if run.log_with != "none":
        accelerator.init_trackers(run.output.name)


def told_command(launcher: str = "accelerate launch") -> str:
    """Writes the command that runs, as a card tells it: of paths that lead elsewhere, only the last name."""
    options = [re.fullmatch(r"(--[\w-]+=)?(.*)", word, re.DOTALL) for word in sys.argv[1:]]
    words = [(option[1] or "") + public(option[2]) for option in options]
    return f"{launcher} {shlex.join([os.path.relpath(sys.argv[0]), *words])}"


def peak_memory(accelerator: Accelerator) -> int:
    """Tells the most bytes that this process has held so far: of the accelerator's memory, or of the machine's."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated(accelerator.device)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if platform.system() == "Darwin" else 1024)


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


def check_folder(run: Run, identity: dict) -> None:
    """Checks that the output folder is free, or holds this very run and it is to be resumed; writes nothing.

    Raises:
        ValueError: when it is not.
    """
    if run.output.exists() and not run.output.is_dir():
        raise ValueError(f"{run.output} is a file; choose another --output")
    if not run.output.exists() or {path.name for path in run.output.iterdir()} <= {IDENTITY + UNFINISHED}:
        return
    file = run.output / IDENTITY
    if not file.is_file():
        raise ValueError(f"{run.output} is not empty and holds no run; choose another --output")
    if not run.resume:
        raise ValueError(f"{run.output} holds a run already; add --resume to go on with it, or choose another --output")
    before = json.loads(file.read_text())
    for key in {**before, **identity}:
        if before.get(key) != identity.get(key):
            raise ValueError(
                f"{run.output} holds another run: its {key} is {before.get(key)!r}, not {identity.get(key)!r}; "
                "resume with the same options, or choose another --output"
            )
