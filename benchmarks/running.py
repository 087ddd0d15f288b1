"""Runs a recipe as its users do, in a process of its own, and reads what came of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from robust_hub.evaluation import Accuracy, Difference, Report
from robust_hub.files import write_text
from robust_hub.model_folder import ModelFolder, TrainingCost

ROOT = Path(__file__).resolve().parents[1]


Precision = Literal["no", "bf16"]


def launch(
    words: Sequence[str], place: Path, *, data: Path | str, threat: str, seed: int, precision: Precision = "no"
) -> None:
    """Runs a recipe, or goes on with it where it was killed; what has ended already is left as it is.

    The recipe is ended once its result is written: what it would show beside that, a teacher under attack, takes longer
    than some students need to learn.

    Args:
        words: the recipe's file and its options.
        place: where it writes; what it prints goes beside it.
        data: folder or name of the images.
        threat: as the recipes take it.
        seed: of the run.
        precision: of training, as Accelerate calls it.
    """
    if has_ended(place):
        return
    # The recipe runs elsewhere than whoever asks for it.
    place = place.resolve()
    script, *options = words
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--cpu", "--num_processes", "1"]
    command += ["--num_machines", "1", "--mixed_precision", precision, "--dynamo_backend", "no"]
    command += [
        "--num_cpu_threads_per_process",
        str(len(os.sched_getaffinity(0))),
        str(ROOT / "recipes" / script),
        *options,
    ]
    where = data.resolve() if isinstance(data, Path) else data
    command += ["--data", str(where), "--threat", threat, "--seed", str(seed), "--output", str(place)]
    command += ["--resume"] if place.exists() else []
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".log").open("a") as log:
        # The launcher does not pass on what it is told: both are ended by their session.
        recipe = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        while recipe.poll() is None and not has_ended(place):
            time.sleep(0.5)
        if recipe.poll() is None:
            os.killpg(recipe.pid, signal.SIGTERM)
        recipe.wait()
    if not has_ended(place):
        raise subprocess.CalledProcessError(recipe.returncode, command)


def has_ended(place: Path) -> bool:
    """Tells whether a run has written its result, a model folder or the evaluation of one."""
    return any((place / folder / "evaluation.json").is_file() for folder in ("student", ""))


@dataclass(frozen=True)
class Trial:
    """What came of a run.

    Attributes:
        name: of what was run.
        seed: of the run.
        clean: which of the tested images were classified rightly, a digit each.
        robust: which of them withstood PGD-50.
        passes: of all networks, forward and backward, an image each.
        seconds: of training.
        hardware: on which.
    """

    name: str
    seed: int
    clean: str
    robust: str
    passes: int
    seconds: int
    hardware: str

    @classmethod
    def of(cls, place: Path, name: str, seed: int) -> "Trial":
        """Reads what a run measured and cost."""
        report, cost = outcome(place)
        masks = ("".join(map(str, mask.astype(int))) for mask in (report.evaluation.clean, report.evaluation.robust))
        return cls(name, seed, *masks, passes_of(cost), round(cost.seconds), cost.hardware)

    @property
    def accuracies(self) -> tuple[Accuracy, Accuracy]:
        """Clean and robust."""
        return Accuracy.of(_bits(self.clean)), Accuracy.of(_bits(self.robust))

    def against(self, other: "Trial") -> tuple[Difference, Difference]:
        """By how much it is more accurate and more robust than another on the same images."""
        clean = Difference.of(_bits(self.clean), _bits(other.clean))
        return clean, Difference.of(_bits(self.robust), _bits(other.robust))


Result = TypeVar("Result")


def read_results(kind: type[Result], file: Path) -> list[Result]:
    """Reads what has been measured so far, a dataclass a line."""
    return [kind(**result) for result in json.loads(file.read_text())] if file.is_file() else []


def add_result(file: Path, result: Any) -> None:
    """Adds a line to those there are, whoever else adds one; the file is whole at any time."""
    with FileLock(file.with_suffix(".lock")):
        lines = ",\n".join(map(json.dumps, [*map(asdict, read_results(type(result), file)), asdict(result)]))
        write_text(file, f"[\n{lines}\n]\n")


def read_trials(file: Path) -> list[Trial]:
    """Reads the trials so far."""
    return read_results(Trial, file)


def run_missing(
    commands: Mapping[str, Sequence[str]], trials: Path, output: Path, *, data: Path, seeds: int
) -> Iterator[Trial]:
    """Runs what has no trial yet, at linf 8/255 in bfloat16, and gives what came of each; whoever asks adds it.

    Args:
        commands: the recipe and its options, by name.
        trials: the file of those there are.
        output: where the runs write.
        data: folder of the images.
        seeds: how many of each.
    """
    for seed in range(seeds):
        for name, words in tqdm(commands.items(), desc=f"seed {seed}"):
            if (name, seed) in {(trial.name, trial.seed) for trial in read_trials(trials)}:
                continue
            place = output / f"{name.replace(' ', '-').replace(',', '')}_{seed}"
            launch(words, place, data=data, threat="linf:8/255", seed=seed, precision="bf16")
            yield Trial.of(place, name, seed)


def verdict(difference: Difference) -> str:
    """Says in a word what a paired interval says."""
    if difference.low > 0:
        return "more"
    return "less" if difference.high < 0 else "as"


def _bits(mask: str) -> np.ndarray:
    return np.array([digit == "1" for digit in mask])


def outcome(place: Path) -> tuple[Report, TrainingCost]:
    """Reads what a run measured on its test images, and what it cost."""
    folder = place / "student"
    provenance = ModelFolder.at(folder).provenance
    assert provenance is not None
    assert provenance.training is not None
    return Report.read(folder), provenance.training


def passes_of(cost: TrainingCost) -> int:
    """Counts the passes of all networks, forward and backward, an image each."""
    return sum(count for counts in cost.passes.values() for count in counts.values())
