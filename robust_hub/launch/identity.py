"""What decides a run's result, and the output folder that belongs to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from accelerate import Accelerator

from robust_hub.files import UNFINISHED, write_json
from robust_hub.launch.output import Output

IDENTITY = "run.json"


def identity_of(
    accelerator: Accelerator, method: str, config: Any, *, sha256: Mapping[str, str] = MappingProxyType({})
) -> dict:
    """Collects what decides a run's result, as plain values.

    Args:
        accelerator: its processes, precision and accumulation count.
        method: with its arguments.
        config: a dataclass; every field but `output` counts.
        sha256: fingerprints of what the configuration only names, such as the teacher.
    """
    chosen = {key: value for key, value in asdict(config).items() if key != "output"}
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


def claim_output(accelerator: Accelerator, output: Output, identity: dict) -> None:
    """Writes the configuration into the output folder and starts the tracker; from here on the folder is this run's."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        output.folder.mkdir(parents=True, exist_ok=True)
        write_json(output.folder / IDENTITY, identity)
        output.checkpoints.mkdir(exist_ok=True)
    accelerator.wait_for_everyone()
    if output.log_with != "none":
        accelerator.init_trackers(output.folder.name)


def check_output(output: Output, identity: dict) -> None:
    """Checks that the output folder is free, or holds this very run and it is to be resumed; writes nothing.

    Raises:
        ValueError: when it is not.
    """
    if output.folder.exists() and not output.folder.is_dir():
        raise ValueError(f"{output.folder} is a file; choose another --output")
    if not output.folder.exists() or {path.name for path in output.folder.iterdir()} <= {IDENTITY + UNFINISHED}:
        return
    file = output.folder / IDENTITY
    if not file.is_file():
        raise ValueError(f"{output.folder} is not empty and holds no run; choose another --output")
    if not output.resume:
        raise ValueError(
            f"{output.folder} holds a run already; add --resume to go on with it, or choose another --output"
        )
    before = json.loads(file.read_text())
    for key in {**before, **identity}:
        if before.get(key) != identity.get(key):
            raise ValueError(
                f"{output.folder} holds another run: its {key} is {before.get(key)!r}, not {identity.get(key)!r}; "
                "resume with the same options, or choose another --output"
            )
