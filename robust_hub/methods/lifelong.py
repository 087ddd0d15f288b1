"""Lifelong learning without forgetting robustness: fine-tune on natural images, near the robust source's features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robust_hub.losses import cross_entropy, l1_distance, l2_distance, relative
from robust_hub.methods.base import Losses, Objective, Options, check_at_least, check_has_effect, freeze_statistics
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Features, Images, PerExample, Targets

Distance = Callable[[Features, Features], PerExample]
DISTANCES: dict[str, Distance] = {"l1": l1_distance, "l2": l2_distance}


@dataclass(frozen=True)
class LifelongOptions(Options):
    """How near the features stay to those of the source.

    Attributes:
        weight: of the distance from the robust features, as a share of their length; 0 is plain fine-tuning, large a
            linear probe.
        distance: l1, or l2, which is not squared.
    """

    method: ClassVar[str] = "Lifelong"
    weight: float = 0.2
    distance: Literal["l1", "l2"] = "l1"


class Lifelong(Objective):
    """Cross-entropy on natural images plus the distance of the features from those of the frozen source.

    Args:
        student: starts from the source's weights, with a head for the target's classes that is already trained.
        teacher: the robust source; its classes may be others.
        options: how near the features stay.

    Raises:
        ValueError: when the student is not of the source's architecture, or the weight is negative.

    Source: Shafahi et al., ICLR 2020, arXiv 1905.08232, learning without forgetting; L1 is the code's.
    Deviations: the distance is a share of the length of the source's features, so that one weight serves all widths:
        the code's 0.005 of the sum is 0.19 for the 256 features of a small ResNet. Images are augmented and the source
        sees the same augmented image, where the authors look its features up as of the raw one; the head is trained to
        its end first, where theirs has half of the steps. Like the authors' the student's norms and dropout stay in
        eval mode, so batch statistics are the source's.
    """

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: LifelongOptions = LifelongOptions()):
        super().__init__()
        source = teacher.classifier
        if (student.architecture, student.num_features) != (source.architecture, source.num_features):
            raise ValueError(
                f"lifelong learning needs a student of the source's architecture, got {student.architecture} with "
                f"{student.num_features} features and {source.architecture} with {source.num_features}; transfer.py "
                "takes any student"
            )
        check_at_least(0, "Lifelong", weight=options.weight)
        if not options.weight:
            check_has_effect(options, "distance", needs="a --weight above 0")
        self.student, self.teacher, self.options = student, teacher, options
        self.distance = DISTANCES[options.distance]

    def train(self, mode: bool = True) -> "Lifelong":
        """Keeps the student's norms in eval mode whatever is asked for: batch statistics stay the source's."""
        super().train(mode)
        freeze_statistics(self.student)
        return self

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        with torch.no_grad():
            _, target = self.teacher.forward_with_features(images)
        logits, features = self.student.forward_with_features(images)
        label_term = cross_entropy(logits, labels).mean()
        feature_term = relative(self.distance, features, target)
        terms = {"cross_entropy": label_term.detach(), "feature_distance": feature_term.detach()}
        return Losses(label_term + self.options.weight * feature_term, terms)
