"""Images a second of the in-memory loader over torch's DataLoader with torchvision's transforms, on CIFAR-10.

    python benchmarks/loader.py FOLDER_OF_CIFAR10

Both crop and flip each image by itself and yield float images in [0, 1] in batches of 128. The DataLoader gets the
images decoded, in memory, as torchvision holds CIFAR-10, and as many workers as there are cores. Both are timed in
turns in one run, an epoch of 10,000 images each; decoding is not counted on either side.
"""

import os
import statistics
import time

import torch
import tyro
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from tqdm import trange

from robust_hub.data import Source, evaluation_loader, load_data, training_loader
from robust_hub.models import Preprocessing

TURNS = 5
IMAGES = 10_000


class Decoded(Dataset):
    """What torchvision.datasets.CIFAR10 does, on images that are decoded already."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor):
        self.images, self.labels = images.permute(0, 2, 3, 1).numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def main(folder: tyro.conf.Positional[str]) -> None:
    """Times both and prints the ratio.

    Args:
        folder: of CIFAR-10.
    """
    data = load_data(Source(folder))
    rows = data.train.select(range(IMAGES))
    ours = training_loader(
        rows, Preprocessing((3, 32, 32)), batch_size=128, augmentation="crop-flip", seed=0, device=torch.device("cpu")
    )
    ((pixels, labels),) = evaluation_loader(
        rows, Preprocessing((3, 32, 32)), batch_size=IMAGES, device=torch.device("cpu")
    )
    theirs = DataLoader(
        Decoded((255 * pixels).round().byte(), labels),
        batch_size=128,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
    )
    list(ours), list(theirs)  # starts the workers
    rates = {"ours": [], "theirs": []}
    for _ in trange(TURNS, desc="turns"):
        for name, loader in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            images = sum(len(labels) for _, labels in loader)
            rates[name].append(images / (time.perf_counter() - start))
    ratios = [a / b for a, b in zip(rates["ours"], rates["theirs"], strict=True)]
    for name, measured in rates.items():
        print(f"{name}: {statistics.median(measured):,.0f} images a second")
    print(
        f"ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f} in {TURNS} turns); wanted >= 10"
    )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
