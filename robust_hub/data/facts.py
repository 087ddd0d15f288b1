"""What a data set is, in plain values: printed before anything is trained or tested, and kept with what comes of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

# Of Pillow's modes.
GREY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
MOST_CLASSES_SHOWN = 20
# A larger share of the smallest class makes accuracy that of the largest.
IMBALANCED = 1.5


@dataclass(frozen=True)
class SplitFacts:
    """What one split is.

    Attributes:
        images: how many are used.
        origin: where they are from.
        classes: how many of them each class has.
        again: how many of them stand in a split before as well: of test in train or validation, of validation in train.
        left_out: how many more of those were left out.
        copies: how many of them are copies of others of the split.
    """

    images: int
    origin: str
    classes: dict[str, int]
    again: int
    left_out: int
    copies: int

    @property
    def is_imbalanced(self) -> bool:
        """Whether its largest class has more than 1.5 times the images of its smallest."""
        return are_imbalanced(self.classes.values())


@dataclass(frozen=True)
class DataFacts:
    """What a data set is; sizes are height and width.

    Attributes:
        name: of the set.
        splits: train, validation and test, as far as they are there.
        sizes: how many different sizes the images have.
        smallest: the size with the shortest side.
        median_side: of the shorter sides.
        largest: the size with the longest of the shorter sides.
        modes: how many images there are of each of Pillow's modes, as they were found.
        levels: what the pixels hold that are no bytes, and how it is read; empty where there are none.
        notes: what a user should know.
        input_size: channels, height and width of what a network is shown; zeros as long as there is none.
        reason: why these.
    """

    name: str
    splits: dict[str, SplitFacts]
    sizes: int
    smallest: tuple[int, int]
    median_side: int
    largest: tuple[int, int]
    modes: dict[str, int]
    levels: str = ""
    notes: tuple[str, ...] = ()
    input_size: tuple[int, int, int] = (0, 0, 0)
    reason: str = ""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width that a network for these images takes, unless it has a size of its own.

        Grey only where all images are; of several sizes a square of the median short side.
        """
        channels = 1 if set(self.modes) <= GREY else 3
        height, width = self.smallest if self.sizes == 1 else (self.median_side, self.median_side)
        return channels, height, width

    def shown_to(self, input_size: tuple[int, int, int]) -> "DataFacts":
        """Adds what a network is shown of the images, and why."""
        channels, height, width = input_size
        own = self.image_shape
        usual = "the size that all images have" if self.sizes == 1 else "the median of their short sides"
        size = usual if (height, width) == own[1:] else "its own size"
        usual = "as all images are grey" if own[0] == 1 else "as images are in colour"
        channel = "channel" if channels == 1 else "channels"
        colour = usual if channels == own[0] else "which are its own"
        reason = f"{width}x{height} px, {size}, and {channels} {channel}, {colour}"
        return replace(self, input_size=input_size, reason=reason)

    def without_notes(self) -> "DataFacts":
        """Gives what may be published: notes may name files of their owner."""
        return replace(self, notes=())

    def description(self) -> str:
        """Tells splits, classes and notes, in a few lines."""
        splits = (f"{facts.images:,} {split} ({facts.origin})" for split, facts in self.splits.items())
        split, facts = next(iter(self.splits.items()))
        shown = [f"{name} {count:,}" for name, count in facts.classes.items()]
        if len(shown) > MOST_CLASSES_SHOWN:
            fewest, most = (choose(facts.classes, key=lambda name: facts.classes[name]) for choose in (min, max))
            extremes = (
                f"{kind} {facts.classes[name]:,} ({name})" for kind, name in (("fewest", fewest), ("most", most))
            )
            shown = [shown[0], "...", shown[-1], *extremes]
        lines = [f"{self.name}: {', '.join(splits)}", f"{len(facts.classes)} classes in {split}: {', '.join(shown)}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def describe_sizes(self) -> str:
        """Tells the sizes and colours of the images, and what a network is shown of them."""
        if self.sizes == 1:
            sizes = f"{self.smallest[1]}x{self.smallest[0]} px"
        else:
            sizes = f"of {self.sizes:,} sizes, short sides {min(self.smallest)} to {min(self.largest)} px"
            sizes += f", median {self.median_side}"
        grey = sum(count for mode, count in self.modes.items() if mode in GREY)
        colour = "grey" if grey == sum(self.modes.values()) else f"colour, {grey} of them grey" if grey else "colour"
        modes = ", ".join(f"{count:,} {mode}" for mode, count in self.modes.items())
        told = f"images: {sizes}, {colour} ({modes}{f'; {self.levels}' if self.levels else ''})"
        return f"{told}; the network takes {self.reason}" if self.reason else told


def are_imbalanced(counts: Iterable[int]) -> bool:
    """Tells whether the largest class has more than 1.5 times the images of the smallest that has any."""
    there = [count for count in counts if count]
    return bool(there) and max(there) > IMBALANCED * min(there)


def tell_imbalance(split: str, classes: Mapping[str, int]) -> list[str]:
    """Notes that classes differ in size, where they do."""
    if not are_imbalanced(classes.values()):
        return []
    there = {name: count for name, count in classes.items() if count}
    least, most = (choose(there, key=lambda name: there[name]) for choose in (min, max))
    return [
        f"classes of {split} differ in size, from {there[least]:,} images of {least} to {there[most]:,} of {most}: "
        "accuracy tells most of the large ones"
    ]
