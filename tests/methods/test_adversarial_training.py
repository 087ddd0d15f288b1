from dataclasses import dataclass, field

import pytest
import torch

from robust_hub.attacks import PGD, Attack
from robust_hub.methods import AdversarialTraining, PGDOptions
from robust_hub.threats import L2, Linf


@dataclass(frozen=True)
class Given(PGDOptions):
    """An attack that does not depend on the threat."""

    given: Attack = field(kw_only=True)

    def attack(self, threat):
        return self.given


LABELS = torch.tensor([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize(("threat", "dual"), [(Linf(0.1), 1), (L2(0.25), 2)], ids=str)
def test_adversarial_training_is_the_worst_loss_on_a_linear_classifier(create_linear, images, threat, dual):
    student = create_linear(num_classes=2)
    weight = student.model.head.weight.detach().double().view(2, 3, 8, 8)
    gradient = (weight[1] - weight[0]) / torch.tensor(student.model.pretrained_cfg["std"]).view(3, 1, 1)
    clean = student(images).detach().double()
    # The margin z_other - z_true grows by at most eps times the dual norm of its gradient; no pixel meets a border.
    worst = clean.gather(1, 1 - LABELS[:, None]) - clean.gather(1, LABELS[:, None])
    worst = worst + threat.eps * gradient.flatten().norm(p=dual)
    objective = AdversarialTraining(student, threat, Given(given=PGD(threat, steps=10, step_size=10 * threat.eps)))
    losses = objective(images, LABELS)
    # float32 logits of order 1, sums of 192 products.
    assert losses.total.item() == pytest.approx(torch.log1p(worst.exp()).mean().item(), abs=1e-5)
    assert losses.terms == {"adversarial_cross_entropy": losses.total}


def test_the_attack_is_run_against_the_student_of_the_moment(create_linear, images):
    student, seen = create_linear(num_classes=2), []

    def attack(classifier, images, labels):
        seen.append(classifier)
        return 1 - images

    losses = AdversarialTraining(student, Linf(0.1), Given(given=attack))(images, LABELS)
    assert seen == [student]
    expected = torch.nn.functional.cross_entropy(student(1 - images), LABELS)
    assert losses.total.item() == pytest.approx(expected.item(), abs=1e-6)
