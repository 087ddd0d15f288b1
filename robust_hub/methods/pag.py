"""Perceptually aligned gradients: the gradient towards each class points where the class is."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_hub.losses import cross_entropy
from robust_hub.methods.base import Losses, Objective, Options, check_at_least, check_has_effect, twice_differentiable
from robust_hub.methods.pag_targets import Targets
from robust_hub.models import PixelClassifier
from robust_hub.types import Images, Labels

# A target gradient shorter than this, in pixel units, has no direction.
TINY = 1e-6


@dataclass(frozen=True)
class PAGOptions(Options):
    """Where gradients should point, and how much that counts.

    Attributes:
        targets: where they should point; those of the teacher are ours, the paper has none of a robust model.
        weight: the paper's lambda, of the cosine distances, summed over all classes.
        classes_per_image: how many classes, drawn anew for each image, stand for all in one step.
        stored: for stored targets, a .npy of a gradient for each training image and class, n k c h w, row by row as
            they stand in the data.
    """

    method: ClassVar[str] = "PAG"
    targets: Literal["one-image", "class-mean", "nearest-neighbour", "teacher", "stored"] = "teacher"
    weight: float = 2.0
    classes_per_image: int = 1
    stored: Path = Path()

    def __post_init__(self) -> None:
        if (self.targets == "stored") != (self.stored != Path()):
            raise ValueError("--targets stored and --stored FILE belong together; give both or neither")

    def __str__(self) -> str:
        """Writes the method as cards name it; the file is named where there is one."""
        named = super().__str__().rpartition(", stored=")[0]
        return f"{named}, stored='{self.stored}')" if self.targets == "stored" else f"{named})"


class PAG(Objective):
    """Cross-entropy plus the cosine distance of the input gradients of log-probabilities from target gradients.

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
        ten. Computed in float32 whatever the run's precision, with attention in its unfused form.
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
        chance = torch.rand(len(images), self.student.num_classes, device=images.device)
        classes = chance.argsort(1)[:, : self.options.classes_per_image]
        wanted = self.targets(images, labels, classes, *extras)
        with twice_differentiable(images.device.type):
            pixels = images.detach().requires_grad_()
            logits = self.student(pixels)
            log_probabilities = F.log_softmax(logits, 1).gather(1, classes)
            gradients = [self._gradient(chosen, pixels) for chosen in log_probabilities.unbind(1)]
            distance = gradient_distance(torch.stack(gradients, 1), wanted)
            label_term = cross_entropy(logits, labels).mean()
        terms = {"cross_entropy": label_term.detach(), "gradient_distance": distance.detach()}
        return Losses(label_term + self.options.weight * self.student.num_classes * distance, terms)

    def _gradient(self, log_probabilities: Tensor, pixels: Images) -> Images:
        (gradient,) = torch.autograd.grad(log_probabilities.sum(), pixels, create_graph=True)
        gradient.register_hook(self.student.count_backward)
        return gradient


def gradient_distance(gradients: Tensor, wanted: Tensor) -> Tensor:
    """Averages 1 - cos between gradients and their targets, n k c h w both, over those targets that have a direction.

    Raises:
        ValueError: when the shapes differ.
    """
    if gradients.shape != wanted.shape:
        raise ValueError(
            f"target gradients must have the shape {tuple(gradients.shape)} (images, classes, c, h, w), "
            f"got {tuple(wanted.shape)}"
        )
    gradients, wanted = gradients.flatten(2), wanted.flatten(2)
    counted = wanted.norm(dim=2) > TINY
    distances = 1 - F.cosine_similarity(gradients, wanted, dim=2, eps=1e-12)
    return (distances * counted).sum() / counted.sum().clamp_min(1)
