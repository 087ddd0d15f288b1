"""Two-point matching: input gradients like the teacher's, taught by slopes between two points at each image."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch

from robust_hub.attacks import eval_mode, without_float16
from robust_hub.losses import TINY, cross_entropy, kl_divergence, relative, squared_distance
from robust_hub.methods.base import Losses, Objective, Options, check_at_least, check_same_task
from robust_hub.methods.igam import random_logits
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Images, Labels


@dataclass(frozen=True)
class TwoPointOptions(Options):
    """What two-point matching compares.

    Attributes:
        weight: of the squared gradient distance, as a share of the squared length of the teacher's gradients.
        radius: how far either point lies from the image, the root mean square over its pixels, in pixel units.
        divergence_weight: of the divergence from the teacher's prediction for the image.
        cross_entropy_weight: of the labels.
    """

    method: ClassVar[str] = "TwoPoint"
    weight: float = 1.0
    radius: float = 4 / 255
    divergence_weight: float = 1.0
    cross_entropy_weight: float = 0.1


class TwoPoint(Objective):
    """The squared distance between input gradients of student and teacher, without any second derivative.

    Gradients are those of a random combination of the logits. The derivative of their squared distance for the
    student's weights is twice that of the combination's slope along the gap between them, and the slope is measured
    between the two points that lie along the gap on both sides of the image. The two together also stand for the image:
    the mean of their logits is what is compared with the teacher's prediction and the labels.

    An image takes three passes of the student each way and one of the teacher. The two points are images perturbed
    along a gradient.

    Args:
        student: the classifier to train.
        teacher: the robust classifier.
        options: what is compared.

    Raises:
        ValueError: when student and teacher do not share the task, or an option is out of its range.

    Source: Chan et al., CVPR 2020, arXiv 1912.05699, for matching input gradients; Srinivas and Fleuret, ICML 2018,
        arXiv 1803.00443, for those of logits.
    Deviations: the central difference is ours. It is the derivative of IGAM's gradient distance up to the square of the
        radius where the network is smooth between the points; a ReLU network is not, and learns to be flat between them
        beside. The points may leave [0, 1], so that the image lies in their middle. The student's gradient is taken in
        eval mode.
    """

    takes_soft_labels = False

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: TwoPointOptions = TwoPointOptions()):
        super().__init__()
        check_same_task(student, teacher)
        weights = {"weight": options.weight, "divergence_weight": options.divergence_weight}
        check_at_least(0, "TwoPoint", **weights, cross_entropy_weight=options.cross_entropy_weight)
        check_at_least(1e-4, "TwoPoint", radius=options.radius)
        self.student, self.teacher, self.options = student, teacher, options

    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""
        with torch.enable_grad(), without_float16(images.device.type):
            pixels = images.detach().requires_grad_()
            taught = self.teacher(pixels)
            combination = random_logits(taught, labels)
            (target,) = torch.autograd.grad(combination(taught).sum(), pixels)
            with eval_mode(self.student):
                (gradient,) = torch.autograd.grad(combination(self.student(pixels)).sum(), pixels)
        gap = gradient - target
        length = gap.flatten(1).norm(dim=1)
        apart = self.options.radius * sqrt(gap[0].numel())
        offset = gap * (apart / length.clamp_min(TINY)).view(-1, 1, 1, 1)
        ahead, behind = self.student(torch.cat([images + offset, images - offset])).chunk(2)
        slope = (combination(ahead) - combination(behind)) / (2 * apart)
        towards = 2 * (length * slope).mean() / target.square().flatten(1).sum(1).mean().clamp_min(TINY)
        # The distance that was measured, with the derivative of the slope.
        gradient_term = relative(squared_distance, gradient, target) + towards - towards.detach()
        logits = (ahead + behind) / 2
        divergence = kl_divergence(logits, taught.detach()).mean()
        label_term = cross_entropy(logits, labels).mean()
        total = self.options.weight * gradient_term + self.options.divergence_weight * divergence
        total = total + self.options.cross_entropy_weight * label_term
        terms = {"cross_entropy": label_term, "gradient_distance": gradient_term, "divergence": divergence}
        return Losses(total, {name: term.detach() for name, term in terms.items()})
