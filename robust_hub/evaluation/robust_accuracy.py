"""Measures clean and robust accuracy. An image counts as robust when it is classified rightly clean and attacked."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from robust_hub.attacks import PGD, Attack, eval_mode
from robust_hub.data import Loader
from robust_hub.evaluation.accuracy import Evaluation
from robust_hub.evaluation.curve import Curve
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
    true, clean, robust = [], [], []
    with eval_mode(classifier), strict_float32():
        for images, labels in progress(loader, desc=label, disable=not label):
            correct = right(classifier, images, labels)
            withstood = correct.clone()
            if correct.any():
                adversarial = attack(classifier, images[correct], labels[correct])
                withstood[correct] = right(classifier, adversarial, labels[correct])
            true.append(labels.cpu().numpy())
            clean.append(correct.cpu().numpy())
            robust.append(withstood.cpu().numpy())
    true, clean, robust = (_gather(accelerator, share) for share in (true, clean, robust))
    return Evaluation(repr(attack), true, clean, {repr(attack): robust}, time.perf_counter() - start)


def accuracy_curve(
    accelerator: Accelerator,
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    attack: Callable[[float], Attack],
    eps: Sequence[float],
) -> list[float]:
    """Measures robust accuracy at growing eps; an image that fell at a smaller eps has fallen at a larger one.

    Args:
        accelerator: of the run.
        classifier: the unwrapped classifier, returned to the mode it was in.
        images: this process's share.
        labels: of these images.
        attack: makes the attack for one eps.
        eps: radii in pixel units, growing.
    """
    masks = []
    with eval_mode(classifier), strict_float32():
        standing = right(classifier, images, labels)
        for radius in eps:
            if radius > 0 and standing.any():
                adversarial = attack(radius)(classifier, images[standing], labels[standing])
                withstood = right(classifier, adversarial, labels[standing])
                standing = standing.clone()
                standing[standing.clone()] = withstood
            masks.append(standing.cpu().numpy())
    return [float(_gather(accelerator, [mask]).mean()) for mask in masks]


def pgd_curve(accelerator: Accelerator, classifier: nn.Module, images: Images, labels: Labels, threat: Threat) -> Curve:
    """Measures accuracy under PGD-20 at multiples of a threat's eps, that eps among them; see `accuracy_curve`."""

    def attack(eps: float) -> PGD:
        return PGD.standard(replace(threat, eps=eps), steps=CURVE_STEPS, stop_when_fooled=True)

    eps = [threat.eps * factor for factor in CURVE_RADII]
    accuracy = accuracy_curve(accelerator, classifier, images, labels, attack, eps)
    return Curve(CURVE_STEPS, sum(gather_object([len(images)])), eps, accuracy)


def strict_float32() -> AbstractContextManager:
    """Keeps cuDNN from TensorFloat-32, its default for convolutions."""
    return torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)


@torch.no_grad()
def right(classifier: nn.Module, images: Images, labels: Labels) -> Mask:
    """Tells which images are classified rightly."""
    return classifier(images).argmax(1) == labels


def _gather(accelerator: Accelerator, share: list[np.ndarray]) -> np.ndarray:
    """Puts the shares (rows r, r + w, r + 2 w, ... of process r of w) back into the order of the split."""
    shares = gather_object([np.concatenate(share) if share else np.zeros(0, bool)])
    whole = np.empty(sum(map(len, shares)), dtype=np.result_type(*shares))
    for rank, mask in enumerate(shares):
        whole[rank :: accelerator.num_processes] = mask
    return whole
