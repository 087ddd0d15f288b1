"""What an evaluation ends with: evaluation.json, which tells all of it, and one table."""

from dataclasses import MISSING, asdict, astuple, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tabulate import tabulate

from robust_hub.attacks import protocol_of
from robust_hub.data import DataFacts, Rule, Source
from robust_hub.errors import CheckpointError
from robust_hub.evaluation.accuracy import Accuracy, Check, Cost, Evaluation
from robust_hub.evaluation.curve import Curve
from robust_hub.evaluation.stress import Stress
from robust_hub.files import as_record, read_json, write_json
from robust_hub.models import Preprocessing
from robust_hub.names import EVALUATION
from robust_hub.threats import parse_threat

SearchPrecision = Literal["float32", "bfloat16"]
FORMAT = 2
# What the images of evaluations of before were, which do not tell it.
NOT_TOLD_OF_SOURCES = {"group_by": "", "tested": "test"}


@dataclass(frozen=True)
class _Told:
    """What evaluation.json tells of the images; the numbers are those of the masks."""

    attack: str
    n: int
    clean_accuracy: Accuracy
    robust_accuracy: Accuracy
    seconds: float
    labels: list[int]
    clean: str
    survivors: dict[str, str]


@dataclass(frozen=True)
class Report:
    """What evaluation.json holds: an `Evaluation`, on what it was measured, and how; nothing in it is typed by hand.

    Attributes:
        model: as it was named.
        architecture: timm's name of the network.
        model_sha256: of its weights, mean and std; see `PixelClassifier.fingerprint`.
        source: where the images are from.
        data_sha256: of the images tested and their classes, see `data.data_sha256`.
        label_names: of the classes, in the order of the logits.
        threat: as `parse_threat` reads it.
        attacks: the stages in their order, as they print themselves.
        search_precision: of the network the attacks searched on; every verdict is float32's.
        evaluation: the masks.
        costs: of each stage.
        checks: reasons to believe the figures, or not to.
        seed: of the random starts.
        command: what measured it.
        hardware: where.
        versions: of the packages that matter.
        rule: how the tested images were drawn from the set.
        preprocessing: how they became those that the model was shown; None in evaluations of before, which did it in
            one way: `Preprocessing.of_before`.
        facts: what the data set is; None in evaluations of before.
        format: of the file, which tells none where it is 1; data_sha256 is that of encoded images in their order then.
        by: who measured it, where that is not the model's publisher.
        covered: of so many of the tested images, the first ones, evidence is kept; 0 where it is not told.
        curve: accuracy under PGD against eps; None in evaluations of before, and where that was not measured.
        stress: accuracy under changes that are no attack within the threat; None where nobody asked for it.
    """

    model: str
    architecture: str
    model_sha256: str
    source: Source
    data_sha256: str
    label_names: list[str]
    threat: str
    attacks: dict[str, str]
    search_precision: str
    evaluation: Evaluation
    costs: dict[str, Cost]
    checks: list[Check]
    seed: int
    command: str
    hardware: str
    versions: dict[str, str]
    rule: Rule = field(default_factory=Rule)
    preprocessing: Preprocessing | None = field(default_factory=lambda: None)
    facts: DataFacts | None = field(default_factory=lambda: None)
    format: int = field(default_factory=lambda: 1)
    by: str = field(default_factory=str)
    covered: int = field(default_factory=int)
    curve: Curve | None = field(default_factory=lambda: None)
    stress: Stress | None = field(default_factory=lambda: None)

    @property
    def data(self) -> str:
        """The name of the data set that was tested on, without its organisation or folder."""
        return Path(self.source.data).name

    @property
    def protocol(self) -> str:
        """What the robust accuracy may be called, and what not."""
        return protocol_of(self.attacks)

    @property
    def is_imbalanced(self) -> bool:
        """Whether classes of the split that was tested differ so much in size that accuracy alone says too little."""
        return self.facts is not None and "test" in self.facts.splits and self.facts.splits["test"].is_imbalanced

    @property
    def expected_robustness(self) -> float | None:
        """The mean accuracy over eps from 0 to the threat's, as a fraction; None where there is no curve."""
        return self.curve.mean_until(parse_threat(self.threat).eps) if self.curve else None

    @property
    def about_expected_robustness(self) -> str:
        """What the expected robustness is; empty where there is no curve."""
        if self.curve is None:
            return ""
        _, _, eps = self.threat.partition(":")
        return (
            f"mean accuracy under {self.curve.attack} over eps from 0 to {eps}, an upper bound; the first "
            f"{self.curve.n:,} images"
        )

    @property
    def uncovered(self) -> int:
        """How many of the tested images are known to be left out of the evidence."""
        return len(self.evaluation.clean) - self.covered if self.covered else 0

    @property
    def flagged(self) -> list[Check]:
        """The honesty checks that give a reason to doubt the robust accuracy."""
        return [check for check in self.checks if check.flagged]

    def write(self, folder: Path) -> None:
        """Writes evaluation.json, whole or not at all."""
        write_json(folder / EVALUATION, self._plain())

    @classmethod
    def read(cls, folder: Path) -> "Report":
        """Reads what `write` wrote.

        Raises:
            CheckpointError: when there is none in the folder, it is not one of ours, or its numbers are not its masks'.
        """
        file = folder / EVALUATION
        if not file.is_file():
            raise CheckpointError(f"there is no {EVALUATION} in {folder}; evaluate it with evaluate.py")
        told = read_json(file)
        if (kept := told.get("format", 1)) not in (1, FORMAT):
            raise CheckpointError(f"{file} has format {kept!r:.20}, of a newer robust_hub; update that")
        missing = [each.name for each in fields(cls) if each.default_factory is MISSING and each.name not in told]
        if missing:
            raise CheckpointError(f"{file} is none of ours (it lacks {', '.join(missing)}); evaluate again")
        kinds = {each.name: each.type for each in fields(cls) if each.name in told and each.name != "evaluation"}
        values = {name: as_record(kind, told[name], f"{file}, {name},") for name, kind in kinds.items()}
        try:
            threat = parse_threat(values["threat"])
            evaluation = _evaluation(as_record(_Told, told["evaluation"], str(file)))
            if evaluation.labels.max() >= len(values["label_names"]) or list(evaluation.survivors) != list(
                values["attacks"]
            ):
                raise ValueError("its labels and attacks must be those of its masks")
            if (curve := values.get("curve")) and (threat.eps not in curve.eps or curve.n > len(evaluation.labels)):
                raise ValueError("its curve must tell of the eps of its threat, and of no more images than were tested")
            if not 0 <= values.get("covered", 0) <= len(evaluation.labels):
                raise ValueError("its evidence can't cover more images than were tested")
            if len(set(values["label_names"])) < len(values["label_names"]):
                raise ValueError("its label_names must differ")
            if any(check.flagged != check.is_beyond for check in values["checks"]):
                raise ValueError("its flags are not those of what its checks measured")
        except ValueError as error:
            raise CheckpointError(f"{file} contradicts itself ({error}); evaluate again") from error
        return cls(**values, evaluation=evaluation)

    def table(self) -> str:
        """Writes accuracy after each attack, then by class, then what the honesty checks flagged."""
        evaluation = self.evaluation
        stages = []
        for stage, mask in {"clean": evaluation.clean, **evaluation.survivors}.items():
            cost = astuple(self.costs[stage]) if stage in self.costs else ("", "", "", "")
            balanced = [f"{100 * evaluation.balanced(mask):.1f}"] if self.is_imbalanced else []
            stages.append((stage, str(Accuracy.of(mask)), *balanced, *cost))
        balanced = ["balanced accuracy %"] if self.is_imbalanced else []
        costs = ("attacked", "forward passes", "backward passes", "s")
        headers = ("after", f"accuracy %, {self.threat}", *balanced, *costs)
        classes = [(name, clean.n, str(clean), str(robust)) for name, (clean, robust) in self.classes().items()]
        flagged = [f"  {check.name}: {check.meaning}" for check in self.flagged]
        notes = []
        if (expected := self.expected_robustness) is not None:
            notes += [f"expected robustness: {100 * expected:.1f} %, {self.about_expected_robustness}", ""]
        if self.uncovered:
            part = f"perturbations of the first {self.covered:,} of {len(evaluation.clean):,} images are kept"
            notes += [f"evidence: {part}; of the others the robust accuracy stays unproven", ""]
        return "\n".join(
            [
                f"{self.model} on {self.source.data}: {len(evaluation.clean)} test images, 95 % intervals",
                f"protocol: {evaluation.attack}; search in {self.search_precision}, verdicts in float32",
                "",
                tabulate(
                    stages,
                    headers,
                    tablefmt="github",
                    floatfmt=".0f",
                    intfmt=",",
                    disable_numparse=[2] if balanced else [],
                ),
                "",
                tabulate(classes, ("class", "n", "clean %", "robust %"), tablefmt="github"),
                "",
                *notes,
                f"honesty: {len(flagged)} of {len(self.checks)} checks flagged" + (":" if flagged else ""),
                *flagged,
            ]
        )

    def classes(self) -> dict[str, tuple[Accuracy, Accuracy]]:
        """Gives clean and robust accuracy of each class of which an image was tested."""
        accuracies = {name: self.evaluation.of_class(label) for label, name in enumerate(self.label_names)}
        return {name: both for name, both in accuracies.items() if both is not None}

    def _plain(self) -> dict:
        evaluation = self.evaluation
        masks = {
            "attack": evaluation.attack,
            "n": len(evaluation.clean),
            "clean_accuracy": asdict(evaluation.clean_accuracy),
            "robust_accuracy": asdict(evaluation.robust_accuracy),
            "seconds": evaluation.seconds,
            "labels": evaluation.labels.tolist(),
            "clean": _digits(evaluation.clean),
            "survivors": {stage: _digits(mask) for stage, mask in evaluation.survivors.items()},
        }
        told: dict[str, Any] = {"format": self.format} if self.format != 1 else {}
        told |= {each.name: getattr(self, each.name) for each in fields(self) if each.default_factory is MISSING}
        # What evaluations of before do not tell is told where it is not as it was, so that theirs are written again
        # as they were.
        if self.rule != Rule():
            told["rule"] = asdict(self.rule)
        if self.preprocessing is not None:
            told["preprocessing"] = asdict(self.preprocessing)
        if self.by:
            told["by"] = self.by
        if self.covered:
            told["covered"] = self.covered
        if self.curve is not None:
            told["curve"] = asdict(self.curve)
        if self.stress is not None:
            told["stress"] = asdict(self.stress)
        if self.facts is not None:
            told["facts"] = asdict(self.facts)
        source = asdict(self.source)
        for name, before in NOT_TOLD_OF_SOURCES.items():
            if source[name] == before:
                del source[name]
        return {
            **told,
            "source": source,
            "evaluation": masks,
            "costs": {stage: asdict(cost) for stage, cost in self.costs.items()},
            "checks": [asdict(check) for check in self.checks],
        }


def _evaluation(told: _Told) -> Evaluation:
    masks = [_mask(told.clean), *map(_mask, told.survivors.values())]
    if {len(mask) for mask in masks} != {len(told.labels)} or not told.labels or min(told.labels) < 0:
        raise ValueError("it must have a label and a digit in every mask for each image")
    if any((after & ~before).any() for before, after in pairwise(masks)):
        raise ValueError("an image can't stand again that has fallen")
    if (told.n, told.clean_accuracy.value, told.robust_accuracy.value) != (
        len(masks[0]),
        masks[0].mean(),
        masks[-1].mean(),
    ):
        raise ValueError("its numbers are not those of its masks")
    survivors = dict(zip(told.survivors, masks[1:], strict=True))
    return Evaluation(told.attack, np.array(told.labels), masks[0], survivors, told.seconds)


def _digits(mask: np.ndarray) -> str:
    return "".join(map(str, mask.astype(int)))


def _mask(digits: str) -> np.ndarray:
    if set(digits) - {"0", "1"}:
        raise ValueError("a mask has digits 0 and 1 only")
    return np.array([digit == "1" for digit in digits], dtype=bool)
