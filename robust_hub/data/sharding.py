"""How a batch is divided over processes and accumulated steps, and seeds that do not depend on that."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shard:
    """How a batch is divided: into `accumulate` steps, each of them among `world` processes; this one is `rank`."""

    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def local(self, batch_size: int) -> int:
        """The images this process takes at a time out of a batch of that many."""
        return batch_size // (self.world * self.accumulate)

    def slices(self, batches: int, batch_size: int) -> Iterator[slice]:
        """Yields which positions of the shuffled set this process takes, step by step."""
        local = self.local(batch_size)
        for part in range(batches * self.accumulate):
            start = (part * self.world + self.rank) * local
            yield slice(start, start + local)

    def batches(self, n: int, batch_size: int) -> list[range]:
        """Gives the rows of each batch that this process takes of n rows in their order: every world-th batch."""
        starts = range(self.rank * batch_size, n, self.world * batch_size)
        return [range(start, min(start + batch_size, n)) for start in starts]

    def rows(self, n: int, batch_size: int) -> list[int]:
        """Gives the rows of all these batches, one after the other."""
        return [row for batch in self.batches(n, batch_size) for row in batch]


WHOLE = Shard()


def mix(seed: int, *parts: int) -> int:
    """Makes one seed of a run's seed and what else decides, such as the epoch."""
    return int(np.random.SeedSequence((seed, *parts)).generate_state(1)[0])
