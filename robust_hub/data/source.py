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
        test_images: at most so many images are tested, drawn at random but always the same.
    """

    data: str
    image_column: str = ""
    label_column: str = ""
    augmentation: Augmentation = "crop-flip"
    test_images: int = 1000
