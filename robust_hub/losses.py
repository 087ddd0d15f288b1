"""Losses as pure functions with one value per example; whoever calls them takes the mean."""

import torch.nn.functional as F

from robust_hub.types import Features, Images, Labels, Logits, PerExample


def cross_entropy(logits: Logits, labels: Labels) -> PerExample:
    """Computes the cross-entropy with the true label, in nats."""
    return F.cross_entropy(logits, labels, reduction="none")


def kl_divergence(logits: Logits, reference: Logits) -> PerExample:
    """Computes KL(softmax(reference) || softmax(logits)), in nats."""
    log_p = F.log_softmax(reference, dim=1)
    return (log_p.exp() * (log_p - F.log_softmax(logits, dim=1))).sum(1)


def cosine_distance(features: Features, reference: Features) -> PerExample:
    """Computes 1 - cos(features, reference), dimensionless, in [0, 2].

    Source: Vaishnavi et al., USENIX Security 2022, arXiv 2202.09994, the loss of the authors' CIFAR-10 runs.
    """
    return 1 - F.cosine_similarity(features, reference, dim=1, eps=1e-6)


def squared_distance(gradients: Images, reference: Images) -> PerExample:
    """Computes ||gradients - reference||_2^2, summed over channels and pixels, in the squared unit of its arguments."""
    return (gradients - reference).square().flatten(1).sum(1)
