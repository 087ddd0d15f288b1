"""What every method must keep, whatever it computes."""

from collections import Counter

import pytest
import torch

from robust_hub.attacks import NFGSM, PGD
from robust_hub.classifiers import Passes, PixelClassifier, Teacher
from robust_hub.methods import IGAM, RRM, TRADES, AdversarialTraining, Losses, Plain
from robust_hub.methods.base import check_same_task
from robust_hub.threats import L2, Linf

METHODS = {
    "plain": lambda student, teacher: Plain(student),
    "pgd": lambda student, teacher: AdversarialTraining(student, PGD.standard(L2(0.5), steps=2)),
    "nfgsm": lambda student, teacher: AdversarialTraining(student, NFGSM(Linf(8 / 255))),
    "trades": lambda student, teacher: TRADES(student, threat=Linf(8 / 255), weight=6.0, steps=2, step_size=4 / 255),
    "rrm": lambda student, teacher: RRM(student, teacher),
    "rrm with projection": lambda student, teacher: RRM(student, teacher, projection=True),
    "igam": lambda student, teacher: IGAM(student, teacher, weight=1.0, noise=8 / 255),
}
TAUGHT = ["rrm", "rrm with projection", "igam"]

# Images that go forward through each network, a training image: attack steps, what they compare with, and the loss.
FORWARD = {
    "plain": {"student": 1},
    "pgd": {"student": 2 + 1},
    "nfgsm": {"student": 1 + 1},
    "trades": {"student": 1 + 2 + 2},
    "rrm": {"student": 1, "teacher": 1},
    "rrm with projection": {"student": 1, "teacher": 1},
    "igam": {"student": 1, "teacher": 1},
}

# The same for gradients that come back: IGAM's loss takes one for the input gradient, one back through that one, and
# one through the network.
BACKWARD = {
    "plain": {"student": 1},
    "pgd": {"student": 2 + 1},
    "nfgsm": {"student": 1 + 1},
    "trades": {"student": 2 + 2},
    "rrm": {"student": 1, "teacher": 0},
    "rrm with projection": {"student": 1, "teacher": 0},
    "igam": {"student": 3, "teacher": 1},
}


@pytest.fixture(params=["cnn", "vit"])
def create(request, create_cnn, create_vit):
    return {"cnn": create_cnn, "vit": create_vit}[request.param]


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def objective(method, create):
    return METHODS[method](create(), Teacher(create())).train()


def test_forward_returns_a_scalar_to_go_back_from_and_detached_terms(objective, images, labels):
    losses = objective(images, labels)
    assert isinstance(losses, Losses)
    assert losses.total.shape == ()
    assert losses.total.isfinite()
    assert losses.total.grad_fn is not None
    assert losses.terms
    assert all(term.shape == () and not term.requires_grad and term.isfinite() for term in losses.terms.values())


def test_every_trainable_parameter_gets_a_finite_gradient(objective, images, labels):
    for _ in range(2):  # a weight may rise from 0
        objective(images, labels).total.backward()
    trainable = {name: one for name, one in objective.named_parameters() if one.requires_grad}
    assert [name for name, one in trainable.items() if one.grad is None or not one.grad.isfinite().all()] == []


def test_a_small_step_down_the_gradient_lowers_the_loss(objective, images, labels):
    objective.student.eval()  # without batch statistics
    trainable = [one for one in objective.parameters() if one.requires_grad]
    objective(images, labels)

    def total() -> torch.Tensor:
        torch.manual_seed(3)  # the same noise and starts
        return objective(images, labels).total

    before = total()
    gradients = torch.autograd.grad(before, trainable, allow_unused=True)
    slope = sum(gradient.square().sum() for gradient in gradients if gradient is not None)
    with torch.no_grad():
        for parameter, gradient in zip(trainable, gradients, strict=True):
            if gradient is not None:
                parameter -= 1e-3 * gradient / slope.sqrt()
    assert total() < before


def test_the_mode_of_every_part_of_the_student_is_left_as_it_was(objective, images, labels):
    next(iter(objective.student.model.children())).eval()
    before = [module.training for module in objective.student.modules()]
    objective(images, labels).total.backward()
    assert [module.training for module in objective.student.modules()] == before


@pytest.mark.parametrize("method", METHODS)
def test_batch_statistics_of_the_student_see_one_batch(method, create_cnn, images, labels):
    objective = METHODS[method](create_cnn(), Teacher(create_cnn())).train()
    objective(images, labels).total.backward()
    assert objective.student.model.bn1.num_batches_tracked == 1


@pytest.mark.parametrize("method", TAUGHT)
def test_the_teacher_learns_nothing_and_keeps_its_batch_statistics(method, create, images, labels):
    teacher = Teacher(create())
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    objective = METHODS[method](create(), teacher).train()
    objective(images, labels).total.backward()
    assert not any(module.training for module in teacher.classifier.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_the_images_are_left_as_they_were(objective, images, labels):
    before = images.clone()
    objective(images, labels).total.backward()
    assert torch.equal(images, before)
    assert not images.requires_grad
    assert images.grad is None


def count(classifier: PixelClassifier, counted: Counter) -> None:
    """Counts images that go forward through a network, and those whose gradient comes back, by hooks of the test."""

    def after_forward(_module, _inputs, logits):
        counted["forward"] += len(logits)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: counted.update(backward=len(gradient)))

    classifier.model.register_forward_hook(after_forward)


def test_passes_are_those_that_hooks_see(objective, images, labels):
    networks = {"student": objective.student}
    if hasattr(objective, "teacher"):
        networks["teacher"] = objective.teacher.classifier
    counted = {name: Counter(forward=0, backward=0) for name in networks}
    for name, classifier in networks.items():
        count(classifier, counted[name])
    objective(images, labels).total.backward()
    seen = {name: Passes(forward=one["forward"], backward=one["backward"]) for name, one in counted.items()}
    if isinstance(objective, IGAM):
        # The loss goes back through the first backward as well, which no logits see.
        seen["student"].backward += len(images)
    assert objective.passes() == seen


def test_forward_passes_are_those_of_the_algorithm(method, objective, images, labels):
    objective(images, labels)
    assert {name: one.forward for name, one in objective.passes().items()} == {
        name: times * len(images) for name, times in FORWARD[method].items()
    }


def test_backward_passes_are_those_of_the_algorithm(method, objective, images, labels):
    objective(images, labels).total.backward()
    assert {name: one.backward for name, one in objective.passes().items()} == {
        name: times * len(images) for name, times in BACKWARD[method].items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_student_is_all_that_a_method_without_projection_trains(method, create_cnn):
    objective = METHODS[method](create_cnn(), Teacher(create_cnn()))
    others = [
        name for name, one in objective.named_parameters() if one.requires_grad and not name.startswith("student.")
    ]
    assert others == (["projection.weight"] if method == "rrm with projection" else [])


def test_student_and_teacher_must_know_the_same_number_of_classes(create_smooth):
    message = r"teacher and student differ in classes \(4 and 3\); choose a teacher of this data set"
    with pytest.raises(ValueError, match=message):
        check_same_task(create_smooth(num_classes=3), Teacher(create_smooth(num_classes=4)))


@pytest.mark.parametrize("method", TAUGHT)
def test_student_and_teacher_must_take_the_same_images(method, create_cnn):
    student, teacher = create_cnn(), create_cnn()
    teacher.model.pretrained_cfg["input_size"] = (1, 8, 8)
    with pytest.raises(ValueError, match="must take the same images, got 1x8x8 and 3x8x8; set in_chans and img_size"):
        METHODS[method](student, Teacher(teacher))
