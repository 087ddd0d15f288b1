import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from robust_hub.methods import IGAM, IGAMOptions
from robust_hub.models import Teacher, create_classifier


def paper(**options) -> IGAMOptions:
    """The paper's objective: the gradient of the loss, and cross-entropy alone beside it."""
    base = IGAMOptions(gradient_of="loss", divergence_weight=0.0, feature_weight=0.0, cross_entropy_weight=1.0)
    return replace(base, **{"noise": 0.0, "start": 0.0, "ramp": 0.0, **options})


def naive(by_hand, student, teacher, images, labels) -> tuple[float, float]:
    """Cross-entropy and the share of squared gradients that student and teacher differ by, by the chain rule."""
    learnt, taught = by_hand(student), by_hand(teacher)
    cross_entropy = distance = size = 0.0
    for image, label in zip(images.double().numpy(), labels.tolist(), strict=True):
        cross_entropy += learnt.cross_entropy(image, label) / len(images)
        gap = learnt.input_gradient(image, label) - taught.input_gradient(image, label)
        distance += np.square(gap).sum() / len(images)
        size += np.square(taught.input_gradient(image, label)).sum() / len(images)
    return cross_entropy, distance / size


@pytest.mark.parametrize("weight", [0.1, 3.0])
def test_igam_is_cross_entropy_plus_the_distance_of_input_gradients(create_smooth, by_hand, images, labels, weight):
    student, teacher = create_smooth(), create_smooth()
    cross_entropy, distance = naive(by_hand, student, teacher, images, labels)
    objective = IGAM(student, Teacher(teacher), paper(weight=weight))
    losses = objective(images, labels)
    # float32 logits and gradients of order 1.
    assert losses.terms["cross_entropy"].item() == pytest.approx(cross_entropy, abs=1e-5)
    assert losses.terms["gradient_distance"].item() == pytest.approx(distance, rel=1e-4)
    assert losses.total.item() == pytest.approx(cross_entropy + weight * distance, rel=1e-4)


def test_without_a_ramp_the_first_step_has_the_full_weight(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth(), create_smooth()
    cross_entropy, distance = naive(by_hand, student, teacher, images, labels)
    losses = IGAM(student, Teacher(teacher), paper(weight=3.0))(images, labels)
    assert losses.total.item() == pytest.approx(cross_entropy + 3 * distance, rel=1e-4)


def test_the_weight_rises_over_the_ramp_and_then_stays(create_smooth, images, labels):
    objective = IGAM(create_smooth(), Teacher(create_smooth()), paper(weight=3.0, ramp=0.5))
    objective.steps = 6
    weights = []
    for step in range(6):
        objective.step = step
        losses = objective(images, labels)
        weights.append((losses.total - losses.terms["cross_entropy"]) / losses.terms["gradient_distance"])
    weights = torch.stack(weights).detach()
    assert (weights[1:] >= weights[:-1] - 1e-4).all()  # a difference of float32 losses of order 1
    assert weights[0] < 3.0 / 2
    torch.testing.assert_close(weights[3:], torch.full((3,), 3.0), rtol=1e-4, atol=0)


def test_igam_that_compares_no_gradients_is_refused(create_smooth):
    message = "^IGAM compares gradients; give a --weight or --adversarial-weight above 0, or use kd$"
    with pytest.raises(ValueError, match=message):
        IGAM(create_smooth(), Teacher(create_smooth()), paper(weight=0.0))


def test_a_student_that_is_its_teacher_has_no_gradient_distance(create_cnn, images, labels):
    teacher = create_cnn().eval()
    student = copy.deepcopy(teacher)
    losses = IGAM(student, Teacher(teacher), paper(weight=1.0, noise=0.03))(images, labels)
    # The same float32 operations on both sides.
    assert losses.terms["gradient_distance"].item() == pytest.approx(0, abs=1e-10)


def test_the_gradient_for_the_weights_agrees_with_finite_differences(create_smooth, images, labels):
    student, teacher = create_smooth().double(), create_smooth().double()
    images = images.double()
    objective = IGAM(student, Teacher(teacher), paper(weight=0.5))
    parameters = list(student.parameters())
    gradients = torch.autograd.grad(objective(images, labels).total, parameters)
    # Central differences are off by h^2 / 6 times a third derivative of order 100, and by 1e-16 / h from rounding.
    h = 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn_like(parameter)
        ends = []
        for sign in (1, -1):
            parameter.data.add_(direction, alpha=sign * h)
            ends.append(objective(images, labels).total.item())
            parameter.data.sub_(direction, alpha=sign * h)
        slope = (ends[0] - ends[1]) / (2 * h)
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_the_gradient_distance_teaches_the_student(create_smooth, images, labels):
    # Where the weight is large, a few steps down the total bring the gradients of student and teacher together.
    student = create_smooth()
    objective = IGAM(student, Teacher(create_smooth()), paper(weight=10.0))
    before = objective(images, labels).terms["gradient_distance"]
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-3)
    for _ in range(5):
        optimizer.zero_grad()
        objective(images, labels).total.backward()
        optimizer.step()
    assert objective(images, labels).terms["gradient_distance"] < before


