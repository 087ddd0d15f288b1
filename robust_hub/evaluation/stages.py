"""Runs the stages of an ensemble batch by batch, each on the survivors of the one before, and forgets nothing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn

from robust_hub.attacks import AutoAttack, Stage, eval_mode
from robust_hub.data import Loader
from robust_hub.evaluation.accuracy import Cost, Evaluation
from robust_hub.evaluation.journal import Journal
from robust_hub.evaluation.perturbations import STEPS, Perturbations, merge
from robust_hub.evaluation.portions import seeded
from robust_hub.evaluation.progress_bar import ProgressBar
from robust_hub.evaluation.robust_accuracy import strict_float32
from robust_hub.models import PixelClassifier
from robust_hub.threats import Threat
from robust_hub.types import Images, Labels, Mask


def evaluate_in_stages(
    accelerator: Accelerator,
    classifier: PixelClassifier,
    search: nn.Module,
    loader: Loader,
    rows: Sequence[range],
    attack: AutoAttack,
    *,
    seed: int,
    journal: Journal,
    label: str = "",
) -> tuple[Evaluation, dict[str, Cost], Perturbations]:
    """Attacks every image that is classified rightly, and keeps the perturbations that fooled.

    An image counts as fooled when its perturbation, as the evidence stores it, lies in the ball and is misclassified
    by the classifier itself in float32. A batch that does not fit into memory is halved.

    Args:
        accelerator: of the run; its autocast is not used.
        classifier: the unwrapped classifier, whose verdict counts.
        search: what the attacks search on, from `search_classifier`.
        loader: this process's share of a split, from `evaluation_loader`.
        rows: those of the split that each of its batches holds.
        attack: the ensemble.
        seed: decides every random start, with the stage and the batch; the global generator is left alone.
        journal: finished stages of finished batches are read from it instead of being run.
        label: named on the progress bar; without it there is none.

    Raises:
        ValueError: when images leave [0, 1], or the classifier gives probabilities, logits that are not finite, or no
            gradient.
    """
    start = time.perf_counter()
    stages = attack.stages(classifier.num_classes)
    networks = [network for network in search.modules() if isinstance(network, PixelClassifier)]
    attacker = _Attacker(classifier, search, attack.threat, seed)
    most_passes = [stage.most_passes for stage in stages.values()]
    with eval_mode(classifier), strict_float32(), ProgressBar(label, networks, len(loader), most_passes) as bar:
        for numbers, (images, labels) in zip(rows, loader, strict=True):
            first, indices = numbers.start, torch.tensor(numbers).to(labels)
            if (clean := journal.read(first, "clean")) is None:
                clean = {"indices": indices, "labels": labels, "clean": _classify(classifier, search, images, labels)}
                journal.write(first, "clean", clean)
            standing = clean["clean"].to(indices.device)
            for number, (name, stage) in enumerate(stages.items()):
                bar.begin_stage(number, int(standing.sum()))
                # A run of before was killed with steps of 16 bits.
                if (outcome := journal.read(first, name)) is None or outcome["perturbation"].dtype != STEPS:
                    begun, before = time.perf_counter(), _passes(networks)
                    evidence = attacker.fool(number, stage, indices[standing], images[standing], labels[standing])
                    passes = [now - then for now, then in zip(_passes(networks), before, strict=True)]
                    cost = [[int(standing.sum()), *passes, time.perf_counter() - begun]]
                    outcome = {**evidence.tensors(), "cost": torch.tensor(cost, dtype=torch.float64)}
                    journal.write(first, name, outcome)
                standing = standing & ~torch.isin(indices, outcome["indices"].to(indices.device))
            bar.end_batch(len(images), int(standing.sum()))
    accelerator.wait_for_everyone()
    return _collect(repr(attack), list(stages), journal, time.perf_counter() - start)


def _classify(classifier: PixelClassifier, search: nn.Module, images: Images, labels: Labels) -> Mask:
    """Classifies the images as they are: the one place where images and logits are checked."""
    if images.min() < 0 or images.max() > 1:
        raise ValueError(
            f"images must be in [0, 1], got values from {images.min():.3g} to {images.max():.3g}; leave mean and std "
            "to the classifier"
        )
    with torch.enable_grad():
        # Asked of the copy without trainable weights: with them, logits have a gradient in any case.
        if not search(images[:1].detach().requires_grad_()).requires_grad:
            raise ValueError("the classifier cuts off the gradient to its images; attacks need it, so let it through")
    with torch.no_grad():
        logits = classifier(images)
    if not logits.isfinite().all():
        raise ValueError("the classifier gives NaN or infinite logits for images as they are; check its weights")
    if (logits >= 0).all() and (logits.sum(1) - 1).abs().max() < 1e-4:
        raise ValueError("the classifier gives probabilities, which hide its gradients; take its softmax away")
    return logits.argmax(1) == labels


@dataclass
class _Attacker:
    """Attacks images in portions that fit into memory."""

    classifier: PixelClassifier
    search: nn.Module
    threat: Threat
    seed: int
    portion: int = 2**30

    def fool(self, number: int, attack: Stage, indices: Tensor, images: Images, labels: Labels) -> Perturbations:
        """Runs a stage on a batch, and gives the evidence of the images it fooled."""
        parts, position = [Perturbations.of(indices[:0], images[:0], images[:0], self.threat)], 0
        while position < len(images):
            portion = min(self.portion, len(images) - position)
            rows = slice(position, position + portion)
            try:
                # A portion's random starts depend on where it begins, so that a resumed run draws them again.
                with seeded(self.seed, number, int(indices[position]), device=images.device):
                    parts.append(self._fool(attack, indices[rows], images[rows], labels[rows]))
                position += portion
            except RuntimeError as error:
                if portion == 1 or not should_reduce_batch_size(error):
                    raise
                self.portion = portion // 2
                clear_device_cache(garbage_collection=True)
        return merge(parts)

    def _fool(self, attack: Stage, indices: Tensor, images: Images, labels: Labels) -> Perturbations:
        evidence = Perturbations.of(indices, images, attack(self.search, images, labels), self.threat)
        predicted, fooled = evidence.fooling(self.classifier, images, labels, self.threat)
        return replace(evidence, predicted=predicted).rows(fooled)


def _passes(networks: list[PixelClassifier]) -> tuple[int, int]:
    passes = [network.passes for network in networks]
    return sum(count.forward for count in passes), sum(count.backward for count in passes)


def _collect(
    attack: str, stages: list[str], journal: Journal, seconds: float
) -> tuple[Evaluation, dict[str, Cost], Perturbations]:
    clean = journal.collect("clean")
    order = clean["indices"].argsort()
    standing = clean["clean"][order]
    survivors, costs, evidence = {}, {}, []
    for stage in stages:
        outcome = journal.collect(stage)
        attacked, forward, backward, time_taken = outcome.pop("cost").sum(0).tolist()
        costs[stage] = Cost(int(attacked), int(forward), int(backward), time_taken)
        evidence.append(Perturbations(**outcome))
        standing = standing & ~torch.isin(clean["indices"][order], outcome["indices"])
        survivors[stage] = standing.numpy()
    evaluation = Evaluation(attack, clean["labels"][order].numpy(), clean["clean"][order].numpy(), survivors, seconds)
    return evaluation, costs, merge(evidence)
