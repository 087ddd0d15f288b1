"""A model card: facts that a run measured, written as README.md with the YAML the Hub reads."""

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from robust_hub.evaluation import Evaluation

TEMPLATE = Path(__file__).with_name("card_template.md")


@dataclass(frozen=True)
class Facts:
    """What a card tells; nothing in it is typed by hand.

    Attributes:
        name: architecture.method_threat_data.
        architecture: timm's name of the network.
        stock: whether timm alone knows the architecture.
        method: the training objective.
        teacher: what taught the student; empty when nobody did.
        data: the data set.
        threat: as `parse_threat` reads it.
        evaluation: on the test split.
        parameters: number of weights.
        command: what made it.
        seconds: training time.
        hardware: where.
        passes: forward and backward passes of each network in training.
        best_epoch: which epoch's averaged weights these are, chosen on validation.
        seed: of the run.
        pictures: file names of plots in the same folder, with what they show.
    """

    name: str
    architecture: str
    stock: bool
    method: str
    teacher: str
    data: str
    threat: str
    evaluation: Evaluation
    parameters: int
    command: str
    seconds: float
    hardware: str
    passes: dict[str, dict[str, int]]
    best_epoch: int
    seed: int
    pictures: dict[str, str]


def write_card(facts: Facts) -> str:
    """Writes the text of README.md."""
    data = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["timm", "image-classification", "adversarial-robustness", facts.threat.split(":")[0]],
    )
    card = ModelCard.from_template(data, template_path=str(TEMPLATE), **vars(facts))
    return str(card)
