"""Measures accuracy under common corruptions, noise, JPEG, resizing and attacks in another norm."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import nn

from robust_hub.attacks import PGD, eval_mode
from robust_hub.data import mix
from robust_hub.evaluation.portions import Portion, gather
from robust_hub.evaluation.robust_accuracy import accuracy_curve, right, strict_float32
from robust_hub.evaluation.stress import Strain, Stress
from robust_hub.launch import progress
from robust_hub.threats import L2, Linf, Threat
from robust_hub.types import Images

STRENGTHS = (1.0, 2.0, 3.0, 4.0, 5.0)
# Of the paper's 19 kinds, those that are reported; the others are there to choose by.
CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
# They are defined for no smaller image.
LEAST_SIDE = 32
NOISE = (0.02, 0.05, 0.1, 0.15, 0.2)
QUALITIES = (90.0, 70.0, 50.0, 30.0, 10.0)
SHARES = (0.9, 0.75, 0.5, 0.35, 0.25)
RADII = {"l2": (0.25, 0.5, 1.0, 1.5, 2.0), "linf": tuple(level / 255 for level in (1, 2, 4, 8, 16))}
STEPS = 20
MISSING = "--stress needs imagecorruptions, which is not here; pip install 'robust_hub[stress]'"


def check_stress() -> None:
    """Checks, before anything is measured, that the corruptions are at hand.

    Raises:
        ValueError: when they are not.
    """
    if find_spec("imagecorruptions") is None:
        raise ValueError(MISSING)


def measure_stress(classifier: nn.Module, portions: Sequence[Portion], threat: Threat, *, seed: int) -> Stress:
    """Measures accuracy under common corruptions, Gaussian noise, JPEG, resizing, and PGD in another norm.

    Args:
        classifier: on its device.
        portions: this process's.
        threat: that of the claim, whose norm is not the other one.
        seed: of what is random in them, with the portion.

    Source: Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261, for the corruptions.
    Deviations: accuracies, not errors relative to AlexNet's; strengths are those of 224 px at any size, so figures of
        smaller images are not comparable with those on CIFAR-10-C; images below 32 px have no common corruptions.
    """
    strengths = {"Gaussian noise, sigma": NOISE, "JPEG, quality": QUALITIES, "resized to, and back": SHARES}
    if all(min(portion.images.shape[2:]) >= LEAST_SIDE for portion in portions):
        strengths |= dict.fromkeys(CORRUPTIONS, STRENGTHS)
    # The images as they are.
    strengths[""] = (0.0,)
    masks = {}
    with eval_mode(classifier), strict_float32():
        for name, values in progress(strengths.items(), desc="stress", leave=False):
            found = []
            for first, images, labels in portions:
                changed = _change(name, mix(seed, first) % 2**32)
                shown = (changed(images, value).to(images) for value in values)
                found.append((first, torch.stack([right(classifier, each, labels) for each in shown]).cpu().numpy()))
            masks[name] = np.concatenate(gather(found), axis=1)
    (unchanged,) = masks.pop("")
    strains = [
        Strain(name, [f"{value:g}" for value in strengths[name]], mask.mean(1).tolist()) for name, mask in masks.items()
    ]
    strains.append(_other_norm(classifier, portions, threat, seed))
    return Stress(len(unchanged), float(unchanged.mean()), strains)


def _change(name: str, seed: int) -> Callable[[Images, float], Images]:
    """Gives the change of images that a name means, at any strength; none where the name is empty."""
    match name:
        case "":
            return lambda images, _: images
        case "Gaussian noise, sigma":
            return _noisy(seed)
        case "JPEG, quality":
            return _each(_recompressed)
        case "resized to, and back":
            return _resized
        case _:
            return _each(_corrupted(name), seed)


def _other_norm(classifier: nn.Module, portions: Sequence[Portion], threat: Threat, seed: int) -> Strain:
    other = L2(0.0) if isinstance(threat, Linf) else Linf(0.0)
    radii = RADII[other.name]

    def attack(eps: float) -> PGD:
        return PGD.standard(replace(other, eps=eps), steps=STEPS, stop_when_fooled=True)

    accuracy = accuracy_curve(classifier, portions, attack, radii, seed=seed).mean(1).tolist()
    return Strain(
        f"PGD-{STEPS}, {other.name}", [str(replace(other, eps=eps)).partition(":")[2] for eps in radii], accuracy
    )


def _noisy(seed: int) -> Callable[[Images, float], Images]:
    def changed(images: Images, sigma: float) -> Images:
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(images.shape, generator=generator).to(images)
        return (images + sigma * noise).clamp(0, 1)

    return changed


def _resized(images: Images, share: float) -> Images:
    size = [max(1, round(share * side)) for side in images.shape[2:]]
    small = nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
    whole = nn.functional.interpolate(small, size=images.shape[2:], mode="bilinear", align_corners=False)
    return whole.clamp(0, 1)


def _each(change: Callable[[np.ndarray, float], np.ndarray], seed: int = 0) -> Callable[[Images, float], Images]:
    """Lets a change of one picture, of bytes in colour, be one of images; numpy's random numbers are put back."""

    def changed(images: Images, strength: float) -> Images:
        levels = (255 * images).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        state = np.random.get_state()
        try:
            # The corruptions draw from the global generator.
            np.random.seed(seed)
            pictures = np.stack([np.asarray(change(picture, strength), dtype=np.uint8) for picture in levels])
        finally:
            np.random.set_state(state)
        colour = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        return colour if images.shape[1] == 3 else colour.mean(1, keepdim=True)

    return changed


def _recompressed(picture: np.ndarray, quality: float) -> np.ndarray:
    with BytesIO() as file:
        Image.fromarray(picture).save(file, "JPEG", quality=int(quality))
        with Image.open(file) as image:
            return np.asarray(image)


def _corrupted(name: str) -> Callable[[np.ndarray, float], np.ndarray]:
    from imagecorruptions import corrupt

    return lambda picture, severity: corrupt(picture, severity=int(severity), corruption_name=name)
