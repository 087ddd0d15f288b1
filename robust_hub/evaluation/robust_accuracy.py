"""Measures clean and robust accuracy. An image counts as robust when it is classified rightly clean and attacked."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from robust_hub.attacks import PGD, Attack, eval_mode
from robust_hub.data import Loader
from robust_hub.evaluation.accuracy import Evaluation
from robust_hub.evaluation.curve import Curve
from robust_hub.evaluation.portions import Portion, gather, seeded
from robust_hub.launch import progress
from robust_hub.threats import Threat
from robust_hub.types import Images, Labels, Mask

CURVE_STEPS = 20
CURVE_RADII = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)


def evaluate_loader(
    accelerator: Accelerator, classifier: nn.Module, loader: Loader, attack: Attack, *, label: str = ""
) -> Evaluation:
    """Attacks every image that is classified rightly, in float32, each process its share.

    Args:
        accelerator: of the run; its autocast is not used.
        classifier: the unwrapped classifier, returned to the mode it was in.
        loader: this process's share of a split, from `evaluation_loader`.
        attack: what to withstand.
        label: named on the progress bar; without it there is none.
    """
    start = time.perf_counter()
    found = []
    with eval_mode(classifier), strict_float32():
        for number, (images, labels) in enumerate(progress(loader, desc=label, disable=not label)):
            correct = right(classifier, images, labels)
            withstood = correct.clone()
            if correct.any():
                adversarial = attack(classifier, images[correct], labels[correct])
                withstood[correct] = right(classifier, adversarial, labels[correct])
            # Batches go round the processes.
            place = number * accelerator.num_processes + accelerator.process_index
            found.append((place, [each.cpu().numpy() for each in (labels, correct, withstood)]))
    true, clean, robust = map(np.concatenate, zip(*gather(found), strict=True))
    return Evaluation(repr(attack), true, clean, {repr(attack): robust}, time.perf_counter() - start)


def accuracy_curve(
    classifier: nn.Module,
    portions: Sequence[Portion],
    attack: Callable[[float], Attack],
    eps: Sequence[float],
    *,
    seed: int,
) -> np.ndarray:
    """Finds which images withstand growing eps; one that fell at a smaller eps has fallen at a larger one.

    Args:
        classifier: the unwrapped classifier, returned to the mode it was in.
        portions: this process's.
        attack: makes the attack for one eps.
        eps: radii in pixel units, growing.
        seed: of the random starts; the global generator is left alone.

    Returns:
        A row for each radius and a boolean for each image of all processes.
    """
    found = []
    with eval_mode(classifier), strict_float32():
        for portion in portions:
            with seeded(seed, portion.first, device=portion.images.device):
                found.append((portion.first, _withstood(classifier, portion, attack, eps)))
    return np.concatenate(gather(found), axis=1)


def _withstood(
    classifier: nn.Module, portion: Portion, attack: Callable[[float], Attack], eps: Sequence[float]
) -> np.ndarray:
    """Attacks the images of a portion at growing eps; see `accuracy_curve`."""
    _, images, labels = portion
    standing, masks = right(classifier, images, labels), []
    for radius in eps:
        if radius > 0 and standing.any():
            adversarial = attack(radius)(classifier, images[standing], labels[standing])
            withstood = right(classifier, adversarial, labels[standing])
            standing = standing.clone()
            standing[standing.clone()] = withstood
        masks.append(standing.cpu().numpy())
    return np.stack(masks)


def pgd_curve(classifier: nn.Module, portions: Sequence[Portion], threat: Threat, *, seed: int) -> Curve:
    """Measures accuracy under PGD-20 at multiples of a threat's eps, that eps among them; see `accuracy_curve`."""

    def attack(eps: float) -> PGD:
        return PGD.standard(replace(threat, eps=eps), steps=CURVE_STEPS, stop_when_fooled=True)

    eps = [threat.eps * factor for factor in CURVE_RADII]
    masks = accuracy_curve(classifier, portions, attack, eps, seed=seed)
    return Curve(CURVE_STEPS, masks.shape[1], eps, masks.mean(1).tolist())


def strict_float32() -> AbstractContextManager:
    """Keeps cuDNN from TensorFloat-32, its default for convolutions."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


@torch.no_grad()
def right(classifier: nn.Module, images: Images, labels: Labels) -> Mask:
    """Tells which images are classified rightly."""
    return classifier(images).argmax(1) == labels
