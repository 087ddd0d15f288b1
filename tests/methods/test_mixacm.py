import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from robust_hub.methods import MixACM, MixACMOptions
from robust_hub.methods.mixacm import Stage, map_distance, match_stages
from robust_hub.models import Passes, Teacher, create_classifier

FIVE = ["act1", "layer1", "layer2", "layer3", "layer4"]


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


@pytest.mark.parametrize(("factor", "distance"), [(5.0, 0.0), (-0.1, 4.0)])
@pytest.mark.parametrize("side", [1, 2])
def test_the_map_distance_sees_the_direction_only(factor, distance, side):
    maps = torch.randn(4, 7, 6, 6)
    # Unit vectors in float32.
    torch.testing.assert_close(
        map_distance(nn.Identity(), factor * maps, maps, side), torch.full((4,), distance), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("side", [1, 2, 3, 8])
def test_the_map_distance_is_twice_one_minus_the_cosine_of_maps_averaged_to_so_many_places(side):
    maps, reference = torch.randn(2, 5, 6, 6), torch.randn(2, 7, 12, 12)
    adaptor = nn.Linear(5, 7, bias=False)
    matrix = adaptor.weight.detach().double().numpy()
    places = min(side, 6)
    if side == 8:
        assert places == 6  # never more than either map has
    expected = []
    for own, wanted in zip(maps.double().numpy(), reference.double().numpy(), strict=True):
        u = np.array([matrix @ means for means in block_means(own, places)]).ravel()
        v = np.array(block_means(wanted, places)).ravel()
        expected.append(2 - 2 * (u @ v) / np.sqrt((u @ u) * (v @ v)))
    found = map_distance(adaptor, maps, reference, side)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=1e-5)


def block_means(maps: np.ndarray, places: int) -> list[np.ndarray]:
    """The mean of each channel over each of places x places equal blocks."""
    side = maps.shape[1] // places
    corners = [(row * side, column * side) for row in range(places) for column in range(places)]
    return [maps[:, top : top + side, left : left + side].mean((1, 2)) for top, left in corners]


def some_stages(*reductions: float) -> list[Stage]:
    return [Stage(number, f"s{number}", 8, reduction) for number, reduction in enumerate(reductions)]


def numbers(pairs: list[tuple[Stage, Stage]]) -> tuple[list[int], list[int]]:
    return [own.number for own, _ in pairs], [taught.number for _, taught in pairs]


@pytest.mark.parametrize(
    ("own", "taught", "expected"),
    [
        ([1, 1, 2, 4, 8], [1, 1, 2, 4, 8], ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])),
        # A ConvNeXt whose first stage halves the image beside a ResNet for 32 px.
        ([2, 4, 8, 16], [1, 1, 2, 4, 8], ([0, 1, 2, 3], [0, 2, 3, 4])),
        ([4, 8, 16, 32], [2, 4, 8, 16, 32], ([0, 1, 2, 3], [1, 2, 3, 4])),
        ([2, 4, 8, 16, 32], [4, 8, 16, 32], ([1, 2, 3, 4], [0, 1, 2, 3])),
        ([4], [1, 2, 4, 8], ([0], [2])),
        # Those of a transformer are all alike.
        ([16, 16, 16], [16] * 6, ([0, 1, 2], [1, 3, 5])),
        ([16] * 4, [16] * 12, ([0, 1, 2, 3], [2, 5, 8, 11])),
        # Nothing else fits as well as the one that is alike.
        ([8, 8], [2, 4, 8, 8, 32], ([0, 1], [2, 3])),
    ],
)
def test_stages_that_reduce_images_most_alike_are_matched(own, taught, expected):
    assert numbers(match_stages(some_stages(*own), some_stages(*taught))) == expected


@pytest.mark.parametrize("seed", range(20))
def test_no_other_way_in_order_reduces_images_more_alike(seed):
    rng = np.random.default_rng(seed)
    own, taught = (some_stages(*2.0 ** np.sort(rng.integers(0, 6, size))) for size in rng.integers(1, 7, 2))

    def mismatch(one: tuple[Stage, ...], other: tuple[Stage, ...]) -> float:
        return sum(abs(np.log2(a.reduction / b.reduction)) for a, b in zip(one, other, strict=True))

    count = min(len(own), len(taught))
    ways = [(a, b) for a in itertools.combinations(own, count) for b in itertools.combinations(taught, count)]
    found = tuple(zip(*match_stages(own, taught), strict=True))
    assert found in ways
    assert mismatch(*found) == min(mismatch(*way) for way in ways)


def test_stages_of_deep_networks_are_matched_at_once():
    assert len(match_stages(some_stages(*[16] * 40), some_stages(*[14] * 24))) == 24


def matched(objective: MixACM) -> list[tuple[str, str]]:
    return [(own.name, taught.name) for own, taught in objective.pairs]


def test_named_stages_go_together_in_their_order(create_cnn):
    options = MixACMOptions(stages=("layer4", "layer1"), teacher_stages=("layer3", "layer2"))
    assert matched(MixACM(create_cnn(), Teacher(create_cnn()), options)) == [("layer4", "layer3"), ("layer1", "layer2")]


def test_all_goes_with_as_many_as_are_named_of_the_other(create_cnn):
    student, teacher = create_cnn(), Teacher(create_cnn())
    alike = [("layer1", "layer1"), ("layer3", "layer3")]
    assert matched(MixACM(student, teacher, MixACMOptions(stages=("layer1", "layer3")))) in (
        alike,
        [("layer1", "act1"), ("layer3", "layer3")],
    )
    assert matched(MixACM(student, teacher, MixACMOptions(teacher_stages=("layer2", "layer3")))) == [
        ("layer2", "layer2"),
        ("layer3", "layer3"),
    ]


@pytest.mark.parametrize(
    ("wanted", "wanted_of_teacher", "message"),
    [
        (["layer5"], ["layer3"], "the student has no stage 'layer5'; close names are layer4, layer3, layer2"),
        (["layer4"], ["blocks"], "the teacher has no stage 'blocks'; it has act1, layer1, layer2, layer3, layer4"),
        (["layer4"], ["layer2", "layer3"], "stages of student and teacher must be as many, got 1 and 2; name each"),
        (["layer4", "layer4"], ["layer2"], "stages of the student must be named once each, got layer4, layer4"),
        (["layer4"], [], "stages of the teacher must be named once each, got none"),
        (["all", "layer4"], ["all"], "the student has no stage 'all'"),
    ],
    ids=["close", "unknown", "unequal", "twice", "none", "all and one"],
)
def test_stages_that_do_not_match_are_refused(create_cnn, wanted, wanted_of_teacher, message):
    options = MixACMOptions(stages=tuple(wanted), teacher_stages=tuple(wanted_of_teacher))
    with pytest.raises(ValueError, match=f"^{message}"):
        MixACM(create_cnn(), Teacher(create_cnn()), options)


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
        ({"side": 0}, "MixACM needs side >= 1, got 0"),
        ({"temperature": 0.0}, r"MixACM needs temperature >= 0\.01, got 0\.0"),
        ({"concentration": 0.0}, r"MixACM needs concentration >= 0\.01, got 0\.0"),
    ],
    ids=["weight", "divergence weight", "cross-entropy weight", "side", "temperature", "concentration"],
)
def test_an_option_out_of_its_range_is_refused(create_cnn, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        MixACM(create_cnn(), Teacher(create_cnn()), MixACMOptions(**options))
