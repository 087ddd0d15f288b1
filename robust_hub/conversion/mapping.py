"""Finds which layer of an architecture each layer of a foreign checkpoint is, by names, shapes and places.

Both are seen as trees of modules. Two modules can be partners when they hold the same layers, by kind and shape, in
whatever order. From the root down, the coarsest modules that can all be partners are; among several of equal content,
names decide where they speak the same language, their numbers where only these differ, and the order of registration
last of all. Shapes can't tell equal ones apart, so the table says what decided.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal, TypeAlias

from tabulate import tabulate
from torch import Tensor

from robust_hub.conversion.layouts import unified, with_classifier
from robust_hub.conversion.normaliser import MOST_CHANNELS
from robust_hub.conversion.reading import COUNTER
from robust_hub.conversion.trees import Node, Shape, by_content, coarsest_cut, joined, tree_of, unboxed
from robust_hub.errors import CheckpointError

By: TypeAlias = Literal["name", "place", "order"]

# Words that mean the same in the codes of this field.
LIKE = {
    "bn": "norm",
    "batchnorm": "norm",
    "ln": "norm",
    "layernorm": "norm",
    "layrnorm": "norm",
    "downsample": "shortcut",
    "skip": "shortcut",
    "proj": "shortcut",
    "linear": "fc",
    "logits": "fc",
    "classifier": "fc",
    "head": "fc",
}
# Which stand in the place of numbers.
ORDINALS = {"before": "1", "after": "2"}
NAMED_IN_ERRORS = 3
# Nobody reads on, and a table takes longer than the mapping.
MOST_ROWS = 2_000
OTHER_IMAGES = "say with --model-args the image size that it was trained on, for example '{\"img_size\": 224}'"
OTHER_STEM = (
    "it begins with several convolutions where the architecture has one, and timm has no ViT or ConvNeXt with such a "
    "stem (ConvStem), so that these can't be converted; a ResNet with one has an --architecture of its own, such as "
    "resnet50d"
)
OTHER_NETWORK = "check --architecture and --model-args, and leave layers that the network never uses out with --without"


@dataclass(frozen=True)
class Pair:
    """A layer of the checkpoint, its partner, and what decided.

    Attributes:
        source: name of the layer in the checkpoint.
        target: its name in the architecture.
        shapes: of the layer's tensors in the checkpoint, by their own names.
        by: name when both names agree; place when nothing else fits there, or names of the same meaning agree; order
            when several fit, and only their numbering or their order told them apart.
    """

    source: str
    target: str
    shapes: dict[str, Shape]
    by: By


@dataclass(frozen=True)
class Mapping:
    """Which layer of the architecture each layer of the checkpoint is."""

    pairs: tuple[Pair, ...]

    @property
    def names(self) -> dict[str, str]:
        """The names of the checkpoint's tensors, each with its name in the architecture."""
        return {joined(pair.source, leaf): joined(pair.target, leaf) for pair in self.pairs for leaf in pair.shapes}

    @property
    def doubts(self) -> str:
        """Tells how many layers might have been taken for others; empty where none."""
        doubtful = sum(pair.by == "order" for pair in self.pairs)
        return f"{doubtful} of {len(self.pairs)} layers were told from others of equal shapes by order alone" * (
            doubtful > 0
        )

    def table(self) -> str:
        """Writes the layers that change their names, or are not sure to be the same, one below the other."""
        changed = [pair for pair in self.pairs if pair.by != "name"]
        kept = f"{len(self.pairs) - len(changed)} of {len(self.pairs)} layers keep their names"
        if not changed:
            return kept
        rows = [
            (pair.source, pair.target, " ".join(map(_sides, _shown(pair))), pair.by) for pair in changed[:MOST_ROWS]
        ]
        table = tabulate(rows, ("checkpoint", "architecture", "shapes", "by"), tablefmt="github")
        more = f"and {len(changed) - MOST_ROWS:,} more" * (len(changed) > MOST_ROWS)
        return "\n\n".join(filter(None, (kept, table, more, self.doubts)))


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "1"


def _shown(pair: Pair) -> list[Shape]:
    """Gives the shapes of weight and bias; a BatchNorm's statistics are shaped like them."""
    return [shape for leaf, shape in pair.shapes.items() if not leaf.startswith("running_") and leaf != COUNTER]


