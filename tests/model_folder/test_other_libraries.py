"""A folder is the same model to us, to the newest timm and the oldest that we allow, and to transformers."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_data_config

import robust_hub
from robust_hub.model_folder import require_provenance
from robust_hub.models import create_classifier
from robust_hub.names import CARD, CONFIG, EVIDENCE
from tests.made_up import saved

ROOT = Path(__file__).parents[2]
MODEL_CARDS = sorted(file.parent for file in (ROOT / "model_cards").glob(f"*/{CONFIG}"))
LOGITS = """
import sys, timm, torch
import robust_hub
kept = torch.load(sys.argv[1])
for folder, images in kept.items():
    with torch.no_grad():
        kept[folder] = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images)
torch.save(kept, sys.argv[1])
print(timm.__version__)
"""


@pytest.mark.slow
def test_the_oldest_timm_that_is_allowed_loads_evaluated_folders_to_the_same_logits(tmp_path):
    oldest = Path(sys.prefix) / "timm_oldest"
    if not oldest.exists():
        pytest.skip(f"{oldest} is missing; `make test` installs the oldest timm that pyproject.toml allows there")
    assert all((folder / EVIDENCE).is_file() for folder in MODEL_CARDS)
    models = {str(folder): timm.create_model(f"local-dir:{folder}", pretrained=True).eval() for folder in MODEL_CARDS}
    images = {folder: torch.randn(2, *model.pretrained_cfg["input_size"]) for folder, model in models.items()}
    torch.save(images, tmp_path / "kept.pt")
    command = [sys.executable, "-c", LOGITS, str(tmp_path / "kept.pt")]
    environment = {**os.environ, "PYTHONPATH": f"{oldest}:{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (allowed,) = re.findall(r'"timm>=(.*)"', (ROOT / "pyproject.toml").read_text())
    assert done.stdout.split() == [allowed]
    logits = torch.load(tmp_path / "kept.pt")
    for folder, model in models.items():
        with torch.no_grad():
            assert torch.equal(logits[folder], model(images[folder])), folder


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip(
        "transformers", reason="transformers is missing; `make test` installs it for Python 3.11 and newer"
    )


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """Three of other shapes than a model's: two larger, one smaller than any."""
    levels, files = np.random.default_rng(0), []
    for width, height in [(201, 100), (33, 60), (14, 9)]:
        rough = levels.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        files.append(tmp_path / f"{width}x{height}.png")
        Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC).save(files[-1])
    return files


@pytest.fixture
def new(tmp_path) -> Path:
    """A folder as it is saved today, of a network that wants its photos cropped."""
    arguments = {"channels": [8, 8, 8, 16], "output_stride": 8}
    classifier = create_classifier("resnet10t", arguments, num_classes=3, image_shape=(3, 16, 16))
    classifier.model.pretrained_cfg["crop_pct"] = 0.875
    return saved(tmp_path / "new", classifier.eval())


def named(name: str) -> Path:
    return ROOT / "model_cards" / name


@pytest.mark.parametrize("name", ["new", "resnet10t.rslad_linf8_cifar10", "resnet18_cifar.nfgsm_linf8_cifar10"])
def test_timm_transformers_and_we_label_photos_alike(transformers, request, photos, name):
    folder = request.getfixturevalue(name) if name == "new" else named(name)
    assert f'pipeline("image-classification", model="{require_provenance(folder).repository or "FOLDER"}")' in (
        (folder / CARD).read_text()
    )
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = create_transform(**resolve_data_config(model.pretrained_cfg, model=model))
    pipeline = transformers.pipeline("image-classification", model=str(folder), device="cpu")
    ours = robust_hub.predict(robust_hub.load(f"local-dir:{folder}"), photos)
    for photo, prediction, told in zip(photos, ours, pipeline(list(map(str, photos)), top_k=5), strict=True):
        with torch.no_grad():
            shares, labels = model(transform(Image.open(photo))[None]).softmax(1)[0].topk(len(told))
        timms = [model.pretrained_cfg["label_names"][label] for label in labels]
        assert [each["label"] for each in told] == [label for label, _ in prediction.top] == timms
        # The pixels are the same; batches of other sizes are summed up in another order, in float32.
        assert [each["score"] for each in told] == pytest.approx(shares.tolist(), abs=1e-5)
        assert [share for _, share in prediction.top] == pytest.approx(shares.tolist(), abs=1e-5)


def test_transformers_loads_a_grey_model_to_the_same_logits_and_its_pipeline_can_not_use_it(transformers, photos):
    folder = named("vit_tiny_patch16_224.igam_linf0.1_digits")
    assert "but not its pipeline, which gives every image 3 channels where this network takes 1." in (
        (folder / CARD).read_text()
    )
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    images = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        wanted = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images)
        assert torch.equal(model(images).logits, wanted)
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 3"):
        transformers.pipeline("image-classification", model=str(folder), device="cpu")(str(photos[0]))
