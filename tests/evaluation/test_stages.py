"""Evaluation in stages: verdicts, evidence, memory, and a journal that survives being killed."""

import os
import signal
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from robust_hub.attacks import APGD, AutoAttack, SearchClassifier, Square, TargetedFAB
from robust_hub.data import WHOLE, Fingerprints
from robust_hub.evaluation import Evidence, Journal, Perturbations, confirm, evaluate_in_stages, search_classifier
from robust_hub.evaluation.evidence import as_many_as_fit
from robust_hub.models import PixelClassifier
from robust_hub.threats import L2, Linf


@dataclass(frozen=True, repr=False)
class Small(AutoAttack):
    """An ensemble of small budgets."""

    def stages(self, num_classes: int) -> dict:
        return {
            "apgd": APGD(self.threat, steps=10),
            "fab": TargetedFAB(self.threat, targets=1, steps=5),
            "square": Square(self.threat, queries=20),
        }


class Batches:
    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int):
        self.batches = list(zip(images.split(size), labels.split(size), strict=True))

    def set_epoch(self, epoch):
        pass

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture
def many():
    """Twenty images well inside [0, 1], so that small perturbations meet no border."""
    return 0.3 + 0.4 * torch.rand(20, 3, 8, 8)


def margins(classifier: PixelClassifier, images: torch.Tensor, labels: torch.Tensor, order: float) -> np.ndarray:
    """How far each image is from the boundary of a linear two-class classifier: |w . x + b| / ||w||_dual."""
    weight = classifier.model.head.weight.detach().double()
    std = torch.tensor(classifier.model.pretrained_cfg["std"], dtype=torch.float64).view(1, 3, 1, 1)
    with torch.no_grad():
        logits = classifier(images).double()
    rows = torch.arange(len(labels))
    difference = logits[rows, labels] - logits[rows, 1 - labels]
    slope = ((weight[0] - weight[1]).view(1, 3, 8, 8) / std).flatten().norm(order)
    return (difference / slope).numpy()


def run(accelerator, classifier, images, labels, folder, *, threat, size=6, search=None):
    search = search or search_classifier(classifier, "float32", images[:2])
    return evaluate_in_stages(
        accelerator,
        classifier,
        search,
        Batches(images, labels, size),
        WHOLE.batches(len(images), size),
        Small(threat),
        seed=0,
        journal=Journal(Path(folder)),
    )


@pytest.mark.parametrize(("threat", "dual"), [(Linf(0.01), 1), (L2(0.15), 2)], ids=str)
def test_images_fall_whose_distance_to_the_boundary_is_below_eps(
    accelerator, create_linear, many, tmp_path, threat, dual
):
    classifier = create_linear(num_classes=2, scale=0.05)
    labels = torch.arange(20) % 2
    distance = margins(classifier, many, labels, dual)
    # The threat's eps is chosen so that a part falls; nothing lies within a hundredth of it.
    assert (np.abs(distance / threat.eps - 1) > 0.01).all()
    evaluation, costs, evidence = run(accelerator, classifier, many, labels, tmp_path, threat=threat)
    assert np.array_equal(evaluation.clean, distance > 0)
    assert np.array_equal(evaluation.robust, distance > threat.eps)
    assert 0 < evaluation.robust.sum() < evaluation.clean.sum()
    assert len(evidence) == evaluation.clean.sum() - evaluation.robust.sum()
    assert costs["apgd"].attacked == evaluation.clean.sum()


@pytest.fixture
def attacked(accelerator, create_smooth, many, tmp_path):
    """A smooth classifier that calls most images rightly, evaluated at an eps at which some fall."""
    classifier = create_smooth()
    with torch.no_grad():
        labels = classifier(many).argmax(1)
    labels[3] = (labels[3] + 1) % 3
    threat = Linf(0.004)
    result = run(accelerator, classifier, many, labels, tmp_path / "journal", threat=threat)
    return classifier, many, labels, threat, result


def test_survivors_only_become_fewer(attacked):
    evaluation = attacked[-1][0]
    masks = [evaluation.clean, *evaluation.survivors.values()]
    assert list(evaluation.survivors) == ["apgd", "fab", "square"]
    assert all((after <= before).all() for before, after in pairwise(masks))
    assert not evaluation.clean[3]


