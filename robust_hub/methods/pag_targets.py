"""Where perceptually aligned gradients should point: to one image, a mean or a neighbour, or where a teacher's do."""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_hub.attacks import without_float16
from robust_hub.methods.base import check_same_task
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Images, Labels

# Two images nearer than this, in pixel units, are the same one.
TINY = 1e-4
NEIGHBOURS = 50
Batches = Iterable[tuple[Tensor, ...]]


@runtime_checkable
class Targets(Protocol):
    """Where the input gradient of an image should point for each class."""

    def __call__(self, images: Images, labels: Labels, classes: Tensor, *extras: Tensor) -> Tensor:
        """Gives target gradients.

        Args:
            images: n of them.
            labels: their classes.
            classes: n k, the classes wanted for each image.
            extras: what the loader gave beside them.

        Returns:
            n k c h w; only the direction of each counts, and one of length 0 counts not at all.
        """


class Representatives(nn.Module):
    """Targets that point from the image to one representative of the class.

    Args:
        representatives: one image a class, k c h w; any of the class (the paper's one image), or `class_means`.
    """

    representatives: Tensor

    def __init__(self, representatives: Tensor):
        super().__init__()
        self.register_buffer("representatives", representatives, persistent=False)

    def forward(self, images: Images, labels: Labels, classes: Tensor) -> Tensor:
        """Gives target gradients."""
        return self.representatives[classes] - images[:, None]


class NearestNeighbours(nn.Module):
    """Targets that point from the image to the nearest of a few images of the class, by pixels, but not to itself.

    Args:
        examples: m images of each class, k m c h w.
    """

    examples: Tensor

    def __init__(self, examples: Tensor):
        super().__init__()
        self.count = examples.shape[1]
        # All in one row: five dimensions would not go into channels-last memory with the student.
        self.register_buffer("examples", examples.flatten(0, 1), persistent=False)

    def forward(self, images: Images, labels: Labels, classes: Tensor) -> Tensor:
        """Gives target gradients."""
        # Pixel by pixel: by way of a matrix product an image would seem to lie some way off itself.
        exactly = "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(images.flatten(1), self.examples.flatten(1), compute_mode=exactly)
        distances = distances.unflatten(1, (-1, self.count)).gather(1, classes[..., None].expand(-1, -1, self.count))
        # An image among the examples is no neighbour of itself.
        nearest = distances.masked_fill(distances < TINY, torch.inf).argmin(2)
        return self.examples[classes * self.count + nearest] - images[:, None]


class TeacherGradients(nn.Module):
    """Targets that are the input gradients of a robust teacher's log-probabilities.

    Args:
        teacher: the robust classifier.
        student: the one it teaches; only their tasks are compared.

    Raises:
        ValueError: when the tasks differ.

    Deviations: ours; the paper uses no robust model for any target.
    """

    def __init__(self, teacher: Teacher, student: PixelClassifier):
        super().__init__()
        check_same_task(student, teacher)
        self.teacher = teacher

    def forward(self, images: Images, labels: Labels, classes: Tensor) -> Tensor:
        """Gives target gradients."""
        with without_float16(images.device.type), torch.enable_grad():
            pixels = images.detach().requires_grad_()
            log_probabilities = F.log_softmax(self.teacher(pixels), 1).gather(1, classes)
            last = classes.shape[1] - 1
            gradients = [
                torch.autograd.grad(chosen.sum(), pixels, retain_graph=place < last)[0]
                for place, chosen in enumerate(log_probabilities.unbind(1))
            ]
        return torch.stack(gradients, 1)


class StoredGradients(nn.Module):
    """Targets that the loader gives with each batch: n k c h w for all classes, as the paper's score-based ones."""

    def forward(self, images: Images, labels: Labels, classes: Tensor, stored: Tensor) -> Tensor:
        """Gives target gradients."""
        places = torch.arange(len(images), device=images.device)[:, None]
        return stored[places, classes].to(images.dtype)


def class_examples(batches: Batches, num_classes: int, count: int) -> Tensor:
    """Takes the first so many images of each class, k m c h w; fewer of all where a class has fewer.

    Raises:
        ValueError: when a class has no image.
    """
    kept: list[list[Tensor]] = [[] for _ in range(num_classes)]
    for images, labels in batches:
        for image, label in zip(images, labels.tolist(), strict=True):
            if len(kept[label]) < count:
                kept[label].append(image)
        if all(len(examples) == count for examples in kept):
            break
    fewest = min(map(len, kept))
    if not fewest:
        raise ValueError(f"PAG needs a training image of each class, class {list(map(len, kept)).index(0)} has none")
    return torch.stack([torch.stack(examples[:fewest]) for examples in kept])


def class_means(batches: Batches, num_classes: int) -> Tensor:
    """Averages the images of each class and stretches the means about mid-grey to the contrast of images, k c h w.

    A mean of many images is nearly grey, and the way to it would be the same for all classes.

    Raises:
        ValueError: when a class has no image.
    """
    sums, counts, contrast = torch.zeros(()), torch.zeros(()), 0.0
    for images, labels in batches:
        members = F.one_hot(labels, num_classes).to(images.dtype)
        sums = sums + torch.einsum("nk,nchw->kchw", members, images)
        counts = counts + members.sum(0)
        contrast += (images - 0.5).flatten(1).norm(dim=1).sum().item()
    if (counts == 0).any():
        raise ValueError(f"PAG needs a training image of each class, class {counts.argmin().item()} has none")
    means = sums / counts.view(-1, 1, 1, 1) - 0.5
    return 0.5 + means * (contrast / counts.sum()) / means.flatten(1).norm(dim=1).mean()


def make_targets(
    name: str, student: PixelClassifier, teacher: Teacher | None, batches: Callable[[], Batches]
) -> Targets:
    """Makes the targets of that name: teacher, stored, class-mean, one-image or nearest-neighbour.

    Args:
        name: which.
        student: the classifier to train.
        teacher: the robust classifier, which only its own targets ask; None where there is none.
        batches: gives the training images, where they are needed.

    Raises:
        ValueError: when the tasks differ, a class has no image, or there is no teacher that is asked.
    """
    classes = student.num_classes
    if name == "teacher":
        if teacher is None:
            raise ValueError("the gradients of a teacher need one")
        return TeacherGradients(teacher, student)
    if name == "stored":
        return StoredGradients()
    if name == "class-mean":
        return Representatives(class_means(batches(), classes))
    if name == "one-image":
        return Representatives(class_examples(batches(), classes, 1).squeeze(1))
    return NearestNeighbours(class_examples(batches(), classes, NEIGHBOURS))
