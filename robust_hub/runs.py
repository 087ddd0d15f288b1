"""A run: one output folder that belongs to one configuration."""

import json
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.utils import is_tensorboard_available, is_trackio_available

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


def identity_of(method: str, config: Any) -> dict:
    """Collects what decides a run's result, as plain values: the method and every field of its config but `run`."""
    return {"method": method, **{key: value for key, value in asdict(config).items() if key != "run"}}


def make_accelerator(run: Run, identity: dict) -> Accelerator:
    """Checks that the output folder is free for this configuration, and makes the accelerator; writes nothing.

    Args:
        run: where and how.
        identity: everything that decides the result, as plain values.

    Raises:
        ValueError: when the folder holds something else, or the tracker is not installed.
    """
    available = {"none": True, "tensorboard": is_tensorboard_available(), "trackio": is_trackio_available()}
    if not available[run.log_with]:
        raise ValueError(f"--log-with {run.log_with} needs a package that is missing; pip install {run.log_with}")
    _check_folder(run, identity)
    return Accelerator(log_with=None if run.log_with == "none" else run.log_with, project_dir=run.output)


def claim_folder(accelerator: Accelerator, run: Run, identity: dict) -> None:
    """Writes the configuration into the output folder and starts the tracker; from here on the folder is this run's."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
        (run.output / IDENTITY).write_text(json.dumps(identity, indent=2) + "\n")
    if run.log_with != "none":
        accelerator.init_trackers(run.output.name)


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


def _check_folder(run: Run, identity: dict) -> None:
    if not run.output.exists() or (run.output.is_dir() and not any(run.output.iterdir())):
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