def test_evidence_fools_the_classifier_inside_the_ball(attacked):
    classifier, images, labels, threat, (evaluation, _, evidence) = attacked
    assert 0 < len(evidence) < 19
    adversarial = evidence.adversarial(images[evidence.indices])
    with torch.no_grad():
        predicted = classifier(adversarial).argmax(1)
    assert torch.equal(predicted, evidence.predicted)
    assert (predicted != labels[evidence.indices]).all()
    assert (adversarial - images[evidence.indices]).abs().max() <= threat.eps * (1 + 1e-5)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    fallen = evaluation.clean & ~evaluation.robust
    assert evidence.indices.tolist() == np.flatnonzero(fallen).tolist()


def known_by(n: int) -> Fingerprints:
    return Fingerprints(np.arange(n, dtype=np.uint64) + np.uint64(2**63), np.arange(n, dtype=np.uint64))


def test_stored_evidence_is_confirmed_and_tampered_evidence_is_not(attacked, tmp_path):
    classifier, images, labels, threat, (evaluation, _, perturbations) = attacked
    Evidence.of(perturbations, known_by(19), most=1000).save(tmp_path / "evidence.safetensors")
    evidence = Evidence.load(tmp_path / "evidence.safetensors", 19)
    assert evidence.covered == 19
    assert np.array_equal(evidence.images.pixels, known_by(19).pixels)
    stored = evidence.perturbations
    clean, confirmed = confirm(classifier, stored, Batches(images, labels, 7), threat)
    assert np.array_equal(clean, evaluation.clean)
    assert confirmed.all()
    enlarged = replace(stored, scale=stored.scale * 1.01)
    assert not confirm(classifier, enlarged, Batches(images, labels, 7), threat)[1].any()
    other = replace(stored, predicted=(stored.predicted + 1) % 3)
    assert not confirm(classifier, other, Batches(images, labels, 7), threat)[1].any()
    harmless = replace(stored, perturbation=torch.zeros_like(stored.perturbation))
    assert not confirm(classifier, harmless, Batches(images, labels, 7), threat)[1].any()


def test_evidence_of_a_part_keeps_the_fooled_images_of_that_part_and_no_others(attacked, tmp_path):
    *_, (evaluation, _, perturbations) = attacked
    Evidence.of(perturbations, known_by(19), most=10).save(tmp_path / "evidence.safetensors")
    evidence = Evidence.load(tmp_path / "evidence.safetensors", 19)
    fallen = np.flatnonzero(evaluation.clean & ~evaluation.robust)
    assert evidence.covered == 10
    assert evidence.perturbations.indices.tolist() == [image for image in fallen.tolist() if image < 10]


def test_a_file_of_something_else_is_no_evidence(attacked, tmp_path):
    file = tmp_path / "evidence.safetensors"
    file.write_bytes(bytes(8) + b"hello")
    with pytest.raises(ValueError, match="holds no evidence"):
        Evidence.load(file, 19)
    Evidence.of(attacked[-1][2], known_by(19), most=19).save(file)
    with pytest.raises(ValueError, match="holds no evidence"):
        Evidence.load(file, 20)
    save_file(load_file(file), file, metadata={"format": "4"})
    with pytest.raises(ValueError, match="has format 4, of a newer robust_hub; update that"):
        Evidence.load(file, 19)


@pytest.mark.parametrize("threat", [Linf(1e-6), Linf(0.03), Linf(0.7), L2(0.02), L2(0.5)], ids=str)
def test_rounding_leaves_perturbations_in_their_ball_and_moves_no_pixel_by_more_than_half_a_step(threat):
    images = torch.rand(50, 3, 8, 8)
    adversarial = images + threat.project(torch.randn_like(images))
    delta, rounded = adversarial - images, Perturbations.of(torch.arange(50), images, adversarial, threat)
    kept = rounded.perturbation.double() * rounded.scale.double()[:, None, None, None] / 127
    assert rounded.perturbation.dtype == torch.int8
    assert (threat.norm(kept) <= threat.eps * (1 + 1e-6)).all()
    # Half a step, float32 of pixels, and what the longest ones are shortened by.
    step = delta.abs().amax((1, 2, 3), keepdim=True) / 127
    assert ((kept - delta).abs() <= 0.5001 * step + 2**-24 + 0.01 * delta.abs()).all()