def test_student_and_teacher_see_the_same_noisy_images_inside_the_unit_interval(create_smooth, images, labels):
    student, teacher = create_smooth(), Teacher(create_smooth())
    seen = []
    for classifier in (student, teacher.classifier):
        classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach().clone()))
    images = (3 * images - 1).clamp(0, 1)
    IGAM(student, teacher, paper(weight=1.0, noise=0.1))(images, labels)
    assert torch.equal(seen[0], seen[1])
    assert seen[0].min() >= 0
    assert seen[0].max() <= 1
    distance = (seen[0] - images).abs()
    assert 0.05 < distance.max() <= 0.1 + 1e-6  # pixels near 1 are rounded to 6e-8 in float32


def test_igam_goes_back_twice_through_fused_attention(create_vit, images, labels):
    # timm's fused attention has no double backward on CPU.
    student = create_vit()
    assert student.model.blocks[0].attn.fused_attn
    objective = IGAM(student, Teacher(create_vit()), paper(weight=1.0))
    objective(images, labels).total.backward()
    assert student.model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("architecture", "model_args"),
    [
        ("resnet18_cifar", {"layers": (1, 1, 1, 1), "channels": (16, 16, 32, 32)}),
        ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}),
    ],
)
def test_in_bfloat16_the_weights_get_the_gradient_of_float32(architecture, model_args):
    student, teacher = (
        create_classifier(architecture, model_args, num_classes=10, image_shape=(3, 32, 32)) for _ in range(2)
    )
    images, labels = torch.rand(64, 3, 32, 32), torch.arange(64) % 10
    objective = IGAM(student, Teacher(teacher), paper(weight=10.0, gradient_of="random-logits")).train()

    def gradient(enabled: bool) -> torch.Tensor:
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            total = objective(images, labels).total
        return torch.cat([each.flatten() for each in torch.autograd.grad(total, list(student.parameters()))])

    # Mantissas of 8 bits: each value is off by up to 0.4 %, at random.
    assert torch.cosine_similarity(gradient(True), gradient(False), dim=0) > 0.99


def test_random_logits_compare_a_random_direction_of_the_jacobians(create_smooth, images, labels):
    student, teacher = create_smooth(), create_smooth()
    objective = IGAM(student, Teacher(teacher), paper(weight=1.0, gradient_of="random-logits"))
    torch.manual_seed(1)
    distance = objective(images, labels).terms["gradient_distance"].item()
    torch.manual_seed(1)
    torch.rand_like(images)  # the noise, whose radius is 0
    coefficients = torch.randn(len(images), 3)
    coefficients = coefficients - coefficients.mean(1, keepdim=True)
    expected = size = 0.0
    for image, direction in zip(images, coefficients, strict=True):
        jacobians = (
            torch.autograd.functional.jacobian(lambda pixels, net=net: net(pixels[None])[0], image)
            for net in (student, teacher)
        )
        learnt, taught = (torch.einsum("k,kchw->chw", direction, jacobian) for jacobian in jacobians)
        expected += (learnt - taught).square().sum().item() / len(images)
        size += taught.square().sum().item() / len(images)
    assert distance == pytest.approx(expected / size, rel=1e-4)  # float32 sums of order 1


