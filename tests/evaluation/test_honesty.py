"""Honesty checks on small networks trained here on scikit-learn's digits: honest ones, and ones made to look robust."""

from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from robust_hub.attacks import PGD, AutoAttack
from robust_hub.evaluation import Journal, Portion, check_honesty, honesty, portions, right
from robust_hub.evaluation.honesty import CHECKS
from robust_hub.models import PixelClassifier
from robust_hub.threats import L2, Linf
from tests.conftest import MEAN, STD, HeadedModel

# An undefended network has next to nothing left here, and one trained on adversarial images nearly half.
THREAT = Linf(0.2)
# What has nothing left is checked fast.
LARGE = Linf(0.4)
N = 80
# Digits have white corners: these pixels are 0 in every image, and the network need not see them.
ALWAYS_ZERO = [0, 32, 39]
RARELY_INKED = [0, 24]
LEVEL = 1 / 16


class Front(nn.Module):
    """Does something to normalised pixels, n by 64, before the network sees them."""

    def __init__(self, change: Callable):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


class Wrapped(nn.Module):
    """Changes how a model is called, and keeps the interface of timm."""

    def __init__(self, model: nn.Module, call: Callable):
        super().__init__()
        self.model, self.call = model, call
        self.pretrained_cfg, self.num_classes = model.pretrained_cfg, model.num_classes

    def get_classifier(self):
        return self.model.get_classifier()

    def forward(self, x):
        return self.call(self.model, x)


def behind(change: Callable) -> Callable:
    """Puts something in front of the network."""

    def plant(classifier):
        planted = deepcopy(classifier)
        planted.model.body = nn.Sequential(Front(change), planted.model.body)
        return planted

    return plant


def called(call: Callable) -> Callable:
    """Calls the network another way."""

    def plant(classifier):
        planted = deepcopy(classifier)
        planted.model = Wrapped(planted.model, call)
        return planted

    return plant


def times(scale: float) -> Callable:
    return called(lambda model, x: scale * model(x))


def pixels(x):
    return x * STD[0] + MEAN[0]


def normalised(x):
    return (x - MEAN[0]) / STD[0]


def resize_at_random(x):
    side, room = 6, 3
    small = F.interpolate(x.view(-1, 1, 8, 8), size=(side, side), mode="bilinear")
    top, left = torch.randint(0, room, (2,)).tolist()
    return F.pad(small, (left, 8 - side - left, top, 8 - side - top), value=normalised(0)).flatten(1)


def wiggle(swings: int) -> Callable:
    """Does nothing at the levels that clean pixels have; between them swings too fast for long steps of PGD."""
    return behind(lambda x: normalised(pixels(x) + 0.2 * torch.sin(2 * torch.pi * pixels(x) * swings / LEVEL)))


def saturated_by(watched: list[int], threshold: float) -> Callable:
    """Makes the softmax saturate once a watched pixel, which the network does not see, is above a threshold."""

    def call(model, x):
        x = x.flatten(1)
        brightest = pixels(x[:, watched]).amax(1, keepdim=True).detach()
        blind = x.index_fill(1, torch.tensor(watched), normalised(0))
        return model(blind) * torch.where(brightest > threshold, 1e4, 1.0)

    return called(call)


def half_precision(classifier):
    planted = called(lambda model, x: model(x.bfloat16()))(classifier)
    planted.model.model.bfloat16()
    return planted


def autocast(model, x):
    with torch.autocast("cpu", torch.bfloat16):
        return model(x)


# What is planted in a plainly trained network, and the checks that must see it.
PLANTED = {
    "saturated softmax": (times(1000), {"logit scale", "margin loss", "zero gradient", "mid-grey"}),
    "quantised input": (
        behind(lambda x: (0.6 * x).round() / 0.6),
        {"zero gradient", "square", "transfer from a plain network", "mid-grey"},
    ),
    "quantised logits": (called(lambda model, x: (2 * model(x)).round() / 2), {"zero gradient", "square", "precision"}),
    "random resizing": (behind(resize_at_random), {"two passes"}),
    "dropout left on": (behind(lambda x: F.dropout(x, 0.3, training=True)), {"two passes", "eps zero"}),
    "input noise": (behind(lambda x: x + 0.7 * torch.randn_like(x)), {"two passes", "eps zero"}),
    "statistics of the batch": (behind(lambda x: x - (x - x.mean(0)).mean(0) + 0.5 * x.amax(0)), {"two passes"}),
    "bfloat16 weights": (half_precision, {"precision"}),
    "autocast": (called(autocast), {"precision"}),
    "gradient of other pixels": (
        behind(lambda x: x.detach() + x.flip(1) - x.flip(1).detach()),
        {"transfer from a plain network", "square"},
    ),
    "gradient reversed": (
        behind(lambda x: 2 * x.detach() - x),
        {"robust above clean", "transfer from a plain network", "mid-grey"},
    ),
    "gradient nan": (behind(lambda x: x + 0 * (0 * x).sqrt()), {"zero gradient", "square"}),
    "masked where perturbed much": (saturated_by(ALWAYS_ZERO, 0.75 * THREAT.eps), {"rise with eps", "mid-grey"}),
    "masked from most starts": (saturated_by(RARELY_INKED, 0.0), {"restarts"}),
    "gradient shattered once a level": (wiggle(1), {"more than 10 steps"}),
    "gradient shattered four times a level": (wiggle(4), {"more than 50 steps"}),
}
# What must see a reversed gradient when no evaluation says which images fell to the momentum of Auto-PGD.
WITHOUT_EVALUATION = {"noise", "square"}
# Undefended networks that attacks see through.
UNDEFENDED = {
    "as it is": lambda classifier: classifier,
    "straight-through rounding": behind(lambda x: x + ((0.6 * x).round() / 0.6 - x).detach()),
    "tiny gradient": behind(lambda x: x.detach() + 1e-30 * (x - x.detach())),
    "large logits": times(3),
}


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    return torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16, torch.tensor(bunch.target)


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][1500 : 1500 + N]


