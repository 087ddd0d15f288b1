"""An exported file runs in a browser, and answers there as the classifier does here."""

import numpy as np
import pytest
import torch

from benchmarks.in_browser import CHROMIUM, ONNXRUNTIME_WEB, open_browser
from robust_hub.data import Source, load_test_data
from robust_hub.export import export_model
from robust_hub.hub import load_with_folder
from tests.made_up import CNN, trained

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or not ONNXRUNTIME_WEB.is_dir(),
    reason="there is no Chromium (apt-get install chromium) or no onnxruntime-web (npm) on this machine",
)


def test_a_browser_gives_the_logits_of_the_classifier(tmp_path):
    folder = trained(tmp_path / "model", "resnet18_cifar", CNN)
    classifier, folder = load_with_folder(f"local-dir:{folder}")
    file, levels = tmp_path / "model.onnx", np.random.default_rng(0).integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    export_model(classifier, folder, load_test_data(Source("synthetic")), file, pixels="uint8", images=4)
    with open_browser() as browser:
        answers = [browser.run(file, levels[:n]).logits for n in (1, 3)]
    with torch.no_grad():
        expected = classifier(torch.from_numpy(levels) / 255).numpy()
    np.testing.assert_allclose(answers[1], expected, atol=1e-4)
    np.testing.assert_allclose(answers[0], expected[:1], atol=1e-4)
