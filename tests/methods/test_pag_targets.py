import numpy as np
import pytest
import torch

from robust_hub.methods import TeacherGradients
from robust_hub.methods.pag_targets import (
    NearestNeighbours,
    Representatives,
    StoredGradients,
    Targets,
    class_examples,
    class_means,
)
from robust_hub.models import Teacher

CLASSES = torch.tensor([[0, 2], [1, 0], [2, 1], [2, 0], [0, 1], [1, 2]])
ALL = torch.arange(3).repeat(6, 1)


def some_examples(count: int = 4) -> torch.Tensor:
    return torch.rand(3, count, 3, 8, 8)


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Three batches in which classes 0 to 2 have 5, 4 and 3 images, not in turn."""
    labels = [[0, 0, 1, 2], [1, 1, 0, 0], [2, 0, 2, 1]]
    return [(torch.rand(4, 3, 8, 8), torch.tensor(row)) for row in labels]


def images_of(label: int, kept: list[tuple[torch.Tensor, torch.Tensor]]) -> list[np.ndarray]:
    return [
        image.double().numpy()
        for images, labels in kept
        for image, own in zip(images, labels, strict=True)
        if own == label
    ]


@pytest.mark.parametrize("name", ["representatives", "nearest", "teacher", "stored"])
def test_every_kind_keeps_the_protocol(create_smooth, name):
    targets = {
        "representatives": lambda: Representatives(some_examples()[:, 0]),
        "nearest": lambda: NearestNeighbours(some_examples()),
        "teacher": lambda: TeacherGradients(Teacher(create_smooth()), create_smooth()),
        "stored": StoredGradients,
    }[name]()
    assert isinstance(targets, Targets)
    assert not any(weight.requires_grad for weight in targets.parameters())


def test_representatives_point_from_the_image_to_that_of_the_class(images, labels):
    representatives = some_examples()[:, 0]
    targets = Representatives(representatives)(images, labels, CLASSES)
    for i in range(6):
        for place, k in enumerate(CLASSES[i].tolist()):
            assert torch.equal(targets[i, place], representatives[k] - images[i])


def test_a_neighbour_is_the_nearest_by_pixels_of_its_class(images, labels):
    examples = some_examples(count=5)
    targets = NearestNeighbours(examples)(images, labels, CLASSES)
    for i in range(6):
        for place, k in enumerate(CLASSES[i].tolist()):
            distances = [
                sum(value * value for value in (one - images[i]).double().flatten().tolist()) for one in examples[k]
            ]
            nearest = examples[k][distances.index(min(distances))]
            assert torch.equal(targets[i, place], nearest - images[i])


def test_an_image_is_no_neighbour_of_itself(images, labels):
    examples = some_examples(count=3)
    examples[1, 2] = images[0]
    targets = NearestNeighbours(examples)(images, labels, torch.ones(6, 1, dtype=torch.long))
    others = [(examples[1, m] - images[0]).double().norm().item() for m in range(2)]
    assert torch.equal(targets[0, 0], examples[1, others.index(min(others))] - images[0])


def test_large_images_in_a_large_batch_are_no_neighbours_of_themselves():
    # From 26 rows on torch.cdist subtracts products, whose rounding is a distance that grows with the size.
    images = torch.rand(30, 3, 160, 160)
    targets = NearestNeighbours(images[None])(images, torch.zeros(30).long(), torch.zeros(30, 1).long())
    assert (targets.flatten(1).norm(dim=1) > 1).all()


def test_an_image_that_is_the_only_one_of_its_class_has_no_direction(images, labels):
    examples = some_examples(count=1)
    examples[1, 0] = images[0]
    targets = NearestNeighbours(examples)(images, labels, torch.ones(6, 1, dtype=torch.long))
    assert targets[0, 0].abs().max() == 0
    assert (targets[1:].flatten(1).norm(dim=1) > 0).all()


def test_the_teachers_targets_are_the_jacobian_of_its_log_probabilities(create_smooth, by_hand, images, labels):
    teacher = create_smooth()
    targets = TeacherGradients(Teacher(teacher), create_smooth())(images, labels, CLASSES)
    hand = by_hand(teacher)
    for i, image in enumerate(images.double().numpy()):
        for place, k in enumerate(CLASSES[i].tolist()):
            # log p_k is minus the cross-entropy with k.
            expected = torch.tensor(-hand.input_gradient(image, k)).view(3, 8, 8).float()
            torch.testing.assert_close(targets[i, place], expected, rtol=1e-4, atol=1e-5)  # float32 of order 1


def test_the_teachers_targets_of_all_classes_are_torchs_jacobian(create_cnn, images, labels):
    teacher = create_cnn().eval()
    targets = TeacherGradients(Teacher(teacher), create_cnn())(images, labels, ALL)
    for image, own in zip(images, targets, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda one: teacher(one[None]).log_softmax(1)[0], image)
        torch.testing.assert_close(own, jacobian, rtol=1e-3, atol=1e-5)  # float32 in batches of another size


def test_the_teachers_targets_weighted_by_its_probabilities_add_up_to_zero(create_cnn, images, labels):
    # sum_k p_k grad log p_k = grad sum_k p_k = 0.
    teacher = create_cnn().eval()
    targets = TeacherGradients(Teacher(teacher), create_cnn())(images, labels, ALL)
    together = torch.einsum("nk,nkchw->nchw", teacher(images).softmax(1).detach(), targets)
    assert together.abs().max() < 1e-5 * targets.abs().max()  # float32


def test_the_teachers_targets_hang_on_no_graph_even_where_gradients_are_off(create_smooth, images, labels):
    targets = TeacherGradients(Teacher(create_smooth()), create_smooth())
    with torch.no_grad():
        assert targets(images, labels, CLASSES).abs().sum() > 0
    assert not targets(images, labels, CLASSES).requires_grad
    assert not images.requires_grad


def test_a_teacher_of_other_classes_is_refused(create_smooth):
    with pytest.raises(ValueError, match=r"^teacher and student differ in classes \(4 and 3\)"):
        TeacherGradients(Teacher(create_smooth(num_classes=4)), create_smooth(num_classes=3))


def test_stored_targets_are_looked_up_by_class(images, labels):
    stored = torch.randn(6, 3, 3, 8, 8)
    targets = StoredGradients()(images, labels, CLASSES, stored)
    for i in range(6):
        for place, k in enumerate(CLASSES[i].tolist()):
            assert torch.equal(targets[i, place], stored[i, k])


def test_stored_targets_in_half_precision_come_in_that_of_the_images(images, labels):
    stored = torch.randn(6, 3, 3, 8, 8).half()
    assert StoredGradients()(images, labels, CLASSES, stored).dtype == images.dtype


@pytest.mark.parametrize("count", [1, 2, 3])
def test_class_examples_are_the_first_images_of_each_class(count):
    kept = batches()
    examples = class_examples(kept, 3, count)
    assert examples.shape == (3, count, 3, 8, 8)
    for k in range(3):
        expected = np.stack(images_of(k, kept)[:count])
        assert np.array_equal(examples[k].double().numpy(), expected)


def test_class_examples_are_as_many_as_the_rarest_class_has():
    assert class_examples(batches(), 3, 10).shape[:2] == (3, 3)


def test_class_examples_stop_reading_when_they_have_enough():
    def endless():
        yield from batches()
        raise AssertionError("read on")

    assert class_examples(endless(), 3, 3).shape[:2] == (3, 3)


def test_class_means_are_stretched_to_the_contrast_of_images():
    kept = batches()
    means = [sum(images_of(k, kept)) / len(images_of(k, kept)) - 0.5 for k in range(3)]
    contrasts = [np.sqrt(((image - 0.5) ** 2).sum()) for k in range(3) for image in images_of(k, kept)]
    lengths = [np.sqrt((mean**2).sum()) for mean in means]
    factor = (sum(contrasts) / 12) / (sum(lengths) / 3)
    found = class_means(kept, 3)
    for k in range(3):
        expected = torch.tensor(0.5 + factor * means[k]).float()
        torch.testing.assert_close(found[k], expected, rtol=1e-5, atol=1e-5)  # float32 sums of 12 images


@pytest.mark.parametrize("choose", ["examples", "means"])
def test_a_class_without_an_image_is_named(choose):
    choosers = {"examples": lambda kept: class_examples(kept, 4, 2), "means": lambda kept: class_means(kept, 4)}
    with pytest.raises(ValueError, match=r"^PAG needs a training image of each class, class 3 has none$"):
        choosers[choose](batches())