def find_mapping(source: dict[str, Tensor], target: dict[str, Tensor], *, ordered: bool) -> Mapping:
    """Finds a partner for each layer; a layer's tensors move together, and so do queries, keys and values.

    Args:
        source: the checkpoint's weights.
        target: the architecture's state dict.
        ordered: whether the checkpoint's names are in the order in which its network registers them.

    Raises:
        CheckpointError: when a layer of either has no partner, or only an order could tell, and there is none.
    """
    source_tree, target_tree = tree_of(unified(with_classifier(source))), tree_of(unified(target))
    _check_all_have_partners(source_tree.leaves, target_tree.leaves)
    pairs = sorted(_matched(source_tree, target_tree, "place", ordered), key=_position(source_tree))
    assert len({pair.target for pair in pairs}) == len(pairs) == len(target_tree.leaves)
    return Mapping(tuple(pairs))


def fits(source: dict[str, Tensor], target: dict[str, Tensor]) -> bool:
    """Tells whether there are as many layers of each kind and shape in a checkpoint as in an architecture."""
    theirs, ours = (tree_of(unified(weights)).leaves for weights in (source, target))
    return Counter(node.content for node in theirs) == Counter(node.content for node in ours)


def _position(tree: Node) -> Callable[[Pair], int]:
    positions = {leaf.path: position for position, leaf in enumerate(tree.leaves)}
    return lambda pair: positions[pair.source]


def _check_all_have_partners(sources: list[Node], targets: list[Node]) -> None:
    if Counter(node.content for node in sources) == Counter(node.content for node in targets):
        return
    lonely_sources, lonely_targets = _excess(sources, targets), _excess(targets, sources)
    advice = OTHER_NETWORK
    if len(lonely_sources) == len(lonely_targets) and _are_positions(lonely_sources, lonely_targets):
        advice = OTHER_IMAGES
    elif _have_other_stems(lonely_sources, lonely_targets):
        advice = OTHER_STEM
    raise CheckpointError(
        f"the checkpoint does not fit the architecture: without a partner are {_told(lonely_sources, lonely_targets)} "
        f"of the checkpoint and {_told(lonely_targets, lonely_sources)} of the architecture; {advice}"
    )


def _are_positions(sources: list[Node], targets: list[Node]) -> bool:
    """Tells whether nothing but positions differs: there are as many as patches, so that other images have others."""
    namesakes = {node.path: node for node in targets}
    differing = [(node, _differing(node, namesakes) or list(node.tensors)) for node in sources]
    return all("pos" in joined(node.path.rpartition(".")[2], leaf) for node, leaves in differing for leaf in leaves)


def _have_other_stems(sources: list[Node], targets: list[Node]) -> bool:
    """Tells whether images meet several convolutions where there is one in the architecture."""
    theirs, ours = (
        [node.tensors["weight"] for node in nodes if len(node.tensors.get("weight", ())) == 4]
        for nodes in (sources, targets)
    )
    return len(theirs) > len(ours) == 1 and any(shape[1] == ours[0][1] <= MOST_CHANNELS for shape in theirs)


def _excess(nodes: list[Node], others: list[Node]) -> list[Node]:
    """Gives the nodes that outnumber those of equal content among the others: of each, the last with strange names."""
    there, names = by_content(others), {other.path for other in others}
    excess = set()
    for content, alike in by_content(nodes).items():
        surplus = max(0, len(alike) - len(there.get(content, [])))
        alike.sort(key=lambda node: node.path not in names)
        excess |= {id(node) for node in alike[len(alike) - surplus :]}
    return [node for node in nodes if id(node) in excess]


def _told(nodes: list[Node], others: list[Node]) -> str:
    """Names some layers without a partner, each by a tensor that its namesake among the others has of another shape."""
    if not nodes:
        return "none"
    named, namesakes = [], {other.path: other for other in others}
    for node in nodes[:NAMED_IN_ERRORS]:
        leaf = next(iter([*_differing(node, namesakes), *(["weight"] if "weight" in node.tensors else node.tensors)]))
        named.append(f"{joined(node.path, leaf)} ({_sides(node.tensors[leaf])})")
    more = f" and {len(nodes) - NAMED_IN_ERRORS} more layers" if len(nodes) > NAMED_IN_ERRORS else ""
    return ", ".join(named) + more


def _differing(node: Node, namesakes: dict[str, Node]) -> list[str]:
    """Lists the tensors of a layer that its namesake among the others has of another shape."""
    theirs = namesakes[node.path].tensors if node.path in namesakes else {}
    return [leaf for leaf, shape in node.tensors.items() if theirs.get(leaf, shape) != shape]


