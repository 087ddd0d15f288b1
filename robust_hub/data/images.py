"""Decodes one image and brings it to the channels and size a classifier takes."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

UNREADABLE = (UnidentifiedImageError, PILImage.DecompressionBombError, OSError, SyntaxError, ValueError)
GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
ORIENTATION = 0x0112
# Of other formats the tag is rare, and asking for it decodes more than the header.
WITH_ORIENTATION = {"JPEG", "MPO", "TIFF", "WEBP", "PNG"}


def read_image(cell: dict | None, where: str) -> PILImage.Image:
    """Decodes the cell of an undecoded Image column to what a person sees of it.

    Args:
        cell: the encoded `bytes`, or the `path` of the file that holds them.
        where: which image this is, for the error.

    Raises:
        ValueError: when the image can't be decoded, or its values are in no range that is known.
    """
    image = _opened(cell, where)
    try:
        image.load()
    except UNREADABLE as error:
        raise ValueError(_unreadable(cell, where)) from error
    return _as_seen(image, where)


def read_header(cell: dict | None, where: str) -> tuple[int, int, bool]:
    """Tells height and width of an image as a person sees it, and whether it is grey, without decoding it.

    Args:
        cell: see `read_image`.
        where: which image this is, for the error.

    Raises:
        ValueError: when there is no image.
    """
    image = _opened(cell, where)
    turned = image.getexif().get(ORIENTATION, 1) >= 5 if image.format in WITH_ORIENTATION else False
    width, height = image.size
    return (width, height, image.mode in GREY) if turned else (height, width, image.mode in GREY)


def _opened(cell: dict | None, where: str) -> PILImage.Image:
    if cell is None:
        raise ValueError(f"there is no image at {where}; drop the row")
    try:
        return PILImage.open(BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"])
    except UNREADABLE as error:
        raise ValueError(_unreadable(cell, where)) from error


def _unreadable(cell: dict | None, where: str) -> str:
    file = f" ({cell['path']})" if cell and cell["path"] else ""
    return f"the image at {where}{file} can't be decoded; replace it or drop the row"


def _as_seen(image: PILImage.Image, where: str) -> PILImage.Image:
    """Makes an image what a person sees: upright, opaque, and of eight bits a channel."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _of_eight_bits(np.asarray(image), where)
    if image.has_transparency_data:
        white = PILImage.new("RGBA", image.size, "white")
        opaque = PILImage.alpha_composite(white, image.convert("RGBA"))
        return opaque.convert("L" if image.mode in ("LA", "La") else "RGB")
    return image


def _of_eight_bits(pixels: np.ndarray, where: str) -> PILImage.Image:
    """Scales grey of 16 bits, or floats in [0, 1] or [0, 255], to eight bits; Pillow would clip them."""
    low, high = float(pixels.min()), float(pixels.max())
    is_float = pixels.dtype.kind == "f"
    scale = 1 / 257 if not is_float else 255 if high <= 1 else 1
    if not (low >= 0 and high * scale <= 255):
        wanted = "floats in [0, 1] or [0, 255]" if is_float else "integers up to 65,535"
        raise ValueError(f"the image at {where} must hold {wanted}, got {low:g} to {high:g}; scale it or drop the row")
    return PILImage.fromarray((pixels * scale).round().astype(np.uint8))


def fit_image(image: PILImage.Image, input_size: tuple[int, int, int]) -> PILImage.Image:
    """Converts an image to grey or colour, and resizes and centre-crops it to the size a classifier takes.

    An image that has the size already is left as it is, pixel for pixel.
    """
    channels, height, width = input_size
    image = image.convert("L" if channels == 1 else "RGB")
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
