"""An attack in training may begin late, and may grow to its full strength over a part of a run."""

import pytest
import torch

from robust_hub.methods import (
    ARD,
    RSLAD,
    TRADES,
    AdversarialTraining,
    ARDOptions,
    NFGSMOptions,
    PGDOptions,
    RSLADOptions,
    TRADESOptions,
)
from robust_hub.models import Teacher
from robust_hub.threats import L2, Linf

METHODS = {
    "pgd": lambda student, _, threat, **shares: AdversarialTraining(student, threat, PGDOptions(steps=2, **shares)),
    "n-fgsm": lambda student, _, threat, **shares: AdversarialTraining(student, threat, NFGSMOptions(**shares)),
    "trades": lambda student, _, threat, **shares: TRADES(student, threat, TRADESOptions(steps=2, **shares)),
    "rslad": lambda student, teacher, threat, **shares: RSLAD(student, teacher, threat, RSLADOptions(**shares)),
    "ard": lambda student, teacher, threat, **shares: ARD(student, teacher, threat, ARDOptions(steps=2, **shares)),
}
# How far from an image each of them may go, in radii.
FARTHEST = {"pgd": 1, "n-fgsm": 3, "trades": 1, "rslad": 3, "ard": 1}


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_images_are_moved_by_the_share_of_eps_that_the_run_has_come_to(create_smooth, labels, name, threat):
    student, images = create_smooth(), torch.full((6, 3, 8, 8), 0.5)
    objective = METHODS[name](student, Teacher(create_smooth()), threat, eps_warmup=0.5)
    seen = []
    student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    objective.steps = 20
    reached = []
    for step in (0, 5, 10, 19):
        seen.clear()
        objective.step = step
        objective(images, labels)
        moved = threat.norm(seen[-1][-6:] - images).max().item()
        reached.append(moved / (FARTHEST[name] * threat.eps))
    assert 0 < reached[0] <= 0.1 + 1e-4
    assert 0.2 < reached[1] <= 0.6 + 1e-4
    assert 0.5 < reached[2] <= 1 + 1e-4
    assert 0.5 < reached[3] <= 1 + 1e-4


def test_a_loop_that_counts_no_steps_has_the_whole_eps(create_smooth, labels):
    student, images, threat = create_smooth(), torch.full((6, 3, 8, 8), 0.5), Linf(0.1)
    objective = RSLAD(student, Teacher(create_smooth()), threat, RSLADOptions(eps_warmup=0.3, noise=0.0))
    seen = []
    student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    objective(images, labels)
    assert threat.norm(seen[-1] - images).max().item() == pytest.approx(0.1)


@pytest.mark.parametrize("name", METHODS)
def test_before_the_attack_begins_images_are_seen_once_as_they_are(create_smooth, labels, name):
    student, images = create_smooth(), torch.full((6, 3, 8, 8), 0.5)
    objective = METHODS[name](student, Teacher(create_smooth()), Linf(0.1), delay=0.5, eps_warmup=0.25)
    seen = []
    student.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    objective.steps = 8
    for step in (0, 3):
        seen.clear()
        objective.step = step
        objective(images, labels)
        assert [torch.equal(each, images) for each in seen] == [True]
    moved = []
    for step in (4, 5):
        seen.clear()
        objective.step = step
        objective(images, labels)
        assert len(seen) > 1
        moved.append((seen[-1][-6:] - images).abs().max().item() / (FARTHEST[name] * 0.1))
    # The attack grows over the two steps that follow: to half of eps, and to the whole.
    assert 0.2 < moved[0] <= 0.5 + 1e-4
    assert 0.5 < moved[1] <= 1 + 1e-4


@pytest.mark.parametrize("name", ["n-fgsm", "rslad"])
def test_the_guard_of_one_step_takes_no_passes_before_the_attack_begins(create_smooth, labels, name):
    student, images = create_smooth(), torch.full((6, 3, 8, 8), 0.5)
    objective = METHODS[name](student, Teacher(create_smooth()), Linf(0.1), delay=0.5, linearity_weight=1.0)
    objective.steps = 8
    before = student.passes.forward
    objective(images, labels)
    assert student.passes.forward == before + 6
    objective.step = 4
    assert "nonlinearity" in objective(images, labels).terms


@pytest.mark.parametrize("shares", [{"eps_warmup": 1.5}, {"delay": -0.1}, {"delay": 0.6, "eps_warmup": 0.5}], ids=str)
def test_shares_beyond_the_run_are_refused(shares):
    with pytest.raises(ValueError, match=r"NFGSM needs delay and eps_warmup to be shares of the run, together at most"):
        NFGSMOptions(**shares)
