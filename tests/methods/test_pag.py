import numpy as np
import pytest
import torch

from robust_hub.methods import PAG, PAGOptions, TeacherGradients
from robust_hub.methods.pag_targets import NearestNeighbours, Representatives, StoredGradients
from robust_hub.models import Teacher


class Asked:
    """Targets that are looked up in n K c h w, and note which classes they were asked for."""

    def __init__(self, stored: torch.Tensor):
        self.stored = stored
        self.classes = []

    def __call__(self, images, labels, classes):
        self.classes.append(classes)
        return torch.stack([self.stored[i, row] for i, row in enumerate(classes)])


def naive_distances(by_hand, student, images, stored) -> np.ndarray:
    """1 - cos between the gradient of log p_k, which is minus that of the cross-entropy with k, and its target."""
    hand = by_hand(student)
    distances = np.empty(stored.shape[:2])
    for i, image in enumerate(images.double().numpy()):
        for k in range(stored.shape[1]):
            gradient, wanted = -hand.input_gradient(image, k), stored[i, k].double().numpy().ravel()
            distances[i, k] = 1 - gradient @ wanted / np.sqrt((gradient @ gradient) * (wanted @ wanted))
    return distances


def naive_cross_entropy(by_hand, student, images, labels) -> float:
    hand = by_hand(student)
    pairs = zip(images.double().numpy(), labels.tolist(), strict=True)
    return sum(hand.cross_entropy(image, label) for image, label in pairs) / len(images)


def some_targets() -> torch.Tensor:
    return torch.randn(6, 3, 3, 8, 8)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_pag_of_all_classes_is_cross_entropy_plus_the_distances_summed_over_classes(
    create_smooth, by_hand, images, labels, weight
):
    student, stored = create_smooth(), some_targets()
    distances = naive_distances(by_hand, student, images, stored)
    cross_entropy = naive_cross_entropy(by_hand, student, images, labels)
    losses = PAG(student, StoredGradients(), PAGOptions(weight=weight, classes_per_image=3))(images, labels, stored)
    # float32 logits and gradients of order 1.
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-5)
    assert losses.terms["gradient_distance"].item() == pytest.approx(distances.mean(), abs=1e-5)
    expected = cross_entropy + weight * distances.sum(1).mean()
    assert losses.total.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("count", [1, 2])
def test_pag_of_some_classes_averages_over_those_that_were_drawn(create_smooth, by_hand, images, labels, count):
    student, stored = create_smooth(), some_targets()
    distances = naive_distances(by_hand, student, images, stored)
    cross_entropy = naive_cross_entropy(by_hand, student, images, labels)
    targets = Asked(stored)
    losses = PAG(student, targets, PAGOptions(weight=2.0, classes_per_image=count))(images, labels)
    drawn = [distances[i, k] for i, row in enumerate(targets.classes[0].tolist()) for k in row]
    # float32 gradients of order 1; an average that stands for three classes.
    assert losses.total.item() == pytest.approx(cross_entropy + 2 * 3 * np.mean(drawn), abs=1e-4)


def test_classes_are_drawn_anew_for_each_image_without_repetition_and_all_as_often(create_linear, images, labels):
    targets = Asked(torch.ones(6, 5, 3, 8, 8))
    objective = PAG(create_linear(num_classes=5), targets, PAGOptions(classes_per_image=2))
    for _ in range(100):
        objective(images, labels)
    drawn = torch.stack(targets.classes)
    assert drawn.shape == (100, 6, 2)
    assert (drawn[..., 0] != drawn[..., 1]).all()
    # 600 draws of a class with probability 2/5 have a standard deviation of 12.
    assert drawn.flatten().bincount(minlength=5).sub(240).abs().max() < 60
    assert not (drawn == drawn[:, :1]).all()