def test_the_teachers_predictions_are_weighed_beside_the_labels(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth(), create_smooth()
    learnt, taught = by_hand(student), by_hand(teacher)
    divergence = cross_entropy = 0.0
    for image, label in zip(images.double().numpy(), labels.tolist(), strict=True):
        q, p = learnt.probabilities(image), taught.probabilities(image)
        divergence += sum(p * np.log(p / q)) / len(images)
        cross_entropy += learnt.cross_entropy(image, label) / len(images)
    options = paper(weight=3.0, divergence_weight=2.0, cross_entropy_weight=0.3)
    losses = IGAM(student, Teacher(teacher), options)(images, labels)
    assert losses.terms["divergence"].item() == pytest.approx(divergence, abs=1e-5)  # float32 logits of order 1
    expected = 2 * divergence + 0.3 * cross_entropy + 3 * losses.terms["gradient_distance"].item()
    assert losses.total.item() == pytest.approx(expected, abs=1e-4)


def test_the_logit_term_is_the_mean_square_between_centred_logits(create_smooth, images, labels):
    student, teacher = create_smooth(), create_smooth()
    losses = IGAM(student, Teacher(teacher), paper(weight=3.0, logit_weight=2.0))(images, labels)
    learnt, taught = (network(images).detach().double().numpy() for network in (student, teacher))
    gap = (learnt - learnt.mean(1, keepdims=True)) - (taught - taught.mean(1, keepdims=True))
    assert losses.terms["logit_distance"].item() == pytest.approx(np.square(gap).mean(), rel=1e-4)
    rest = losses.terms["cross_entropy"] + 3 * losses.terms["gradient_distance"]
    assert (losses.total - rest).item() == pytest.approx(2 * np.square(gap).mean(), rel=1e-4)


@pytest.mark.parametrize("start", [0.0, 0.5], ids=["with gradients", "before them"])
def test_features_are_led_to_those_of_the_teacher_behind_a_layer_that_learns(
    create_smooth, by_hand, images, labels, start
):
    student, teacher = create_smooth(), create_smooth()
    objective = IGAM(student, Teacher(teacher), paper(weight=3.0, feature_weight=2.0, start=start))
    objective.steps = 2
    learnt, taught = by_hand(student), by_hand(teacher)
    assert objective.projection is not None
    weight, bias = (each.detach().double().numpy() for each in objective.projection.parameters())
    expected = 0.0
    for image in images.double().numpy():
        own, wanted = weight @ learnt.features(image) + bias, taught.features(image)
        expected += (1 - own @ wanted / np.linalg.norm(own) / np.linalg.norm(wanted)) / len(images)
    losses = objective(images, labels)
    assert losses.terms["feature_distance"].item() == pytest.approx(expected, abs=1e-5)  # float32 sums of order 1
    assert ("gradient_distance" in losses.terms) == (start == 0)
    rest = losses.terms["cross_entropy"] + 3 * losses.terms.get("gradient_distance", 0)
    assert (losses.total - rest).item() == pytest.approx(2 * expected, abs=1e-4)
    losses.total.backward()
    assert objective.projection.weight.grad.abs().max() > 0
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_teacher_that_was_asked_once_is_not_asked_again(create_smooth, images, labels):
    student, teacher = create_smooth(), Teacher(create_smooth())
    objective = IGAM(
        student, teacher, paper(gradient_of="random-logits", target="once", divergence_weight=1.0, weight=3.0)
    )
    assert objective.asked_once == (6, 1)
    told, coefficients = torch.linspace(-2, 3, 6 * len(images)).view(len(images), 6).split(3, dim=1)
    gradient = torch.linspace(-0.2, 0.3, images.numel()).view_as(images)
    losses = objective(images, labels, torch.cat([told, coefficients], 1), gradient[:, None])
    expected = size = 0.0
    for image, direction, wanted in zip(images, coefficients, gradient, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda pixels: student(pixels[None])[0], image)
        expected += (torch.einsum("k,kchw->chw", direction, jacobian) - wanted).square().sum().item()
        size += wanted.square().sum().item()
    assert losses.terms["gradient_distance"].item() == pytest.approx(expected / size, rel=1e-4)
    p, q = told.double().softmax(1).numpy(), student(images).detach().double().softmax(1).numpy()
    assert losses.terms["divergence"].item() == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-4)
    assert teacher.passes.total == 0


