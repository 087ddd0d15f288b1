"""What every attack needs: its type, the mode it runs the classifier in, the gradient it climbs, and its verdict."""

from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import nn

from robust_hub.types import Images, Labels, Logits, Mask, PerExample, Targets

Attack = Callable[[nn.Module, Images, Targets], Images]


@runtime_checkable
class Stage(Protocol):
    """An attack that can be one of an ensemble: it tells what it costs at most."""

    @property
    def most_passes(self) -> int:
        """Forward and backward passes that an image takes at most."""
        ...

    def __call__(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """Returns adversarial images."""


class Found(NamedTuple):
    """What one run of an attack came to: its images, and which of them are misclassified."""

    adversarial: Images
    fooled: Mask


class SearchClassifier(nn.Module):
    """A classifier in low precision for attacks to search on, beside the one in float32 whose verdict counts.

    Args:
        search: the fast one, which gives logits and gradients.
        exact: the same network in float32, asked about each image that the fast one calls misclassified.
    """

    def __init__(self, search: nn.Module, exact: nn.Module):
        super().__init__()
        self.search, self.exact = search, exact

    def forward(self, images: Images) -> Logits:
        """Classifies images in [0, 1] with the fast one."""
        return self.search(images)


@contextmanager
def eval_mode(classifier: nn.Module) -> Generator[None]:
    """Puts every module in eval mode, and afterwards each back into the mode it was in."""
    modes = [(module, module.training) for module in classifier.modules()]
    # By way of train(): some of timm's attentions then forget what they keep in eval mode.
    classifier.train()
    classifier.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def loss_and_gradient(loss: Callable[[Images], PerExample], images: Images) -> tuple[PerExample, Images]:
    """Computes a loss for each image and its gradient with respect to that image, leaving parameters untouched.

    In a run in float16 this part is computed in float32: gradients of images vanish there, and nothing scales them.
    """
    with torch.enable_grad(), without_float16(images.device.type):
        images = images.detach().requires_grad_()
        losses = loss(images)
        (gradient,) = torch.autograd.grad(losses.sum(), images)
    return losses.detach(), gradient


def without_float16(device_type: str) -> AbstractContextManager:
    """Leaves autocast where it is to float16; bfloat16 has the range of float32 and may stay."""
    if torch.is_autocast_enabled(device_type) and torch.get_autocast_dtype(device_type) == torch.float16:
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


def misclassified(classifier: nn.Module, images: Images, labels: Labels, logits: Logits) -> Mask:
    """Tells which images are misclassified, given the logits that the classifier gave for them.

    What a `SearchClassifier` calls misclassified counts only when its exact classifier says so too.
    """
    wrong = logits.detach().argmax(1) != labels
    if isinstance(classifier, SearchClassifier) and wrong.any():
        wrong = wrong.clone()
        with torch.no_grad():
            wrong[wrong.clone()] = classifier.exact(images[wrong]).argmax(1) != labels[wrong]
    return wrong


def in_turn(runs: Iterable[Callable[[torch.Tensor], Found]], images: Images) -> Images:
    """Lets runs of an attack follow each other, each on the images that the ones before have not fooled.

    Args:
        runs: each is given the numbers of the images that still stand.
        images: the clean images.

    Returns:
        What the run that fooled an image found, or the last run where none did.
    """
    adversarial = images.clone()
    standing = torch.arange(len(images), device=images.device)
    for run in runs:
        if not len(standing):
            break
        found = run(standing)
        adversarial[standing] = found.adversarial
        standing = standing[~found.fooled]
    return adversarial


def likeliest_targets(classifier: nn.Module, images: Images, labels: Labels, count: int) -> torch.Tensor:
    """Ranks the classes other than the label, the likeliest first; n rows of that many targets.

    Raises:
        ValueError: when there are not so many other classes.
    """
    with torch.no_grad():
        logits = classifier(images)
    if count >= logits.shape[1]:
        raise ValueError(f"targets must be fewer than the {logits.shape[1]} classes, got {count}")
    return logits.scatter(1, labels[:, None], -torch.inf).topk(count, dim=1).indices
