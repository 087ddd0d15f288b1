"""Perceptually aligned gradients: the gradient towards each class points where the class is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_hub.losses import cross_entropy, relative, squared_distance
from robust_hub.methods.base import Losses, Objective, check_at_least, check_has_effect
from robust_hub.methods.input_gradients import GradientOptions, students_gradient, twice_differentiable
from robust_hub.methods.pag_targets import Targets
from robust_hub.models import PixelClassifier
from robust_hub.types import Images, Labels

# A target gradient shorter than this, in pixel units, has no direction.
TINY = 1e-6


@dataclass(frozen=True)
class PAGOptions(GradientOptions):
    """Where gradients should point, and how much that counts.

    Attributes:
        targets: where they should point; those of the teacher are ours, the paper has none of a robust model.
        weight: the paper's lambda, of the distances, summed over all classes.
        distance: cosine, of directions alone, as the paper's; or relative, the squared distance as a share of the
            targets' squared length, for targets whose length means something: those of a teacher, or stored ones.
        classes_per_image: how many classes, drawn anew for each image, stand for all in one step.
        stored: for stored targets, a .npy of a gradient for each training image and class, n k c h w, row by row as
            they stand in the data.
    """

    method: ClassVar[str] = "PAG"
    targets: Literal["one-image", "class-mean", "nearest-neighbour", "teacher", "stored"] = "teacher"
    weight: float = 2.0
    distance: Literal["cosine", "relative"] = "cosine"
    classes_per_image: int = 1
    stored: Path = Path()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance == "relative" and self.targets not in ("teacher", "stored"):
            raise ValueError(f"--distance relative compares lengths, which targets {self.targets} do not have")
        if (self.targets == "stored") != (self.stored != Path()):
            raise ValueError("--targets stored and --stored FILE belong together; give both or neither")

    def __str__(self) -> str:
        """Writes the method as cards name it; the file is named where there is one."""
        named = super().__str__().rpartition(", stored=")[0]
        return f"{named}, stored='{self.stored}')" if self.targets == "stored" else f"{named})"


class PAG(Objective):
    """Cross-entropy plus the distance of the input gradients of log-probabilities from target gradients.

    Args:
        student: the classifier to train; no teacher is needed but for the targets of one.
        targets: where gradients should point.
        options: how much that counts; the targets themselves are those given here.

    Raises:
        ValueError: when an option is out of its range.

    Source: Ganz et al., ICML 2023, arXiv 2207.11378, the objective of section 4, with log-probabilities as in the
        authors' code.
    Deviations: one forward pass serves the cross-entropy and all gradients, where the authors make another with an
        augmentation of its own; each image is augmented for itself, before the network, and the gradient is taken with
        respect to what came out. One class an image is the default, for its price, where the authors' runs have all
        ten. The relative distance, pooled gradients, the period, start and ramp, and the random signs that keep other
        images out of BatchNorm's gradients are ours. Attention is computed in its unfused form, and what a run computes
        in float16 in float32.
    """

    needs_second_derivatives = True
    takes_soft_labels = False

    def __init__(self, student: PixelClassifier, targets: Targets, options: PAGOptions = PAGOptions()):
        super().__init__()
        check_at_least(0, "PAG", weight=options.weight)
        if not 1 <= options.classes_per_image <= student.num_classes:
            raise ValueError(
                f"PAG needs classes_per_image between 1 and {student.num_classes}, the number of classes, "
                f"got {options.classes_per_image}"
            )
        if not options.weight:
            check_has_effect(options, "classes_per_image", needs="a --weight above 0")
        self.student, self.targets, self.options = student, targets, options

    def forward(self, images: Images, labels: Labels, *extras: Tensor) -> Losses:
        """Computes the loss of a batch."""
        share = self.options.share(self.step, self.steps) if self.options.weight else 0.0
        if share == 0:
            label_term = cross_entropy(self.student(images), labels).mean()
            return Losses(label_term, {"cross_entropy": label_term.detach()})
        chance = torch.rand(len(images), self.student.num_classes, device=images.device)
        classes = chance.argsort(1)[:, : self.options.classes_per_image]
        wanted = self.targets(images, labels, classes, *extras)
        if wanted.shape != (*classes.shape, *images.shape[1:]):
            raise ValueError(
                f"target gradients must have the shape {(*classes.shape, *images.shape[1:])} (images, classes, c, h, "
                f"w), got {tuple(wanted.shape)}"
            )
        with twice_differentiable(images.device.type):
            pixels = images.detach().requires_grad_()
            logits = self.student(pixels)
            log_probabilities = F.log_softmax(logits, 1).gather(1, classes)
            gradients = [students_gradient(each, pixels, self.student) for each in log_probabilities.unbind(1)]
            distance = DISTANCES[self.options.distance](self._pooled(torch.stack(gradients, 1)), self._pooled(wanted))
            label_term = cross_entropy(logits, labels).mean()
        terms = {"cross_entropy": label_term.detach(), "gradient_distance": distance.detach()}
        return Losses(label_term + share * self.options.weight * self.student.num_classes * distance, terms)

    def _pooled(self, gradients: Tensor) -> Tensor:
        """Averages gradients n k c h w over squares."""
        return self.options.pooled(gradients.flatten(0, 1)).unflatten(0, gradients.shape[:2])


def direction_distance(gradients: Tensor, wanted: Tensor) -> Tensor:
    """Averages 1 - cos between gradients and targets, n k c h w both, over those targets that have a direction."""
    gradients, wanted = gradients.flatten(2), wanted.flatten(2)
    counted = wanted.norm(dim=2) > TINY
    distances = 1 - F.cosine_similarity(gradients, wanted, dim=2, eps=1e-12)
    return (distances * counted).sum() / counted.sum().clamp_min(1)


def length_distance(gradients: Tensor, wanted: Tensor) -> Tensor:
    """Averages the squared distance of gradients from their targets, n k c h w both, as a share of the targets' own."""
    return relative(squared_distance, gradients.flatten(0, 1), wanted.flatten(0, 1))


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": direction_distance, "relative": length_distance}