def test_pag_of_weight_zero_is_the_cross_entropy(create_smooth, by_hand, images, labels):
    student = create_smooth()
    total = PAG(student, StoredGradients(), PAGOptions(weight=0.0))(images, labels, some_targets()).total
    expected = naive_cross_entropy(by_hand, student, images, labels)
    assert total.item() == pytest.approx(expected, abs=1e-5)  # float32 logits of order 1


def test_without_options_one_class_stands_for_all_with_weight_two(create_smooth, images, labels):
    targets = Asked(some_targets())
    losses = PAG(create_smooth(), targets)(images, labels)
    assert targets.classes[0].shape == (6, 1)
    expected = losses.terms["cross_entropy"] + 2 * 3 * losses.terms["gradient_distance"]
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_length_of_a_target_makes_no_difference(create_smooth, images, labels):
    objective = PAG(create_smooth(), StoredGradients(), PAGOptions(classes_per_image=3))
    stored = some_targets()
    lengths = 10 ** (4 * torch.rand(6, 3, 1, 1, 1) - 2)
    plain, scaled = objective(images, labels, stored), objective(images, labels, lengths * stored)
    assert scaled.total.item() == pytest.approx(plain.total.item(), abs=1e-5)  # float32 cosines


def test_a_student_whose_gradients_are_the_targets_has_no_distance(create_smooth, by_hand, images, labels):
    student = create_smooth()
    hand = by_hand(student)
    stored = torch.tensor(
        np.stack([[-hand.input_gradient(image, k) for k in range(3)] for image in images.double().numpy()])
    )
    losses = PAG(student, StoredGradients(), PAGOptions(classes_per_image=3))(
        images, labels, stored.float().view(6, 3, 3, 8, 8)
    )
    assert losses.terms["gradient_distance"].item() == pytest.approx(0, abs=1e-6)  # 1 - cos in float32


def test_the_student_of_its_own_gradients_has_no_distance(create_cnn, images, labels):
    student = create_cnn().eval()
    losses = PAG(student, TeacherGradients(Teacher(student), student), PAGOptions(classes_per_image=3))
    assert losses(images, labels).terms["gradient_distance"].item() == pytest.approx(0, abs=1e-6)  # 1 - cos in float32


def test_a_target_of_length_zero_does_not_count(create_smooth, by_hand, images, labels):
    student, stored = create_smooth(), some_targets()
    distances = naive_distances(by_hand, student, images, stored)
    nowhere = [(0, 1), (2, 0), (2, 1), (2, 2)]
    for i, k in nowhere:
        stored[i, k] = 0
    counted = [distances[i, k] for i in range(6) for k in range(3) if (i, k) not in nowhere]
    losses = PAG(student, StoredGradients(), PAGOptions(classes_per_image=3))(images, labels, stored)
    assert losses.terms["gradient_distance"].item() == pytest.approx(np.mean(counted), abs=1e-5)  # float32 of order 1


def test_without_any_direction_the_loss_is_the_cross_entropy_and_its_gradient_finite(create_smooth, images, labels):
    student = create_smooth()
    losses = PAG(student, StoredGradients(), PAGOptions(classes_per_image=3))(
        images, labels, torch.zeros(6, 3, 3, 8, 8)
    )
    losses.total.backward()
    assert losses.terms["gradient_distance"] == 0
    assert losses.total.item() == pytest.approx(losses.terms["cross_entropy"].item())
    assert all(weight.grad.isfinite().all() for weight in student.parameters())


def differentiable_targets(name: str, student, teacher, images):
    examples = 0.3 + 0.4 * torch.rand(3, 2, 3, 8, 8, dtype=torch.float64)
    if name == "one image":
        return Representatives(examples[:, 0]), ()
    if name == "nearest":
        return NearestNeighbours(examples), ()
    if name == "teacher":
        return TeacherGradients(Teacher(teacher), student), ()
    return StoredGradients(), (torch.randn(6, 3, 3, 8, 8, dtype=torch.float64),)


