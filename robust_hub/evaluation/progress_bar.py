"""A progress bar for attacks, counted in passes through the network: batches differ too much to be its unit."""

from collections.abc import Sequence

from robust_hub.launch import progress
from robust_hub.models import PixelClassifier


class ProgressBar:
    """Shows what is done, and the time left, of an evaluation in stages.

    What is left of a batch is bounded by what its standing images can still take; a batch to come is expected to take
    what those before took.

    Args:
        label: named on the bar; without it there is none.
        networks: what the attacks search on; their passes are counted.
        batches: of this process.
        most_passes: of an image in each stage.
    """

    def __init__(self, label: str, networks: Sequence[PixelClassifier], batches: int, most_passes: Sequence[int]):
        self._networks, self._batches, self._most_passes = networks, batches, most_passes
        self._bar = progress(desc=label, unit=" passes", unit_scale=True, disable=not label)
        self._batches_done, self._images_done, self._robust = 0, 0, 0
        self._before = self._count()

    def __enter__(self) -> "ProgressBar":
        self._hooks = [network.register_forward_hook(self._update) for network in self._networks]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._bar.close()

    def begin_stage(self, number: int, standing: int) -> None:
        """Takes note that a stage begins, with so many images."""
        in_batch = standing * sum(self._most_passes[number:])
        done = self._count() - self._before
        expected = done / self._batches_done if self._batches_done else in_batch
        self._bar.total = int(done + in_batch + (self._batches - self._batches_done - 1) * expected)

    def end_batch(self, images: int, robust: int) -> None:
        """Takes note that a batch is done."""
        self._batches_done += 1
        self._images_done += images
        self._robust += robust
        self._bar.set_postfix_str(f"{self._images_done} images, {100 * self._robust / self._images_done:.1f} % robust")

    def _count(self) -> int:
        return sum(network.passes.total for network in self._networks)

    def _update(self, *_: object) -> None:
        self._bar.update(self._count() - self._before - self._bar.n)
