"""How weights are learnt: the options, without what carries them out."""

from dataclasses import dataclass, field
from typing import Literal

from robust_hub.errors import close_names

MILESTONES = 30
# Known to be timm's without asking it, which takes seconds.
USUAL_OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True)
class FineTuningConfig:
    """What timm's users turn when they fine-tune; the defaults suit networks that start untrained as well.

    Attributes:
        layer_decay: the learning rate of a layer is that of the next one times this; 0.65 to 0.9 for pretrained ViTs.
        warmup: the share of the steps in which the learning rate rises.
        schedule: how it falls from there.
        clip_grad: largest norm of the gradient of a step; 0 for any.
        ema_decay: of the averaged weights; less in the first steps.
        grad_checkpointing: computes activations again when they are needed, which takes time and saves memory.
    """

    layer_decay: float = 1.0
    warmup: float = 0.2
    schedule: Literal["cosine", "linear"] = "cosine"
    clip_grad: float = 1.0
    ema_decay: float = 0.9999
    grad_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("layer_decay", "warmup", "ema_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"--{name.replace('_', '-')} must be in (0, 1], got {getattr(self, name)}")
        if self.clip_grad < 0:
            raise ValueError(f"--clip-grad must be at least 0, got {self.clip_grad}; 0 clips nothing")


@dataclass(frozen=True)
class TrainingConfig:
    """How weights are learnt: one cycle of the learning rate, averaged weights, the best epoch on validation kept.

    A head alone is learnt by the optimizer and its cycle, no more.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, over all processes and accumulated gradients together.
        optimizer: a name of timm's, for example sgd (with Nesterov momentum) or adamw.
        lr: the highest learning rate, reached after the warmup.
        weight_decay: not applied to biases, norms and what timm exempts, such as position embeddings.
        seed: of the weights, the order and the augmentation.
        fine_tuning: what is rarely turned.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: str = "sgd"
    lr: float = 0.2
    weight_decay: float = 5e-4
    seed: int = 0
    fine_tuning: FineTuningConfig = field(default_factory=FineTuningConfig)

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
