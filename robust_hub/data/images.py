"""Decodes one image and brings it to the channels and size a classifier takes."""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from threading import Lock
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError
from timm.data import create_transform

# As Pillow holds them these are 0.9 GB; the largest cameras take 200 megapixels, and a file of a kilobyte can claim
# billions.
MOST_PIXELS = 15_000**2
# Pillow's own limit is everybody's, and put back once the header is read.
OPENING = Lock()
UNREADABLE = (UnidentifiedImageError, PILImage.DecompressionBombError, OSError, SyntaxError, ValueError)


def read_image(cell: dict | None, where: str, white: float = 0.0) -> PILImage.Image:
    """Decodes the cell of an undecoded Image column to what a person sees of it.

    Args:
        cell: the encoded `bytes`, or the `path` of the file that holds them.
        where: which image this is, for the error.
        white: of floats, the value of white in the whole set: 1 or 255; 0 to decide by this image alone.

    Raises:
        ValueError: when the image can't be decoded, or its values are in no range that is known.
    """
    return as_seen(decode_image(cell, where), where, white)


def read_row(row: Mapping) -> PILImage.Image:
    """Decodes the image of a row of `Data`; see `read_image`."""
    return read_image(row["image"], row["where"], row.get("white", 0.0))


def decode_image(cell: dict | None, where: str) -> PILImage.Image:
    """Decodes an image in the mode that it has, and holds it upright; see `read_image`."""
    image = _opened(cell, where)
    assert cell is not None
    try:
        image.load()
        # Now, as what tells how it was held may be torn where the pixels are not.
        return ImageOps.exif_transpose(image)
    except UNREADABLE as error:
        raise ValueError(_unreadable(cell, where)) from error


def read_mode(cell: dict | None, where: str) -> str:
    """Tells the mode of an image without decoding it; raises ValueError when there is none."""
    return _opened(cell, where).mode


def _opened(cell: dict | None, where: str) -> PILImage.Image:
    check_cell(cell, where)
    assert cell is not None
    try:
        # Pillow would warn of less, and take less than cameras give; the size is known before anything is decoded.
        with OPENING, _without_limit():
            image = PILImage.open(BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"])
    except UNREADABLE as error:
        raise ValueError(_unreadable(cell, where)) from error
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"the image at {where}{_file(cell, where)} has {image.width:,} x {image.height:,} px, more than the "
            f"{MOST_PIXELS:,} that are read; shrink it or drop the row"
        )
    return image


@contextmanager
def _without_limit() -> Generator[None]:
    limit, PILImage.MAX_IMAGE_PIXELS = PILImage.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        PILImage.MAX_IMAGE_PIXELS = limit


def check_cell(cell: dict | None, where: str) -> None:
    """Checks that there are bytes, or a file and no device or pipe, which has no end; nothing of it is read.

    Raises:
        ValueError: when there is neither.
    """
    if cell is None or (cell["bytes"] is None and not cell["path"]):
        raise ValueError(f"there is no image at {where}; drop the row")
    if cell["bytes"] is None and not os.path.isfile(cell["path"]):
        raise ValueError(
            f"the image at {where}{_file(cell, where)} must be in a file, and there is none; bring it or drop the row"
        )


def _unreadable(cell: dict, where: str) -> str:
    return f"the image at {where}{_file(cell, where)} can't be decoded; replace it or drop the row"


def _file(cell: dict, where: str) -> str:
    return f" ({cell['path']:.300})" if cell["path"] and cell["path"] != where else ""


def has_levels(mode: str) -> bool:
    """Tells whether an image of that mode has numbers for pixels that are no bytes: whole ones, or floats."""
    return mode.startswith("I") or mode == "F"


def as_seen(image: PILImage.Image, where: str, white: float = 0.0) -> PILImage.Image:
    """Makes an upright image what a person sees: opaque, and of eight bits a channel; see `read_image`."""
    if has_levels(image.mode):
        return _of_eight_bits(np.asarray(image), where, white)
    if image.has_transparency_data:
        paper = PILImage.new("RGBA", image.size, "white")
        opaque = PILImage.alpha_composite(paper, image.convert("RGBA"))
        return opaque.convert("L" if image.mode in ("LA", "La") else "RGB")
    return image


