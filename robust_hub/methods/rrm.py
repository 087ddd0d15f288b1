"""Robust representation matching: the student's features point where the robust teacher's do."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from robust_hub.losses import cosine_distance, cross_entropy, relative_distance
from robust_hub.methods.base import Losses, Objective, Options, check_at_least, check_same_task, with_noise
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Features, Images, PerExample, Targets

Distance = Callable[[Features, Features], PerExample]
DISTANCES: dict[str, Distance] = {"cosine": cosine_distance, "relative-l2": relative_distance}


@dataclass(frozen=True)
class RRMOptions(Options):
    """What RRM compares.

    Attributes:
        cross_entropy_weight: of the labels, beside a feature term of weight 1.
        projection: whether a linear layer, trained with the student and not published, maps the student's features to
            the teacher's width; without it the widths must agree.
        distance: between the features: cosine as in the authors' CIFAR-10 runs, or relative-l2 as in those on ImageNet.
        head: what reads the features: the student's own classifier layer or, behind the projection, the teacher's. Both
            are one linear layer in the model that is published.
        noise: radius of uniform noise on the images, in pixel units.
    """

    method: ClassVar[str] = "RRM"
    cross_entropy_weight: float = 0.005
    projection: bool = False
    distance: Literal["cosine", "relative-l2"] = "cosine"
    head: Literal["own", "teacher"] = "own"
    noise: float = 0.0


class RRM(Objective):
    """Distance between the features of student and teacher on clean images, and a little cross-entropy.

    Args:
        student: the classifier to train, in train mode.
        teacher: the robust classifier.
        options: what is compared.

    Raises:
        ValueError: when the feature widths differ and no projection is asked for, or the tasks differ.

    Source: Vaishnavi et al., USENIX Security 2022, arXiv 2202.09994; 0.005 is that of the authors' CIFAR-10 runs at
        linf 8/255 (5e-5 at l2 1.0, and 0.001 with the relative distance on Restricted-ImageNet).
    Deviations: the authors edit architectures until the widths agree where we offer `projection`; their term is the
        negative similarity, ours 1 minus it, the same up to a constant; images are not clamped, they are in [0, 1]. The
        teacher's head behind the projection is that of Chen et al., CVPR 2022, arXiv 2203.14001, and noise is ours.
    """

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: RRMOptions = RRMOptions()):
        super().__init__()
        check_same_task(student, teacher)
        check_at_least(0, "RRM", cross_entropy_weight=options.cross_entropy_weight, noise=options.noise)
        width, target_width = student.num_features, teacher.classifier.num_features
        if width != target_width and not options.projection:
            raise ValueError(
                f"student and teacher features differ in width ({width} and {target_width}); "
                f"choose a student with {target_width} features or ask for a projection with --projection"
            )
        self.student, self.teacher, self.options = student, teacher, options
        self.distance = DISTANCES[options.distance]
        self.projection = nn.Linear(width, target_width, bias=False) if options.projection else nn.Identity()
        if options.head == "teacher":
            self._freeze_head()

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        if self.options.head == "teacher":
            self._read_through_projection()
        images = with_noise(images, self.options.noise)
        with torch.no_grad():
            _, target = self.teacher.forward_with_features(images)
        logits, features = self.student.forward_with_features(images)
        # The projection falls back to the precision of autocast; the distance is computed in that of the target.
        feature_term = self.distance(self.projection(features).to(target.dtype), target).mean()
        label_term = cross_entropy(logits, labels).mean()
        terms = {"feature_distance": feature_term.detach(), "cross_entropy": label_term.detach()}
        return Losses(feature_term + self.options.cross_entropy_weight * label_term, terms)

    def _freeze_head(self) -> None:
        """Has the student's head learn nothing: it is to be the teacher's."""
        if not self.options.projection:
            raise ValueError("--head teacher reads the features behind a projection; give --projection as well")
        layers = [*self.student.classifier_layers, *self.teacher.classifier.classifier_layers]
        if len(layers) != 2 or any(layer.bias is None for layer in layers):
            raise ValueError("--head teacher needs one linear layer with a bias in student and teacher each")
        own, taught = layers
        own.requires_grad_(False)
        own.load_state_dict({"weight": own.weight, "bias": taught.bias})

    def _read_through_projection(self) -> None:
        """Makes the student's head that of the teacher behind the projection as it is now.

        An average of such products over steps is the product with the average, as the teacher's factor stays.
        """
        assert isinstance(self.projection, nn.Linear)
        (own,), (taught,) = self.student.classifier_layers, self.teacher.classifier.classifier_layers
        with torch.no_grad():
            own.weight.copy_((taught.weight.flatten(1) @ self.projection.weight).view_as(own.weight))
