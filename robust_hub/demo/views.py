"""What a model makes of a picture: before an attack, while it goes on, and after it."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from robust_hub.attacks import PGD, ascend, eval_mode, loss_and_gradient
from robust_hub.demo.exhibits import Exhibit
from robust_hub.losses import cross_entropy
from robust_hub.models import PixelClassifier
from robust_hub.threats import Threat
from robust_hub.types import Images

STEPS = 20
# Between two looks at whether somebody still waits for the rest.
STEPS_AT_ONCE = 4
LABELS = 3

Shares = list[tuple[str, float]]


@dataclass(frozen=True)
class View:
    """What a model makes of one image.

    Attributes:
        exhibit: the model.
        steps: of the attack, so far.
        before: its likeliest labels, with their probabilities.
        after: the same of the attacked image.
        is_fooled: whether its first label is another one after the attack; two labels may have one name.
        image: c h w, in [0, 1].
        adversarial: the attacked one.
        gradient: of the loss of its own first label, at the image.
    """

    exhibit: Exhibit
    steps: int
    before: Shares
    after: Shares
    is_fooled: bool
    image: Tensor
    adversarial: Tensor
    gradient: Tensor


def look(exhibit: Exhibit, image: Tensor, threat: Threat) -> Iterator[View]:
    """Attacks an image by PGD, away from the label that the model gives it, a few steps at a time.

    Args:
        exhibit: the model.
        image: c h w, in [0, 1], of the model's size.
        threat: the ball; of radius 0 it holds nothing but the image.

    Yields:
        What it makes of the image, first without an attack.
    """
    classifier, images = exhibit.classifier, image[None]
    with eval_mode(classifier):
        before, labels = _shares(exhibit, images)

        def loss(pixels: Images) -> Tensor:
            return cross_entropy(classifier(pixels), labels)

        _, gradient = loss_and_gradient(loss, images)
        yield View(exhibit, 0, before, before, False, image, image, gradient[0])
        if threat.eps == 0:
            return
        attack, adversarial = PGD.standard(threat, steps=STEPS), images
        start = threat.sample(images)
        for done in range(0, STEPS, STEPS_AT_ONCE):
            steps = min(STEPS_AT_ONCE, STEPS - done)
            adversarial = ascend(loss, images, start, threat=threat, steps=steps, step_size=attack.step_size)
            start = adversarial - images
            after, now = _shares(exhibit, adversarial)
            is_fooled = not torch.equal(now, labels)
            yield View(exhibit, done + steps, before, after, is_fooled, image, adversarial[0], gradient[0])


@torch.no_grad()
def _shares(exhibit: Exhibit, images: Images) -> tuple[Shares, Tensor]:
    classifier: PixelClassifier = exhibit.classifier
    shares, labels = classifier(images).softmax(1)[0].topk(min(LABELS, classifier.num_classes))
    names = [exhibit.label_names[label] for label in labels]
    return list(zip(names, shares.tolist(), strict=True)), labels[:1]