def test_a_run_that_was_killed_with_steps_of_16_bits_attacks_again(accelerator, attacked, tmp_path):
    classifier, images, labels, threat, (_, _, evidence) = attacked
    for file in (tmp_path / "journal").glob("*.apgd.safetensors"):
        tensors = load_file(file)
        save_file({**tensors, "perturbation": tensors["perturbation"].to(torch.int16)}, file)
    again = run(accelerator, classifier, images, labels, tmp_path / "journal", threat=threat)[2]
    assert all(torch.equal(tensor, evidence.tensors()[name]) for name, tensor in again.tensors().items())


def kept_of(images: int, fallen: int, side: int) -> Perturbations:
    """Perturbations of so many images, evenly among all of them."""
    indices = torch.arange(fallen) * images // fallen
    delta = torch.zeros(fallen, 3, side, side, dtype=torch.int8)
    return Perturbations(indices, torch.ones_like(indices), torch.ones(fallen), delta)


# Of 224 x 224, 165 perturbations of 150,548 bytes fit, and every second image fell: the 166th is that of image 330.
@pytest.mark.parametrize(("images", "fallen", "side", "covered"), [(1000, 900, 32, 1000), (400, 200, 224, 330)])
def test_evidence_covers_as_many_of_the_first_images_as_fit_into_25_megabytes(tmp_path, images, fallen, side, covered):
    perturbations, file = kept_of(images, fallen, side), tmp_path / "evidence.safetensors"
    assert as_many_as_fit(perturbations, images) == covered
    Evidence.of(perturbations, known_by(images), most=covered).save(file)
    row = 3 * side**2 + 20
    assert file.stat().st_size <= 25e6
    assert covered == images or file.stat().st_size > 25e6 - row - 4096


def test_evidence_of_images_larger_than_any_is_of_one(monkeypatch):
    monkeypatch.setattr("robust_hub.evaluation.evidence.MOST_BYTES", 10)
    assert as_many_as_fit(kept_of(4, 4, 8), 4) == 1


def test_changes_of_a_fraction_of_a_level_lie_in_their_ball_and_larger_ones_do_not(create_smooth):
    classifier, images, threat = create_smooth().eval(), torch.rand(8, 3, 8, 8), Linf(0.25 / 255)
    change = threat.eps * torch.randn_like(images).sign()
    for enlarged, inside in ((1, 8), (1.001, 0)):
        kept = Perturbations.of(torch.arange(8), images, images + enlarged * change, Linf(1.0))
        with torch.no_grad():
            wrong = (classifier(kept.adversarial(images)).argmax(1) + 1) % 3
        assert kept.fooling(classifier, images, wrong, threat)[1].sum() == inside


def test_an_unperturbed_image_has_an_unperturbed_stored_image():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Perturbations.of(torch.arange(2), images, images, Linf(0.1)).adversarial(images), images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits.softmax(1), "gives probabilities"),
        (lambda logits: logits * torch.nan, "gives NaN or infinite logits"),
        (lambda logits: logits / 0, "gives NaN or infinite logits"),
        (lambda logits: logits.detach(), "cuts off the gradient to its images"),
    ],
)
def test_logits_that_are_none_are_refused(accelerator, create_smooth, many, tmp_path, change, message):
    classifier = create_smooth()
    classifier.register_forward_hook(lambda module, inputs, logits: change(logits))
    with pytest.raises(ValueError, match=message):
        run(accelerator, classifier, many, torch.zeros(20, dtype=torch.int64), tmp_path, threat=Linf(0.01))


@pytest.mark.parametrize("images", [torch.rand(4, 3, 8, 8) * 255, torch.rand(4, 3, 8, 8) - 0.5])
def test_images_outside_0_and_1_are_refused(accelerator, create_smooth, tmp_path, images):
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"images must be in \[0, 1\], got values from"):
        run(accelerator, create_smooth(), images, labels, tmp_path, threat=Linf(0.01))


