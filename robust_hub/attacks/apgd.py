"""Auto-PGD: projected gradient ascent with momentum that finds its own step sizes."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from robust_hub.attacks.base import Found, eval_mode, in_turn, likeliest_targets, misclassified
from robust_hub.losses import cross_entropy, targeted_difference_of_logits_ratio
from robust_hub.threats import Threat
from robust_hub.types import Images, Labels, Logits, Mask, PerExample

MOMENTUM = 0.25
ENOUGH_RISES = 0.75
FIRST_WINDOW, WINDOW_DECREASE, LAST_WINDOW = 0.22, 0.03, 0.06


@runtime_checkable
class Loss(Protocol):
    """A loss of logits and labels, one value per image, that a name can be told of."""

    __name__: str

    def __call__(self, logits: Logits, labels: Labels, /) -> PerExample:
        """Computes the loss of each image."""
        ...


@runtime_checkable
class TargetedLoss(Protocol):
    """A loss of logits, labels and targets, one value per image, that a name can be told of."""

    __name__: str

    def __call__(self, logits: Logits, labels: Labels, targets: Labels, /) -> PerExample:
        """Computes the loss of each image."""
        ...


@dataclass(frozen=True)
class APGD:
    """Climbs a loss of the logits with steps that are halved where it stops rising.

    Args:
        threat: the ball.
        loss: of logits and labels, one value per image.
        steps: gradients a restart.
        restarts: number of random starts; each attacks what the ones before have not fooled.

    Source: Croce and Hein, ICML 2020, arXiv 2003.01690, Algorithm 1; rho, momentum and windows from section 3.
    Deviations: an image leaves the batch as soon as it is fooled, and the last point is classified without taking its
        gradient. As in the authors' code, a step is halved also when rises are exactly rho of the window, the second
        condition is not asked at the first check, and after a return to the best point the next loss is compared with
        that of the point given up.
    """

    threat: Threat
    loss: Loss = cross_entropy
    steps: int = 100
    restarts: int = 1

    def __post_init__(self) -> None:
        _check_counts(self, "steps", "restarts")

    @property
    def most_passes(self) -> int:
        """Forward and backward passes that an image takes at most."""
        return self.restarts * (2 * self.steps + 1)

    def __repr__(self) -> str:
        """Names the loss instead of printing where its function lies."""
        return f"APGD({self.threat}, loss={self.loss.__name__}, steps={self.steps}, restarts={self.restarts})"

    def __call__(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """Returns adversarial images; where none was found, those of highest loss."""

        def run(standing: Tensor) -> Found:
            classes = labels[standing, None]
            return _climb(
                classifier, lambda logits, rows: self.loss(logits, rows[:, 0]), images[standing], classes, self
            )

        with eval_mode(classifier):
            return in_turn([run] * self.restarts, images)


@dataclass(frozen=True)
class TargetedAPGD:
    """Climbs a loss towards one other class after the other, the likeliest first.

    Args:
        threat: the ball.
        targets: how many classes are tried.
        loss: of logits, labels and targets, one value per image.
        steps: gradients a target.

    Source: Croce and Hein, ICML 2020, arXiv 2003.01690, section 4.1.
    Deviations: those of `APGD`.
    """

    threat: Threat
    targets: int = 9
    loss: TargetedLoss = targeted_difference_of_logits_ratio
    steps: int = 100

    def __post_init__(self) -> None:
        _check_counts(self, "steps", "targets")

    @property
    def most_passes(self) -> int:
        """Forward and backward passes that an image takes at most."""
        return self.targets * (2 * self.steps + 1) + 1

    def __repr__(self) -> str:
        """Names the loss instead of printing where its function lies."""
        return f"TargetedAPGD({self.threat}, targets={self.targets}, loss={self.loss.__name__}, steps={self.steps})"

    def __call__(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """Returns adversarial images; where none was found, those of highest loss towards the last target."""
        with eval_mode(classifier):
            targets = likeliest_targets(classifier, images, labels, self.targets)

            def towards(rank: int) -> Callable[[Tensor], Found]:
                return lambda standing: _climb(
                    classifier,
                    lambda logits, rows: self.loss(logits, rows[:, 0], rows[:, 1]),
                    images[standing],
                    torch.stack([labels[standing], targets[standing, rank]], dim=1),
                    self,
                )

            return in_turn(map(towards, range(self.targets)), images)


def _check_counts(attack: APGD | TargetedAPGD, *names: str) -> None:
    for name in names:
        if getattr(attack, name) < 1:
            raise ValueError(f"{type(attack).__name__} needs {name} >= 1, got {getattr(attack, name)}")


@dataclass(frozen=True)
class _Climbers:
    """The images still on their way up, one a row of every tensor."""

    number: Tensor
    images: Images
    classes: Tensor
    step_size: PerExample
    current: Images
    previous: Images
    loss: PerExample
    gradient: Images
    best: Images
    best_loss: PerExample
    best_gradient: Images
    rises: PerExample
    best_loss_before: PerExample
    halved_before: Mask

    def rows(self, mask: Mask) -> "_Climbers":
        return replace(self, **{field.name: getattr(self, field.name)[mask] for field in fields(self)})


def _climb(
    classifier: nn.Module,
    loss: Callable[[Logits, Tensor], PerExample],
    images: Images,
    classes: Tensor,
    attack: APGD | TargetedAPGD,
) -> Found:
    """Runs Auto-PGD from one random start.

    `classes` has a row for each image, its label first; the loss is given the logits and these rows.
    """
    threat, steps = attack.threat, attack.steps
    start = (images + threat.sample(images)).clamp(0, 1)
    found, all_fooled = start.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
    losses, gradient, fooled = _assess(classifier, loss, start, classes)
    climbers = _Climbers(
        number=torch.arange(len(images), device=images.device),
        images=images,
        classes=classes,
        step_size=torch.full_like(losses, 2 * threat.eps),
        current=start,
        previous=start,
        loss=losses,
        gradient=gradient,
        best=start,
        best_loss=losses,
        best_gradient=gradient,
        rises=torch.zeros_like(losses),
        best_loss_before=losses,
        halved_before=torch.ones_like(fooled),
    )
    window, until_check = (max(int(FIRST_WINDOW * steps), 1),) * 2
    for step in range(steps + 1):
        if fooled.any():
            numbers = climbers.number[fooled]
            found[numbers], all_fooled[numbers] = climbers.current[fooled], True
            climbers = climbers.rows(~fooled)
            if not len(climbers.number):
                return Found(found, all_fooled)
        if step == steps:
            break
        if until_check == 0:
            climbers = _halve_where_stuck(climbers, window)
            window = max(window - max(int(WINDOW_DECREASE * steps), 1), max(int(LAST_WINDOW * steps), 1))
            until_check = window
        climbers = _step(climbers, threat, momentum=MOMENTUM if step else 0.0)
        if step == steps - 1:
            with torch.no_grad():
                logits = classifier(climbers.current)
            fooled = misclassified(classifier, climbers.current, climbers.classes[:, 0], logits)
            climbers = _keep_best(climbers, loss(logits, climbers.classes), climbers.gradient)
        else:
            losses, gradient, fooled = _assess(classifier, loss, climbers.current, climbers.classes)
            climbers = _keep_best(climbers, losses, gradient)
        until_check -= 1
    found[climbers.number] = climbers.best
    return Found(found, all_fooled)


def _assess(
    classifier: nn.Module, loss: Callable[[Logits, Tensor], PerExample], images: Images, classes: Tensor
) -> tuple[PerExample, Images, Mask]:
    """Computes loss, gradient and verdict in one forward and one backward pass."""
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        logits = classifier(images)
        losses = loss(logits, classes)
        (gradient,) = torch.autograd.grad(losses.sum(), images)
    images = images.detach()
    return losses.detach(), gradient, misclassified(classifier, images, classes[:, 0], logits.detach())


def _step(climbers: _Climbers, threat: Threat, *, momentum: float) -> _Climbers:
    """Goes up the gradient, and on along the last step."""
    images, current = climbers.images, climbers.current

    def inside(points: Images) -> Images:
        return (images + threat.project(points - images)).clamp_(0, 1)

    step_size = climbers.step_size[:, None, None, None]
    ahead = inside(current + step_size * threat.steepest_ascent(climbers.gradient))
    if momentum:
        ahead = inside(current + (1 - momentum) * (ahead - current) + momentum * (current - climbers.previous))
    return replace(climbers, previous=current, current=ahead)


def _keep_best(climbers: _Climbers, losses: PerExample, gradient: Images) -> _Climbers:
    better = losses > climbers.best_loss
    wide = better[:, None, None, None]
    return replace(
        climbers,
        loss=losses,
        gradient=gradient,
        rises=climbers.rises + (losses > climbers.loss),
        best=torch.where(wide, climbers.current, climbers.best),
        best_loss=torch.where(better, losses, climbers.best_loss),
        best_gradient=torch.where(wide, gradient, climbers.best_gradient),
    )


def _halve_where_stuck(climbers: _Climbers, window: int) -> _Climbers:
    """Halves the step where the loss rose in too few steps of the window, or has a best that is old and was left alone.

    Such an image goes on from its best point.
    """
    oscillating = climbers.rises <= ENOUGH_RISES * window
    stuck = ~climbers.halved_before & (climbers.best_loss_before >= climbers.best_loss)
    halve = oscillating | stuck
    wide = halve[:, None, None, None]
    return replace(
        climbers,
        step_size=torch.where(halve, climbers.step_size / 2, climbers.step_size),
        current=torch.where(wide, climbers.best, climbers.current),
        gradient=torch.where(wide, climbers.best_gradient, climbers.gradient),
        rises=torch.zeros_like(climbers.rises),
        best_loss_before=climbers.best_loss,
        halved_before=halve,
    )
