"""Honesty checks: reasons not to believe a robust accuracy.

A classifier that hides its gradient, or answers at random, withstands attacks without being robust. Each check
measures one thing that comes out otherwise on a robust classifier than on one that only looks so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.std import tqdm

from robust_hub.attacks import PGD, Attack, Square, ascend, eval_mode, loss_and_gradient
from robust_hub.evaluation.accuracy import Check
from robust_hub.evaluation.journal import Journal
from robust_hub.evaluation.portions import Portion, gather, seeded
from robust_hub.evaluation.robust_accuracy import right, strict_float32
from robust_hub.launch import progress
from robust_hub.losses import cross_entropy, margin
from robust_hub.models import PixelClassifier
from robust_hub.threats import L2, Linf, Threat
from robust_hub.types import Images, Labels, Mask, PerExample

FEW_STEPS, STEPS, MORE_STEPS, CURVE_STEPS = 10, 50, 200, 20
RESTARTS = 5
# On each image, one more for every surrogate.
ATTACKS = 12
# Most of Square's successes come early, and AutoAttack's 5000 queries would cost more than all the rest.
QUERIES = 1000

MASKED = "if large, the gradient misleads attacks"
# By name: the largest value that is no reason for doubt; how many images may be chance, whatever share of all that is;
# what the value is, and what a larger one means.
CHECKS = {
    "eps zero": (0.0, 0, "share of images judged otherwise at eps 0 than as they are; if not 0, verdicts don't repeat"),
    "robust above clean": (0.0, 0, "accuracy of all images under PGD minus clean accuracy; if positive, attacks help"),
    # Random starts move the accuracy under one attack by less.
    "rise with eps": (0.02, 2, f"largest gain of accuracy under PGD when eps is doubled; {MASKED}"),
    # In that ball all images can be made the same.
    "mid-grey": (0.02, 2, f"accuracy above chance under PGD in a ball that has mid-grey in it; {MASKED}"),
    # Stronger attacks are stronger: at an eps larger than it was trained for, an honest small ReLU network lost 12
    # points to five restarts, 9 to the margin and 7 to more steps. Where gradients are masked it is most of all.
    "more than 10 steps": (0.15, 2, f"share of images that {STEPS} steps of PGD fool and {FEW_STEPS} do not; {MASKED}"),
    "more than 50 steps": (
        0.15,
        2,
        f"share of images that {MORE_STEPS} steps of PGD fool and {STEPS} do not; {MASKED}",
    ),
    "restarts": (0.15, 2, f"share of images that PGD fools in {RESTARTS} restarts and not in the first; {MASKED}"),
    "margin loss": (0.15, 2, f"share of images that PGD fools on the margin and not on the cross-entropy; {MASKED}"),
    # Attacks that know less find next to nothing that gradients of the classifier itself have missed.
    "square": (0.01, 2, f"share of images that Square fools and no attack with gradients does; {MASKED}"),
    "noise": (0.01, 2, f"share of images that Gaussian noise fools and no attack with gradients does; {MASKED}"),
    "transfer": (0.01, 2, f"share of images that fall with a surrogate and to no attack with gradients; {MASKED}"),
    # A smooth classifier has one everywhere, unless it is more certain than float32 can tell.
    "zero gradient": (0.01, 2, "share of images whose cross-entropy has no gradient; if large, attacks stand still"),
    # From 17 nats on float32 softmax gives the label exactly 1, and attacks lose its gradient until they have come
    # closer; from 103 on it gives the other classes exactly 0. Small networks trained for long came to 14.
    "logit scale": (40.0, 0, "median gap of the two largest logits, in nats; if large, softmax loses the gradient"),
    # Sums taken in another order differ by less in float32.
    "two passes": (1e-3, 0, "change of logits in another pass and batch, relative to the largest; if large, random"),
}
# Of a journal, and what its entry calls the images of each surrogate.
STAGE, TRANSFER = "honesty", "transfer from "
# Attacks need float32: in half of it small gradients are rounded away.
BITS, BITS_MEANING = 32.0, "bits of the numbers that the classifier computes in; if fewer, rounding hides gradients"


def check_honesty(
    classifier: PixelClassifier,
    portions: Sequence[Portion],
    threat: Linf | L2,
    survivors: Sequence[Tensor],
    *,
    surrogates: dict[str, nn.Module],
    seed: int,
    journal: Journal,
) -> list[Check]:
    """Looks for reasons not to believe a robust accuracy, on a few hundred images; all processes get the same checks.

    Args:
        classifier: the unwrapped classifier, returned to the mode it was in.
        portions: this process's, of which there may be none.
        threat: the ball that the robust accuracy is about.
        survivors: which images of each portion the white-box stages of the evaluation left standing; where one of them
            fell, an attack that knows less does no better.
        surrogates: other classifiers of the same images, by their names; images that fool them are tried on this one.
        seed: of the random starts, with the portion; the global generator is left alone.
        journal: what was found on a portion is read from it instead of being looked for.

    Raises:
        ValueError: when no process has an image.

    Source: Carlini et al., 2019, arXiv 1902.06705 (sanity tests of attacks, transfer, large eps); Athalye et al., ICML
        2018, arXiv 1802.00420, section 3.1 (signs of masked gradients); Croce and Hein, ICML 2020, arXiv 2003.01690,
        section 4 (scale of the logits), and the authors' code (randomness, zero gradients, Square beating the rest).
    Deviations: an attack is compared with another by the share of images that only it fools, not by two accuracies.
    """
    found, total = [], len(portions) * (ATTACKS + len(surrogates))
    with eval_mode(classifier), strict_float32(), progress(total=total, desc="honesty", unit=" attacks") as bar:
        for (first, images, labels), standing in zip(portions, survivors, strict=True):
            measured = journal.read(first, STAGE)
            # A teacher that could not be reached may be there now, or the other way around.
            if measured is None or _compared_with(measured) != set(surrogates):
                with seeded(seed, first, device=images.device):
                    measured = _look(classifier, images, labels)
                    measured |= _attack(classifier, images, labels, threat, standing, surrogates, bar)
                journal.write(first, STAGE, measured)
            found.append((first, {name: fact.cpu().numpy() for name, fact in measured.items()}))
    shares = gather(found)
    if not shares:
        raise ValueError("honesty checks need images, got none on any process; give them a few hundred")
    if any(share.keys() != shares[0].keys() for share in shares):
        raise ValueError("processes have compared with other surrogates; let all machines reach the same, and resume")
    return _judge({name: np.concatenate([share[name] for share in shares]) for name in shares[0]}, classifier)


def _compared_with(measured: Mapping[str, Tensor]) -> set[str]:
    return {name.removeprefix(TRANSFER) for name in measured if name.startswith(TRANSFER)}


def _look(classifier: nn.Module, images: Images, labels: Labels) -> dict[str, Tensor]:
    """Classifies the images as they are, once more in two halves, and takes one gradient."""
    with torch.no_grad():
        logits = classifier(images)
        again = torch.cat([classifier(half) for half in images.split((len(images) + 1) // 2)])
    _, gradient = loss_and_gradient(lambda pixels: cross_entropy(classifier(pixels), labels), images)
    highest = logits.topk(2, dim=1).values
    # Logits that lose nothing in 16 bits were computed in them, whatever their type is now.
    lossless = [(logits.to(half).to(logits.dtype) == logits).all(1) for half in (torch.float16, torch.bfloat16)]
    return {
        "labels": labels,
        "gap": highest[:, 0] - highest[:, 1],
        "largest logit": logits.abs().amax(1),
        "change": (again - logits).abs().amax(1),
        "zero gradient": (gradient.nan_to_num() == 0).flatten(1).all(1),
        "bits": torch.where(torch.stack(lossless).any(0), 16, torch.finfo(logits.dtype).bits),
    }


def _attack(
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    threat: Linf | L2,
    survivors: Mask,
    surrogates: dict[str, nn.Module],
    bar: tqdm,
) -> dict[str, Tensor]:
    """Attacks with gradients, and then without them what has withstood these; the bar counts the attacks."""

    def after(attack: Attack, attacked: Mask) -> Mask:
        withstood = _withstand(classifier, images, labels, attack, attacked)
        bar.update()
        return withstood

    everything = torch.ones_like(survivors)
    clean = right(classifier, images, labels)
    few, pgd = after(_pgd(threat, threat.eps, FEW_STEPS), clean), after(_pgd(threat, threat.eps), everything)
    standing = clean & pgd
    stronger = {
        "more than 50 steps": after(_pgd(threat, threat.eps, MORE_STEPS), standing),
        "restarts": after(_pgd(threat, threat.eps, restarts=RESTARTS - 1), standing),
        "margin loss": after(_pgd_on_margin(threat), standing),
    }
    curve = {factor: after(_pgd(threat, factor * threat.eps, CURVE_STEPS), clean) for factor in (0.5, 1, 2)}
    unfooled = torch.stack([standing, survivors, *stronger.values(), curve[0.5], curve[1]]).all(0)
    weaker = {
        "square": Square(threat, queries=QUERIES),
        "noise": _noise(threat),
        **{f"{TRANSFER}{name}": _transfer(threat, surrogate) for name, surrogate in surrogates.items()},
    }
    to_grey = threat.norm(torch.full_like(images[:1], 0.5)).item()
    return {
        "clean": clean,
        "pgd": pgd,
        "more than 10 steps": few & ~pgd,
        "eps zero": after(_pgd(threat, 0.0, steps=1), everything) != clean,
        "at mid-grey": after(_pgd(threat, to_grey), clean),
        **{f"{factor} eps": withstood for factor, withstood in curve.items()},
        **{name: standing & ~withstood for name, withstood in stronger.items()},
        **{name: unfooled & ~after(attack, unfooled) for name, attack in weaker.items()},
    }


def _withstand(classifier: nn.Module, images: Images, labels: Labels, attack: Attack, attacked: Mask) -> Mask:
    """Attacks some images, and tells which of them are classified rightly after that."""
    withstood = attacked.clone()
    if attacked.any():
        adversarial = attack(classifier, images[attacked], labels[attacked])
        # Where gradients are nan, so are adversarial images: they fool nobody.
        withstood[attacked] = right(classifier, adversarial, labels[attacked]) | adversarial.isnan().flatten(1).any(1)
    return withstood


def _pgd(threat: Threat, eps: float, steps: int = STEPS, restarts: int = 1) -> PGD:
    return PGD.standard(replace(threat, eps=eps), steps=steps, restarts=restarts)


def _pgd_on_margin(threat: Threat) -> Attack:
    step_size = _pgd(threat, threat.eps).step_size

    def attack(classifier: nn.Module, images: Images, labels: Labels) -> Images:
        def loss(adversarial: Images) -> PerExample:
            return margin(classifier(adversarial), labels)

        return ascend(loss, images, threat.sample(images), threat=threat, steps=STEPS, step_size=step_size)

    return attack


def _noise(threat: Threat) -> Attack:
    # In l2 the projection shortens it to eps: a Gaussian vector of that size a pixel is longer.
    return lambda _, images, labels: (images + threat.project(threat.eps * torch.randn_like(images))).clamp(0, 1)


def _transfer(threat: Threat, surrogate: nn.Module) -> Attack:
    return lambda _, images, labels: _pgd(threat, threat.eps)(surrogate, images, labels)


def _judge(measured: dict[str, np.ndarray], classifier: nn.Module) -> list[Check]:
    """Compares what was measured on the images of all processes with the thresholds."""
    n = len(measured["clean"])

    def gain(before: str, after: str) -> float:
        return (measured[after].astype(int) - measured[before]).mean()

    # A fact with the name of a check is a mask, of which the check takes the share.
    kinds = {name: name.split(" from ")[0] for name in measured}
    values = {name: measured[name].mean() for name, kind in kinds.items() if kind in CHECKS}
    values |= {
        "robust above clean": gain("clean", "pgd"),
        "rise with eps": max(gain("0.5 eps", "1 eps"), gain("1 eps", "2 eps")),
        "mid-grey": measured["at mid-grey"].mean() - np.bincount(measured["labels"]).max() / n,
        "logit scale": np.median(measured["gap"]),
        "two passes": measured["change"].max() / max(measured["largest logit"].max(), 1e-12),
    }
    checks, order = [], list(CHECKS)
    # Not the order they were found in, which a journal does not keep.
    for name, value in sorted(values.items(), key=lambda each: (order.index(kinds.get(each[0], each[0])), each[0])):
        threshold, by_chance, meaning = CHECKS[kinds.get(name, name)]
        threshold = max(threshold, by_chance / n)
        # Not `value > threshold`: nan is no reason to believe anything.
        checks.append(Check(name, float(value), threshold, bool(not value <= threshold), meaning))
    tensors = [*classifier.parameters(), *classifier.buffers()]
    bits = [
        measured["bits"].max(),
        *(torch.finfo(tensor.dtype).bits for tensor in tensors if tensor.is_floating_point()),
    ]
    return [*checks, Check("precision", float(min(bits)), BITS, bool(min(bits) < BITS), BITS_MEANING)]
