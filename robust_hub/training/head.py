"""Linear probes: a new head on a frozen classifier, trained on features that are computed once."""

import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import broadcast
from datasets import Dataset
from torch import Tensor, nn

from robust_hub.attacks import eval_mode
from robust_hub.data import Source
from robust_hub.launch import progress
from robust_hub.losses import cross_entropy
from robust_hub.models import PixelClassifier
from robust_hub.training.config import HEAD_TRAINING, TrainingConfig
from robust_hub.training.optimizer import make_optimizer
from robust_hub.training.outputs import compute_outputs, views_of
from robust_hub.types import Features, Logits


@dataclass(frozen=True)
class NewHead:
    """A head that is trained before anything else is.

    Attributes:
        module: features to logits.
        extractor: gives the features.
        training: how it is learnt.
    """

    module: nn.Module
    extractor: PixelClassifier
    training: TrainingConfig = HEAD_TRAINING


class Head(nn.Module):
    """The linear layers of a classifier, on features instead of images; it shares their weights.

    Args:
        classifier: whose logits are the mean of its linear layers.
    """

    def __init__(self, classifier: PixelClassifier):
        super().__init__()
        layers = classifier.classifier_layers
        self.layers = nn.ModuleList(layers)
        self.widths = [layer.weight.shape[1] for layer in layers]

    def forward(self, features: Features) -> Logits:
        """Classifies features."""
        parts = features.split(self.widths, dim=1)
        logits = []
        for part, layer in zip(parts, self.layers, strict=True):
            assert isinstance(layer, nn.Linear | nn.Conv2d)
            logits.append(F.linear(part, layer.weight.flatten(1), layer.bias))
        return torch.stack(logits).mean(0)


def linear_head(classifier: PixelClassifier) -> Head:
    """Takes a classifier's head, once it is sure that it is one of linear layers.

    Raises:
        ValueError: when the logits are not the mean of the linear layers.
    """
    images = torch.rand(2, *classifier.input_size, device=classifier.mean.device)
    head, seen = Head(classifier), deepcopy(classifier).eval()
    with torch.no_grad():
        logits, features = seen.forward_with_features(images)
        same = torch.allclose(head(features), logits, rtol=1e-3, atol=1e-4)
    if not same:
        raise ValueError(
            f"the logits of {classifier.architecture} are not the mean of its linear layers, so its head can't be "
            "trained on features; choose another architecture"
        )
    return head


def fit_head(accelerator: Accelerator, head: NewHead, rows: Dataset, source: Source, folder: Path) -> float:
    """Trains a head on the features of natural images; everything before the head is left as it is.

    Each image is seen as it is and, where the source's augmentation flips, mirrored.

    Args:
        accelerator: of the run; processes share the features' computation.
        head: trained in place.
        rows: a split of `Data`.
        source: says whether images are mirrored.
        folder: where the features are kept; those that are there already are used.

    Returns:
        The seconds it took, those of features that are there already included.
    """
    begun = time.perf_counter()
    extractor, module = head.extractor.to(accelerator.device), head.module.to(accelerator.device)
    with eval_mode(extractor):
        features, earlier = compute_features(accelerator, extractor, rows, views_of(source), folder)
    labels = torch.tensor(rows["label"][:]).repeat(len(features))
    train_head(module, features, labels, head.training, accelerator.device)
    for parameter in module.parameters():
        parameter.data = broadcast(parameter.data)
    return earlier + time.perf_counter() - begun


def compute_features(
    accelerator: Accelerator, classifier: PixelClassifier, rows: Dataset, views: int, folder: Path
) -> tuple[np.ndarray, float]:
    """Computes the features of a split into a file of that folder; see `compute_outputs`."""
    return compute_outputs(
        accelerator,
        classifier,
        lambda images: classifier.forward_with_features(images)[1],
        rows,
        classifier.preprocessing,
        width=classifier.num_features,
        views=views,
        file=folder / "features.npy",
    )


def train_head(
    head: nn.Module, features: np.ndarray, labels: Tensor, training: TrainingConfig, device: torch.device
) -> None:
    """Trains a module on features and labels with cross-entropy, in float32.

    Args:
        head: features to logits, trained in place.
        features: views, rows, width.
        labels: of all views, one after the other.
        training: how it is learnt; the order of the features is drawn from its seed.
        device: where it is trained.
    """
    flat = features.reshape(-1, features.shape[-1])
    batch_size = min(training.batch_size, len(flat))
    steps = len(flat) // batch_size
    optimizer, scheduler = make_optimizer(head, training, training.epochs * steps)
    rng = np.random.default_rng(training.seed)
    for _ in progress(range(training.epochs), desc="head"):
        order = rng.permutation(len(flat))[: steps * batch_size].reshape(steps, batch_size)
        for chosen in order:
            optimizer.zero_grad()
            batch = torch.from_numpy(flat[chosen]).to(device)
            cross_entropy(head(batch), labels[chosen].to(device)).mean().backward()
            optimizer.step()
            scheduler.step()
    optimizer.zero_grad()