@pytest.mark.parametrize("name", ["one image", "nearest", "teacher", "stored"])
@pytest.mark.parametrize("count", [1, 3])
def test_the_gradient_for_the_weights_agrees_with_finite_differences(
    create_smooth, slopes, images, labels, name, count
):
    student, teacher, images = create_smooth().double(), create_smooth().double(), images.double()
    targets, extras = differentiable_targets(name, student, teacher, images)
    objective = PAG(student, targets, PAGOptions(weight=0.7, classes_per_image=count))

    def total() -> torch.Tensor:
        torch.manual_seed(1)  # the same classes
        return objective(images, labels, *extras).total

    parameters = list(student.parameters())
    gradients = torch.autograd.grad(total(), parameters)
    slopes(total, parameters, gradients)


def test_pag_goes_back_twice_through_fused_attention(create_vit, images, labels):
    # timm's fused attention has no double backward on CPU.
    student = create_vit()
    assert student.model.blocks[0].attn.fused_attn
    PAG(student, StoredGradients())(images, labels, some_targets()).total.backward()
    assert student.model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


def test_pag_computes_as_in_float32_under_autocast_to_bfloat16(create_smooth, images, labels):
    objective, stored = PAG(create_smooth(), StoredGradients(), PAGOptions(classes_per_image=3)), some_targets()
    expected = objective(images, labels, stored)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(images, labels, stored)
    assert losses.total.item() == pytest.approx(expected.total.item(), rel=0.01)  # mantissas of 8 bits


def test_targets_of_another_shape_are_refused(create_smooth, images, labels):
    message = (
        r"^target gradients must have the shape \(6, 1, 3, 8, 8\) \(images, classes, c, h, w\), got \(6, 1, 3, 4, 4\)$"
    )
    with pytest.raises(ValueError, match=message):
        PAG(create_smooth(), StoredGradients())(images, labels, torch.ones(6, 3, 3, 4, 4))


def test_the_relative_distance_sees_lengths_as_well(create_smooth, by_hand, images, labels):
    student, stored = create_smooth(), some_targets()
    hand = by_hand(student)
    gap = size = 0.0
    for i, image in enumerate(images.double().numpy()):
        for k in range(3):
            wanted = stored[i, k].double().numpy().ravel()
            gap += np.square(-hand.input_gradient(image, k) - wanted).sum()
            size += wanted @ wanted
    options = PAGOptions(distance="relative", classes_per_image=3)
    losses = PAG(student, StoredGradients(), options)(images, labels, stored)
    assert losses.terms["gradient_distance"].item() == pytest.approx(gap / size, rel=1e-4)  # float32 gradients


def test_lengths_are_not_compared_where_targets_have_none():
    with pytest.raises(
        ValueError, match=r"^--distance relative compares lengths, which targets class-mean do not have$"
    ):
        PAGOptions(distance="relative", targets="class-mean")


def test_before_the_start_neither_targets_nor_second_derivatives_are_asked(create_smooth, images, labels):
    targets = Asked(some_targets())
    objective = PAG(create_smooth(), targets, PAGOptions(start=0.5, ramp=0.0))
    objective.steps = 4
    for objective.step in range(4):
        objective(images, labels).total.backward()
    assert len(targets.classes) == 2
    n = len(images)
    passes = objective.passes()["student"]
    assert (passes.forward, passes.backward) == (4 * n, 2 * n + 2 * (2 + 1) * n)


@pytest.mark.parametrize("count", [0, -1, 4])
def test_a_number_of_classes_out_of_range_is_refused(create_smooth, count):
    message = f"^PAG needs classes_per_image between 1 and 3, the number of classes, got {count}$"
    with pytest.raises(ValueError, match=message):
        PAG(create_smooth(), StoredGradients(), PAGOptions(classes_per_image=count))


def test_a_negative_weight_is_refused(create_smooth):
    with pytest.raises(ValueError, match=r"^PAG needs weight >= 0, got -1\.0$"):
        PAG(create_smooth(), StoredGradients(), PAGOptions(weight=-1.0))
