"""In which orders the logits of a model may stand for the classes of a data set, as names tell it."""

import re
from collections.abc import Sequence
from functools import cache

from timm.data import ImageNetInfo
from timm.utils.misc import natural_key

SYNSET = re.compile(r"n\d{8}")
# Of ImageNet's thousand classes, torchvision calls two otherwise.
LEAST_ALIKE = 0.9


def possible_orders(label_names: Sequence[str]) -> list[list[str]]:
    """Lists the orders that a model without names may have: the data's, and those of folders in torchvision and timm.

    Folders called 0 to 11 are 0, 1, 10, 11, 2 as strings, and 0, 1, 2, 3, 4 in timm's natural order.
    """
    orders = [list(label_names), sorted(label_names), sorted(label_names, key=natural_key)]
    return [order for place, order in enumerate(orders) if order not in orders[:place]]


def order_by_name(known: Sequence[str], label_names: Sequence[str]) -> list[str]:
    """Names a data set's classes in the order of a model's; empty where they are not the same.

    Args:
        known: the model's names.
        label_names: the data's; words and WordNet ids of ImageNet's classes are the same.
    """
    own, wanted = list(known), list(label_names)
    if not _are_same(own, wanted):
        own, wanted = synsets_of(known), synsets_of(label_names)
    if not own or not _are_same(own, wanted):
        return []
    name_of = dict(zip(wanted, label_names, strict=True))
    return [name_of[name] for name in own]


def lacking(known: Sequence[str], label_names: Sequence[str]) -> list[str]:
    """Names the classes of a model that a data set lacks, where all that the data has are among the model's."""
    for own, wanted in ((list(known), list(label_names)), (synsets_of(known), synsets_of(label_names))):
        if own and wanted and set(wanted) < set(own):
            return [name for name, each in zip(known, own, strict=True) if each not in wanted]
    return []


def synsets_of(names: Sequence[str]) -> list[str]:
    """Gives the WordNet ids of names: of ids themselves, and of words for ImageNet's 1,000 classes in their order."""
    if names and all(SYNSET.fullmatch(name) for name in names):
        return list(names)
    synsets = imagenet_synsets()
    if len(names) != len(synsets):
        return []
    lemmas = _imagenet().label_descriptions()
    alike = sum(bool(_words(name) & _words(lemma)) for name, lemma in zip(names, lemmas, strict=True))
    return synsets if alike >= LEAST_ALIKE * len(names) else []


def imagenet_synsets() -> list[str]:
    """Gives the WordNet ids of ImageNet's 1,000 classes in the order of everybody's logits."""
    return list(_imagenet().label_names())


@cache
def _imagenet() -> ImageNetInfo:
    return ImageNetInfo()


def _are_same(names: list[str], others: list[str]) -> bool:
    return len(set(names)) == len(names) and sorted(names) == sorted(others)


def _words(name: str) -> set[str]:
    return {word.strip().replace("_", " ").lower() for word in name.split(",")}
