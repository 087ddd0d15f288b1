"""An image is read as a person sees it, in whatever way its file stores it."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as PILImage

from robust_hub.data.images import fit_image, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
UPRIGHT = PILImage.fromarray(PIXELS)
# How a camera that was held so stores what is upright; the tag says how to turn it back.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT.transpose(PILImage.Transpose.FLIP_LEFT_RIGHT),
    3: UPRIGHT.transpose(PILImage.Transpose.ROTATE_180),
    4: UPRIGHT.transpose(PILImage.Transpose.FLIP_TOP_BOTTOM),
    6: UPRIGHT.transpose(PILImage.Transpose.ROTATE_90),
    8: UPRIGHT.transpose(PILImage.Transpose.ROTATE_270),
}


def read(image: PILImage.Image, kind: str = "PNG", **options) -> np.ndarray:
    """Writes an image to a file in memory, and reads it as a data set's cell."""
    file = BytesIO()
    image.save(file, kind, **options)
    return np.asarray(read_image({"bytes": file.getvalue(), "path": None}, "row 0"))


@pytest.mark.parametrize("orientation", STORED)
def test_a_photo_that_is_stored_turned_is_turned_back(orientation):
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read(STORED[orientation], exif=exif), PIXELS)


def test_what_is_transparent_shows_white_behind_it():
    alpha = np.zeros((4, 6, 1), dtype=np.uint8)
    alpha[:, :3] = 255
    seen = read(PILImage.fromarray(np.concatenate([PIXELS, alpha], axis=2)))
    assert np.array_equal(seen[:, :3], PIXELS[:, :3])
    assert (seen[:, 3:] == 255).all()


def test_half_transparent_grey_is_halfway_to_white_and_stays_grey():
    grey = np.full((2, 2), 100, dtype=np.uint8)
    seen = read(PILImage.merge("LA", [PILImage.fromarray(grey), PILImage.fromarray(np.full((2, 2), 128, np.uint8))]))
    # 100 * 128/255 + 255 * 127/255, to a level of rounding.
    assert seen.shape == (2, 2)
    assert np.abs(seen.astype(int) - 177).max() <= 1


def test_a_palette_with_a_transparent_colour_shows_white_there():
    picture = PILImage.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    seen = read(picture, transparency=1)
    assert seen[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_grey_of_sixteen_bits_keeps_its_range():
    deep = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16)
    assert read(PILImage.fromarray(deep)).tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize(("values", "expected"), [([0.0, 0.2, 1.0], [0, 51, 255]), ([0.0, 51.0, 255.0], [0, 51, 255])])
def test_floats_are_in_zero_to_one_or_to_255(values, expected):
    assert read(PILImage.fromarray(np.array([values], dtype=np.float32)), "TIFF").tolist() == [expected]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[-1.0, 2.0]], np.float32), r"the image at row 0 must hold floats in \[0, 1\] or .*, got -1 to 2"),
        (np.array([[0.0, 1000.0]], np.float32), r"must hold floats in \[0, 1\] or \[0, 255\], got 0 to 1000"),
        (np.array([[0, 70_000]], np.int32), "must hold integers up to 65,535, got 0 to 70000"),
    ],
)
def test_values_in_no_known_range_are_refused_with_their_range(values, message):
    with pytest.raises(ValueError, match=message):
        read(PILImage.fromarray(values), "TIFF")


def test_an_ordinary_image_is_left_as_it_is():
    assert np.array_equal(read(UPRIGHT), PIXELS)
    assert np.array_equal(np.asarray(fit_image(UPRIGHT, (3, 4, 6))), PIXELS)
