"""MixACM: the student's channels are active where the robust teacher's are, stage by stage, on mixed images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import log2
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robust_hub.attacks import eval_mode
from robust_hub.errors import close_names, first_line
from robust_hub.losses import cross_entropy, distillation
from robust_hub.methods.base import Losses, Objective, Options, check_at_least, check_has_effect, check_same_task
from robust_hub.methods.mixing import mix_images
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Images, Labels, PerExample

ALL = ("all",)


@dataclass(frozen=True)
class MixACMOptions(Options):
    """What MixACM compares.

    Attributes:
        stages: the student's stages that are matched, by their names in timm's feature_info; "all" takes as many as
            both networks have, those that reduce images most alike.
        teacher_stages: the teacher's, in the same order.
        side: maps are averaged to so many places a side before they are compared, never more than either has; with 1
            only what each channel is on average counts.
        weight: of the distances between activated channel maps, summed over stages.
        divergence_weight: of the divergence from the teacher's predictions.
        cross_entropy_weight: of the mixup cross-entropy.
        temperature: divides the logits of both before the softmax.
        concentration: of the Beta distribution that the share of the first image is drawn from.
    """

    method: ClassVar[str] = "MixACM"
    stages: tuple[str, ...] = ALL
    teacher_stages: tuple[str, ...] = ALL
    side: int = 1
    weight: float = 10.0
    divergence_weight: float = 1.0
    cross_entropy_weight: float = 0.1
    temperature: float = 1.0
    concentration: float = 1.0


class MixACM(Objective):
    """Distances between activated channel maps, a divergence and a mixup cross-entropy, all on mixed images.

    Args:
        student: the classifier to train.
        teacher: the robust classifier, which sees the same mixed images.
        options: what is compared.

    Raises:
        ValueError: when the tasks differ, a network gives no stage maps, stages do not match or an option is out of its
            range.

    Source: Awais et al., NeurIPS 2021, arXiv 2111.05073, figure 1.
    Deviations: the paper's weights, and what it measures between channel maps, could not be read. Here a map is the
        mean of each channel over all places, or over as many squares as asked for; both are divided by their L2 norms,
        and the squared distance is summed. An adaptor is one Linear without bias, trained with the student and not
        published, and there is none where widths agree. All defaults are ours.
    """

    # It mixes images itself.
    takes_soft_labels = False

    def __init__(self, student: PixelClassifier, teacher: Teacher, options: MixACMOptions = MixACMOptions()):
        super().__init__()
        check_same_task(student, teacher)
        weights = {"weight": options.weight, "divergence_weight": options.divergence_weight}
        check_at_least(0, "MixACM", **weights, cross_entropy_weight=options.cross_entropy_weight)
        check_at_least(1, "MixACM", side=options.side)
        check_at_least(0.01, "MixACM", temperature=options.temperature, concentration=options.concentration)
        if not options.divergence_weight:
            check_has_effect(options, "temperature", needs="a --divergence-weight above 0")
        for name in ("stages", "teacher_stages", "side") if not options.weight else ():
            check_has_effect(options, name, needs="a --weight above 0")
        self.student, self.teacher, self.options = student, teacher, options
        own = _chosen("student", _stages("student", student), options.stages)
        taught = _chosen("teacher", _stages("teacher", teacher.classifier), options.teacher_stages)
        named = options.stages if len(own) > len(taught) else options.teacher_stages
        if len(own) != len(taught) and named != ALL:
            raise ValueError(
                f"stages of student and teacher must be as many, got {len(own)} and {len(taught)}; name each"
            )
        self.pairs = match_stages(own, taught)
        self.adaptors = nn.ModuleList(
            nn.Identity() if one.width == other.width else nn.Linear(one.width, other.width, bias=False)
            for one, other in self.pairs
        )

    def forward(self, images: Images, labels: Labels) -> Losses:
        """Computes the loss of a batch."""
        classes, concentration = self.student.num_classes, self.options.concentration
        mixed, soft_labels = mix_images(images, labels, num_classes=classes, mixup=concentration)
        with torch.no_grad():
            target, target_maps = self.teacher.forward_intermediates(mixed)
        logits, maps = self.student.forward_intermediates(mixed)
        distances = (
            map_distance(adaptor, maps[own.number], target_maps[taught.number], self.options.side).mean()
            for adaptor, (own, taught) in zip(self.adaptors, self.pairs, strict=True)
        )
        map_term = sum(distances, start=images.new_zeros(()))
        divergence = distillation(logits, target, self.options.temperature).mean()
        label_term = cross_entropy(logits, soft_labels).mean()
        terms = {"map_distance": map_term, "divergence": divergence, "cross_entropy": label_term}
        weighted = self.options.weight * map_term + self.options.divergence_weight * divergence
        total = weighted + self.options.cross_entropy_weight * label_term
        return Losses(total, {name: term.detach() for name, term in terms.items()})


class Stage(NamedTuple):
    """A stage of a network: its number and name, the channels of its map, and how many pixels a place stands for."""

    number: int
    name: str
    width: int
    reduction: float


def map_distance(adaptor: nn.Module, maps: Tensor, reference: Tensor, side: int = 1) -> PerExample:
    """Computes the squared L2 distance between two maps that are divided by their norms, in [0, 4].

    Args:
        adaptor: brings the channels of the first to those of the second, place by place.
        maps: n c h w.
        reference: n d h' w'.
        side: how many places a side they are averaged to.
    """
    side = min(side, *maps.shape[2:], *reference.shape[2:])
    wanted = _places(reference, side)
    own = adaptor(_places(maps, side)).to(wanted.dtype)
    own, wanted = (F.normalize(places.flatten(1), dim=1, eps=1e-8) for places in (own, wanted))
    return (own - wanted).square().sum(1)


def _places(maps: Tensor, side: int) -> Tensor:
    """Averages maps to so many places a side, channels last: n side^2 c."""
    precision = torch.promote_types(maps.dtype, torch.float32)
    if side > 1:
        maps = F.adaptive_avg_pool2d(maps.to(precision), side)
        return maps.permute(0, 2, 3, 1).flatten(1, 2)
    # Channels last, as training keeps them: the gradient of mean((2, 3)) is not, which costs a fifth of a step.
    return maps.permute(0, 2, 3, 1).flatten(1, 2).mean(1, keepdim=True, dtype=precision)


def match_stages(own: Sequence[Stage], taught: Sequence[Stage]) -> list[tuple[Stage, Stage]]:
    """Finds which stage of the student goes with which of the teacher, in their order and each at most once.

    All of the network that has fewer are matched, with those of the other that reduce images most alike and, where
    several do, are spread most evenly.
    """
    if len(own) > len(taught):
        return [(one, other) for other, one in match_stages(taught, own)]

    @cache
    def best(place: int, after: int) -> tuple[int, float, tuple[int, ...]]:
        """The least mismatch of the stages from one on with those of the longer one from another on."""
        if place == len(own):
            return 0, 0.0, ()
        even = len(taught) * (place + 1) / len(own) - 1
        found = []
        for number in range(after, len(taught) - (len(own) - place) + 1):
            mismatch, unevenness, numbers = best(place + 1, number + 1)
            # In whole hundredths of an octave, so that equal ones are equal.
            octaves = round(100 * abs(log2(own[place].reduction / taught[number].reduction)))
            found.append((mismatch + octaves, unevenness + (number - even) ** 2, (number, *numbers)))
        return min(found)

    return list(zip(own, (taught[number] for number in best(0, 0)[2]), strict=True))


def _chosen(network: str, stages: Sequence[Stage], wanted: Sequence[str]) -> list[Stage]:
    """Finds stages by their names, or takes all."""
    if tuple(wanted) == ALL:
        return list(stages)
    named = {stage.name: stage for stage in stages}
    for name in wanted:
        if name not in named:
            near = close_names(name, list(named)) or f"; it has {', '.join(named)}"
            raise ValueError(f"the {network} has no stage '{name}'{near}")
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"stages of the {network} must be named once each, got {', '.join(wanted) or 'none'}")
    return [named[name] for name in wanted]


def _stages(network: str, classifier: PixelClassifier) -> list[Stage]:
    """Finds the stages of a network and what their maps are by looking at one pair of grey images."""
    if not classifier.stages:
        raise ValueError(f"the {network} tells no stages; choose an architecture with timm's feature_info")
    passes = replace(classifier.passes)
    images = torch.full((2, *classifier.input_size), 0.5, device=classifier.mean.device)
    try:
        with torch.no_grad(), eval_mode(classifier):
            _, maps = classifier.forward_intermediates(images)
        shapes = [(one.shape[1], images.shape[2] / one.shape[2]) for one in maps]
    except Exception as error:  # whatever a foreign architecture raises, the user needs the one sentence
        raise ValueError(
            f"{classifier.architecture} gives no stage maps ({first_line(error)}); choose another one or method"
        ) from error
    finally:
        classifier.passes = passes
    return [
        Stage(number, name, *shape) for number, (name, shape) in enumerate(zip(classifier.stages, shapes, strict=True))
    ]