def _matched(source: Node, target: Node, by: By, ordered: bool) -> Iterator[Pair]:
    """Pairs the layers of two modules that hold the same."""
    source, target = unboxed(source), unboxed(target)
    if not source.children and not target.children:
        yield Pair(source.path, target.path, source.tensors, "name" if source.path == target.path else by)
        return
    sources, targets = coarsest_cut(list(source.children), list(target.children))
    others = by_content(targets)
    for content, some in by_content(sources).items():
        for one, other, how in _told_apart(some, others[content], ordered):
            yield from _matched(one, other, "order" if "order" in (by, how) else "place", ordered)


def _told_apart(sources: list[Node], targets: list[Node], ordered: bool) -> Iterator[tuple[Node, Node, By]]:
    """Pairs modules of equal content, as many on both sides."""
    if len(sources) == 1:
        yield sources[0], targets[0], "place"
        return
    source_path, target_path = _shared_path(sources), _shared_path(targets)
    named, others_named = _by_names(sources, source_path), _by_names(targets, target_path)
    if named.keys() == others_named.keys():
        yield from ((node, others_named[name], "place") for name, node in named.items())
        return
    families, other_families = _families(sources, source_path), _families(targets, target_path)
    told = set()
    for family in [family for family in families if family in other_families]:
        members, others = families[family], other_families[family]
        numbers, other_numbers = _by_numbers(members, source_path), _by_numbers(others, target_path)
        if not len(members) == len(others) == len(numbers) == len(other_numbers):
            continue
        # Numbers are places, not names: units 1, 2, 3 are 0, 1, 2 elsewhere, never 1 to 1, 2 to 2 and 3 to 0.
        how = "place" if set(numbers) == set(other_numbers) else "order"
        for one, other in zip(sorted(numbers), sorted(other_numbers), strict=True):
            yield numbers[one], other_numbers[other], how
        told |= {id(node) for node in (*members, *others)}
    sources, targets = ([node for node in nodes if id(node) not in told] for nodes in (sources, targets))
    if len(sources) == 1:
        yield sources[0], targets[0], "place"
        return
    numbers, other_numbers = _by_numbers(sources, source_path), _by_numbers(targets, target_path)
    families, other_families = _families(sources, source_path), _families(targets, target_path)
    if len(families) == len(other_families) == 1 and len(numbers) == len(other_numbers) == len(sources):
        for one, other in zip(sorted(numbers), sorted(other_numbers), strict=True):
            yield numbers[one], other_numbers[other], "order"
        return
    if len(sources) > 1 and not ordered:
        raise CheckpointError(
            f"{_some_paths(sources)} have equal shapes, and only the order in which the network registers them could "
            "tell them apart, which a safetensors file does not keep; give the original with --original, or a "
            "checkpoint written by torch.save"
        )
    yield from ((one, other, "order") for one, other in zip(sources, targets, strict=True))


def _shared_path(nodes: list[Node]) -> str:
    """Gives the path of the module that holds them all."""
    holders = [node.path.split(".")[:-1] for node in nodes]
    shared = takewhile(lambda words: len(set(words)) == 1, zip(*holders, strict=False))
    return "".join(f"{words[0]}." for words in shared)


def _some_paths(nodes: list[Node]) -> str:
    more = f" and {len(nodes) - NAMED_IN_ERRORS} more" if len(nodes) > NAMED_IN_ERRORS else ""
    return ", ".join(node.path for node in nodes[:NAMED_IN_ERRORS]) + more


def _families(nodes: Iterable[Node], root: str) -> dict[str, list[Node]]:
    """Groups modules whose names, below the root, mean the same but for numbers."""
    families: dict[str, list[Node]] = {}
    for node in nodes:
        path = node.path.removeprefix(root).replace("layer_norm", "norm")
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", path)]
        words = sorted(LIKE.get(word, word) for word in words if word not in ORDINALS)
        # What a shortcut's layers are called beside that matters to nobody.
        families.setdefault("shortcut" if "shortcut" in words else " ".join(words), []).append(node)
    return families


def _by_names(nodes: Iterable[Node], root: str) -> dict[str, Node]:
    return {node.path.removeprefix(root): node for node in nodes}


def _by_numbers(nodes: Iterable[Node], root: str) -> dict[tuple[int, ...], Node]:
    numbers = {node: re.findall(rf"\d+|{'|'.join(ORDINALS)}", node.path.removeprefix(root)) for node in nodes}
    return {tuple(int(ORDINALS.get(number, number)) for number in found): node for node, found in numbers.items()}