def test_it_asks_for_logits_features_and_the_gradient_of_a_combination_that_stays(create_smooth, images):
    student, teacher = create_smooth(), Teacher(create_smooth())
    options = paper(gradient_of="random-logits", target="once", feature_weight=1.0)
    objective = IGAM(student, teacher, options)
    told = objective.ask(images)
    assert torch.equal(told, objective.ask(images))
    numbers, maps = objective.asked_once
    assert (numbers, maps) == (6 + teacher.classifier.num_features, 1)
    logits, coefficients, features, gradient = told.split([3, 3, numbers - 6, images[0].numel()], dim=1)
    for wanted, found in zip(teacher.forward_with_features(images), (logits, features), strict=True):
        torch.testing.assert_close(found, wanted)
    assert coefficients.std() > 0.3
    for image, direction, found in zip(images, coefficients, gradient, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda pixels: teacher(pixels[None])[0], image)
        wanted = torch.einsum("k,kchw->chw", direction, jacobian)
        torch.testing.assert_close(found.view_as(wanted), wanted, rtol=1e-4, atol=1e-6)


def test_a_teacher_is_not_asked_once_for_gradients_that_need_labels(create_smooth):
    options = paper(target="once", gradient_of="loss")
    with pytest.raises(ValueError, match="asked once for gradients of random logits alone; drop --gradient-of"):
        IGAM(create_smooth(), Teacher(create_smooth()), options)


def test_pooled_gradients_are_compared_by_their_means_over_squares(create_smooth, by_hand, images, labels):
    student, teacher = create_smooth(), create_smooth()
    learnt, taught = by_hand(student), by_hand(teacher)

    def pooled(hand, image: np.ndarray, label: int) -> np.ndarray:
        return hand.input_gradient(image, label).reshape(3, 4, 2, 4, 2).mean((2, 4))

    pairs = list(zip(images.double().numpy(), labels.tolist(), strict=True))
    gap = sum(np.square(pooled(learnt, *pair) - pooled(taught, *pair)).sum() for pair in pairs)
    size = sum(np.square(pooled(taught, *pair)).sum() for pair in pairs)
    losses = IGAM(student, Teacher(teacher), paper(pool=2))(images, labels)
    assert losses.terms["gradient_distance"].item() == pytest.approx(gap / size, rel=1e-4)  # float32 gradients


def test_gradients_are_compared_at_every_so_manieth_step_with_so_many_times_the_weight(create_smooth, images, labels):
    student, teacher = create_smooth(), create_smooth()
    objective = IGAM(student, Teacher(teacher), paper(weight=2.0, period=3))
    objective.steps, compared = 6, []
    for objective.step in range(6):
        losses = objective(images, labels)
        distance = losses.terms.get("gradient_distance", torch.tensor(0.0))
        compared.append("gradient_distance" in losses.terms)
        expected = losses.terms["cross_entropy"] + 3 * 2.0 * distance
        assert losses.total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert compared == [False, False, True, False, False, True]


def test_the_authors_settings_are_those_of_their_runs():
    options = IGAMOptions.published(mean_square=200.0)
    assert (options.gradient_of, options.adversarial_weight, options.discriminator_period) == ("probability", 2.0, 5)
    assert (options.divergence_weight, options.feature_weight, options.logit_weight) == (0.0, 0.0, 0.0)
    assert (options.cross_entropy_weight, options.noise) == (1.0, 8 / 255)
    assert options.weight == pytest.approx(4.9e-3 * 200, rel=5e-3)
    # The last 40,000 of 320,000 steps, all at once.
    compared = [step for step in range(0, 320_000, 1000) if options.share(step, 320_000)]
    assert compared == list(range(280_000, 320_000, 1000))
    assert options.share(280_000, 320_000) == 1


def test_before_the_start_the_teacher_is_not_asked_and_nothing_is_differentiated_twice(create_cnn, images, labels):
    objective = IGAM(create_cnn(), Teacher(create_cnn()), paper(weight=1.0, start=2 / 3))
    objective.steps = 3
    for step in range(3):
        objective.step = step
        objective(images, labels).total.backward()
    passes = objective.passes()
    n = len(images)
    assert (passes["teacher"].forward, passes["teacher"].backward) == (n, n)
    assert (passes["student"].forward, passes["student"].backward) == (3 * n, 2 * n + 3 * n)


