"""Training images are shown as timm shows them, by rules that ask what the images are and not how many."""

import random

import numpy as np
import pytest
from PIL import Image as PILImage
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms.functional import pil_to_tensor

from robust_hub.data import Source, load_data, with_augmentation
from robust_hub.data.augmentation import draw_crop, resized_crop

SHAPES = np.random.default_rng(0).integers(256, size=(8, 10, 3), dtype=np.uint8)
PHOTO = np.asarray(PILImage.fromarray(SHAPES).resize((41, 30)))


@pytest.mark.parametrize(("height", "width"), [(30, 41), (224, 224), (10, 100), (100, 10), (1, 1)])
def test_the_parts_of_a_photo_are_those_that_timm_draws(height, width):
    photo = PILImage.new("L", (width, height))
    for seed in range(200):
        random.seed(seed)
        expected = RandomResizedCropAndInterpolation.get_params(photo, (0.08, 1.0), (3 / 4, 4 / 3))
        assert draw_crop(random.Random(seed), height, width) == expected


# Pillow and torch round otherwise between rows and columns; of pure noise it shows more.
LEVELS = {"nearest": 0, "box": 0, "hamming": 0, "lanczos": 0, "bilinear": 2, "bicubic": 2, "random": 2}


@pytest.mark.parametrize("interpolation", LEVELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_resized_crop_is_timms(interpolation, channels):
    photo = PHOTO[..., :channels]
    as_image = PILImage.fromarray(photo if channels == 3 else photo[..., 0])
    for seed in range(20):
        random.seed(seed)
        expected = pil_to_tensor(RandomResizedCropAndInterpolation((12, 16), interpolation=interpolation)(as_image))
        image = resized_crop(photo, seed, (12, 16), interpolation, mirror=0.0)
        assert (image.int() - expected.int()).abs().max() <= LEVELS[interpolation]


def test_half_of_the_resized_crops_are_mirrored():
    pairs = [
        [resized_crop(PHOTO, seed, (8, 8), "bilinear", mirror=share) for share in (0.0, 0.5)] for seed in range(200)
    ]
    mirrored = [image.equal(other.flip(2)) for image, other in pairs]
    assert all(is_mirrored or image.equal(other) for is_mirrored, (image, other) in zip(mirrored, pairs, strict=True))
    # 200 coins: 100 heads, with a deviation of 7.
    assert 70 < sum(mirrored) < 130


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> str:
    """A folder of photos of two sizes."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(24):
        (folder / f"class {number % 2}").mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(256, size=(8 + number % 3 // 2, 8, 3), dtype=np.uint8)
        PILImage.fromarray(pixels).save(folder / f"class {number % 2}" / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize(
    ("name", "side", "usual"),
    [
        ("synthetic", 16, "crop-flip"),
        ("synthetic", 32, "crop-flip"),
        ("synthetic", 12, "resized-crop-flip"),
        ("digits", 16, "crop"),
        ("digits", 12, "resized-crop"),
        ("photos", 8, "resized-crop-flip"),
        ("photos", 32, "resized-crop-flip"),
    ],
)
def test_the_usual_augmentation_follows_from_the_sizes_of_the_images(photos, name, side, usual):
    source = Source(photos if name == "photos" else name)
    # Their name alone says that they are digits.
    data = load_data(Source("synthetic") if name == "digits" else source)
    assert with_augmentation(source, data, (3, side, side)).augmentation == usual


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop-flip", "resized-crop", "resized-crop-flip"])
def test_an_augmentation_that_is_named_stays(augmentation):
    source = Source("synthetic", augmentation=augmentation)
    assert with_augmentation(source, load_data(source), (3, 4, 4)) == source
