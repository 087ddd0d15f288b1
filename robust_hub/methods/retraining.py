"""Retrains the last stages of a robust network on natural images: robustness lives in its features."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from robust_hub.losses import cross_entropy
from robust_hub.methods.base import Losses, Objective, Options, freeze_statistics
from robust_hub.models import PixelClassifier
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class ProbeOptions(Options):
    """What a probe trains.

    Attributes:
        retrain_stages: how many of the last stages are trained after the head, on augmented natural images.
        mlp: width of a hidden layer in the head; 0 for a linear head, which is what timm alone can load.
    """

    method: ClassVar[str] = "Probe"
    retrain_stages: int = 0
    mlp: int = 0

    def __post_init__(self) -> None:
        if self.mlp < 0 or self.retrain_stages < 0:
            raise ValueError(f"mlp and retrain_stages must be at least 0, got {self.mlp} and {self.retrain_stages}")


class Retraining(Objective):
    """Cross-entropy on natural images, of the last stages and the head; everything before them is frozen.

    Args:
        student: a robust classifier with a head for the target's classes.
        stages: how many of its last stages are retrained with the head; all of them is everything, the stem included.

    Raises:
        ValueError: when the student has not so many stages.

    Source: Shafahi et al., ICLR 2020, arXiv 1905.08232, section 3.
    Deviations: stages are timm's, of which there are fewer than the paper's 17 blocks; they start from the robust
        weights and not from new ones. Norms and dropout stay in eval mode, so batch statistics stay as well.
    """

    def __init__(self, student: PixelClassifier, *, stages: int):
        super().__init__()
        if not 0 < stages <= len(student.stages):
            raise ValueError(
                f"{student.architecture} has {len(student.stages)} stages ({', '.join(student.stages)}); between 1 and "
                f"that many can be retrained, got {stages}"
            )
        self.student = student
        first = len(student.stages) - stages
        end = _end_of(student.model, student.stages[first - 1]) if first else -1
        places = {name: place for place, (name, _) in enumerate(student.model.named_modules())}
        for name, parameter in student.model.named_parameters():
            parameter.requires_grad_(places[name.rpartition(".")[0]] > end)

    def train(self, mode: bool = True) -> "Retraining":
        """Keeps the student's norms in eval mode whatever is asked for."""
        super().train(mode)
        freeze_statistics(self.student)
        return self

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        total = cross_entropy(self.student(images), labels).mean()
        return Losses(total, {"cross_entropy": total.detach()})


def _end_of(model: nn.Module, stage: str) -> int:
    """The place of the last module of a stage; modules are registered in the order of the forward pass."""
    names = [name for name, _ in model.named_modules()]
    return max(place for place, name in enumerate(names) if f"{name}.".startswith(f"{stage}."))
