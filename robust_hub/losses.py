"""Losses as pure functions with one value per example; whoever calls them takes the mean."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robust_hub.types import Features, Images, Labels, Logits, PerExample, Targets

# Keeps a ratio finite whose denominator may be 0.
TINY = 1e-12


def cross_entropy(logits: Logits, labels: Targets) -> PerExample:
    """Computes the cross-entropy with the true label, or with the probability of each class, in nats."""
    targets = labels.to(logits.dtype) if labels.is_floating_point() else labels
    return F.cross_entropy(logits, targets, reduction="none")


def kl_divergence(logits: Logits, reference: Logits) -> PerExample:
    """Computes KL(softmax(reference) || softmax(logits)), in nats."""
    log_p = F.log_softmax(reference, dim=1)
    return (log_p.exp() * (log_p - F.log_softmax(logits, dim=1))).sum(1)


def distillation(logits: Logits, reference: Logits, temperature: float) -> PerExample:
    """Computes T^2 KL(softmax(reference / T) || softmax(logits / T)), in nats.

    Source: Hinton et al., NIPS 2014 workshop, arXiv 1503.02531, section 2.
    """
    return temperature**2 * kl_divergence(logits / temperature, reference / temperature)


def cosine_distance(features: Features, reference: Features) -> PerExample:
    """Computes 1 - cos(features, reference), dimensionless, in [0, 2].

    Source: Vaishnavi et al., USENIX Security 2022, arXiv 2202.09994, the loss of the authors' CIFAR-10 runs.
    """
    return 1 - F.cosine_similarity(features, reference, dim=1, eps=1e-6)


def relative_distance(features: Features, reference: Features) -> PerExample:
    """Computes ||features - reference||_2 / ||reference||_2, dimensionless.

    Source: Vaishnavi et al., USENIX Security 2022, arXiv 2202.09994, the loss of the authors' Restricted-ImageNet runs.
    """
    return l2_distance(features, reference) / torch.linalg.vector_norm(reference, dim=1).clamp_min(TINY)


def l1_distance(features: Features, reference: Features) -> PerExample:
    """Computes ||features - reference||_1, summed over the width, in the unit of the features."""
    return (features - reference).abs().sum(1)


def l2_distance(features: Features, reference: Features) -> PerExample:
    """Computes ||features - reference||_2, not squared; its gradient is 0 where both are the same."""
    return torch.linalg.vector_norm(features - reference, dim=1)


def squared_distance(gradients: Images, reference: Images) -> PerExample:
    """Computes ||gradients - reference||_2^2, summed over channels and pixels, in the squared unit of its arguments."""
    return (gradients - reference).square().flatten(1).sum(1)


def relative(distance: Callable[[Tensor, Tensor], PerExample], vectors: Tensor, reference: Tensor) -> Tensor:
    """Averages a distance over a batch, as a share of what it is from zero: no width, pixels or scale matter.

    Args:
        distance: gives one value for each example.
        vectors: features or gradients.
        reference: what they should be.

    Returns:
        A dimensionless scalar; 1 where the vectors are zero.
    """
    size = distance(torch.zeros_like(reference), reference).mean()
    return distance(vectors, reference).mean() / size.clamp_min(TINY)


def margin(logits: Logits, labels: Labels) -> PerExample:
    """Computes by how much the best other logit exceeds that of the true label; above 0 the image is misclassified.

    Source: Carlini and Wagner, S&P 2017, arXiv 1608.04644, the function f_6 with kappa = infinity.
    """
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - _of(logits, labels)


def targeted_margin(logits: Logits, labels: Labels, targets: Labels) -> PerExample:
    """Computes by how much the logit of the target exceeds that of the true label."""
    return _of(logits, targets) - _of(logits, labels)


def targeted_difference_of_logits_ratio(logits: Logits, labels: Labels, targets: Labels) -> PerExample:
    """Divides the targeted margin by a scale of the four largest logits; dimensionless, for 4 classes or more.

    Source: Croce and Hein, ICML 2020, arXiv 2003.01690, equation 7.
    """
    largest = logits.topk(4, dim=1).values
    scale = largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2
    return targeted_margin(logits, labels, targets) / (scale + TINY)


def _of(logits: Logits, classes: Labels) -> PerExample:
    return logits.gather(1, classes[:, None]).squeeze(1)
