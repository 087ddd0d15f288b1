import copy

import numpy as np
import pytest
import torch
from torch import nn

from robust_hub.methods import MixACM, MixACMOptions
from robust_hub.methods.mixacm import channel_distance, channel_means, match_stages
from robust_hub.models import Passes, Teacher, create_classifier

FIVE, FOUR, THREE = ["act1", "layer1", "layer2", "layer3", "layer4"], ["s0", "s1", "s2", "s3"], ["a", "b", "c"]


def wider():
    """A ResNet whose second last stage alone has other channels than that of create_cnn."""
    model_args = {"layers": (1, 1, 1, 1), "channels": (8, 8, 12, 16)}
    return create_classifier("resnet18_cifar", model_args, num_classes=3, image_shape=(3, 8, 8))


def record(network, monkeypatch) -> list[torch.Tensor]:
    """Notes the images that a network is shown."""
    shown, forward = [], network.forward_intermediates
    monkeypatch.setattr(network, "forward_intermediates", lambda images: shown.append(images) or forward(images))
    return shown


def unmix(mixed: torch.Tensor, images: torch.Tensor) -> tuple[float, list[int]]:
    """Finds the share and the partners by which images were mixed: the line to one other image that each lies on."""
    mixed, images = mixed.double().flatten(1), images.double().flatten(1)
    shares, partners = [], []
    for own, image in zip(mixed, images, strict=True):
        if (own - image).norm() < 1e-6:
            partners.append(next(index for index, other in enumerate(images) if other is image or other.equal(image)))
            continue
        # own = share * image + (1 - share) * other, so own - other = share * (image - other).
        fits = [(own - other) @ (image - other) / (image - other).square().sum() for other in images]
        errors = [
            (own - other - fit * (image - other)).norm() if not other.equal(image) else torch.tensor(torch.inf)
            for fit, other in zip(fits, images, strict=True)
        ]
        partners.append(int(torch.stack([error.double() for error in errors]).argmin()))
        assert errors[partners[-1]] < 1e-5  # float32 pixels
        shares.append(fits[partners[-1]].item())
    assert max(shares) - min(shares) < 1e-5  # one share for all
    return shares[0], partners


def naive_softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def unit(vector: np.ndarray) -> np.ndarray:
    """Divides a vector by its norm; one without an active channel stays 0."""
    return vector / np.sqrt(vector @ vector) if vector.any() else vector


def test_both_networks_see_the_same_mixed_images_of_one_share(create_cnn, images, labels, monkeypatch):
    student, teacher = create_cnn(), create_cnn()
    objective = MixACM(student, Teacher(teacher))
    learnt, taught = record(student, monkeypatch), record(teacher, monkeypatch)
    objective(images, labels)
    assert len(learnt) == len(taught) == 1
    assert torch.equal(learnt[0], taught[0])
    share, partners = unmix(learnt[0], images)
    assert 0 <= share <= 1
    assert sorted(partners) == list(range(len(images)))


def test_a_high_concentration_mixes_half_and_half(create_cnn, images, labels, monkeypatch):
    student = create_cnn()
    objective = MixACM(student, Teacher(create_cnn()), MixACMOptions(concentration=1e4))
    shown = record(student, monkeypatch)
    objective(images, labels)
    # Beta(a, a) has a standard deviation of 1 / (2 sqrt(2 a + 1)), here 0.0035.
    assert unmix(shown[0], images)[0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_mixacm_is_map_distance_divergence_and_mixup_cross_entropy(create_cnn, images, labels, monkeypatch, seed):
    student, teacher = create_cnn().eval(), wider().eval()
    objective = MixACM(
        student,
        Teacher(teacher),
        MixACMOptions(weight=3.0, divergence_weight=0.7, cross_entropy_weight=0.3, temperature=2.0),
    )
    objective.eval()
    shown = record(student, monkeypatch)
    maps = {"student": [], "teacher": []}
    for name, network in (("student", student), ("teacher", teacher)):
        for stage in FIVE:
            network.model.get_submodule(stage).register_forward_hook(
                lambda _module, _inputs, output, kept=maps[name]: kept.append(output.detach().double().numpy())
            )
    np.random.seed(seed)
    losses = objective(images, labels)

    share, partners = unmix(shown[0], images)
    maps = {name: kept[:5] for name, kept in maps.items()}
    learnt, taught = (network(shown[0]).detach().double().numpy() for network in (student, teacher))
    matrices = [adaptor.weight.detach().double().numpy() if isinstance(adaptor, nn.Linear) else None
                for adaptor in objective.adaptors]  # fmt: skip
    distance = divergence = cross_entropy = 0.0
    for i in range(6):
        for own, wanted, matrix in zip(maps["student"], maps["teacher"], matrices, strict=True):
            u, v = (np.array([channel.sum() / channel.size for channel in one[i]]) for one in (own, wanted))
            u = u if matrix is None else matrix @ u
            distance += sum((unit(u) - unit(v)) ** 2) / 6
        q, p = naive_softmax(learnt[i] / 2), naive_softmax(taught[i] / 2)
        divergence += 4 * sum(p[k] * np.log(p[k] / q[k]) for k in range(3)) / 6
        q = naive_softmax(learnt[i])
        cross_entropy -= (share * np.log(q[labels[i]]) + (1 - share) * np.log(q[labels[partners[i]]])) / 6
    # float32 maps and logits of order 1; a share found to 1e-6.
    assert losses.terms["map_distance"].item() == pytest.approx(distance, rel=1e-4)
    assert losses.terms["divergence"].item() == pytest.approx(divergence, abs=1e-5)
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-5)
    expected = 3 * distance + 0.7 * divergence + 0.3 * cross_entropy
    assert losses.total.item() == pytest.approx(expected, rel=1e-4)


