"""One-step robust distillation: the teacher's predictions and features under an attack of one step."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from robust_hub.attacks import eval_mode, loss_and_gradient
from robust_hub.losses import cosine_distance, cross_entropy, distillation, kl_divergence
from robust_hub.methods.base import Losses, Objective, check_at_least, check_same_task
from robust_hub.methods.one_step import OneStepOptions, nonlinearity
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.threats import Threat
from robust_hub.types import Features, Images, Logits, Targets

Direction = Literal["divergence", "labels"]
Target = Literal["clean", "perturbed", "once"]


@dataclass(frozen=True)
class RSLADOptions(OneStepOptions):
    """Where the step goes, and what the student is told there.

    Attributes:
        eps_warmup: as for every attack; more accurate and more robust students came of it, by 1.3 and 1.2 points, and
            on some data none that had learnt anything came without it (benchmarks/LOG.md, docs/results.md).
        direction: of the step: up the divergence from the teacher's prediction, or up the cross-entropy of the labels.
        target: the teacher's answer about the image as it is, or about the perturbed one, or the mean of those about
            the image and its mirror image before it is cropped, for which the teacher is asked once, before training: a
            step then costs what one of N-FGSM does, however large the teacher.
        feature_weight: of the cosine distance between the teacher's features and those of the student under attack,
            behind a linear layer that learns with it and is not published; 5.4 points more accurate and 2.5 more robust
            students came of it on CIFAR-10, for no pass more (docs/results.md).
        clean_weight: of the divergence on images as they are, beside the one on perturbed images.
        temperature: divides the logits of both before the softmax of the loss.
    """

    method: ClassVar[str] = "RSLAD"
    eps_warmup: float = 0.3
    direction: Direction = "divergence"
    target: Target = "clean"
    feature_weight: float = 10.0
    clean_weight: float = 0.0
    temperature: float = 1.0


class RSLAD(Objective):
    """The divergence of the student's predictions from the teacher's, at images one step up it, and that of features.

    An image takes two passes of the student each way, and none to three forward passes of the teacher. The student
    learns from images moved along its own gradient alone, unless clean ones are weighed in.

    Args:
        student: the classifier to train.
        teacher: the robust classifier.
        threat: the ball; the length of the step is a multiple of its radius.
        options: where the step goes, and what the student is told there.

    Raises:
        ValueError: when the tasks differ or an option is out of its range.

    Source: Zi et al., ICCV 2021, arXiv 2108.07969: soft labels of a robust teacher both inside and outside of the
        attack; de Jorge et al., NeurIPS 2022, arXiv 2202.01181, Algorithm 1, for the one step from noise of 2 eps;
        Vaishnavi et al., USENIX Security 2022, arXiv 2202.09994, for the distance of features, theirs of clean images.
    Deviations: one step where Zi et al. take ten; features beside predictions; no clean term unless it is asked for,
        where theirs weighs a sixth; the target may be the answer about the perturbed image, or one for all crops of an
        image; the gradient is taken in eval mode.
    """

    attacks_in_one_step = True

    def __init__(
        self, student: PixelClassifier, teacher: Teacher, threat: Threat, options: RSLADOptions = RSLADOptions()
    ):
        super().__init__()
        check_same_task(student, teacher)
        for name, known in (("direction", get_args(Direction)), ("target", get_args(Target))):
            if getattr(options, name) not in known:
                raise ValueError(f"RSLAD needs {name} to be one of {', '.join(known)}, got {getattr(options, name)}")
        check_at_least(0, "RSLAD", clean_weight=options.clean_weight, feature_weight=options.feature_weight)
        check_at_least(0.1, "RSLAD", temperature=options.temperature)
        self.student, self.teacher, self.threat, self.options = student, teacher, threat, options
        taught = teacher.classifier.num_features if options.feature_weight else 0
        self.projection = nn.Linear(student.num_features, taught) if taught else None
        self.asked_once = (student.num_classes + taught if options.target == "once" else 0, 0)
        # The answers are those about whole images, not about parts of two.
        self.takes_soft_labels = options.target != "once"

    def forward(self, images: Images, labels: Targets, *answers: Tensor) -> Losses:
        """Computes the loss of a batch; with the teacher's answers where it was asked once."""
        options, threat = self.options, self.threat_now(self.threat, self.options)
        if options.target == "perturbed" and threat.eps:
            perturbed = self._step(images, labels, threat, self._predicted)
            answer = self.ask(perturbed)
        else:
            answer = answers[0] if options.target == "once" else self.ask(images)
            perturbed = self._step(images, labels, threat, lambda _: self._split(answer)[0]) if threat.eps else images
        target, taught_features = self._split(answer)
        shown = torch.cat([perturbed, images]) if options.clean_weight and threat.eps else perturbed
        logits, features = self._learnt(shown)
        logits, *clean_logits = logits.split(len(images))
        total = distillation(logits, target, options.temperature).mean()
        terms = {"divergence": total}
        if options.feature_weight:
            of_perturbed = features[: len(images)].to(taught_features.dtype)
            terms["feature_distance"] = cosine_distance(of_perturbed, taught_features).mean()
            total = total + options.feature_weight * terms["feature_distance"]
        for each in clean_logits:
            of_clean = self._predicted(images) if options.target == "perturbed" else target
            terms["clean"] = distillation(each, of_clean, options.temperature).mean()
            total = total + options.clean_weight * terms["clean"]
        if options.linearity_weight and threat.eps:
            terms["nonlinearity"] = nonlinearity(self.student, images, labels, threat)
            total = total + options.linearity_weight * terms["nonlinearity"]
        return Losses(total, {name: term.detach() for name, term in terms.items()})

    def ask(self, images: Images) -> Tensor:
        """Gives the teacher's logits, and behind them its features where they count."""
        if self.projection is None:
            return self._predicted(images)
        with torch.no_grad():
            return torch.cat(self.teacher.forward_with_features(images), dim=1)

    def _split(self, answer: Tensor) -> tuple[Logits, Features]:
        """Takes logits and features apart again; there may be no features."""
        logits, features = answer.tensor_split([self.student.num_classes], dim=1)
        return logits, features

    def _learnt(self, images: Images) -> tuple[Logits, Features]:
        """Gives the student's logits and, where they count, its features behind the projection."""
        if self.projection is None:
            logits = self.student(images)
            return logits, logits.new_empty(len(logits), 0)
        logits, features = self.student.forward_with_features(images)
        return logits, self.projection(features)

    def _step(self, images: Images, labels: Targets, threat: Threat, reference: Callable[[Images], Logits]) -> Images:
        """Takes one step from noisy images, which may leave the ball, as those of N-FGSM do.

        Args:
            images: around which the noise is drawn.
            labels: true classes.
            threat: the ball of this step.
            reference: gives the prediction for the noisy images from which the student's is led away; not asked where
                the labels decide.
        """
        noisy = (images + self.options.noise * threat.sample(images)).clamp(0, 1)
        if self.options.direction == "labels":
            loss = partial(cross_entropy, labels=labels)
        else:
            loss = partial(kl_divergence, reference=reference(noisy))
        with eval_mode(self.student):
            _, gradient = loss_and_gradient(lambda pixels: loss(self.student(pixels)), noisy)
        return (noisy + self.options.step_size * threat.eps * threat.steepest_ascent(gradient)).clamp(0, 1)

    def _predicted(self, images: Images) -> Logits:
        """Gives the teacher's logits."""
        with torch.no_grad():
            return self.teacher(images)
