"""Which data set is meant, how it is divided, and how its images are shown."""

from dataclasses import dataclass
from typing import Literal

Augmentation = Literal["usual", "none", "crop", "crop-flip", "resized-crop", "resized-crop-flip"]
Tested = Literal["test", "all"]


@dataclass(frozen=True)
class Source:
    """Which images to learn from and to test on.

    Attributes:
        data: digits, synthetic, a local folder of parquet files or images, an archive of such images, or a data set on
            the Hub.
        image_column: its image column; found by type where empty.
        label_column: its label column; found by type where empty.
        augmentation: what happens to training images. crop cuts, at random, an image of the same size out of the image
            zero-padded by an eighth; resized-crop is timm's random resized crop, of 8 to 100 % of the photo; flip
            mirrors half of them. usual is crop-flip where all images have one size, no larger than the network takes,
            and resized-crop-flip for photos; digits are not mirrored.
        test_images: at most so many images are tested, drawn at random but always the same.
        group_by: keeps the images of one object together where images are held out: a column that names the object, or
            a regular expression over the names of files, or over their paths where it has a slash, whose first group,
            or whole match, names it. Every image is an object of its own where empty.
        tested: the test split, or all images of a set that no model has seen; only evaluate.py takes all.
    """

    data: str
    image_column: str = ""
    label_column: str = ""
    augmentation: Augmentation = "usual"
    test_images: int = 1000
    group_by: str = ""
    tested: Tested = "test"


@dataclass(frozen=True)
class Rule:
    """How a set is divided; kept with what was measured on it, so that the same images are found again.

    The defaults are those of evaluations that keep none.

    Attributes:
        held_out: at random, or of each class in proportion.
        duplicates: images of test that stand in another split as well: kept in it, or left out.
    """

    held_out: Literal["at random", "by class"] = "at random"
    duplicates: Literal["kept", "left out"] = "kept"
