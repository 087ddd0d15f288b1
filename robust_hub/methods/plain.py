"""Plain training on clean images: the baseline that an attack brings to zero."""

from dataclasses import dataclass
from typing import ClassVar

from robust_hub.losses import cross_entropy
from robust_hub.methods.base import Losses, Objective, Options
from robust_hub.models import PixelClassifier
from robust_hub.types import Images, Targets


@dataclass(frozen=True)
class PlainOptions(Options):
    """Plain training has no options."""

    method: ClassVar[str] = "Plain"


class Plain(Objective):
    """Cross-entropy on clean images."""

    def __init__(self, student: PixelClassifier):
        super().__init__()
        self.student = student

    def forward(self, images: Images, labels: Targets) -> Losses:
        """Computes the loss of a batch."""
        total = cross_entropy(self.student(images), labels).mean()
        return Losses(total, {"cross_entropy": total.detach()})
