import pytest
import torch

from robust_hub.attacks import FGSM, NFGSM
from robust_hub.threats import L2, Linf

LABELS = torch.tensor([0, 1, 0, 1, 0, 1])
# Pixels near 1 are rounded to 6e-8 in float32; an L2 norm over 192 of them gathers at most sqrt(192) * 6e-8 = 8e-7.
ROUNDING = 1e-6


def test_fgsm_is_the_closed_form_on_a_linear_classifier_for_linf(create_linear, border_images, steepest):
    classifier = create_linear(num_classes=2)
    optimum = (border_images + 0.1 * steepest(classifier, LABELS).sign()).clamp(0, 1).float()
    torch.testing.assert_close(FGSM(Linf(0.1))(classifier, border_images, LABELS), optimum, rtol=0, atol=ROUNDING)


def test_fgsm_is_the_closed_form_on_a_linear_classifier_for_l2(create_linear, images, steepest):
    classifier = create_linear(num_classes=2)
    gradient = steepest(classifier, LABELS)
    optimum = (images + 0.25 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]).float()
    torch.testing.assert_close(FGSM(L2(0.25))(classifier, images, LABELS), optimum, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.5)], ids=str)
@pytest.mark.parametrize(("noise", "step_size"), [(0.5, 1.0), (2.0, 1.5)])
def test_nfgsm_goes_no_farther_than_noise_and_step_together(create_cnn, images, labels, threat, noise, step_size):
    images = (3 * images - 1).clamp(0, 1)
    delta = NFGSM(threat, noise=noise, step_size=step_size)(create_cnn(), images, labels) - images
    order = float("inf") if isinstance(threat, Linf) else 2
    assert delta.flatten(1).norm(p=order, dim=1).max() <= (noise + step_size) * threat.eps + ROUNDING


def test_nfgsm_leaves_the_ball_on_purpose(create_cnn, images, labels):
    delta = NFGSM(Linf(0.05))(create_cnn(), images, labels) - images
    assert delta.abs().max() > 0.1


def test_nfgsm_without_noise_is_fgsm(create_cnn, images, labels):
    classifier = create_cnn()
    expected = FGSM(Linf(0.05))(classifier, images, labels)
    assert torch.equal(NFGSM(Linf(0.05), noise=0.0)(classifier, images, labels), expected)
    longer = NFGSM(Linf(0.05), noise=0.0, step_size=1.2)(classifier, images, labels)
    torch.testing.assert_close(longer, FGSM(Linf(0.06))(classifier, images, labels))


def test_nfgsm_steps_from_the_noisy_image(create_linear, images, steepest):
    # On a linear classifier the step is the same from anywhere, so taking it away leaves the noise: uniform in 2 eps.
    classifier = create_linear(num_classes=2)
    adversarial = NFGSM(Linf(0.05))(classifier, images, LABELS)
    noise = (adversarial - images - 0.05 * steepest(classifier, LABELS).sign()).flatten()
    assert noise.abs().max() <= 0.1 + ROUNDING
    # The deviation of a uniform variable in [-0.1, 0.1] is 0.1 / sqrt(3) = 0.0577; over 1152 draws within five errors.
    assert noise.std().item() == pytest.approx(0.1 / 3**0.5, abs=0.004)


def test_nfgsm_shows_the_classifier_only_images_in_the_unit_interval(create_linear, images):
    classifier, seen = create_linear(num_classes=2), []
    classifier.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    NFGSM(Linf(0.1))(classifier, (3 * images - 1).clamp(0, 1), LABELS)
    (noisy,) = seen
    assert noisy.min() >= 0
    assert noisy.max() <= 1
