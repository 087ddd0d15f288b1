"""FAB: walks along the decision boundary towards the image, to the nearest point that is misclassified."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_hub.attacks.base import Found, eval_mode, in_turn, likeliest_targets, loss_and_gradient, misclassified
from robust_hub.losses import targeted_margin
from robust_hub.threats import Threat
from robust_hub.types import Images, Labels, PerExample

OVERSHOOT = 1.05
PULL_BACK = 0.9
MOST_BIAS = 0.1
NEWTON_STEPS = 30
FARTHEST = 1e12


@dataclass(frozen=True)
class TargetedFAB:
    """Seeks the nearest point across the boundary to one other class after the other, the likeliest first.

    Args:
        threat: the ball; a point in it is a success.
        targets: how many classes are tried.
        steps: linearisations of the boundary a target.

    Source: Croce and Hein, ICML 2020, arXiv 1907.02044, Algorithm 1 and section 4.1 (targeted); no random restart.
    Deviations: an image leaves the batch once a misclassified point lies in the ball, where the paper goes on to a
        nearer one; no final search; hyperplanes are met by Newton's method instead of by sorting the pixels.
    """

    threat: Threat
    targets: int = 9
    steps: int = 100

    def __post_init__(self) -> None:
        if self.steps < 1 or self.targets < 1:
            raise ValueError(f"TargetedFAB needs steps >= 1 and targets >= 1, got {self}")

    @property
    def most_passes(self) -> int:
        """Forward and backward passes that an image takes at most."""
        return self.targets * 3 * self.steps + 1

    def __call__(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """Returns adversarial images; the clean one where none was found."""
        with eval_mode(classifier):
            targets = likeliest_targets(classifier, images, labels, self.targets)

            def towards(rank: int) -> Callable[[Tensor], Found]:
                return lambda standing: self._walk(
                    classifier, images[standing], labels[standing], targets[standing, rank]
                )

            return in_turn(map(towards, range(self.targets)), images)

    def _walk(self, classifier: nn.Module, images: Images, labels: Labels, targets: Labels) -> Found:
        found, all_fooled = images.clone(), torch.zeros(len(images), dtype=torch.bool, device=images.device)
        number, points = torch.arange(len(images), device=images.device), images
        for _ in range(self.steps):
            # The default arguments bind what the lambda reads now, before rows leave.
            values, normals = loss_and_gradient(
                lambda pixels, labels=labels, targets=targets: targeted_margin(classifier(pixels), labels, targets),
                points,
            )
            points = self._cross(images, points, values, normals)
            with torch.no_grad():
                logits = classifier(points)
            across = misclassified(classifier, points, labels, logits)
            fooled = across & (self.threat.norm(points - images) <= self.threat.eps)
            found[number[fooled]], all_fooled[number[fooled]] = points[fooled], True
            pulled_back = images + PULL_BACK * (points - images)
            points = torch.where(across[:, None, None, None], pulled_back, points)
            if fooled.any():
                number, images, points, labels, targets = (
                    rows[~fooled] for rows in (number, images, points, labels, targets)
                )
                if not len(number):
                    break
        return Found(found, all_fooled)

    def _cross(self, images: Images, points: Images, values: PerExample, normals: Images) -> Images:
        """Steps a little beyond the linearised boundary, from the point and, with less weight, from the image."""
        from_point = step_to_hyperplane(self.threat, points, normals, values)
        at_image = values + (normals * (images - points)).sum((1, 2, 3))
        from_image = step_to_hyperplane(self.threat, images, normals, at_image)
        near, far = (self.threat.norm(step).clamp_min(1e-8) for step in (from_point, from_image))
        bias = (near / (near + far)).clamp_max(MOST_BIAS)[:, None, None, None]
        biased = (1 - bias) * (points + OVERSHOOT * from_point) + bias * (images + OVERSHOOT * from_image)
        return biased.clamp(0, 1)


def step_to_hyperplane(threat: Threat, points: Images, normals: Images, values: PerExample) -> Images:
    """Finds the smallest step, in the norm of the threat, to where values + normals . step = 0, inside [0, 1].

    Each pixel moves at the pace of the steepest ascent until it meets the border of [0, 1], so the linear function
    falls by a concave, piecewise linear amount of the radius. Newton's method from 0 reaches the radius at which it
    is 0 from below, in as many steps as there are pieces on its way.

    Returns:
        The step; where [0, 1] does not reach the hyperplane, the one that comes nearest to it.

    Source: Croce and Hein, ICML 2020, arXiv 1907.02044, equations 6 and 7 state the problem.
    """
    # To the opposite of the value: down where it is positive.
    downhill = normals.flatten(1) * -values.sign()[:, None]
    pace = threat.steepest_ascent(normals).abs().flatten(1)
    slopes = downhill.abs()
    room = torch.where(downhill > 0, 1 - points.flatten(1), points.flatten(1))
    radius, remaining = torch.zeros_like(values), values.abs()
    moved = torch.zeros_like(room)
    for _ in range(NEWTON_STEPS):
        slope = torch.where(moved < room, slopes * pace, 0).sum(1)
        forward = torch.where(slope > 0, remaining / slope, 0)
        # Beside vanishing weights the quotient overflows, and infinity times a pace of 0 is not a number.
        radius = (radius + forward).clamp_max(FARTHEST)
        moved = torch.minimum(radius[:, None] * pace, room)
        remaining = (values.abs() - (slopes * moved).sum(1)).clamp_min(0)
        if not ((remaining > 1e-6 * values.abs()) & (slope > 0)).any():
            break
    return (moved * downhill.sign()).view_as(points)
