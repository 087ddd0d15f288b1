"""Pictures that visitors may pick, and pictures that show them what tensors hold."""

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from robust_hub.data import Data, find_photos, read_row, subset

# Of the shorter side, so that the pixels of small images can be told apart.
LEAST_SIDE = 160
# All but one value in a hundred lie within the colours of a gradient, whose values are heavy-tailed.
QUANTILE = 0.99
GREY = 0.5


@dataclass(frozen=True)
class Picture:
    """A picture to pick.

    Attributes:
        caption: what it is.
        encoded: as a file has it.
    """

    caption: str
    encoded: bytes

    @property
    def image(self) -> Image.Image:
        """The picture decoded."""
        return Image.open(BytesIO(self.encoded))


def pictures_of(data: Data, count: int) -> list[Picture]:
    """Takes test images of a data set, with their labels, always the same ones."""
    return [Picture(data.label_names[row["label"]], _encoded(read_row(row))) for row in subset(data.test, count)]


def pictures_in(folder: Path) -> list[Picture]:
    """Takes the photos of a folder; what stands in a name after a first underscore is the caption."""
    return [Picture(file.stem.partition("_")[2] or file.stem, file.read_bytes()) for file in find_photos([folder])]


def seen(image: Tensor) -> str:
    """Gives an image in [0, 1], c h w, as the address of a picture."""
    return _address((255 * image).round().to(torch.uint8))


def magnified(delta: Tensor) -> tuple[str, int]:
    """Gives a perturbation around grey, as large as it can be shown, and how many times larger that is."""
    factor = max(1, int(GREY / max(float(delta.abs().max()), 1e-6)))
    return seen((GREY + factor * delta).clamp(0, 1)), factor if delta.any() else 1


def coloured(gradient: Tensor) -> str:
    """Gives a gradient, averaged over its channels: red where the loss grows when a pixel is made brighter."""
    values = gradient.mean(0)
    limit = torch.quantile(values.abs().flatten(), QUANTILE).clamp_min(1e-12)
    colours = colormaps["RdBu_r"]((values / limit / 2 + GREY).clamp(0, 1).numpy(), bytes=True)
    return _address(torch.from_numpy(colours[..., :3]).permute(2, 0, 1))


def _address(levels: Tensor) -> str:
    image = Image.fromarray(levels.permute(1, 2, 0).squeeze(-1).contiguous().numpy())
    times = -(-LEAST_SIDE // min(image.size))
    shown = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    return address_of(_encoded(shown))


def address_of(encoded: bytes) -> str:
    """Gives a PNG as an address, so that it is a part of the page and of no file."""
    return f"data:image/png;base64,{base64.b64encode(encoded).decode()}"


def _encoded(image: Image.Image) -> bytes:
    with BytesIO() as file:
        image.save(file, "PNG")
        return file.getvalue()