def test_a_student_that_is_its_teacher_has_neither_map_distance_nor_divergence(create_cnn, images, labels):
    teacher = create_cnn().eval()
    losses = MixACM(copy.deepcopy(teacher), Teacher(teacher))(images, labels)
    # The same float32 operations on both sides.
    assert losses.terms["map_distance"].item() == pytest.approx(0, abs=1e-10)
    assert losses.terms["divergence"].item() == pytest.approx(0, abs=1e-6)


def test_only_the_stages_that_are_named_are_matched(create_cnn, images, labels):
    student = create_cnn().eval()
    teacher = copy.deepcopy(student)
    teacher.model.layer4.requires_grad_(False).apply(
        lambda module: nn.init.normal_(module.weight) if isinstance(module, nn.Conv2d) else None
    )
    earlier = MixACM(
        student, Teacher(teacher), MixACMOptions(stages=("layer2", "layer3"), teacher_stages=("layer2", "layer3"))
    )
    last = MixACM(student, Teacher(teacher), MixACMOptions(stages=("layer4",), teacher_stages=("layer4",)))
    assert earlier(images, labels).terms["map_distance"].item() == pytest.approx(0, abs=1e-10)  # the same operations
    assert last(images, labels).terms["map_distance"] > 1e-3


def test_there_is_an_adaptor_only_where_widths_differ(create_cnn):
    adaptors = MixACM(create_cnn(), Teacher(wider())).adaptors
    shapes = [tuple(adaptor.weight.shape) if isinstance(adaptor, nn.Linear) else None for adaptor in adaptors]
    assert shapes == [None, None, None, (12, 8), None]
    assert all(adaptor.bias is None for adaptor in adaptors if isinstance(adaptor, nn.Linear))


def test_an_adaptor_learns_from_the_map_distance(create_cnn, images, labels):
    objective = MixACM(create_cnn(), Teacher(wider()))
    objective(images, labels).total.backward()
    assert objective.adaptors[3].weight.grad.abs().sum() > 0


def test_to_make_a_mixacm_leaves_counters_modes_and_statistics_of_both_networks(create_cnn):
    student, teacher = create_cnn().train(), create_cnn()
    before = {name: buffer.clone() for name, buffer in student.named_buffers()}
    objective = MixACM(student, Teacher(teacher))
    assert objective.passes() == {"student": Passes(0, 0), "teacher": Passes(0, 0)}
    assert all(module.training for module in student.modules())
    assert not any(module.training for module in teacher.modules())
    assert all(torch.equal(buffer, before[name]) for name, buffer in student.named_buffers())


def test_channel_means_average_over_places():
    maps = torch.randn(2, 3, 4, 5)
    expected = [[sum(channel.flatten().tolist()) / 20 for channel in one] for one in maps]
    torch.testing.assert_close(channel_means(maps), torch.tensor(expected))


@pytest.mark.parametrize(("factor", "distance"), [(5.0, 0.0), (-0.1, 4.0)])
def test_the_channel_distance_sees_the_direction_only(factor, distance):
    channels = torch.randn(4, 7)
    # Unit vectors in float32.
    torch.testing.assert_close(
        channel_distance(factor * channels, channels), torch.full((4,), distance), rtol=1e-5, atol=1e-6
    )


