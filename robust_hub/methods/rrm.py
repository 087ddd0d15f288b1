"""Robust representation matching: the student's features point where the robust teacher's do."""

import torch
from torch import nn

from robust_hub.classifiers import PixelClassifier, Teacher
from robust_hub.losses import cosine_distance, cross_entropy
from robust_hub.methods.base import Losses, Objective, check_same_task
from robust_hub.types import Images, Labels


class RRM(Objective):
    """Cosine distance between the features of student and teacher on clean images, and a little cross-entropy.

    Args:
        student: the classifier to train, in train mode.
        teacher: the robust classifier.
        cross_entropy_weight: weight of the cross-entropy; the feature term has weight 1.
        projection: whether a linear layer, trained with the student and not published, maps the student's features to
            the teacher's width; without it the widths must agree.

    Raises:
        ValueError: when the feature widths differ and no projection is asked for, or the tasks differ.

    Source: Vaishnavi et al., USENIX Security 2022, arXiv 2202.09994, the objective of the authors' CIFAR-10 runs.
    Deviations: the authors edit architectures until the widths agree where we offer `projection`; their term is the
        negative similarity, ours 1 minus it, the same up to a constant; images are not clamped, they are in [0, 1].
    """

    def __init__(
        self,
        student: PixelClassifier,
        teacher: Teacher,
        *,
        cross_entropy_weight: float = 0.005,
        projection: bool = False,
    ):
        super().__init__()
        check_same_task(student, teacher)
        width, target_width = student.num_features, teacher.classifier.num_features
        if width != target_width and not projection:
            raise ValueError(
                f"student and teacher features differ in width ({width} and {target_width}); "
                f"choose a student with {target_width} features or ask for a projection with --projection"
            )
        self.student, self.teacher = student, teacher
        self.cross_entropy_weight = cross_entropy_weight
        self.projection = nn.Linear(width, target_width, bias=False) if projection else nn.Identity()

    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""
        with torch.no_grad():
            _, target = self.teacher.forward_with_features(images)
        logits, features = self.student.forward_with_features(images)
        # The projection falls back to the precision of autocast; the distance is computed in that of the target.
        feature_term = cosine_distance(self.projection(features).to(target.dtype), target).mean()
        label_term = cross_entropy(logits, labels).mean()
        terms = {"feature_distance": feature_term.detach(), "cross_entropy": label_term.detach()}
        return Losses(feature_term + self.cross_entropy_weight * label_term, terms)
