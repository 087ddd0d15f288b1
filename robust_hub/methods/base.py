"""What a training objective is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from robust_hub.models import Passes, PixelClassifier, Teacher
from robust_hub.threats import Threat
from robust_hub.types import Images, Targets


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


@dataclass(frozen=True)
class AttackOptions(Options):
    """What may be chosen of every method that attacks the student in training.

    Attributes:
        delay: the share of the run before the attack begins; until then the student learns from images as they are,
            for the price of a step without an attack.
        eps_warmup: the share of the run, after the delay, over which eps grows from next to nothing to that of the
            threat; 0 has it all at once. A student that starts from weights which are not robust learns its task in
            that time.

    Source: Gupta et al., 2020, arXiv 2002.04237, for the delay; Ngnawé et al., 2025, arXiv 2509.23325, whose schedule
        of eps starts at 0.
    Deviations: the delay is told, where Gupta et al. watch the loss for when to begin; eps grows in one straight line,
        without the hinges of Ngnawé et al.
    """

    delay: float = 0.0
    eps_warmup: float = 0.0

    def __post_init__(self) -> None:
        if min(self.delay, self.eps_warmup) < 0 or self.delay + self.eps_warmup > 1:
            raise ValueError(
                f"{self.method} needs delay and eps_warmup to be shares of the run, together at most 1, got "
                f"{self.delay} and {self.eps_warmup}"
            )


class Objective(nn.Module, ABC):
    """Holds the student, and whatever teaches it, and computes the loss in its `forward`.

    The objective, not the student, is what Accelerate prepares: Accelerate patches the forward of what it prepares, and
    any other path to the student would train on unsynchronised gradients without an error.

    Attributes:
        student: the classifier to train.
        step: optimizer steps taken so far; the training loop sets it before each forward.
        steps: of the whole run; likewise.
        needs_second_derivatives: whether its loss is made of gradients.
        attacks_in_one_step: whether it trains under a single step, which a student may learn to fool all of a sudden.
        takes_soft_labels: whether labels may be probabilities of the classes, as those of mixed images are.
    """

    student: PixelClassifier
    step: int = 0
    steps: int = 1
    attacks_in_one_step: bool = False
    takes_soft_labels: bool = True
    needs_second_derivatives: ClassVar[bool] = False

    def passes(self) -> dict[str, Passes]:
        """The counters of the networks it holds, by name."""
        return {
            name.rpartition(".")[2]: module.passes
            for name, module in self.named_modules()
            if module is self.student or isinstance(module, Teacher)
        }

    def threat_now(self, threat: Threat, options: AttackOptions) -> Threat:
        """Gives the ball of this step, all of it where nobody counts steps.

        Its radius is 0 before the attack begins, which then is not worth its passes, and grows over the warm-up.
        """
        begun, rise = self.step + 1 - options.delay * self.steps, options.eps_warmup * self.steps
        if begun <= 0:
            return replace(threat, eps=0.0)
        return threat if begun >= rise else replace(threat, eps=threat.eps * begun / rise)

    @abstractmethod
    def forward(self, images: Images, labels: Targets, *extras: Tensor) -> Losses:
        """Computes the loss of a batch; `extras` is what a loader gives beside images and labels."""


@runtime_checkable
class AsksOnce(Protocol):
    """An objective whose teacher may be asked before training, once about each image.

    Attributes:
        asked_once: how many numbers are asked for, and behind them how many maps of an image's shape; they come third
            and fourth in a batch, numbers n w and maps n k c h w. 0 of both where it is asked at each step.
    """

    asked_once: tuple[int, int]

    def ask(self, images: Images) -> Tensor:
        """Gives these numbers and, flat behind them, these maps, a row an image; the same whenever it is asked."""
        ...


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


def with_noise(images: Images, radius: float) -> Images:
    """Adds uniform noise of that radius, in pixel units, and keeps images in [0, 1]."""
    return (images + radius * (2 * torch.rand_like(images) - 1)).clamp(0, 1)


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
