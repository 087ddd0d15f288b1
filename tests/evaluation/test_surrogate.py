"""A plain network is made in passing, also of photos: it learns from small ones and takes them as they are."""

import numpy as np
import pytest
import torch
from PIL import Image

from robust_hub.data import Source, load_data
from robust_hub.evaluation import surrogate, train_surrogate
from robust_hub.models import PixelClassifier, Teacher


def photos(place, side: int):
    """Dark photos and bright ones."""
    for name, low in (("dark", 0), ("bright", 155)):
        (place / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(low, low + 100, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / name / f"{number}.png")
    return load_data(Source(str(place)))


@pytest.mark.parametrize(("side", "kind"), [(16, PixelClassifier), (80, Teacher)])
def test_a_network_learns_what_is_in_images_of_any_size(tmp_path, monkeypatch, side, kind):
    monkeypatch.setattr(surrogate, "STEPS", 30)
    data = photos(tmp_path / "photos", side)
    trained = train_surrogate(data, Source(str(tmp_path / "photos")), torch.device("cpu"), seed=0)
    assert isinstance(trained, kind)
    assert max(trained.input_size) == min(side, 64)
    images = torch.cat([torch.full((4, 3, side, side), 0.2), torch.full((4, 3, side, side), 0.8)]).requires_grad_()
    logits = trained(images)
    dark, bright = (data.label_names.index(name) for name in ("dark", "bright"))
    assert logits.argmax(1).tolist() == [dark] * 4 + [bright] * 4
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.shape == images.shape
    assert gradient.any()
