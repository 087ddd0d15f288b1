"""A model card: facts that a run measured, written as evaluation.json and as README.md with the YAML the Hub reads."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from robust_hub.evaluation import Evaluation

TEMPLATE = Path(__file__).with_name("card_template.md")


@dataclass(frozen=True)
class Facts:
    """What a card tells; nothing in it is typed by hand.

    Attributes:
        name: architecture.method_threat_data.
        architecture: timm's name of the network.
        method: the training objective, as it prints itself.
        teacher: what taught the student, with the sha256 of its weights; empty when nobody did.
        data: the data set.
        threat: as `parse_threat` reads it.
        eps: radius of the threat in pixel units.
        evaluation: on the test split.
        parameters: number of weights.
        command: what made it.
        seed: of the run.
        best_epoch: which epoch's averaged weights these are, chosen on validation; 0 where none was chosen.
        seconds: training time, validation not counted, nor what its teacher took.
        teacher_seconds: what training the teacher took; None without a teacher, or where it is not known.
        images: training images seen, on all processes.
        peak_memory: most bytes that the main process held.
        passes: forward and backward passes of each network in training, on all processes.
        hardware: where it was trained and evaluated.
        versions: of the packages that matter.
        pictures: file names of plots in the same folder, with what they show.
    """

    name: str
    architecture: str
    method: str
    teacher: str
    data: str
    threat: str
    eps: float
    evaluation: Evaluation
    parameters: int
    command: str
    seed: int
    best_epoch: int
    seconds: float
    teacher_seconds: float | None
    images: int
    peak_memory: int
    passes: dict[str, dict[str, int]]
    hardware: str
    versions: dict[str, str]
    pictures: dict[str, str]

    def summary(self) -> dict:
        """Everything but the per-image masks, as plain values; goes into config.json."""
        measured = {
            "protocol": "PGD, not AutoAttack",
            "attack": self.evaluation.attack,
            "n": len(self.evaluation.clean),
            "clean_accuracy": asdict(self.evaluation.clean_accuracy),
            "robust_accuracy": asdict(self.evaluation.robust_accuracy),
            "seconds": self.evaluation.seconds,
        }
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**told, "evaluation": measured}

    def full(self) -> dict:
        """Everything, as plain values; goes into evaluation.json. A mask has a 1 for each image classified rightly."""
        masks = {
            "clean_mask": "".join(map(str, self.evaluation.clean.astype(int))),
            "robust_mask": "".join(map(str, self.evaluation.robust.astype(int))),
        }
        return {**self.summary(), "evaluation": {**self.summary()["evaluation"], **masks}}


def write_card(facts: Facts, *, stock: bool) -> str:
    """Writes the text of README.md.

    Args:
        facts: what the card tells.
        stock: whether timm alone knows the architecture.
    """
    evaluation = facts.evaluation
    results = [
        ("accuracy", "clean accuracy", evaluation.clean_accuracy.value),
        ("robust_accuracy", f"robust accuracy, {facts.threat}, {evaluation.attack}", evaluation.robust_accuracy.value),
    ]
    data = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["image-classification", "timm", "adversarial-robustness", facts.threat.split(":")[0]],
        model_name=facts.name,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=facts.data,
                dataset_name=facts.data,
                dataset_split="test",
                metric_type=kind,
                metric_name=name,
                metric_value=value,
            )
            for kind, name, value in results
        ],
    )
    card = ModelCard.from_template(data, template_path=str(TEMPLATE), stock=stock, **vars(facts))
    return str(card)
