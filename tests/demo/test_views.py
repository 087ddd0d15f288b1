"""What a page says of a picture is what the model says of it."""

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from robust_hub.demo.exhibits import Exhibit
from robust_hub.demo.page import answers, threat_of
from robust_hub.demo.pictures import coloured, magnified, seen
from robust_hub.demo.views import STEPS, STEPS_AT_ONCE, look
from robust_hub.models import create_classifier
from robust_hub.threats import L2, Linf
from tests.made_up import CNN, NAMES


@pytest.fixture
def exhibit() -> Exhibit:
    classifier = create_classifier("resnet18_cifar", CNN, num_classes=3, image_shape=(3, 16, 16)).eval()
    return Exhibit("tiny", classifier, NAMES)


def encoded_png() -> bytes:
    file = BytesIO()
    Image.new("RGB", (16, 16), (200, 90, 30)).save(file, "PNG")
    return file.getvalue()


IMAGE = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("threat", [Linf(8 / 255), L2(0.5)])
def test_what_is_shown_lies_in_the_ball_and_is_what_the_model_says_of_it(exhibit, threat):
    views = list(look(exhibit, IMAGE, threat))
    assert [view.steps for view in views] == list(range(0, STEPS + 1, STEPS_AT_ONCE))
    assert views[0].after == views[0].before
    assert not views[0].is_fooled
    for view in views[1:]:
        delta = view.adversarial - IMAGE
        # Rounding of float32.
        assert (delta.abs().max() if isinstance(threat, Linf) else delta.norm()) <= threat.eps + 1e-6
        with torch.no_grad():
            shares = exhibit.classifier(view.adversarial[None]).softmax(1)[0]
        assert dict(view.after) == pytest.approx({NAMES[number]: float(shares[number]) for number in range(3)})
        assert view.is_fooled == (view.after[0][0] != view.before[0][0])


def test_the_attack_lowers_the_share_of_the_first_label(exhibit):
    *_, last = look(exhibit, IMAGE, Linf(8 / 255))
    assert dict(last.after)[last.before[0][0]] < last.before[0][1]


def test_a_ball_of_radius_zero_holds_the_picture_alone(exhibit):
    (view,) = look(exhibit, IMAGE, Linf(0.0))
    assert torch.equal(view.adversarial, IMAGE)
    *_, (told, _) = answers([exhibit], encoded_png(), Linf(0.0))
    assert told.startswith("done: 0 steps of PGD")


def test_a_label_that_has_become_another_of_the_same_name_is_another(create_linear):
    image, linear = torch.full((3, 8, 8), 0.5), create_linear().eval()
    *_, last = look(Exhibit("linear", linear, ["same"] * 3), image, Linf(0.5))
    assert linear(last.adversarial[None]).argmax() != linear(image[None]).argmax()
    assert last.is_fooled


def test_a_name_is_shown_as_it_is_and_is_no_part_of_the_page(exhibit):
    told = answers([replace(exhibit, name="<img src=x onerror=alert(1)>")], encoded_png(), Linf(8 / 255))
    assert "<img src=x" not in "".join(line for line, _ in told)


def test_the_gradient_is_that_of_the_loss_of_the_first_label(exhibit):
    view = next(look(exhibit, IMAGE, Linf(0.1)))
    pixels = IMAGE[None].clone().requires_grad_()
    logits = exhibit.classifier(pixels)
    torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
    torch.testing.assert_close(view.gradient, pixels.grad[0])


def opened(address: str) -> np.ndarray:
    return np.array(Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_shows_an_image_pixel_for_pixel(channels):
    image = torch.randint(0, 256, (channels, 16, 16)) / 255
    shown = opened(seen(image))
    side = len(shown) // 16
    assert shown.shape[:2] == (160, 160)
    expected = (255 * image).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
    assert np.array_equal(shown[side // 2 :: side, side // 2 :: side], expected)


def test_a_perturbation_is_shown_as_many_times_larger_as_is_said():
    delta = torch.zeros(1, 16, 16)
    delta[0, 0, 0], delta[0, 0, 1] = 8 / 255, -4 / 255
    address, factor = magnified(delta)
    # 0.5 / (8 / 255) = 15.9.
    assert factor == 15
    # The nearest level of each.
    expected = [127.5 + 15 * 8, 127.5 - 15 * 4, 127.5]
    assert opened(address)[::10, ::10][0, :3].tolist() == pytest.approx(expected, abs=0.5)
    assert magnified(torch.zeros(1, 4, 4))[1] == 1


def test_red_is_where_brightness_raises_the_loss():
    gradient = torch.zeros(3, 16, 16)
    gradient[:, 0, 0], gradient[:, 0, 1] = 1.0, -1.0
    (red, _, blue), (other_red, _, other_blue) = opened(coloured(gradient))[::10, ::10][0, :2].astype(int)
    assert red > blue
    assert other_blue > other_red


def test_the_slider_of_linf_counts_levels_and_that_of_l2_pixel_units():
    assert (threat_of("linf", 8), threat_of("l2", 0.5)) == (Linf(8 / 255), L2(0.5))


def test_a_file_that_is_no_picture_gets_one_sentence(exhibit):
    (told,) = answers([exhibit], b"GIF89a and nothing more", Linf(8 / 255))
    assert told == ["That file is no picture that can be read; drop another one, or pick one below.", ""]
