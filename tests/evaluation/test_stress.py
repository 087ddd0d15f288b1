"""The panel of stress tells the accuracy under each change, is drawn, and is no part of a claim."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from recipes.evaluate import main
from robust_hub.data import Source
from robust_hub.evaluation import Portion, Report, measure_stress, plots, stress_panel, surrogate
from robust_hub.evaluation.stress import Strain, Stress
from robust_hub.evaluation.stress_panel import CORRUPTIONS, NOISE, QUALITIES, SHARES
from robust_hub.hub import verify
from robust_hub.model_folder import ModelFolder
from robust_hub.threats import L2, Linf, Threat
from tests.made_up import CNN, quick_evaluation, trained

pytest.importorskip("imagecorruptions")


class Brightness(nn.Module):
    """Calls an image bright or dark, and remembers what it was shown."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(images.detach().clone())
        mean = images.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def images_of(side: int, channels: int = 3, n: int = 6) -> torch.Tensor:
    """Half of them dark and half of them bright, in whole levels."""
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 100, (n, channels, side, side), generator=generator)
    levels[n // 2 :] += 155
    return levels / 255


LINF = Linf(8 / 255)
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])


def measured(side: int, threat: Threat = LINF, channels: int = 3) -> tuple[Stress, Brightness]:
    classifier = Brightness()
    found = measure_stress(classifier, [Portion(0, images_of(side, channels), LABELS)], threat, seed=0)
    return found, classifier


def test_every_change_has_five_strengths():
    found, _ = measured(32)
    names = {strain.name for strain in found.strains}
    expected = {"Gaussian noise, sigma", "JPEG, quality", "resized to, and back", "PGD-20, l2", *CORRUPTIONS}
    assert names == expected
    assert all(len(strain.strengths) == len(strain.accuracy) == 5 for strain in found.strains)
    assert (found.n, found.clean) == (6, 1.0)


def test_images_too_small_for_common_corruptions_have_the_others():
    found, _ = measured(8)
    assert len(found.strains) == 4


@pytest.mark.parametrize(("threat", "name"), [(Linf(8 / 255), "PGD-20, l2"), (L2(0.5), "PGD-20, linf")])
def test_the_other_norm_is_another_one(threat, name):
    found, _ = measured(8, threat)
    assert found.strains[-1].name == name


def test_brightness_makes_dark_images_bright():
    found, _ = measured(32)
    (brightness,) = [strain for strain in found.strains if strain.name == "brightness"]
    # By 0.1 to 0.5 of the value in HSV: dark images of mean 0.19 end near 0.7, and bright ones stay so.
    assert brightness.accuracy[0] == 1.0
    assert brightness.accuracy[-1] == 0.5


def test_a_jpeg_is_pillow_s():
    _, classifier = measured(8)
    image = (255 * images_of(8)[0]).round().byte().permute(1, 2, 0).numpy()
    with BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=90)
        expected = np.asarray(Image.open(file))
    # After the five of the noise.
    shown = (255 * classifier.shown[len(NOISE)][0]).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(shown, expected)


def test_noise_has_its_sigma_where_nothing_is_clipped():
    grey = torch.full((8, 3, 32, 32), 0.5)
    classifier = Brightness()
    portions = [Portion(0, grey[:, :, :8, :8], torch.zeros(8).long())]
    measure_stress(classifier, portions, Linf(0.1), seed=0)
    deviation = (classifier.shown[0] - 0.5).std()
    # Of 1,536 numbers: 4 standard errors.
    assert abs(float(deviation) - NOISE[0]) < 4 * NOISE[0] / (2 * 1536) ** 0.5


def test_resizing_a_plain_image_changes_nothing():
    classifier = Brightness()
    plain = torch.full((2, 3, 8, 8), 0.3)
    measure_stress(classifier, [Portion(0, plain, torch.zeros(2).long())], Linf(0.1), seed=0)
    first = len(NOISE) + len(QUALITIES)
    for shown in classifier.shown[first : first + len(SHARES)]:
        torch.testing.assert_close(shown, plain)


def test_grey_images_stay_grey():
    found, classifier = measured(32, channels=1)
    assert {images.shape[1] for images in classifier.shown} == {1}
    assert len(found.strains) == 4 + len(CORRUPTIONS)


def test_the_same_seed_gives_the_same_figures_and_leaves_random_numbers_alone():
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    first, _ = measured(32)
    assert np.random.rand() == expected
    assert measured(32)[0] == first


def test_each_figure_stands_in_its_cell(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    strains = [
        Strain("gaussian_noise", ["1", "2", "3", "4", "5"], [0.9, 0.8, 0.7, 0.6, 0.5]),
        Strain("PGD-20, l2", ["0.25", "0.5", "1", "1.5", "2"], [0.4, 0.3, 0.2, 0.1, 0.0]),
    ]
    plots.plot_stress(tmp_path / "stress.png", Stress(10, 0.95, strains))
    texts = [text.get_text() for text in figures[0].axes[0].texts]
    assert texts == ["90", "80", "70", "60", "50", "40  (0.25)", "30  (0.5)", "20  (1)", "10  (1.5)", "0  (2)"]


@pytest.mark.slow
def test_an_evaluation_with_stress_has_the_panel_on_its_card_and_the_same_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(surrogate, "STEPS", 5)
    folder = trained(tmp_path / "model", "resnet18_cifar", CNN)
    main(
        quick_evaluation(
            folder, tmp_path / "run", stress=True, update_card=True, source=Source("synthetic", test_images=8)
        )
    )
    report, info = Report.read(folder), ModelFolder.at(folder).info
    assert report.stress.n == 6
    # 16 px are too small for common corruptions.
    assert len(report.stress.strains) == 4
    assert "(stress.png)" in (folder / "README.md").read_text()
    assert (folder / "stress.png").is_file()
    assert info.robust_accuracy == report.evaluation.robust_accuracy
    verify(f"local-dir:{folder}", spot_check=0)


def test_what_is_missing_is_told_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(stress_panel, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'robust_hub\[stress\]'"):
        quick_evaluation(tmp_path, tmp_path / "run", stress=True)
