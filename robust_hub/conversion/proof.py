"""Proves a conversion: the original module and ours give the same logits."""

import importlib
import inspect
import math
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor, nn

from robust_hub.conversion.normaliser import normaliser_names
from robust_hub.conversion.reading import COUNTER, Foreign, bare_names
from robust_hub.errors import CheckpointError, first_line
from robust_hub.models import PixelClassifier

TORCHVISION = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "wide_resnet101_2"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
)
IMAGES = 4
# Of the largest logit: a linear layer and a 1x1 convolution round differently, and so do other memory layouts.
TOLERANCE = 1e-5


def import_original(where: str, num_classes: int) -> nn.Module:
    """Builds the module that a checkpoint was written from, by code that its user names and trusts.

    Args:
        where: MODULE:FUNCTION, importable; called with num_classes where it takes that, else with nothing.
        num_classes: number of logits.

    Raises:
        ValueError: when it can't be imported, or builds no module.
    """
    module, colon, function = where.partition(":")
    if not (module and colon and function):
        raise ValueError(f"--original must be MODULE:FUNCTION, got '{where}'; for example torchvision.models:resnet50")
    try:
        return _built(getattr(importlib.import_module(module), function), num_classes)
    except Exception as error:  # whatever foreign code raises, the user needs the one sentence
        raise ValueError(
            f"--original {where} can't be built ({first_line(error)}); it must be importable (PYTHONPATH) and be "
            "callable with nothing, or with num_classes"
        ) from error


def _built(function: Callable, num_classes: int) -> nn.Module:
    parameters = inspect.signature(function).parameters.values()
    takes = any(each.name == "num_classes" or each.kind is each.VAR_KEYWORD for each in parameters)
    module = function(num_classes=num_classes) if takes else function()
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(module).__name__}")
    return module


def stock_original(architecture: str, foreign: Foreign, num_classes: int) -> nn.Module | None:
    """Builds torchvision's network of that name, where the checkpoint has its very names and shapes; else None."""
    if architecture not in TORCHVISION:
        return None
    original = getattr(torchvision.models, architecture)(num_classes=num_classes)
    shapes, stock = (
        {name: tensor.shape for name, tensor in weights.items() if not name.endswith(COUNTER)}
        for weights in (foreign.weights, original.state_dict())
    )
    return original if shapes == stock else None


def prove(original: nn.Module, foreign: Foreign, classifier: PixelClassifier) -> str:
    """Loads the checkpoint into the original module as well and compares logits of random images, in float32.

    The original may normalise by itself, or leave that to whoever calls it.

    Returns:
        What was found, in a sentence.

    Raises:
        CheckpointError: when the original does not take the checkpoint, or the logits differ.
    """
    _load(original, foreign)
    images = torch.rand(IMAGES, *classifier.input_size)
    normalised = (images - classifier.mean) / classifier.std
    name = _name(original)
    with torch.no_grad():
        ours = classifier.eval()(images)
        differences = {
            given: _difference(_logits(original, batch, ours), ours)
            for given, batch in {"normalised images": normalised, "pixels": images}.items()
        }
    given = min(differences, key=differences.__getitem__)
    off = differences[given]
    if not off <= TOLERANCE:
        raise CheckpointError(
            f"{classifier.architecture} does not give the logits of the original {name}, they differ by {off:.1g} of "
            "the largest; a layer has the wrong partner in the table above, or the two compute differently "
            "(activation, padding, BatchNorm's eps, mean and std)"
        )
    equal = "equal bit for bit" if off == 0 else f"equal to {off:.1g} of the largest, allowed are {TOLERANCE:g},"
    return f"proven: logits of {IMAGES} random images are {equal} to those of the original {name}, given {given}"


def _load(original: nn.Module, foreign: Foreign) -> None:
    state = original.state_dict()
    bare = bare_names(state)
    wanted, there = (
        {name for name in names if not name.endswith(COUNTER)} for names in (bare.values(), foreign.weights)
    )
    if wanted != there:
        raise CheckpointError(
            f"the original {_name(original)} has other weights than the checkpoint: only there is "
            f"{_first(wanted - there)}, only in the checkpoint {_first(there - wanted)}; give the --original it was "
            "written from"
        )
    state.update({name: foreign.weights.get(short, state[name]) for name, short in bare.items()})
    if foreign.normaliser:
        for mean, std in normaliser_names(state).items():
            state[mean] = torch.tensor(foreign.normaliser.mean).view_as(state[mean])
            state[std] = torch.tensor(foreign.normaliser.std).view_as(state[std])
    try:
        original.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"the original {_name(original)} does not take the checkpoint "
            f"({' '.join(str(error).split())[:200]}); give the --original it was written from"
        ) from error
    original.float().eval()


def _name(original: nn.Module) -> str:
    return f"{type(original).__module__}.{type(original).__qualname__}"


def _first(names: set[str]) -> str:
    return min(names, default="nothing")


def _logits(original: nn.Module, batch: Tensor, like: Tensor) -> Tensor:
    try:
        logits = original(batch)
    except Exception as error:  # whatever foreign code raises, the user needs the one sentence
        raise CheckpointError(
            f"the original {_name(original)} can't classify {tuple(batch.shape)} images ({first_line(error)}); "
            "check --image-size"
        ) from error
    if not isinstance(logits, Tensor) or logits.shape != like.shape:
        raise CheckpointError(
            f"the original {_name(original)} must return logits of shape {tuple(like.shape)}, got "
            f"{tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__}; wrap it"
        )
    return logits


def _difference(logits: Tensor, ours: Tensor) -> float:
    if torch.equal(logits, ours):
        return 0.0
    off = ((logits - ours).abs().max() / logits.abs().max()).item()
    return off if math.isfinite(off) else math.inf
