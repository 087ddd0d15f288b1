"""Decodes one image and brings it to the channels and size a classifier takes."""

from io import BytesIO

import numpy as np
import torch
from PIL import Image as PILImage
from PIL import UnidentifiedImageError


def read_image(cell: dict | None, where: str) -> PILImage.Image:
    """Decodes the cell of an undecoded Image column.

    Args:
        cell: the encoded `bytes`, or the `path` of the file that holds them.
        where: which image this is, for the error.

    Raises:
        ValueError: when the image can't be decoded.
    """
    if cell is None:
        raise ValueError(f"there is no image at {where}; drop the row")
    try:
        image = PILImage.open(BytesIO(cell["bytes"]) if cell["bytes"] is not None else cell["path"])
        image.load()
    except (UnidentifiedImageError, PILImage.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        file = f" ({cell['path']})" if cell["path"] else ""
        raise ValueError(f"the image at {where}{file} can't be decoded; replace it or drop the row") from error
    if image.mode.startswith("I;16"):
        # Pillow would clip 16-bit grey at 255; 257 levels of it are one of eight bits.
        return PILImage.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    return image


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