def test_the_channel_distance_is_twice_one_minus_the_cosine():
    channels, reference = torch.randn(2, 4, 7)
    cosines = [
        np.dot(u, v) / np.sqrt(np.dot(u, u) * np.dot(v, v))
        for u, v in zip(channels.double().numpy(), reference.double().numpy(), strict=True)
    ]
    expected = torch.tensor([2 - 2 * cosine for cosine in cosines], dtype=torch.float32)
    torch.testing.assert_close(channel_distance(channels, reference), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (FIVE, FIVE, ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])),
        # The fourth of four goes with the fifth of five, the ones before with their share rounded down.
        (FIVE, FOUR, ([0, 1, 2, 4], [0, 1, 2, 3])),
        (FOUR, FIVE, ([0, 1, 2, 3], [0, 1, 2, 4])),
        (THREE, list("uvwxyz"), ([0, 1, 2], [1, 3, 5])),
        (["only"], FIVE, ([0], [4])),
    ],
    ids=["five and five", "five and four", "four and five", "three and six", "one and five"],
)
def test_all_stages_of_both_are_spread_over_the_longer_one(student, teacher, expected):
    assert match_stages(student, teacher, ["all"], ["all"]) == expected


@pytest.mark.parametrize("own", range(1, 13))
@pytest.mark.parametrize("taught", range(1, 13))
def test_stages_are_spread_evenly_and_the_last_goes_with_the_last(own, taught):
    found = match_stages([f"s{i}" for i in range(own)], [f"t{i}" for i in range(taught)], ["all"], ["all"])
    for numbers, count in zip(found, (own, taught), strict=True):
        assert len(numbers) == min(own, taught)
        assert numbers[-1] == count - 1
        gaps = np.diff([-1, *numbers])
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1


def test_named_stages_go_together_in_their_order():
    assert match_stages(FIVE, FOUR, ["layer4", "layer1"], ["s3", "s0"]) == ([4, 1], [3, 0])


def test_all_goes_with_as_many_as_are_named_of_the_other():
    assert match_stages(FIVE, FOUR, ["all"], ["s1", "s3"]) == ([1, 4], [1, 3])
    assert match_stages(FIVE, FOUR, ["layer1", "layer4"], ["all"]) == ([1, 4], [1, 3])


@pytest.mark.parametrize(
    ("wanted", "wanted_of_teacher", "message"),
    [
        (["layer5"], ["s3"], "the student has no stage 'layer5'; close names are layer4, layer3, layer2"),
        (["layer4"], ["blocks"], "the teacher has no stage 'blocks'; it has s0, s1, s2, s3"),
        (["layer4"], ["s2", "s3"], "stages of student and teacher must be as many, got 1 and 2; name each"),
        (FIVE, ["all"], "stages of student and teacher must be as many, got 5 and 4; name each"),
        (["layer4", "layer4"], ["s2", "s3"], "stages of the student must be named once each, got layer4, layer4"),
        (["layer4"], [], "stages of the teacher must be named once each, got none"),
        (["all", "layer4"], ["all"], "the student has no stage 'all'"),
    ],
    ids=["close", "unknown", "unequal", "more than all", "twice", "none", "all and one"],
)
def test_stages_that_do_not_match_are_refused(wanted, wanted_of_teacher, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        match_stages(FIVE, FOUR, wanted, wanted_of_teacher)


def test_a_network_without_stages_is_refused(create_cnn, create_smooth):
    message = "the {} tells no stages; choose an architecture with timm's feature_info"
    with pytest.raises(ValueError, match=message.format("student")):
        MixACM(create_smooth(), Teacher(create_cnn()))
    with pytest.raises(ValueError, match=message.format("teacher")):
        MixACM(create_cnn(), Teacher(create_smooth()))


def test_a_network_whose_stages_give_no_maps_is_refused(create_cnn, monkeypatch):
    student = create_cnn()
    monkeypatch.setattr(student.model, "forward_intermediates", None)
    with pytest.raises(ValueError, match=r"^resnet18_cifar gives no stage maps \(.*\); choose another one or method$"):
        MixACM(student, Teacher(create_cnn()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"MixACM needs weight >= 0, got -1\.0"),
        ({"divergence_weight": -2.0}, r"MixACM needs divergence_weight >= 0, got -2\.0"),
        ({"cross_entropy_weight": -3.0}, r"MixACM needs cross_entropy_weight >= 0, got -3\.0"),
        ({"temperature": 0.0}, r"MixACM needs temperature >= 0\.01, got 0\.0"),
        ({"concentration": 0.0}, r"MixACM needs concentration >= 0\.01, got 0\.0"),
    ],
    ids=["weight", "divergence weight", "cross-entropy weight", "temperature", "concentration"],
)
def test_an_option_out_of_its_range_is_refused(create_cnn, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MixACM(create_cnn(), Teacher(create_cnn()), MixACMOptions(**options))
