"""AutoAttack: four attacks of different kinds, each on what the ones before have left standing."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robust_hub.attacks.apgd import APGD, TargetedAPGD
from robust_hub.attacks.base import Found, Stage, eval_mode, in_turn, misclassified
from robust_hub.attacks.fab import TargetedFAB
from robust_hub.attacks.protocol import VERSIONS, WITHOUT_GRADIENTS, Version, protocol_of
from robust_hub.attacks.square import Square
from robust_hub.losses import targeted_difference_of_logits_ratio, targeted_margin
from robust_hub.threats import L2, Linf
from robust_hub.types import Images, Labels

MOST_TARGETS = 9
CLASSES_FOR_A_RATIO = 4


@dataclass(frozen=True)
class AutoAttack:
    """Runs APGD on the cross-entropy, targeted APGD, targeted FAB and Square, with the parameters of its authors.

    Args:
        threat: the ball, of linf or l2.
        version: standard is all four; quick is the first two, and its result must not be called AutoAttack's.

    Source: Croce and Hein, ICML 2020, arXiv 2003.01690, section 6, with one restart each and targeted APGD and FAB, as
        in the authors' standard version.
    Deviations: with fewer than 10 classes all others are targets, and below 4 the loss of targeted APGD is the
        targeted margin, as the ratio needs four logits; both are seen in the stages. See also those of each attack.
    """

    threat: Linf | L2
    version: Version = "standard"

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version must be {' or '.join(VERSIONS)}, got '{self.version}'")

    @property
    def protocol(self) -> str:
        """What its result may be called."""
        return protocol_of(VERSIONS[self.version])

    @property
    def last_with_gradients(self) -> str:
        """The name of the last attack that uses gradients; Square, where it runs, has none."""
        return next(name for name in reversed(VERSIONS[self.version]) if name not in WITHOUT_GRADIENTS)

    def __repr__(self) -> str:
        """Writes the protocol and the threat."""
        return f"{self.protocol}, {'standard, ' if self.version == 'standard' else ''}{self.threat}"

    def stages(self, num_classes: int) -> dict[str, Stage]:
        """Gives the attacks in their order, by their names.

        Raises:
            ValueError: when there is no other class to mistake an image for.
        """
        if num_classes < 2:
            raise ValueError(f"an attack needs at least 2 classes, the classifier has {num_classes}")
        targets = min(MOST_TARGETS, num_classes - 1)
        loss = targeted_difference_of_logits_ratio if num_classes >= CLASSES_FOR_A_RATIO else targeted_margin
        attacks: dict[str, Stage] = {
            "apgd-ce": APGD(self.threat),
            "apgd-t": TargetedAPGD(self.threat, targets=targets, loss=loss),
            "fab-t": TargetedFAB(self.threat, targets=targets),
            "square": Square(self.threat),
        }
        return {name: attacks[name] for name in VERSIONS[self.version]}

    def __call__(self, classifier: nn.Module, images: Images, labels: Labels) -> Images:
        """Returns adversarial images; where none was found, what the last stage came to."""
        if not len(images):
            return images.clone()
        with eval_mode(classifier), torch.no_grad():
            stages = self.stages(classifier(images[:1]).shape[1])

            def run(attack: Stage) -> Callable[[Tensor], Found]:
                def on(standing: Tensor) -> Found:
                    adversarial = attack(classifier, images[standing], labels[standing])
                    logits = classifier(adversarial)
                    return Found(adversarial, misclassified(classifier, adversarial, labels[standing], logits))

                return on

            return in_turn(map(run, stages.values()), images)
