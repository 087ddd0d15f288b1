"""Input gradients that a student learns: when they count, and how they are differentiated again."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from robust_hub.attacks import without_float16
from robust_hub.methods.base import Options, check_at_least
from robust_hub.methods.batch_norm import batch_norm
from robust_hub.models import PixelClassifier
from robust_hub.types import Images, PerExample


@dataclass(frozen=True)
class GradientOptions(Options):
    """When a method compares input gradients, and how finely.

    Attributes:
        pool: side in px of the squares over which gradients are averaged before they are compared; 1 compares all of
            them, 2 and more their low frequencies alone.
        period: gradients are compared at every so manieth step, the last one among them, with so many times the weight.
        start: the share of the run before gradients are compared, without any second derivative.
        ramp: the share of the run over which their weight then grows from 0.
    """

    pool: int = 1
    period: int = 1
    start: float = 0.0
    ramp: float = 0.05

    def __post_init__(self) -> None:
        check_at_least(1, self.method, pool=self.pool, period=self.period)
        check_at_least(0, self.method, start=self.start, ramp=self.ramp)
        if self.start >= 1 or self.start + self.ramp > 1:
            raise ValueError(
                f"{self.method} needs start and ramp to be shares of a run, below 1 and at most 1 together, "
                f"got {self.start:g} and {self.ramp:g}"
            )

    def share(self, step: int, steps: int) -> float:
        """Gives with which share of their weight gradients count at a step of so many."""
        since = step - self.start * steps
        if since < 0 or (steps - 1 - step) % self.period:
            return 0.0
        ramp = self.ramp * steps
        return self.period * (min(1.0, (since + 1) / ramp) if ramp else 1.0)

    def pooled(self, gradients: Tensor) -> Tensor:
        """Averages gradients n c h w over squares."""
        return F.avg_pool2d(gradients, self.pool) if self.pool > 1 else gradients


def students_gradient(scalars: PerExample, images: Images, student: PixelClassifier) -> Images:
    """Computes the gradient of each image's scalar for that image, to be differentiated again.

    In train mode BatchNorm makes each scalar depend on all images. A random sign for each, undone afterwards, has what
    comes from other images cancel on average.

    Args:
        scalars: one for each image, of the student.
        images: that the student was given, requiring a gradient.
        student: whose pass is counted when this is differentiated.
    """
    signs = 1.0 - 2 * torch.randint(2, scalars.shape, device=images.device)
    (gradient,) = torch.autograd.grad((signs * scalars).sum(), images, create_graph=True)
    gradient.register_hook(student.count_backward)
    return signs.view(-1, 1, 1, 1) * gradient


@contextmanager
def twice_differentiable(device_type: str) -> Generator[None]:
    """Computes by operations that all have a second derivative, no fused attention or hard sigmoid; not in float16."""
    with without_float16(device_type), sdpa_kernel(SDPBackend.MATH), _WrittenOut():
        yield


class _WrittenOut(TorchFunctionMode):
    """Writes out the functions whose backward has no derivative, or has a slow one."""

    def __torch_function__(self, func, types, args: tuple = (), kwargs=None):
        if func is F.hardsigmoid:
            return F.relu6(args[0] + 3) / 6
        if func is F.batch_norm:
            return batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
