"""An image is read as a person sees it, in whatever way its file stores it, and brought to its size as timm does it."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as PILImage
from timm.data import create_transform, resolve_data_config
from torch import nn

from robust_hub.data.images import fit_image, image_to_tensor, read_fitted, read_image
from robust_hub.models import PixelClassifier, Preprocessing
from tests.conftest import HeadedModel

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
    assert np.array_equal(np.asarray(fit_image(UPRIGHT, Preprocessing((3, 4, 6)))), PIXELS)


# Width and height: wide, high, of the size, smaller than it on one side and on both, and of one pixel.
SIZES = [(60, 40), (33, 100), (24, 32), (32, 32), (20, 50), (9, 17), (1, 1)]
INTERPOLATIONS = ["nearest", "bilinear", "bicubic"]


def photo(width: int, height: int, mode: str = "RGB") -> PILImage.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return PILImage.fromarray(pixels).convert(mode)


def wanting(input_size: tuple[int, int, int], **told) -> PixelClassifier:
    """Makes a classifier whose pretrained_cfg tells this."""
    model = HeadedModel(nn.Identity(), nn.Linear(int(np.prod(input_size)), 3), input_size)
    model.pretrained_cfg |= told
    return PixelClassifier(model, {})


def agree(image: PILImage.Image, classifier: PixelClassifier) -> bool:
    """Tells whether timm makes the same pixels of an image for the same model."""
    asked = resolve_data_config(pretrained_cfg=classifier.model.pretrained_cfg)
    theirs = create_transform(**asked, is_training=False, normalize=False)(image)
    ours = image_to_tensor(fit_image(image, classifier.preprocessing))
    return ours.dtype == theirs.dtype and ours.equal(theirs)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [0.5, 0.875, 0.95, 1.0, 1.15])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_an_image_becomes_what_timm_makes_of_it(crop_mode, crop_pct, interpolation):
    told = {"crop_mode": crop_mode, "crop_pct": crop_pct, "interpolation": interpolation}
    for input_size in ((3, 32, 32), (3, 32, 24), (1, 32, 32)):
        classifier, mode = wanting(input_size, **told), "L" if input_size[0] == 1 else "RGB"
        assert all(agree(photo(*size, mode), classifier) for size in SIZES)


def test_what_a_model_does_not_tell_is_what_timm_assumes():
    assert all(agree(photo(*size), wanting((3, 32, 32))) for size in SIZES)
    assert wanting((3, 32, 32)).preprocessing == Preprocessing((3, 32, 32), 0.875, "center", "bicubic")


def test_what_timm_would_show_a_model_in_a_test_of_its_own_is_left_alone():
    told = {"crop_pct": 0.9, "interpolation": "bilinear"}
    tested = {"test_input_size": (3, 64, 64), "test_crop_pct": 1.0}
    assert wanting((3, 32, 32), **told, **tested).preprocessing == wanting((3, 32, 32), **told).preprocessing


def test_a_random_interpolation_is_bilinear_where_nothing_is_random():
    random, bilinear = (wanting((3, 32, 32), interpolation=name).preprocessing for name in ("random", "bilinear"))
    for size in SIZES:
        assert fit_image(photo(*size), random).tobytes() == fit_image(photo(*size), bilinear).tobytes()


@pytest.mark.parametrize("size", [(60, 40), (33, 100)])
def test_the_crop_is_the_centre_of_the_resized_image(size):
    # By hand: 32 / 0.875 is 36 px of the short side and, rounded down, as much more of the long one.
    short = min(size)
    resized = photo(*size).resize([36 * side // short for side in size], PILImage.Resampling.BICUBIC)
    left, top = (round((side - 32) / 2) for side in resized.size)
    fitted = fit_image(photo(*size), Preprocessing((3, 32, 32), 0.875, "center", "bicubic"))
    assert fitted.tobytes() == resized.crop((left, top, left + 32, top + 32)).tobytes()


def test_an_image_of_the_size_is_untouched_only_where_the_crop_takes_all_of_it():
    image = photo(32, 32)
    for interpolation in INTERPOLATIONS:
        whole = Preprocessing((3, 32, 32), 1.0, "center", interpolation)
        assert fit_image(image, whole).tobytes() == image.tobytes()
        assert fit_image(image, Preprocessing((3, 32, 32), 0.95, "center", interpolation)).tobytes() != image.tobytes()


def test_the_border_has_the_mean_colour_of_the_models_images():
    fitted = np.asarray(fit_image(photo(64, 32), wanting((3, 32, 32), crop_mode="border", crop_pct=1.0).preprocessing))
    # Of the mean (0.5, 0.4, 0.3), above and below.
    assert (fitted[:8] == [128, 102, 76]).all()
    assert (fitted[-8:] == [128, 102, 76]).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_way_of_evaluations_that_tell_none_is_kept(size):
    fitted = fit_image(photo(*size), Preprocessing.of_before((3, 32, 32)))
    scale = max(32 / side for side in size)
    resized = photo(*size)
    if size != (32, 32):
        resized = resized.resize([max(32, round(side * scale)) for side in size], PILImage.Resampling.BILINEAR)
    left, top = ((side - 32) // 2 for side in resized.size)
    assert fitted.tobytes() == resized.crop((left, top, left + 32, top + 32)).tobytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_pct": 0.0}, "crop_pct must be a share of 0.1 to 2.0, got 0.0"),
        ({"crop_pct": float("nan")}, "crop_pct must be a share of 0.1 to 2.0, got nan"),
        ({"crop_mode": "corner"}, "crop_mode must be one of center, squash, border, got 'corner'"),
        ({"interpolation": "cubic"}, "interpolation must be one of nearest, .*, random, got 'cubic'"),
    ],
)
def test_what_nobody_knows_how_to_do_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing((3, 32, 32), **wrong)


def test_an_image_of_which_nothing_would_be_left_is_named():
    file = BytesIO()
    PILImage.new("RGB", (300, 1)).save(file, "PNG")
    row = {"image": {"bytes": file.getvalue(), "path": None}, "where": "row 0"}
    with pytest.raises(ValueError, match=r"the image at row 0 has 300x1 px, of which nothing is left at 32x32 px"):
        read_fitted(row, Preprocessing((3, 32, 32), crop_mode="border", fill=(0, 0, 0)))
    assert read_fitted(row, Preprocessing((3, 32, 32))).shape == (3, 32, 32)
