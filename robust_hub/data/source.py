"""Which data set is meant, and how its images are shown."""

from dataclasses import dataclass
from typing import Literal

Augmentation = Literal["crop-flip", "crop", "none"]


@dataclass(frozen=True)
class Source:
    """Which images to learn from and to test on.

    Attributes:
        data: digits, synthetic, a local folder of parquet files or images, or a data set on the Hub.
        image_column: its image column; found by type where empty.
        label_column: its label column; found by type where empty.
        augmentation: random crop, with or without a flip (no flip for digits): of the image zero-padded by an eighth
            where the set fits in memory, timm's random resized crop where it is streamed.
        image_size: side in px of the images that an untrained network takes, where it takes any; 0 for that of the
            images, or, where they are of several sizes, the median short side but at most the network's usual size.
        test_images: at most so many images are tested, drawn at random but always the same.
    """

    data: str
    image_column: str = ""
    label_column: str = ""
    augmentation: Augmentation = "crop-flip"
    test_images: int = 1000
    image_size: int = 0
