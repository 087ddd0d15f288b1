"""The optimizer of what is trained, and how its learning rate goes: timm's groups of weights, torch's one cycle."""

from typing import Any

import torch
from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from robust_hub.methods import Objective
from robust_hub.training.config import TrainingConfig


def make_optimizer(module: nn.Module, training: TrainingConfig, steps: int) -> tuple[torch.optim.Optimizer, OneCycleLR]:
    """Makes the optimizer of a module's weights and the one cycle of its learning rate over that many steps."""
    name, lr, weight_decay = training.descent()
    groups = _groups(module, weight_decay, training.fine_tuning.layer_decay)
    optimizer = create_optimizer_v2(groups, opt=name, lr=lr, weight_decay=weight_decay)
    rates = [lr * group.get("lr_scale", 1.0) for group in groups]
    # OneCycleLR divides by zero where the rise would take less than one step.
    rise = max(training.fine_tuning.warmup, 2 / (steps + 1))
    anneal = {"cosine": "cos", "linear": "linear"}[training.fine_tuning.schedule]
    scheduler = OneCycleLR(
        optimizer, rates, total_steps=steps + 1, pct_start=rise, anneal_strategy=anneal, cycle_momentum=False
    )
    return optimizer, scheduler


def _groups(module: nn.Module, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups the weights as timm does for the network itself, so that what it exempts from decay is exempt.

    Args:
        module: an objective, whose student's groups are timm's and whose own weights learn as the last layer does; or
            a head.
        weight_decay: of what is not exempt.
        layer_decay: see `FineTuningConfig`.
    """
    network = module.student.model if isinstance(module, Objective) else module
    told: dict[str, Any] = {"weight_decay": weight_decay}
    exempt = getattr(network, "no_weight_decay", None)
    if callable(exempt):
        told["no_weight_decay_list"] = exempt()
    if layer_decay < 1:
        groups = param_groups_layer_decay(network, layer_decay=layer_decay, **told)
    else:
        groups = param_groups_weight_decay(network, **told)
    known = set(network.parameters())
    beside = [weight for weight in module.parameters() if weight.requires_grad and weight not in known]
    decaying = [
        (weight_decay, [weight for weight in beside if weight.ndim > 1]),
        (0.0, [weight for weight in beside if weight.ndim <= 1]),
    ]
    return [*groups, *({"params": weights, "weight_decay": decay} for decay, weights in decaying if weights)]