def test_the_authors_gamma_is_a_weight_of_ten_b_over_255_squared_times_the_size_of_the_teachers_gradients(
    create_smooth, by_hand, images, labels
):
    # Theirs: gamma times the sum over batch and pixels of the squared gap between gradients of the probability on 0 to
    # 255, which are 255 times shorter; ours is a mean over the batch, so gamma 10 is a weight of 10 B / 255^2 times
    # the mean square that ours is a share of.
    student, teacher = create_smooth(), create_smooth()
    pixels = 255 * images.double().numpy()

    def probability_gradient(hand, pixels: np.ndarray, label: int) -> np.ndarray:
        """Central differences, off by rounding of 1e-16 / h and a third derivative of 1e-7 times h^2."""
        gradient, h = np.empty(pixels.size), 1e-2
        for place in range(pixels.size):
            step = np.zeros(pixels.size)
            step[place] = h
            ends = (hand.probabilities((pixels.ravel() + sign * step) / 255)[label] for sign in (1, -1))
            gradient[place] = next(ends) - next(ends)
        return gradient / (2 * h)

    learnt, taught = by_hand(student), by_hand(teacher)
    theirs = size = 0.0
    for one, label in zip(pixels, labels.tolist(), strict=True):
        wanted = probability_gradient(taught, one, label)
        theirs += 10 * np.square(probability_gradient(learnt, one, label) - wanted).sum()
        size += np.square(255 * wanted).sum() / len(images)
    weight = 10 * len(images) / 65025 * size
    losses = IGAM(student, Teacher(teacher), paper(weight=weight, gradient_of="probability"))(images, labels)
    assert weight * losses.terms["gradient_distance"].item() == pytest.approx(theirs, rel=1e-4)  # float32 gradients
    # Their batches of 32.
    assert pytest.approx(4.9e-3, rel=5e-3) == 10 * 32 / 65025


def adversary(create_smooth, **options) -> IGAM:
    """IGAM with a discriminator in float64, in train mode."""
    student, teacher = create_smooth().double(), create_smooth().double()
    return (
        IGAM(
            student,
            Teacher(teacher),
            paper(**{"weight": 0.5, "adversarial_weight": 2.0, **options}),
        )
        .double()
        .train()
    )


def test_the_student_raises_what_the_discriminator_lowers(create_smooth, slopes, images, labels):
    objective, images = adversary(create_smooth, weight=0.5, adversarial_weight=2.0), images.double()
    weights = list(objective.student.parameters())

    def students_loss() -> torch.Tensor:
        terms = objective(images, labels).terms
        return terms["cross_entropy"] + 0.5 * terms["gradient_distance"] - 2.0 * terms["discriminator"]

    slopes(students_loss, weights, torch.autograd.grad(objective(images, labels).total, weights))


def test_the_discriminator_lowers_its_cross_entropy(create_smooth, slopes, images, labels):
    objective, images = adversary(create_smooth), images.double()
    # A bias before BatchNorm has no gradient but rounding.
    weights = [weight for weight in objective.discriminator.parameters() if weight.ndim > 1]
    gradients = torch.autograd.grad(objective(images, labels).total, weights)
    slopes(lambda: objective(images, labels).terms["discriminator"], weights, gradients)


