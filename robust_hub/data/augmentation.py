"""What happens to training images before a network sees them; it depends on what they are, never on how many."""

import math
from dataclasses import replace
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as PILImage
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from robust_hub.data.images import image_to_tensor
from robust_hub.data.source import Source
from robust_hub.data.three_splits import Data

# Those of timm's random resized crop: of the photo's area, and width over height.
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10
# timm draws one of these where a model wants a random interpolation.
RANDOM = ("bilinear", "bicubic")


def with_augmentation(source: Source, data: Data, input_size: tuple[int, int, int]) -> Source:
    """Says what the usual augmentation is: crop where all images have one size, and the network's is no smaller.

    Elsewhere it is resized-crop; both mirror half of the images, but for digits.

    Args:
        source: is given back as it is where it names an augmentation.
        data: the images.
        input_size: channels, height and width of what the network takes.
    """
    if source.augmentation != "usual":
        return source
    (height, width), facts = input_size[1:], data.facts
    is_small = facts.sizes == 1 and facts.smallest[0] <= height and facts.smallest[1] <= width
    if source.data == "digits":
        return replace(source, augmentation="crop" if is_small else "resized-crop")
    return replace(source, augmentation="crop-flip" if is_small else "resized-crop-flip")


def all_crops(images: Tensor) -> Tensor:
    """Views images, zero-padded by an eighth on each side, as all their crops of the size they had.

    Args:
        images: n c h w.

    Returns:
        n c 2(h//8)+1 2(w//8)+1 h w; indexed by where the crop begins, and no larger in memory than the padded images.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (width // 8, width // 8, height // 8, height // 8))
    return padded.unfold(2, height, 1).unfold(3, width, 1)


def crop_and_flip(crops: Tensor, chosen: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Takes one crop of each chosen image and mirrors it where asked.

    Args:
        crops: from `all_crops`.
        chosen: numbers of images.
        top: for each of these the first row of its crop in the padded image, from 0 to 2 (h // 8).
        left: the same for columns.
        flip: which of these are mirrored left to right.
    """
    images = crops[chosen, :, top, left]
    images[flip] = images[flip].flip(3)
    return images


def draw_crop(draws: Random, height: int, width: int) -> tuple[int, int, int, int]:
    """Draws the part of a photo that a random resized crop shows: the same that timm draws from the same seed.

    timm draws from the generator that a whole program shares, so that threads can't each have their own.

    Returns:
        The first row and column, then height and width.
    """
    for _ in range(TRIES):
        area = draws.uniform(*SCALE) * (width * height)
        ratio = math.exp(draws.uniform(*map(math.log, RATIO)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if wide <= width and high <= height:
            return draws.randint(0, height - high), draws.randint(0, width - wide), high, wide
    wide, high = min(width, round(height * RATIO[1])), min(height, round(width / RATIO[0]))
    return (height - high) // 2, (width - wide) // 2, high, wide


def resized_crop(photo: np.ndarray, seed: int, size: tuple[int, int], interpolation: str, *, mirror: float) -> Tensor:
    """Cuts a random part out of a photo, brings it to a size, and may mirror it.

    Args:
        photo: h w c, levels of 0 to 255.
        seed: decides all that is random here.
        size: height and width.
        interpolation: as in `Preprocessing`.
        mirror: how likely it is mirrored left to right.

    Returns:
        c h w, levels of 0 to 255.

    Deviations:
        timm resizes by Pillow. Here torch does where it can: it is faster, and off by a level or two in photos.
    """
    draws = Random(seed)
    top, left, height, width = draw_crop(draws, *photo.shape[:2])
    # A copy, as torch takes nothing that can't be written to.
    part = np.array(photo[top : top + height, left : left + width])
    chosen = draws.choice(RANDOM) if interpolation == "random" else interpolation
    if chosen in RANDOM:
        image = resize(torch.from_numpy(part).permute(2, 0, 1), list(size), InterpolationMode(chosen), antialias=True)
    else:
        whole = PILImage.fromarray(part if part.shape[2] > 1 else part[..., 0])
        image = image_to_tensor(whole.resize(size[::-1], PILImage.Resampling[chosen.upper()]))
    return image.flip(2) if draws.random() < mirror else image