def _of_eight_bits(pixels: np.ndarray, where: str, white: float) -> PILImage.Image:
    """Scales grey of 16 bits, or floats in [0, 1] or [0, 255], to eight bits; Pillow would clip them."""
    low, high = float(pixels.min()), float(pixels.max())
    is_float = pixels.dtype.kind == "f"
    scale = 1 / 257 if not is_float else 255 / (white or (1 if high <= 1 else 255))
    if not (low >= 0 and high * scale <= 255):
        wanted = "floats in [0, 1] or [0, 255]" if is_float else "integers up to 65,535"
        raise ValueError(f"the image at {where} must hold {wanted}, got {low:g} to {high:g}; scale it or drop the row")
    return PILImage.fromarray((pixels * scale).round().astype(np.uint8))


@runtime_checkable
class Fit(Protocol):
    """What a classifier wants of its images; `robust_hub.models.Preprocessing` says what each of it means."""

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        ...

    @property
    def crop_pct(self) -> float:
        """The share of a side that the crop keeps."""
        ...

    @property
    def crop_mode(self) -> str:
        """What becomes of images of other proportions."""
        ...

    @property
    def interpolation(self) -> str:
        """By which an image is resized."""
        ...

    @property
    def fill(self) -> tuple[int, ...]:
        """The colour of a border."""
        ...

    def __hash__(self) -> int: ...


def read_fitted(row: Mapping, fit: Fit) -> torch.Tensor:
    """Decodes the image of a row and brings it to the channels and size that a classifier takes; see `fit_image`.

    Returns:
        c h w, levels of 0 to 255.

    Raises:
        ValueError: when it can't be decoded, or is so narrow that nothing would be left of it.
    """
    image = read_row(row)
    try:
        return image_to_tensor(fit_image(image, fit))
    except ValueError as error:
        raise ValueError(
            f"the image at {row['where']} has {image.width}x{image.height} px, of which nothing is left at {fit}; drop "
            "the row"
        ) from error


def fit_image(image: PILImage.Image, fit: Fit) -> PILImage.Image:
    """Converts an image to grey or colour, and resizes and crops it, pixel for pixel as timm's validation does.

    An image that has the size already, and of which the crop takes all, is left as it is.
    """
    image = image_in_channels(image, fit.input_size[0])
    return _covering(image, fit.input_size) if fit.crop_mode == "cover" else _resize_and_crop(fit)(image)


def image_in_channels(image: PILImage.Image, channels: int) -> PILImage.Image:
    """Converts an image to grey for one channel, else to colour."""
    return image.convert("L" if channels == 1 else "RGB")


@lru_cache
def _resize_and_crop(fit: Fit) -> Callable[[PILImage.Image], PILImage.Image]:
    """Makes timm's transform for validation, without the step to a tensor that ends it."""
    whole = create_transform(
        fit.input_size,
        # As timm itself does where nothing is random; its validation knows no such name.
        interpolation="bilinear" if fit.interpolation == "random" else fit.interpolation,
        crop_pct=fit.crop_pct,
        crop_mode=fit.crop_mode,
        mean=tuple(level / 255 for level in fit.fill),
        normalize=False,
    )
    return type(whole)(whole.transforms[:-1])


def _covering(image: PILImage.Image, input_size: tuple[int, int, int]) -> PILImage.Image:
    """Resizes and crops as evaluations did that do not tell how, so that they can be verified."""
    _, height, width = input_size
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    resized = image.resize(
        (max(width, round(image.width * scale)), max(height, round(image.height * scale))), PILImage.Resampling.BILINEAR
    )
    left, top = (resized.width - width) // 2, (resized.height - height) // 2
    return resized.crop((left, top, left + width, top + height))


def image_to_tensor(image: PILImage.Image) -> torch.Tensor:
    """Copies an image of mode L or RGB into a uint8 tensor, c h w."""
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