def test_the_discriminator_is_asked_about_the_students_gradients_first_and_the_teachers_then(
    create_smooth, by_hand, images, labels
):
    objective = adversary(create_smooth)
    shown = []
    objective.discriminator.register_forward_pre_hook(lambda _module, inputs: shown.append(inputs[0].detach()))
    told = []
    objective.discriminator.register_forward_hook(lambda _module, _inputs, logits: told.append(logits.detach().numpy()))
    losses = objective(images.double(), labels)
    learnt, taught = by_hand(objective.student), by_hand(objective.teacher.classifier)
    for i, (image, label) in enumerate(zip(images.double().numpy(), labels.tolist(), strict=True)):
        for place, hand in ((i, learnt), (i + 6, taught)):
            expected = torch.tensor(hand.input_gradient(image, label)).view(3, 8, 8)
            torch.testing.assert_close(shown[0][place], expected, rtol=1e-6, atol=1e-7)  # pixels from float32
    # Class 0 is the student, class 1 the teacher.
    cross_entropy = sum(-np.log(np.exp(row[i // 6]) / np.exp(row).sum()) for i, row in enumerate(told[0])) / 12
    assert losses.terms["discriminator"].item() == pytest.approx(cross_entropy, rel=1e-10)  # float64


def test_the_total_is_the_sum_of_the_terms_with_the_discriminators_unweighted(create_smooth, images, labels):
    losses = adversary(create_smooth, weight=0.5, adversarial_weight=2.0)(images.double(), labels)
    expected = losses.terms["cross_entropy"] + 0.5 * losses.terms["gradient_distance"] + losses.terms["discriminator"]
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-12)  # float64


@pytest.mark.parametrize("period", [1, 2, 3])
def test_the_discriminator_learns_at_every_so_manieth_step(create_smooth, images, labels, period):
    objective = adversary(create_smooth, discriminator_period=period)
    objective.steps, learnt = 6, []
    for step in range(6):
        objective.step = step
        objective.zero_grad(set_to_none=True)
        objective(images.double(), labels).total.backward()
        learnt.append(all(weight.grad is not None for weight in objective.discriminator.parameters()))
        assert learnt[-1] or all(weight.grad is None for weight in objective.discriminator.parameters())
    assert learnt == [(step + 1) % period == 0 for step in range(6)]


@pytest.mark.parametrize("step", [0, 1])
def test_the_student_learns_from_the_discriminator_at_every_step(create_smooth, images, labels, step):
    objective = adversary(create_smooth, weight=0.0, discriminator_period=5)
    objective.step = step
    losses = objective(images.double(), labels)
    weights = list(objective.student.parameters())
    full = torch.autograd.grad(losses.total, weights, retain_graph=True)
    plain = torch.autograd.grad(torch.nn.functional.cross_entropy(objective.student(images.double()), labels), weights)
    assert any((one - other).abs().max() > 1e-6 for one, other in zip(full, plain, strict=True))


def test_the_ramp_weighs_what_the_student_gets_and_not_what_the_discriminator_learns(create_smooth, images, labels):
    objective, images = adversary(create_smooth, weight=0.0, ramp=1.0, discriminator_period=1), images.double()
    objective.steps = 4
    weights = [objective.student.model.body[0].weight, objective.discriminator.layers[0][0].weight]
    gradients = []
    for step in (0, 3):  # a quarter of the weight, and all of it
        objective.step = step
        gradients.append(torch.autograd.grad(objective(images, labels).total, weights))
    label_term = torch.nn.functional.cross_entropy(objective.student(images), labels)
    (plain,) = torch.autograd.grad(label_term, weights[:1])
    # float64 sums of a few hundred terms.
    torch.testing.assert_close(4 * (gradients[0][0] - plain), gradients[1][0] - plain, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-8, atol=1e-10)


def test_without_an_adversarial_weight_there_is_no_discriminator(create_smooth, images, labels):
    objective = IGAM(create_smooth(), Teacher(create_smooth()), paper(weight=1.0))
    assert objective.discriminator is None
    assert "discriminator" not in objective(images, labels).terms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, r"IGAM needs weight >= 0, got -1\.0"),
        ({"adversarial_weight": -2.0}, r"IGAM needs adversarial_weight >= 0, got -2\.0"),
        ({"divergence_weight": float("nan")}, "IGAM needs divergence_weight >= 0, got nan"),
        ({"discriminator_period": 0}, "IGAM needs discriminator_period >= 1, got 0"),
        ({"feature_weight": -1.0}, r"IGAM needs feature_weight >= 0, got -1\.0"),
        ({"noise": -0.1}, r"IGAM needs noise >= 0, got -0\.1"),
        ({"pool": 0}, "IGAM needs pool >= 1, got 0"),
        ({"period": 0}, "IGAM needs period >= 1, got 0"),
        ({"start": -0.1}, r"IGAM needs start >= 0, got -0\.1"),
        ({"ramp": -0.1}, r"IGAM needs ramp >= 0, got -0\.1"),
        (
            {"start": 700.0},
            "IGAM needs start and ramp to be shares of a run, below 1 and at most 1 together, got 700 and 0",
        ),
    ],
    ids=[
        "weight",
        "adversarial",
        "divergence",
        "every",
        "features",
        "noise",
        "pool",
        "period",
        "start",
        "ramp",
        "steps",
    ],
)
def test_an_option_out_of_its_range_is_refused(create_smooth, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        IGAM(create_smooth(), Teacher(create_smooth()), paper(**options))
