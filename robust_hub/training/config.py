"""How weights are learnt: the options, without what carries them out."""

from dataclasses import dataclass

from robust_hub.errors import close_names

MILESTONES = 30
# Known to be timm's without asking it, which takes seconds.
USUAL_OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class TrainingConfig:
    """How weights are learnt: one cycle of the learning rate, averaged weights, the best epoch on validation kept.

    The gradient of a step is clipped to a norm of 1. A head alone is learnt by the optimizer and its cycle, no more.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, over all processes and accumulated gradients together.
        optimizer: a name of timm's, for example sgd (with Nesterov momentum) or adamw.
        lr: the highest learning rate, reached after a fifth of the steps.
        weight_decay: not applied to biases and norms.
        seed: of the weights, the order and the augmentation.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.2
    weight_decay: float = 5e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.lr <= 0 or self.weight_decay < 0:
            raise ValueError(
                f"epochs and batch size must be at least 1, lr above 0 and weight decay at least 0, got {self}"
            )

        if self.optimizer not in USUAL_OPTIMIZERS:
            _check_optimizer(self.optimizer)

    def is_milestone(self, epoch: int) -> bool:
        """Tells whether a run is validated and saved after that many epochs: some 30 times, and at its end."""
        return epoch % max(1, self.epochs // MILESTONES) == 0 or epoch == self.epochs


def _check_optimizer(name: str) -> None:
    from timm.optim import list_optimizers

    known = [str(optimizer) for optimizer in list_optimizers()]
    if name not in known:
        near = close_names(name, known) or "; timm.optim.list_optimizers() lists what it knows"
        raise ValueError(f"timm knows no optimizer '{name}'{near}")


HEAD_TRAINING = TrainingConfig(epochs=20, optimizer="adamw", lr=1e-3, weight_decay=0.0)
