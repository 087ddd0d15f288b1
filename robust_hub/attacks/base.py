"""What every attack needs: its type, the mode it runs the classifier in, and the gradient it climbs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from robust_hub.types import Images, Labels, PerExample

Attack = Callable[[nn.Module, Images, Labels], Images]


@contextmanager
def eval_mode(classifier: nn.Module) -> Iterator[None]:
    """Puts every module in eval mode, and afterwards each back into the mode it was in."""
    training = [module for module in classifier.modules() if module.training]
    classifier.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def loss_and_gradient(loss: Callable[[Images], PerExample], images: Images) -> tuple[PerExample, Images]:
    """Computes a loss for each image and its gradient with respect to that image, leaving parameters untouched."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        losses = loss(images)
        (gradient,) = torch.autograd.grad(losses.sum(), images)
    return losses.detach(), gradient
