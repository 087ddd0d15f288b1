"""Time of a linear probe that recomputes its features each epoch over the time of one that computes them once.

    python benchmarks/linear_probe.py FOLDER_OF_CIFAR100

Both train a new head on the frozen CIFAR-10 teacher of model_cards/ for 20 epochs, on the same batches in the same
order, so that both end with the same head; the accuracy of each on test images is printed beside its time.
"""

import tempfile
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import tyro
from accelerate import Accelerator
from datasets import Dataset
from tabulate import tabulate
from torch import Tensor, nn
from tqdm import trange

from robust_hub.data import Source, evaluation_loader, load_data, subset
from robust_hub.evaluation import right
from robust_hub.losses import cross_entropy
from robust_hub.model_folder import ModelFolder, load_with_new_head
from robust_hub.models import PixelClassifier
from robust_hub.training import HEAD_TRAINING, NewHead, fit_head, linear_head, make_optimizer

TEACHER = Path(__file__).resolve().parents[1] / "model_cards" / "resnet18_cifar.nfgsm_linf8_cifar10"
TRAIN_IMAGES, TEST_IMAGES = 2000, 1000


def main(folder: tyro.conf.Positional[str]) -> None:
    """Trains both heads and prints the table.

    Args:
        folder: of CIFAR-100.
    """
    source = Source(folder, augmentation="none")
    data = load_data(source)
    train, test = subset(data.train, TRAIN_IMAGES), subset(data.test, TEST_IMAGES)
    torch.manual_seed(0)
    once = load_with_new_head(ModelFolder.at(TEACHER), data.num_classes).eval()
    each_epoch = deepcopy(once)
    images, labels = everything(train, once)

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        head = NewHead(linear_head(once), once, HEAD_TRAINING)
        fit_head(Accelerator(cpu=True), head, train, source, Path(place))
    seconds_once = time.perf_counter() - start
    start = time.perf_counter()
    recompute(each_epoch, images, labels)
    seconds_each = time.perf_counter() - start

    tested = everything(test, once)
    rows = [
        ("computed once", seconds_once, 100 * accuracy(once, *tested)),
        ("recomputed each epoch", seconds_each, 100 * accuracy(each_epoch, *tested)),
    ]
    print(f"{len(train)} training images, {HEAD_TRAINING.epochs} epochs, {torch.get_num_threads()} threads")
    print(tabulate(rows, ["features", "s", f"accuracy % of {len(test)}"], tablefmt="github", floatfmt=".1f"))
    print(f"ratio {seconds_each / seconds_once:.1f}; wanted at least 10")


def recompute(classifier: PixelClassifier, images: Tensor, labels: Tensor) -> None:
    """Trains the head on features that each step computes again, in the order of `fit_head`."""
    head = nn.ModuleList(classifier.classifier_layers)
    batch_size = HEAD_TRAINING.batch_size
    steps = len(images) // batch_size
    optimizer, scheduler = make_optimizer(head, HEAD_TRAINING, HEAD_TRAINING.epochs * steps)
    classifier.requires_grad_(False)
    head.requires_grad_(True)
    rng = np.random.default_rng(HEAD_TRAINING.seed)
    for _ in trange(HEAD_TRAINING.epochs, desc="epochs", leave=False):
        for chosen in rng.permutation(len(images))[: steps * batch_size].reshape(steps, batch_size):
            optimizer.zero_grad()
            cross_entropy(classifier(images[chosen]), labels[chosen]).mean().backward()
            optimizer.step()
            scheduler.step()


def everything(rows: Dataset, classifier: PixelClassifier) -> tuple[Tensor, Tensor]:
    """Reads a split into memory."""
    batches = list(evaluation_loader(rows, classifier.preprocessing, batch_size=250, device=torch.device("cpu")))
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def accuracy(classifier: PixelClassifier, images: Tensor, labels: Tensor) -> float:
    """Tells the share of images that is classified rightly."""
    parts = zip(images.split(250), labels.split(250), strict=True)
    return torch.cat([right(classifier, part, true) for part, true in parts]).float().mean().item()


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
