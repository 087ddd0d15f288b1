"""A network as a tree of modules, by the names and shapes of its tensors."""

from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from torch import Tensor

from robust_hub.conversion.reading import COUNTER

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """A module.

    Attributes:
        path: its name, from the root.
        tensors: shapes of a layer's own tensors; none where it holds other modules.
        children: the modules it holds, in the order of their names' first appearance.
        content: the layers at and below it, by kind and shape, each with how often it is there.
    """

    path: str
    tensors: dict[str, Shape]
    children: tuple["Node", ...]
    content: frozenset

    @property
    def parts(self) -> tuple["Node", ...]:
        """The modules it holds, or itself."""
        return self.children or (self,)

    @property
    def leaves(self) -> list["Node"]:
        """The layers at and below it."""
        return list(chain.from_iterable(child.leaves for child in self.children)) if self.children else [self]


def tree_of(weights: dict[str, Tensor]) -> Node:
    """Makes the tree of a state dict; what a module holds beside other modules is a layer of the module's own name."""
    modules: dict[str, dict[str, Shape]] = {}
    for name, tensor in weights.items():
        parent, _, leaf = name.rpartition(".")
        modules.setdefault(parent, {})[leaf] = tuple(tensor.shape)
    return _node("", modules)


def _node(path: str, modules: dict[str, dict[str, Shape]]) -> Node:
    """Makes the node of a module from those at and below it."""
    below = {name: tensors for name, tensors in modules.items() if name != path}
    own = [_leaf(path, modules[path])] if path in modules else []
    if own and not below:
        return own[0]
    start = len(path) + 1 if path else 0
    heads = dict.fromkeys(name[start:].split(".")[0] for name in below)
    children = [
        _node(child, {name: tensors for name, tensors in below.items() if f"{name}.".startswith(f"{child}.")})
        for child in (joined(path, head) for head in heads)
    ]
    children = (*own, *children)
    content = Counter(chain.from_iterable(Counter(dict(child.content)).elements() for child in children))
    return Node(path, {}, children, frozenset(content.items()))


def _leaf(path: str, tensors: dict[str, Shape]) -> Node:
    # Old files do not count batches; a 1x1 convolution and a linear layer have the same weights.
    signature = frozenset((name, _squeezed(shape)) for name, shape in tensors.items() if name != COUNTER)
    return Node(path, tensors, (), frozenset({(signature, 1)}))


def _squeezed(shape: Shape) -> Shape:
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def unboxed(node: Node) -> Node:
    """Goes down to where a module holds more than one other, or layers."""
    while len(node.children) == 1:
        (node,) = node.children
    return node


def coarsest_cut(sources: list[Node], targets: list[Node]) -> tuple[list[Node], list[Node]]:
    """Opens modules, the largest first, until both lists hold as many of each content."""
    while True:
        counts = [Counter(node.content for node in nodes) for nodes in (sources, targets)]
        if counts[0] == counts[1]:
            return sources, targets
        # All of equal content are opened at once: which one of them has no partner, nobody knows.
        uneven = [node for node in (*sources, *targets) if counts[0][node.content] != counts[1][node.content]]
        largest = max((node for node in uneven if node.children), key=lambda node: len(node.leaves))
        sources, targets = (
            list(chain.from_iterable(node.parts if node.content == largest.content else [node] for node in nodes))
            for nodes in (sources, targets)
        )


def joined(parent: str, leaf: str) -> str:
    """Writes the name of what a module holds."""
    return f"{parent}.{leaf}" if parent else leaf
