"""Which class of a data set each logit of a model is: told by names, or found by images that are not tested."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
import torch
from datasets import Dataset, Value

from robust_hub.attacks import eval_mode
from robust_hub.data import Data, evaluation_loader, subset
from robust_hub.evaluation.accuracy import Accuracy
from robust_hub.models import PixelClassifier, imagenet_synsets, lacking, order_by_name, possible_orders
from robust_hub.types import Images, Logits

IMAGES = 200
BATCH = 50
NAMED = 3


@dataclass(frozen=True)
class ClassOrder:
    """Which class each logit is.

    Attributes:
        label_names: the data's, in the order of the logits; empty where the model does not know these classes.
        told: what decided, or why they are not known; empty where the model's names are the data's, in their order.
    """

    label_names: list[str]
    told: str = ""


def find_class_order(
    classifier: PixelClassifier, data: Data, *, stated: Sequence[str] = (), claimed: float = 0.0
) -> ClassOrder:
    """Finds which class of a data set each logit is; a model without names is never believed to know them.

    Args:
        classifier: on its device; its passes are not counted.
        data: whose validation images decide between orders where there are no names; those that are tested never do.
        stated: what the user calls the logits, in their order; it is believed before all else.
        claimed: the clean accuracy that the model's card tells, a fraction; 0 where it tells none.

    Raises:
        ValueError: when other than one name a logit is stated.
    """
    if stated and len(stated) != classifier.num_classes:
        raise ValueError(
            f"--label-names must name the {classifier.num_classes:,} logits of {classifier.architecture} in their "
            f"order, got {len(stated):,} names; give one for each"
        )
    known = list(stated) or classifier.label_names
    if not known and classifier.num_classes == data.num_classes:
        return _by_images(classifier, data, claimed)
    return _by_name(known or _usual_names(classifier), data, classifier.num_classes)


def in_order_of(data: Data, label_names: Sequence[str]) -> Data:
    """Numbers the labels of a data set by another order of its classes; leaves it as it is where those are others."""
    if data.label_names == list(label_names) or sorted(data.label_names) != sorted(label_names):
        return data
    numbers = np.array([list(label_names).index(name) for name in data.label_names], dtype=np.int64)

    def renumbered(rows: Dataset) -> Dataset:
        labels = numbers[np.asarray(rows["label"][:], dtype=np.int64)]
        return rows.remove_columns("label").add_column("label", labels, feature=Value("int64"))

    splits = {split: renumbered(rows) for split, rows in data.splits.items()}
    return replace(data, label_names=list(label_names), **splits)


def reorder_logits(classifier: PixelClassifier, known: Sequence[str], label_names: Sequence[str]) -> None:
    """Puts a classifier's logits into the order of a data set's classes, by the rows of its linear layers.

    Args:
        classifier: changed in place.
        known: the names of its logits.
        label_names: the same names in the order wanted.

    Raises:
        ValueError: when its logits are not in the order of its linear layers' rows.
    """
    if list(known) == list(label_names):
        return
    places = torch.tensor([list(known).index(name) for name in label_names], device=classifier.mean.device)
    images = torch.rand(2, *classifier.input_size, device=classifier.mean.device)
    wanted = _logits(classifier, images)[:, places]
    for layer in classifier.classifier_layers:
        layer.weight.data = layer.weight.data[places]
        if layer.bias is not None:
            layer.bias.data = layer.bias.data[places]
    if not torch.allclose(_logits(classifier, images), wanted, rtol=1e-3, atol=1e-4):
        raise ValueError(
            f"the logits of {classifier.architecture} can't be put into the order of the data's classes; choose "
            "another architecture, or a data set that lists its classes as the model does"
        )


def _usual_names(classifier: PixelClassifier) -> list[str]:
    """Gives the names of ImageNet's classes where there are as many logits."""
    synsets = imagenet_synsets()
    return synsets if classifier.num_classes == len(synsets) else []


