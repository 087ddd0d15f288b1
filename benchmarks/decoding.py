"""Photos a second of random resized crops of kept photos over those of timm's transforms in torch's DataLoader.

    python benchmarks/decoding.py

400 made-up JPEGs of 500x375 px become training images of 224 px in batches of 50. The DataLoader decodes each photo in
each epoch, with as many workers as there are cores, as training did before photos were kept. All are timed in turns in
one run, an epoch each; then one start that decodes and keeps, and one that finds what is kept.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import tyro
from datasets import Dataset, Features, Image, Value, config
from PIL import Image as PILImage
from timm.data import create_transform
from torch.utils.data import DataLoader
from tqdm import trange

from robust_hub.data import training_loader
from robust_hub.models import Preprocessing

TURNS = 5
PHOTOS, BATCH = 400, 50
FIT = Preprocessing((3, 224, 224), interpolation="bicubic")


class ByTimm(torch.utils.data.Dataset):
    """Photos in files, with timm's own transforms for training, without changes of colour."""

    def __init__(self, files: list[str]):
        self.files = files
        self.transform = create_transform(
            FIT.input_size,
            is_training=True,
            interpolation=FIT.interpolation,
            color_jitter=None,  # ty: ignore[invalid-argument-type] timm takes None, and only then none is made
            normalize=False,
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(PILImage.open(self.files[index]).convert("RGB")), 0


def main() -> None:
    """Times all and prints the ratios."""
    with tempfile.TemporaryDirectory() as folder:
        config.HF_DATASETS_CACHE = Path(folder) / "cache"
        files = [make_photo(Path(folder) / f"{number}.jpg", number) for number in trange(PHOTOS, desc="photos")]
        start = time.perf_counter()
        loader = open_loader(files)
        first, start = time.perf_counter() - start, time.perf_counter()
        open_loader(files)
        again = time.perf_counter() - start
        one_thread = open_loader(files)
        one_thread.threads = 1
        theirs = DataLoader(
            ByTimm(files), BATCH, shuffle=True, num_workers=os.cpu_count() or 1, persistent_workers=True
        )
        list(theirs)  # starts the workers
        measured = rates({"all cores": loader, "one core": one_thread, "timm": theirs})
    for name, each in measured.items():
        print(f"{name}: {statistics.median(each):,.0f} photos a second")
    for name in ("timm", "one core"):
        ratios = [a / b for a, b in zip(measured["all cores"], measured[name], strict=True)]
        told = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f} in {TURNS} turns)"
        print(f"ratio to {name}: {told}")
    print(f"start: {first:.2f} s at first, {again:.2f} s with what is kept, ratio {first / again:.0f}")


def open_loader(files: list[str]):
    """Opens the training loader of these photos."""
    columns = {"image": files, "label": [0] * len(files), "where": files}
    features = Features({"image": Image(decode=False), "label": Value("int64"), "where": Value("string")})
    rows = Dataset.from_dict(columns, features=features)
    return training_loader(
        rows, FIT, batch_size=BATCH, augmentation="resized-crop-flip", seed=0, device=torch.device("cpu")
    )


def make_photo(file: Path, seed: int) -> str:
    """Writes a JPEG of soft shapes under noise, about as many bytes as one of a camera."""
    rng = np.random.default_rng(seed)
    shapes = PILImage.fromarray(rng.integers(256, size=(24, 32, 3), dtype=np.uint8)).resize((500, 375))
    pixels = np.asarray(shapes).astype(np.int16) + rng.integers(-12, 12, size=(375, 500, 3), dtype=np.int16)
    PILImage.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)
    return str(file)


def rates(loaders: dict[str, Iterable]) -> dict[str, list[float]]:
    """Times an epoch of each in turns, in photos a second."""
    measured: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in trange(TURNS, desc="turns"):
        for name, loader in loaders.items():
            start = time.perf_counter()
            photos = sum(len(labels) for _, labels in loader)
            measured[name].append(photos / (time.perf_counter() - start))
    return measured


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
