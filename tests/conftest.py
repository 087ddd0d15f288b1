"""Tiny classifiers and images, and a Hub of our own. Nothing here or in any test reaches beyond this machine."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.loopback_hub.server import HubServer

# Before `datasets` and `huggingface_hub` are imported: they read these once. Whatever would still leave this machine
# finds the Hub in the place of a proxy, which refuses and logs it.
HUB = HubServer()
HOME = tempfile.mkdtemp(prefix="robust_hub_tests_")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING")) or name.lower().endswith("_proxy")]:
    del os.environ[name]
os.environ |= {"HF_ENDPOINT": HUB.endpoint, "HF_HOME": HOME}
os.environ |= {f"HF_{name}": "1" for name in ("HUB_DISABLE_XET", "HUB_DISABLE_TELEMETRY", "HUB_DISABLE_PROGRESS_BARS")}
os.environ |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1,localhost"}
os.environ |= {"HTTP_PROXY": HUB.endpoint, "HTTPS_PROXY": HUB.endpoint}

# Before any module of ours: what is imported while these are, whose shapes are checked, is compiled anew each time.
import accelerate  # noqa: E402, F401
import datasets  # noqa: E402, F401
import matplotlib.figure  # noqa: E402, F401
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import scipy.stats  # noqa: E402, F401
import sklearn.datasets  # noqa: E402, F401
import timm  # noqa: E402, F401
import torch  # noqa: E402
from torch import nn  # noqa: E402

from benchmarks.in_browser import CHROMIUM  # noqa: E402
from robust_hub.models import PixelClassifier, create_classifier  # noqa: E402
from tests.made_up import VIT, saved  # noqa: E402

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)


class HeadedModel(nn.Module):
    """The part of timm's model interface that PixelClassifier reads, around an optional body and a linear head."""

    def __init__(self, body: nn.Module, head: nn.Linear, image_shape: tuple[int, int, int]):
        super().__init__()
        self.body, self.head = body, head
        self.num_classes = head.out_features
        channels = image_shape[0]
        self.pretrained_cfg = {
            "architecture": "headed",
            "input_size": image_shape,
            "mean": MEAN[:channels],
            "std": STD[:channels],
        }

    def get_classifier(self) -> nn.Linear:
        return self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x.flatten(1)))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def hub_server():
    """The Hub that this process's Hugging Face clients talk to."""
    return HUB


@pytest.fixture
def empty_hub(hub_server):
    """The same, holding nothing and with an empty log."""
    hub_server.reset()
    return hub_server


@pytest.fixture(params=["", "huggingface_hub_1"], ids=["newest client", "newest client 1.x"])
def client_path(request):
    """What goes on PYTHONPATH of a process that is to use one of the two versions of the Hub's client."""
    if not request.param:
        return ""
    folder = Path(sys.prefix) / request.param
    if not folder.exists():
        pytest.skip(f"{folder} is missing; `make test` installs huggingface_hub 1.x there")
    return str(folder)


@pytest.fixture
def images():
    """Six images well inside [0, 1], so that small perturbations meet no border."""
    return 0.3 + 0.4 * torch.rand(6, 3, 8, 8)


@pytest.fixture
def labels():
    return torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.fixture
def create_linear():
    """Creates a classifier whose logits are linear in the pixels."""

    def create(num_classes: int = 3, scale: float = 0.02) -> PixelClassifier:
        head = nn.Linear(3 * 8 * 8, num_classes)
        nn.init.normal_(head.weight, std=scale)
        return PixelClassifier(HeadedModel(nn.Identity(), head, (3, 8, 8)), {})

    return create


@pytest.fixture
def create_smooth():
    """Creates a classifier with one tanh layer in front of its head: smooth, so finite differences apply."""

    def create(width: int = 5, num_classes: int = 3) -> PixelClassifier:
        body = nn.Sequential(nn.Linear(3 * 8 * 8, width), nn.Tanh())
        return PixelClassifier(HeadedModel(body, nn.Linear(width, num_classes), (3, 8, 8)), {})

    return create


@pytest.fixture
def create_cnn():
    """Creates a ResNet with BatchNorm, 16 features and 3 classes."""

    def create(image_shape: tuple[int, int, int] = (3, 8, 8)) -> PixelClassifier:
        model_args = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16)}
        return create_classifier("resnet18_cifar", model_args, num_classes=3, image_shape=image_shape)

    return create


@pytest.fixture
def create_vit():
    """Creates a ViT with two 4-px patches a side, 8 features and 3 classes."""

    def create() -> PixelClassifier:
        model_args = {"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2}
        return create_classifier("vit_tiny_patch16_224", model_args, num_classes=3, image_shape=(3, 8, 8))

    return create


@pytest.fixture
def by_hand():
    """Computes features, logits and input gradients of the smooth classifier in numpy and float64, image by image."""
    return ByHand


class ByHand:
    """The smooth classifier written out: h = tanh(A (x - mean) / std + a), z = B h + b."""

    def __init__(self, classifier: PixelClassifier):
        layers = (classifier.model.body[0], classifier.model.head)
        self.hidden, self.head = ((_float64(layer.weight), _float64(layer.bias)) for layer in layers)
        self.mean, self.std = (np.repeat(np.array(values), 64) for values in (MEAN, STD))

    def features(self, image: np.ndarray) -> np.ndarray:
        weight, bias = self.hidden
        return np.tanh(weight @ ((image.ravel() - self.mean) / self.std) + bias)

    def logits(self, image: np.ndarray) -> np.ndarray:
        weight, bias = self.head
        return weight @ self.features(image) + bias

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        exponentials = np.exp(self.logits(image))
        return exponentials / exponentials.sum()

    def cross_entropy(self, image: np.ndarray, label: int) -> float:
        return -np.log(self.probabilities(image)[label])

    def input_gradient(self, image: np.ndarray, label: int) -> np.ndarray:
        """The gradient of the cross-entropy: std^-1 A^T (1 - h^2) B^T (p - onehot)."""
        error = self.probabilities(image) - np.eye(len(self.head[1]))[label]
        through_tanh = (1 - self.features(image) ** 2) * (self.head[0].T @ error)
        return self.hidden[0].T @ through_tanh / self.std

    def softened(self, image: np.ndarray, temperature: float) -> np.ndarray:
        exponentials = np.exp(self.logits(image) / temperature)
        return exponentials / exponentials.sum()


def _float64(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().double().numpy()


@pytest.fixture
def slopes():
    """Compares the gradients of a scalar for parameters with its central differences along random directions."""
    return compare_with_central_differences


def compare_with_central_differences(scalar, parameters: list[nn.Parameter], gradients: list[torch.Tensor]) -> None:
    # Off by h^2 / 6 times a third derivative, of order 100 here, and by 1e-16 / h from rounding.
    h = 1e-5
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn_like(parameter)
        direction = direction / direction.norm()
        ends = []
        for sign in (1, -1):
            parameter.data.add_(direction, alpha=sign * h)
            ends.append(scalar().item())
            parameter.data.sub_(direction, alpha=sign * h)
        slope = (ends[0] - ends[1]) / (2 * h)
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-6, abs=1e-7)


@pytest.fixture
def student() -> PixelClassifier:
    """A ViT of 16x16 grey images and three classes."""
    torch.manual_seed(0)
    classifier = create_classifier("vit_tiny_patch16_224", VIT, num_classes=3, image_shape=(1, 16, 16))
    return classifier.to(memory_format=torch.channels_last)


@pytest.fixture
def folder(tmp_path, student) -> Path:
    """Its folder."""
    return saved(tmp_path / "student", student)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()
