"""What decides a run's result, and the output folder that belongs to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerate import Accelerator

from robust_hub.data import BUILTIN
from robust_hub.files import UNFINISHED, write_json
from robust_hub.launch.environment import versions
from robust_hub.launch.output import Output
from robust_hub.launch.processes import check_same, check_shared
from robust_hub.launch.tracking import start_tracking
from robust_hub.names import CONFIG, WEIGHTS

IDENTITY = "run.json"
FACTS = "data_facts"
# Older runs wrote it, and could not resume with another number of processes.
PROCESSES = "processes"


def identity_of(
    accelerator: Accelerator, method: str, config: Any, *, sha256: Mapping[str, str] = MappingProxyType({})
) -> dict:
    """Collects what decides a run's result, as plain values.

    Args:
        accelerator: its precision and accumulation count.
        method: with its arguments.
        config: a dataclass; every field but `output` counts.
        sha256: fingerprints of what the configuration only names, such as the teacher.
    """
    chosen = {key: value for key, value in asdict(config).items() if key != "output"}
    # Not how many processes there are: a run may go on with more or fewer.
    layout = {
        "mixed_precision": accelerator.mixed_precision,
        "gradient_accumulation": accelerator.gradient_accumulation_steps,
    }
    # As JSON reads it back, so that a tuple is compared with what it was written as.
    return json.loads(
        json.dumps(
            {"method": method, **chosen, **{f"{name}_sha256": value for name, value in sha256.items()}, **layout}
        )
    )


def claim_output(
    accelerator: Accelerator, output: Output, identity: dict, *, facts: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Writes the configuration into the output folder and starts the tracker; from here on the folder is this run's.

    Args:
        accelerator: of the run.
        output: where it writes.
        identity: what decides its result.
        facts: what its data set is, as plain values: told beside it, and no reason to call a run another one.

    Raises:
        ValueError: when the processes are not about the same, or don't share the folder.
    """
    check_same({"the version of": versions(), **identity, "of the data": facts})
    if accelerator.is_main_process:
        output.folder.mkdir(parents=True, exist_ok=True)
        write_json(output.folder / IDENTITY, {**identity, **({FACTS: dict(facts)} if facts else {})})
        output.checkpoints.mkdir(exist_ok=True)
    check_shared(accelerator, output.folder)
    if output.log_with != "none":
        start_tracking(accelerator, output.folder.name)


def check_output(output: Output, identity: dict) -> None:
    """Checks that the output folder is free, or holds this very run and it is to be resumed; writes nothing.

    Raises:
        ValueError: when it is not, there is no run to resume, or the folder lies in one that the run reads.
    """
    check_apart(output.folder, identity.get("source", {}).get("data", ""))
    if output.resume and not output.folder.exists():
        raise ValueError(f"there is no run in {output.folder} to resume; check --output, or leave --resume away")
    # Nothing at all is what a run leaves that is killed as it begins.
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
    for key in (FACTS, PROCESSES):
        before.pop(key, None)
    # A run of before knows nothing of an option that is newer, and nobody has used.
    newer = [key for key in identity if key not in before and not identity[key]]
    for key in {**before, **identity}:
        if key not in newer and before.get(key) != identity.get(key):
            raise ValueError(
                f"{output.folder} holds another run: its {key} is {before.get(key)!r}, not {identity.get(key)!r}; "
                "resume with the same options, or choose another --output"
            )


def check_apart(folder: Path, data: str = "") -> None:
    """Checks that a folder to write into is none that is read: not the data's, no model's, and not inside of one.

    Args:
        folder: to write into; it need not be there.
        data: the data set, as its user named it.

    Raises:
        ValueError: when it is, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another --output")
    place = folder.expanduser().resolve()
    read = Path(data).expanduser().resolve() if data and data not in BUILTIN else None
    for above in (place, *place.parents):
        if above == read:
            raise ValueError(f"--output {folder} lies in the folder of the data, {data}; choose one outside of it")
        if (above / CONFIG).is_file() and (above / WEIGHTS).is_file():
            raise ValueError(f"--output {folder} lies in the folder of a model, {above}; choose one outside of it")
