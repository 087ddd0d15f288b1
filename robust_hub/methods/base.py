"""What a training objective is."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from robust_hub.models import Passes, PixelClassifier, Teacher
from robust_hub.types import Images, Labels


class Losses(NamedTuple):
    """The loss to minimise, and its detached terms by name, for the log."""

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class Options:
    """What may be chosen of a method: its constructor, the command line and the name on a card all go by it."""

    method: ClassVar[str]

    def __str__(self) -> str:
        """Writes the method as cards name it, NAME(option=value, ...)."""
        chosen = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return f"{self.method}({', '.join(chosen)})"


class Objective(nn.Module, ABC):
    """Holds the student, and whatever teaches it, and computes the loss in its `forward`.

    The objective, not the student, is what Accelerate prepares: Accelerate patches the forward of what it prepares, and
    any other path to the student would train on unsynchronised gradients without an error.

    Attributes:
        student: the classifier to train.
        step: optimizer steps taken so far; the training loop sets it before each forward.
        needs_second_derivatives: whether its loss is made of gradients.
    """

    student: PixelClassifier
    step: int = 0
    needs_second_derivatives: ClassVar[bool] = False

    def passes(self) -> dict[str, Passes]:
        """The counters of the networks it holds, by name."""
        return {
            name.rpartition(".")[2]: module.passes
            for name, module in self.named_modules()
            if module is self.student or isinstance(module, Teacher)
        }

    @abstractmethod
    def forward(self, images: Images, labels: Labels, *extras: Tensor) -> Losses:
        """Computes the loss of a batch; `extras` is what a loader gives beside images and labels."""


def check_same_task(student: PixelClassifier, teacher: Teacher) -> None:
    """Checks that student and teacher know the same number of classes, and images of one can be shown to the other.

    Raises:
        ValueError: when they do not.
    """
    taught, learnt = teacher.classifier, student
    if taught.num_classes != learnt.num_classes:
        raise ValueError(
            f"teacher and student differ in classes ({taught.num_classes} and {learnt.num_classes}); "
            "choose a teacher of this data set, or train it a head for this one"
        )
    channels = taught.input_size[0], learnt.input_size[0]
    if channels[0] != channels[1] and set(channels) != {1, 3}:
        raise ValueError(
            f"teacher and student must take grey or colour images, got {channels[0]} and {channels[1]} channels; "
            "set in_chans in --student-args"
        )


def freeze_statistics(student: PixelClassifier) -> None:
    """Puts a student's norms, dropout and all other modules without parts into eval mode, and nothing else.

    Some of timm's attentions keep what depends on their weights while they are in eval mode, so they must not learn in
    it.
    """
    for module in student.modules():
        if isinstance(module, _BatchNorm) or not any(True for _ in module.children()):
            module.eval()


@contextmanager
def twice_differentiable(device_type: str) -> Generator[None]:
    """Computes in float32 and by operations that all have a second derivative: no fused attention or hard sigmoid."""
    with torch.autocast(device_type, enabled=False), sdpa_kernel(SDPBackend.MATH), _WrittenOut():
        yield


class _WrittenOut(TorchFunctionMode):
    """Writes out the functions whose backward has no derivative."""

    def __torch_function__(self, func, types, args: tuple = (), kwargs=None):
        if func is F.hardsigmoid:
            return F.relu6(args[0] + 3) / 6
        return func(*args, **(kwargs or {}))


def check_at_least(minimum: float | int, method: str, **options: float | int) -> None:
    """Checks that a method's options are numbers of at least that much.

    Raises:
        ValueError: naming the first that is not.
    """
    for name, value in options.items():
        if not minimum <= value < float("inf"):
            raise ValueError(f"{method} needs {name} >= {minimum:g}, got {value}")


def check_has_effect(options: Options, name: str, *, needs: str) -> None:
    """Checks that an option is left as it is where it would do nothing.

    Args:
        options: of a method.
        name: of the option that does nothing now.
        needs: with what it would do something, as its user types it.

    Raises:
        ValueError: when it was chosen.
    """
    default = next(field.default for field in fields(options) if field.name == name)
    if getattr(options, name) != default:
        raise ValueError(f"--{name.replace('_', '-')} has no effect without {needs}; give both or neither")
