"""A network as a tree of modules, by the names and shapes of its tensors."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from itertools import chain, dropwhile
from typing import TypeAlias

from torch import Tensor

from robust_hub.conversion.layouts import is_lone
from robust_hub.conversion.reading import COUNTER

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
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

    @cached_property
    def leaves(self) -> list["Node"]:
        """The layers at and below it."""
        own = (child.leaves if child.children else (child,) for child in self.children)
        return list(chain.from_iterable(own)) if self.children else [self]


def tree_of(weights: dict[str, Tensor]) -> Node:
    """Makes the tree of a state dict; what a module holds beside other modules is a layer of the module's own name.

    Tokens and positions are layers of their own, whose tensor has no name.
    """
    modules: dict[str, dict[str, Shape]] = {}
    for name, tensor in weights.items():
        parent, leaf = (name, "") if is_lone(name) else (name.rpartition(".")[0], name.rpartition(".")[2])
        modules.setdefault(parent, {})[leaf] = tuple(tensor.shape)
    return _node("", modules, list(modules))


def _node(path: str, modules: dict[str, dict[str, Shape]], inside: list[str]) -> Node:
    """Makes the node of a module from the names of those at and below it."""
    own = [_leaf(path, modules[path])] if path in modules else []
    if own and len(inside) == 1:
        return own[0]
    start = len(path) + 1 if path else 0
    below: dict[str, list[str]] = {}
    for name in inside:
        if name != path:
            below.setdefault(name[start:].partition(".")[0], []).append(name)
    children = (*own, *(_node(joined(path, head), modules, names) for head, names in below.items()))
    content: dict[tuple, int] = {}
    for child in children:
        for layer, count in child.content:
            content[layer] = content.get(layer, 0) + count
    return Node(path, {}, children, frozenset(content.items()))


def _leaf(path: str, tensors: dict[str, Shape]) -> Node:
    # Old files do not count batches; a 1x1 convolution and a linear layer have the same weights.
    signature = frozenset((name, _squeezed(name, shape)) for name, shape in tensors.items() if name != COUNTER)
    return Node(path, tensors, (), frozenset({(signature, 1)}))


def _squeezed(name: str, shape: Shape) -> Shape:
    if not name:
        return tuple(dropwhile(lambda side: side == 1, shape))
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def unboxed(node: Node) -> Node:
    """Goes down to where a module holds more than one other, or layers."""
    while len(node.children) == 1:
        (node,) = node.children
    return node


def coarsest_cut(sources: list[Node], targets: list[Node]) -> tuple[list[Node], list[Node]]:
    """Opens modules, the largest first, until both lists hold as many of each content."""
    # Of each content, the modules of both sides; what is opened gives smaller ones, so that each is met but once.
    groups: dict[frozenset, tuple[list[Node], list[Node]]] = {}
    waiting: list[tuple[int, int, frozenset]] = []
    opened: set[int] = set()

    def add(side: int, node: Node) -> None:
        if node.content not in groups:
            groups[node.content] = ([], [])
            heappush(waiting, (-sum(count for _, count in node.content), len(groups), node.content))
        groups[node.content][side].append(node)

    for side, nodes in enumerate((sources, targets)):
        for node in nodes:
            add(side, node)
    while waiting:
        *_, content = heappop(waiting)
        # All of equal content are opened at once: which one of them has no partner, nobody knows.
        while len(groups[content][0]) != len(groups[content][1]):
            closed = groups[content]
            groups[content] = ([], [])
            for side, nodes in enumerate(closed):
                for node in nodes:
                    opened.update([id(node)] if node.children else [])
                    for part in node.parts:
                        add(side, part)
    return list(_where_opened(sources, opened)), list(_where_opened(targets, opened))


def _where_opened(nodes: Iterable[Node], opened: set[int]) -> Iterator[Node]:
    """Gives modules in their order, and the parts in the place of those that were opened."""
    for node in nodes:
        if id(node) in opened:
            yield from _where_opened(node.children, opened)
        else:
            yield node


def by_content(nodes: Iterable[Node]) -> dict[frozenset, list[Node]]:
    """Groups modules that hold the same, in the order of each content's first appearance."""
    groups: dict[frozenset, list[Node]] = {}
    for node in nodes:
        groups.setdefault(node.content, []).append(node)
    return groups


def joined(parent: str, leaf: str) -> str:
    """Writes the name of what a module holds."""
    return ".".join(filter(None, (parent, leaf)))
