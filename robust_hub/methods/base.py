"""What a training objective is."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from robust_hub.classifiers import Passes, PixelClassifier, Teacher
from robust_hub.types import Images, Labels


class Losses(NamedTuple):
    """The loss to minimise, and its detached terms by name, for the log."""

    total: Tensor
    terms: dict[str, Tensor]


class Objective(nn.Module, ABC):
    """Holds the student, and whatever teaches it, and computes the loss in its `forward`.

    The objective, not the student, is what Accelerate prepares: Accelerate patches the forward of what it prepares, and
    any other path to the student would train on unsynchronised gradients without an error.

    Attributes:
        student: the classifier to train.
        step: optimizer steps taken so far; the training loop sets it before each forward.
    """

    student: PixelClassifier
    step: int = 0

    def passes(self) -> dict[str, Passes]:
        """The counters of the networks it holds, by name."""
        return {
            name: child.passes for name, child in self.named_children() if isinstance(child, PixelClassifier | Teacher)
        }

    @abstractmethod
    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""


def check_same_task(student: PixelClassifier, teacher: Teacher) -> None:
    """Checks that student and teacher read the same images and know the same number of classes.

    Raises:
        ValueError: when they do not.
    """
    taught, learnt = teacher.classifier, student
    if taught.num_classes != learnt.num_classes:
        raise ValueError(
            f"teacher and student differ in classes ({taught.num_classes} and {learnt.num_classes}); "
            "choose a teacher of this data set"
        )
    if taught.input_size != learnt.input_size:
        sizes = ("x".join(map(str, classifier.input_size)) for classifier in (taught, learnt))
        raise ValueError(
            f"teacher and student must take the same images, got {' and '.join(sizes)}; "
            "set in_chans and img_size in --student-args"
        )
