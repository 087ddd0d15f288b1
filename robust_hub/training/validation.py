"""How often a run is validated, and on how many images: so that this costs a tenth of its training at most."""

from dataclasses import dataclass

STEPS = 10
# Each way through the network that an image takes: clean, under each step's gradient, and at the end.
PASSES = 2 * STEPS + 2
SHARE = 0.1
MOST_IMAGES, FEWEST_IMAGES = 512, 64
MOST_TIMES, USUAL_TIMES = 30, 10


@dataclass(frozen=True)
class Validation:
    """When a run is validated, and on what.

    Attributes:
        images: of the validation split, the first ones.
        times: at so many epochs, spread evenly, the last one always among them.
    """

    images: int
    times: int

    def __str__(self) -> str:
        return f"validation: {self.images:,} images under PGD-{STEPS} after {self.times} epochs"


def plan_validation(passes: int, available: int, epochs: int) -> Validation:
    """Chooses as many images and epochs as a tenth of the training pays for, and at least 64 images once.

    Args:
        passes: of all networks in the whole training, forward and backward, an image each.
        available: images of the validation split.
        epochs: of the run.
    """
    affordable = SHARE * passes / PASSES
    images = min(available, MOST_IMAGES, max(FEWEST_IMAGES, int(affordable / USUAL_TIMES)))
    times = max(1, min(MOST_TIMES, epochs, int(affordable / max(1, images))))
    return Validation(images, times)


def is_due(epoch: int, epochs: int, times: int) -> bool:
    """Tells whether an epoch is one of those that are spread evenly over a run; its last one always is."""
    return epoch * times // epochs > (epoch - 1) * times // epochs
