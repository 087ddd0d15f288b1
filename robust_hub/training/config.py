"""How weights are learnt: the options, without what carries them out."""

from dataclasses import dataclass, field
from math import inf
from typing import Literal, NamedTuple

from robust_hub.errors import close_names

# The highest learning rate of a student that starts untrained, and of one that starts from a model.
RATES = {"sgd": (0.2, 0.01), "adamw": (1e-3, 5e-4)}
DECAYS = {"sgd": 5e-4, "adamw": 0.05}


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
        gradient_accumulation_steps: into how many parts a batch is divided, one after the other, which saves memory.
        label_smoothing: the share of each label that is spread over all classes.
        mixup: concentration of the Beta distribution by which images are blended with others; 0 blends none.
        cutmix: that by which parts of images are exchanged; 0 exchanges none.
    """

    layer_decay: float = 1.0
    warmup: float = 0.2
    schedule: Literal["cosine", "linear"] = "cosine"
    clip_grad: float = 1.0
    ema_decay: float = 0.9999
    grad_checkpointing: bool = False
    gradient_accumulation_steps: int = 1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name in ("layer_decay", "warmup", "ema_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"--{name.replace('_', '-')} must be in (0, 1], got {getattr(self, name)}")
        for name in ("clip_grad", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) < inf:
                raise ValueError(f"--{name.replace('_', '-')} must be at least 0, got {getattr(self, name)}")
        if self.gradient_accumulation_steps < 1:
            raise ValueError(
                f"--gradient-accumulation-steps must be at least 1, got {self.gradient_accumulation_steps}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"--label-smoothing must be in [0, 1), got {self.label_smoothing}")

    @property
    def softens_labels(self) -> bool:
        """Whether labels become probabilities of the classes."""
        return bool(self.label_smoothing or self.mixup or self.cutmix)


class Descent(NamedTuple):
    """An optimizer of timm's, its highest learning rate and its weight decay."""

    optimizer: str
    lr: float
    weight_decay: float

    def __str__(self) -> str:
        return f"{self.optimizer}, learning rate up to {self.lr:g}, weight decay {self.weight_decay:g}"


@dataclass(frozen=True)
class TrainingConfig:
    """How weights are learnt: one cycle of the learning rate, averaged weights, the best epoch on validation kept.

    A head alone is learnt by the optimizer and its cycle, no more.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step, over all processes and accumulated gradients together.
        optimizer: a name of timm's; by default sgd (with Nesterov momentum) for a student that starts untrained, and
            adamw for one that starts from a model.
        lr: the highest learning rate, reached after the warmup; by default 0.2 of sgd and 0.001 of adamw, and from a
            model 0.01 and 0.0005.
        weight_decay: by default 0.0005 of sgd and 0.05 of adamw; not applied to biases, norms and what timm exempts,
            such as position embeddings.
        seed: of the weights, the order and the augmentation.
        fine_tuning: what is rarely turned.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    fine_tuning: FineTuningConfig = field(default_factory=FineTuningConfig)

    def __post_init__(self) -> None:
        lr, decay = (1.0 if value is None else value for value in (self.lr, self.weight_decay))
        if self.epochs < 1 or self.batch_size < 1 or not 0 < lr < inf or not 0 <= decay < inf:
            raise ValueError(
                f"epochs and batch size must be at least 1, lr above 0 and weight decay at least 0, got {self}"
            )

        if self.optimizer is not None and self.optimizer not in RATES:
            _check_optimizer(self.optimizer)

    def descent(self, *, from_model: bool = False) -> Descent:
        """Chooses what was left open, by where the student starts.

        Args:
            from_model: whether it starts from the weights of a model.

        Raises:
            ValueError: when an optimizer was chosen of which no usual learning rate is known, and none was given.
        """
        optimizer = self.optimizer or ("adamw" if from_model else "sgd")
        if self.lr is None and optimizer not in RATES:
            raise ValueError(f"no usual learning rate of {optimizer} is known here; say --lr as well")
        lr = RATES[optimizer][from_model] if self.lr is None else self.lr
        decay = DECAYS.get(optimizer, 0.0) if self.weight_decay is None else self.weight_decay
        return Descent(optimizer, lr, decay)


def _check_optimizer(name: str) -> None:
    from timm.optim import list_optimizers

    known = [str(optimizer) for optimizer in list_optimizers()]
    if name not in known:
        near = close_names(name, known) or "; timm.optim.list_optimizers() lists what it knows"
        raise ValueError(f"timm knows no optimizer '{name}'{near}")


HEAD_TRAINING = TrainingConfig(epochs=20, optimizer="adamw", lr=1e-3, weight_decay=0.0)