@pytest.fixture(scope="module")
def labels(digits):
    return digits[1][1500 : 1500 + N]


def trained(digits, width: int, steps: int, seed: int, eps: float = 0.0) -> PixelClassifier:
    torch.manual_seed(seed)
    images, labels = (rows[:1500] for rows in digits)
    body = nn.Sequential(nn.Linear(64, width), nn.ReLU())
    classifier = PixelClassifier(HeadedModel(body, nn.Linear(width, 10), (1, 8, 8)), {})
    optimizer = torch.optim.Adam(classifier.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(1500, (128,))
        shown = images[batch]
        if eps:
            shown = PGD.standard(Linf(eps), steps=5)(classifier, shown, labels[batch])
        optimizer.zero_grad()
        F.cross_entropy(classifier(shown), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


@contextmanager
def shapes_unchecked():
    """Leaves the checks of shapes, half the time of an attack on networks as small as these, to the other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


@pytest.fixture(scope="module")
def plain(digits):
    return trained(digits, 64, 300, seed=0)


@pytest.fixture(scope="module")
def robust(digits):
    with shapes_unchecked():
        return trained(digits, 64, 250, seed=1, eps=THREAT.eps)


@pytest.fixture(scope="module")
def surrogates(digits):
    return {"a plain network": trained(digits, 64, 300, seed=2)}


@pytest.fixture(scope="module")
def check(images, labels, surrogates, tmp_path_factory):
    """Checks a classifier, with a shorter Square; without an evaluation, all images count as standing."""

    def run(classifier, survivors=None, threat=THREAT, seed=0, sizes=(N,), chosen=None, journal=None):
        standing = torch.ones(N, dtype=torch.bool) if survivors is None else survivors
        firsts = [sum(sizes[:place]) for place in range(len(sizes))]
        rows = [slice(first, first + size) for first, size in zip(firsts, sizes, strict=True)]
        rows = rows if chosen is None else [rows[number] for number in chosen]
        return check_honesty(
            classifier,
            [Portion(each.start, images[each], labels[each]) for each in rows],
            threat,
            [standing[each] for each in rows],
            surrogates=surrogates,
            seed=seed,
            journal=journal or Journal(tmp_path_factory.mktemp("journal")),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(honesty, "QUERIES", 200)
        yield run


@pytest.fixture(scope="module")
def measure(check, images, labels):
    """Evaluates a classifier by AutoAttack, shortened: robust accuracy, and the checks that are flagged."""

    def withstood(attack, classifier, standing):
        after = standing.clone()
        if standing.any():
            adversarial = attack(classifier, images[standing], labels[standing])
            after[standing] = right(classifier, adversarial, labels[standing])
        return after

    @shapes_unchecked()
    def run(classifier) -> tuple[float, set[str]]:
        torch.manual_seed(0)
        stages = AutoAttack(THREAT).stages(10)
        survivors = right(classifier, images, labels)
        for stage, budget in (("apgd-ce", {"steps": 30}), ("apgd-t", {"steps": 15, "targets": 3})):
            survivors = withstood(replace(stages[stage], **budget), classifier, survivors)
        robust = withstood(replace(stages["square"], queries=200), classifier, survivors)
        return robust.float().mean().item(), flagged(check(classifier, survivors))

    return run


@pytest.fixture(scope="module")
def measured(measure, plain):
    """Evaluates a plant by its name, once."""
    return cache(lambda name: measure((PLANTED[name][0] if name in PLANTED else UNDEFENDED[name])(plain)))


def flagged(checks) -> set[str]:
    return {check.name for check in checks if check.flagged}


@pytest.mark.parametrize("name", PLANTED)
def test_what_only_looks_robust_is_flagged(measured, name):
    _, flags = measured(name)
    assert PLANTED[name][1] <= flags


@pytest.mark.parametrize("name", UNDEFENDED)
def test_undefended_networks_that_fall_to_attacks_are_not_flagged(measured, name):
    robust_accuracy, flags = measured(name)
    assert robust_accuracy < 0.05
    assert flags == set()


@pytest.mark.parametrize("name", [*PLANTED, *UNDEFENDED])
def test_no_undefended_network_is_reported_robust(measured, name):
    robust_accuracy, flags = measured(name)
    assert robust_accuracy < 0.05 or flags


def test_what_knows_less_than_a_reversed_gradient_does_more(check, plain):
    assert flagged(check(PLANTED["gradient reversed"][0](plain))) >= WITHOUT_EVALUATION


def test_every_check_has_a_planted_case():
    planted = {name.split(" from ")[0] for _, expected in PLANTED.values() for name in expected}
    assert planted | WITHOUT_EVALUATION == {*CHECKS, "precision"}


def test_a_network_trained_on_adversarial_images_is_not_flagged(measure, robust):
    robust_accuracy, flags = measure(robust)
    assert robust_accuracy > 0.3
    assert flags == set()


def test_in_l2_a_plain_network_is_not_flagged(check, plain):
    assert flagged(check(plain, threat=L2(2.0))) == set()


# In l2 a gradient of nan makes adversarial images of nan, which are misclassified but fool nobody.
@pytest.mark.parametrize("name", ["quantised input", "gradient nan"])
def test_in_l2_masking_is_flagged(check, plain, name):
    flags = flagged(check(PLANTED[name][0](plain), threat=L2(1.5)))
    assert {"zero gradient", "square", "transfer from a plain network"} <= flags


def test_an_attack_that_knows_less_gets_no_credit_for_what_the_evaluation_fooled(check, plain):
    checks = check(PLANTED["gradient reversed"][0](plain), survivors=torch.zeros(N, dtype=torch.bool))
    values = {check.name: check.value for check in checks}
    assert (values["square"], values["noise"], values["transfer from a plain network"]) == (0, 0, 0)


def test_checks_repeat_with_the_seed_and_leave_the_generator_alone(check, plain):
    noisy = PLANTED["input noise"][0](plain)
    before = torch.get_rng_state()
    first = check(noisy, threat=LARGE, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert check(noisy, threat=LARGE, seed=1) == first
    assert check(noisy, threat=LARGE, seed=2) != first


def test_modes_and_parameters_are_as_they_were(check, plain):
    classifier = deepcopy(plain).train()
    classifier.model.body.eval()
    modes = [module.training for module in classifier.modules()]
    fingerprint = classifier.fingerprint()
    check(classifier, threat=LARGE)
    assert [module.training for module in classifier.modules()] == modes
    assert classifier.fingerprint() == fingerprint
    assert all(parameter.grad is None and parameter.requires_grad for parameter in classifier.parameters())


def test_a_few_images_may_be_chance(check, plain):
    thresholds = {check.name: check.threshold for check in check(plain, threat=LARGE, sizes=(10,))}
    assert thresholds["square"] == 2 / 10
    assert thresholds["eps zero"] == 0


def test_portions_are_judged_together_whichever_process_has_them(check, plain, monkeypatch):
    sent, sizes = [], (30, 10)
    alone = check(plain, threat=LARGE, sizes=sizes)
    monkeypatch.setattr(portions, "gather_object", lambda found: sent.extend(found) or found)
    for number in (1, 0):
        check(plain, threat=LARGE, sizes=sizes, chosen=[number])
    monkeypatch.setattr(portions, "gather_object", lambda found: [*sent, *found])
    monkeypatch.setattr(PixelClassifier, "forward", lambda *_: pytest.fail("was asked about no image"))
    assert check(plain, threat=LARGE, sizes=sizes, chosen=[]) == alone
    assert {check.name: check.threshold for check in alone}["square"] == 2 / 40


def test_a_portion_that_was_looked_at_before_a_run_was_killed_is_not_looked_at_again(
    check, plain, tmp_path, monkeypatch
):
    before = check(plain, threat=LARGE, sizes=(10,), journal=Journal(tmp_path))
    monkeypatch.setattr(PixelClassifier, "forward", lambda *_: pytest.fail("was asked again"))
    assert check(plain, threat=LARGE, sizes=(10,), journal=Journal(tmp_path)) == before


def test_the_bar_counts_every_attack(check, plain, monkeypatch):
    bars, progress = [], honesty.progress
    monkeypatch.setattr(honesty, "progress", lambda **options: bars.append(progress(**options)) or bars[-1])
    check(plain, threat=LARGE, sizes=(6, 4))
    assert bars[0].n == bars[0].total > 0


def test_no_image_on_any_process_is_an_error(check, plain):
    with pytest.raises(ValueError, match="got none on any process"):
        check(plain, chosen=[])


def test_a_portion_is_compared_again_where_the_surrogates_are_others_than_in_the_journal(plain, check, tmp_path):
    check(plain, threat=LARGE, sizes=(10,), journal=Journal(tmp_path))
    found = Journal(tmp_path).read(0, "honesty")
    found["transfer from nobody"] = found.pop("transfer from a plain network")
    Journal(tmp_path).write(0, "honesty", found)
    assert "transfer from a plain network" in [
        each.name for each in check(plain, threat=LARGE, sizes=(10,), journal=Journal(tmp_path))
    ]
