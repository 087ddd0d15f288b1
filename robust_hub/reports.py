"""What an evaluation ends with: evaluation.json, which tells all of it, the evidence, and one table."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from tabulate import tabulate

from robust_hub.data import Source
from robust_hub.evaluation import Accuracy, Check, Cost, Evaluation

FILE = "evaluation.json"
EVIDENCE = "evidence.safetensors"


@dataclass(frozen=True)
class Report:
    """Everything an evaluation measured, and on what; nothing in it is typed by hand.

    Attributes:
        model: as it was named.
        architecture: timm's name of the network.
        model_sha256: of its weights, mean and std; see `PixelClassifier.fingerprint`.
        source: where the images are from.
        data_sha256: of the encoded images tested, and their labels.
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

    def write(self, folder: Path) -> None:
        """Writes evaluation.json, whole or not at all."""
        unfinished = folder / f"{FILE}.unfinished"
        unfinished.write_text(json.dumps(self._plain(), indent=2) + "\n")
        os.replace(unfinished, folder / FILE)

    @classmethod
    def read(cls, folder: Path) -> "Report":
        """Reads what `write` wrote.

        Raises:
            ValueError: when there is none in the folder, or it is not one of ours.
        """
        file = folder / FILE
        if not file.is_file():
            raise ValueError(f"there is no {FILE} in {folder}; give the folder that evaluate.py wrote")
        try:
            told = json.loads(file.read_text())
            masks = told["evaluation"]
            told["evaluation"] = Evaluation(
                attack=masks["attack"],
                labels=np.array(masks["labels"]),
                clean=_mask(masks["clean"]),
                survivors={stage: _mask(digits) for stage, digits in masks["survivors"].items()},
                seconds=masks["seconds"],
            )
            told["source"] = Source(**told["source"])
            told["costs"] = {stage: Cost(**cost) for stage, cost in told["costs"].items()}
            told["checks"] = [Check(**check) for check in told["checks"]]
            return cls(**{field.name: told[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is no evaluation of ours ({error!r}); evaluate again") from error

    def table(self) -> str:
        """Writes accuracy after each attack, then by class, then what the honesty checks flagged."""
        evaluation = self.evaluation
        stages = [("clean", str(evaluation.clean_accuracy), "", "", "", "")]
        for stage, mask in evaluation.survivors.items():
            cost = self.costs[stage]
            stages.append((stage, str(Accuracy.of(mask)), cost.attacked, cost.forward, cost.backward, cost.seconds))
        headers = ("after", f"accuracy %, {self.threat}", "attacked", "forward passes", "backward passes", "s")
        classes = [(name, clean.n, str(clean), str(robust)) for name, (clean, robust) in self.classes().items()]
        flagged = [f"  {check.name}: {check.meaning}" for check in self.checks if check.flagged]
        return "\n".join(
            [
                f"{self.model} on {self.source.data}: {len(evaluation.clean)} test images, 95 % intervals",
                f"protocol: {evaluation.attack}; search in {self.search_precision}, verdicts in float32",
                "",
                tabulate(stages, headers, tablefmt="github", floatfmt=".0f", intfmt=","),
                "",
                tabulate(classes, ("class", "n", "clean %", "robust %"), tablefmt="github"),
                "",
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
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            **told,
            "source": asdict(self.source),
            "evaluation": masks,
            "costs": {stage: asdict(cost) for stage, cost in self.costs.items()},
            "checks": [asdict(check) for check in self.checks],
        }


def _digits(mask: np.ndarray) -> str:
    return "".join(map(str, mask.astype(int)))


def _mask(digits: str) -> np.ndarray:
    return np.array([digit == "1" for digit in digits], dtype=bool)
