"""The classifier that attacks search on: the one under test made faster, with logits that agree."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from robust_hub.attacks import SearchClassifier
from robust_hub.evaluation.report import SearchPrecision
from robust_hub.models import PixelClassifier
from robust_hub.types import Images

TOLERANCE = 1e-5


def search_classifier(
    classifier: PixelClassifier, precision: SearchPrecision, images: Images
) -> PixelClassifier | SearchClassifier:
    """Copies a classifier for attacks to search on.

    The copy has no trainable parameters, BatchNorm folded into convolutions, and its weights in channels-last order;
    each of these is left out where the logits would differ by more than 1e-5 of their largest.

    Args:
        classifier: the one under test; it is not changed, and its own verdict is what counts in the end.
        precision: bfloat16 searches in that, and asks a float32 copy about every success.
        images: a few, to compare logits on.
    """
    plain = deepcopy(classifier).requires_grad_(False).eval()
    exact = plain
    for transform in (_fold_batchnorm, _channels_last):
        exact = _where_equal(transform, exact, images)
    if precision == "float32":
        return exact
    fast = deepcopy(exact)
    fast.set_submodule("model", _InBfloat16(fast.model))
    return SearchClassifier(fast, exact)


def _fold_batchnorm(classifier: PixelClassifier) -> PixelClassifier:
    classifier = deepcopy(classifier)
    classifier.set_submodule("model", fuse(classifier.model))
    return classifier


def _channels_last(classifier: PixelClassifier) -> PixelClassifier:
    return deepcopy(classifier).to(memory_format=torch.channels_last)


def _where_equal(
    transform: Callable[[PixelClassifier], PixelClassifier], classifier: PixelClassifier, images: Images
) -> PixelClassifier:
    try:
        changed = transform(classifier)
        with torch.no_grad():
            before, after = classifier(images), changed(images)
        agrees = (before - after).abs().max() <= TOLERANCE * before.abs().max().clamp_min(1)
    except Exception:  # a network that torch.fx can't trace raises whatever it likes; it then stays as it is
        return classifier
    return changed if agrees else classifier


class _InBfloat16(nn.Module):
    """A network whose weights and activations are bfloat16; PixelClassifier makes its logits float32 again."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model.to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.to(torch.bfloat16))