def cramped(classifier: PixelClassifier, most: int, error: str = "CUDA out of memory. Tried to allocate 1 GiB"):
    """Copies a classifier that breaks above so many images, and lists how many it was given each time."""
    classifier, seen = deepcopy(classifier), []

    def check(_, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > most:
            raise RuntimeError(error)

    classifier.register_forward_pre_hook(check)
    return classifier, seen


def test_a_batch_that_does_not_fit_into_memory_is_halved_until_it_does(accelerator, attacked, tmp_path):
    classifier, images, labels, threat, (evaluation, _, _) = attacked
    small, seen = cramped(classifier, most=5)
    measured, _, _ = run(accelerator, classifier, images, labels, tmp_path, threat=threat, size=20, search=small)
    # APGD alone decides here: its climb on three tanh units has one optimum, wherever it starts.
    assert np.array_equal(measured.robust, evaluation.robust)
    assert sum(size > 5 for size in seen) == 2  # 19, 9, and then 4 at a time


def test_another_error_of_the_classifier_is_not_taken_for_a_lack_of_memory(accelerator, attacked, tmp_path):
    classifier, images, labels, threat, _ = attacked
    broken, _ = cramped(classifier, most=5, error="shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run(accelerator, classifier, images, labels, tmp_path, threat=threat, search=broken)


def test_the_global_generator_is_left_alone(accelerator, attacked, tmp_path):
    classifier, images, labels, threat, _ = attacked
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    run(accelerator, classifier, images, labels, tmp_path, threat=threat)
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_journal_is_read_and_nothing_is_attacked_again(accelerator, attacked, tmp_path):
    classifier, images, labels, threat, (evaluation, costs, evidence) = attacked
    refusing, seen = cramped(classifier, most=0)
    again = run(accelerator, classifier, images, labels, tmp_path / "journal", threat=threat, search=refusing)
    assert seen == []
    assert again[1] == costs
    assert all(np.array_equal(again[0].survivors[name], mask) for name, mask in evaluation.survivors.items())
    assert all(torch.equal(tensor, evidence.tensors()[name]) for name, tensor in again[2].tensors().items())


def killed_at(call: int, name: str, *arguments, **options) -> None:
    """Evaluates in a process that is killed at one of its calls of a function that writes the journal."""
    calls = 0
    owner, attribute = {"save": (Path, "write_bytes"), "fsync": (os, "fsync"), "replace": (os, "replace")}[name]
    original = getattr(owner, attribute)

    def deadly(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == call:
            if name == "save":
                original(args[0], b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, attribute, deadly)
    run(*arguments, **options)


@pytest.mark.parametrize("name", ["save", "fsync", "replace"])
def test_a_run_killed_again_and_again_ends_with_the_same_masks_and_evidence(accelerator, attacked, tmp_path, name):
    classifier, images, labels, threat, (evaluation, _, evidence) = attacked
    kills = 0
    # Four batches of four files each: every fifth write of every attempt is the last.
    for _ in range(10):
        child = get_context("fork").Process(
            target=killed_at,
            args=(5, name, accelerator, classifier, images, labels, tmp_path / "again"),
            kwargs={"threat": threat},
        )
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kills += 1
    assert kills == 3
    resumed, _, found = run(accelerator, classifier, images, labels, tmp_path / "again", threat=threat)
    assert np.array_equal(resumed.clean, evaluation.clean)
    assert all(np.array_equal(resumed.survivors[stage], mask) for stage, mask in evaluation.survivors.items())
    assert all(torch.equal(tensor, evidence.tensors()[part]) for part, tensor in found.tensors().items())


def batchnorm_cnn(create_cnn) -> PixelClassifier:
    classifier = create_cnn()
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return classifier.eval()


def test_the_classifier_searched_on_has_the_same_logits_and_no_batchnorm(create_cnn, images):
    classifier = batchnorm_cnn(create_cnn)
    search = search_classifier(classifier, "float32", images)
    with torch.no_grad():
        torch.testing.assert_close(search(images), classifier(images), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in search.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in classifier.modules())
    assert not any(parameter.requires_grad for parameter in search.parameters())
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_a_network_that_can_not_be_traced_is_searched_as_it_is(create_smooth, images):
    classifier = create_smooth()
    layer = classifier.model.body

    def dynamic(pixels):
        return layer(pixels) if pixels.sum() > 0 else layer(-pixels)

    classifier.model.forward = lambda images: classifier.model.head(dynamic(images.flatten(1)))
    search = search_classifier(classifier, "float32", images)
    with torch.no_grad():
        assert torch.equal(search(images), classifier(images))


def test_a_search_in_bfloat16_is_asked_about_in_float32(create_cnn, images):
    classifier = batchnorm_cnn(create_cnn)
    search = search_classifier(classifier, "bfloat16", images)
    assert isinstance(search, SearchClassifier)
    assert {parameter.dtype for parameter in search.search.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in search.exact.parameters()} == {torch.float32}
    with torch.no_grad():
        low, logits = search(images), classifier(images)
    assert low.dtype == torch.float32
    # bfloat16 keeps eight bits: logits agree to a few hundredths of the largest, and not exactly.
    assert 0 < (low - logits).abs().max() < 0.05 * logits.abs().max()