def _by_name(known: list[str], data: Data, num_classes: int) -> ClassOrder:
    if known == data.label_names:
        return ClassOrder(known)
    if order := order_by_name(known, data.label_names):
        told = "" if order == data.label_names else "the model lists the data's classes in another order"
        return ClassOrder(order, f"{told or 'the model calls the classes otherwise'}: they are matched by name")
    if absent := lacking(known, data.label_names):
        shown = f"{', '.join(absent[:NAMED])}{', ...' if len(absent) > NAMED else ''}"
        return ClassOrder([], f"the data lacks {len(absent):,} of the {num_classes:,} classes of the model ({shown})")
    named = f" ({', '.join(known[:NAMED])}, ...)" if known else ", which it does not name,"
    has = f"{data.num_classes:,} ({', '.join(data.label_names[:NAMED])}, ...)"
    return ClassOrder([], f"the model knows {num_classes:,} classes{named} and the data has {has}")


def _by_images(classifier: PixelClassifier, data: Data, claimed: float) -> ClassOrder:
    """Tries the orders that folders may have, and believes one only where images clearly speak for it."""
    split, rows = _to_choose_by(data)
    if not len(rows):
        return _unseen(data.label_names)
    predicted, labels = _answers(classifier, subset(rows, IMAGES))
    names, orders = np.array(data.label_names), possible_orders(data.label_names)
    right = [np.array(order)[predicted] == names[labels] for order in orders]
    # Sorting keeps the data's own order before others that do as well.
    best, *others = sorted(range(len(orders)), key=lambda place: -right[place].sum())
    shares = [Accuracy.of(right[place]) for place in (best, *others)]
    told = f"the model tells no class names: in the {_shown(orders, best)} it is right on {_percent(shares[0])} of "
    told += f"{len(labels)} {split} images"
    for other, share in zip(others, shares[1:], strict=True):
        told += f", in the {_shown(orders, other)} on {_percent(share)}"
    chance = 1 / data.num_classes
    least = max(min(3 * chance, (1 + chance) / 2), claimed / 2)
    if not others and shares[0].low <= chance and shares[0].high >= least:
        return ClassOrder(orders[best], f"note: {told}, which are too few to tell whether it knows them")
    if shares[0].value < least or shares[0].low <= chance:
        return ClassOrder([], f"{told}; {100 * least:.0f} %, clearly above chance, would be needed")
    # Two standard deviations of as many throws of a coin.
    in_doubt = [other for other in others if _lead(right[best], right[other]) <= 2]
    return ClassOrder([] if in_doubt else orders[best], f"{told}; too few images tell them apart" if in_doubt else told)


def _unseen(label_names: list[str]) -> ClassOrder:
    """Decides without images: those that are tested could only say that a model fails, and never choose."""
    told = "the model tells no class names, and there are no images but the tested ones to find them by"
    if len(possible_orders(label_names)) > 1:
        return ClassOrder([], told)
    return ClassOrder(label_names, f"note: {told}: its logits are taken for the classes in their order")


def _to_choose_by(data: Data) -> tuple[str, Dataset]:
    """Gives the images that an order may be chosen by: never those that are tested."""
    return ("validation", data.validation) if len(data.validation) else ("training", data.train)


def _answers(classifier: PixelClassifier, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Gives the numbers of the largest logits, and the labels."""
    device = classifier.mean.device
    batches = list(evaluation_loader(rows, classifier.preprocessing, batch_size=BATCH, device=device))
    predicted = torch.cat([_logits(classifier, images).argmax(1) for images, _ in batches])
    return predicted.cpu().numpy(), torch.cat([labels for _, labels in batches]).cpu().numpy()


def _logits(classifier: PixelClassifier, images: Images) -> Logits:
    """Classifies images in eval mode; the passes are nobody's cost."""
    passes = replace(classifier.passes)
    with torch.no_grad(), eval_mode(classifier):
        logits = classifier(images)
    classifier.passes = passes
    return logits


def _lead(ahead: np.ndarray, behind: np.ndarray) -> float:
    """By how many standard deviations of chance one order is ahead of another, of the images they differ on."""
    gained, lost = (ahead & ~behind).sum(), (behind & ~ahead).sum()
    return (gained - lost) / max(1.0, sqrt(gained + lost))


def _shown(orders: list[list[str]], place: int) -> str:
    """Writes an order from just before it differs from the others."""
    if len(orders) == 1:
        return "data's order"
    first = next(at for at, names in enumerate(zip(*orders, strict=True)) if len(set(names)) > 1)
    start = max(0, first + 1 - NAMED)
    return f"order {'..., ' * (start > 0)}{', '.join(orders[place][start : max(first + 1, NAMED)])}, ..."


def _percent(share: Accuracy) -> str:
    return f"{100 * share.value:.1f} %"
