"""Networks of ten families as ONNX files: how far their logits are off, and their speed in three runtimes.

    python benchmarks/export.py DATA

Each is created untrained for 224 px and exported; PyTorch, onnxruntime and onnxruntime-web (WebAssembly, in a headless
Chromium) then take turns on one image of DATA at a time, one thread each, and the median counts.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from tabulate import tabulate
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.in_browser import open_browser
from robust_hub.data import Data, Source, batches_of, evaluation_loader, load_test_data, subset
from robust_hub.export import OPSET, OnnxClassifier, PixelNetwork, compare, write_onnx
from robust_hub.models import PixelClassifier, create_classifier

FAMILIES = (
    "convnext_atto",
    "edgenext_xx_small",
    "efficientnet_lite0",
    "fastvit_t8",
    "ghostnet_100",
    "mobilenetv3_small_050",
    "regnetx_002",
    "repvit_m0_9",
    "resnet10t",
    "vit_tiny_patch16_224",
)
SHAPE, CLASSES, IMAGES, ROUNDS, RUNS = (3, 224, 224), 10, 16, 3, 5


def main(data: tyro.conf.Positional[Path], families: tuple[str, ...] = FAMILIES) -> None:
    """Exports the networks, measures them, and prints the table.

    Args:
        data: a data set of photos.
        families: which of timm's architectures.
    """
    torch.set_num_threads(1)
    photos = load_test_data(Source(str(data)))
    rows = []
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        for architecture in tqdm(families):
            torch.manual_seed(0)
            classifier = create_classifier(architecture, {}, num_classes=CLASSES, image_shape=SHAPE).eval()
            rows.append([architecture, *measure(classifier, photos, Path(folder) / f"{architecture}.onnx", browser)])
    print(f"{SHAPE[1]} px, one image at a time, one thread, opset {OPSET}, torch {torch.__version__}")
    headers = ["network", "largest difference", "of logits up to", "MB", "PyTorch, ms", "onnxruntime, ms", "web, ms"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=("", ".1e", ".2g", ".1f", ".1f", ".1f", ".1f")))


def measure(classifier: PixelClassifier, photos: Data, file: Path, browser) -> list[float]:
    """Measures one network.

    Returns:
        The largest difference of a logit, the largest logit, megabytes, and milliseconds an image in each runtime.
    """
    rows = subset(photos.test, IMAGES)
    loader = evaluation_loader(rows, classifier.preprocessing, batch_size=IMAGES, device=torch.device("cpu"))
    images, labels = next(iter(loader))
    write_onnx(PixelNetwork(classifier, "float32").eval(), images[:2], {}, file)
    exported = OnnxClassifier(file)
    found = compare(classifier, exported, batches_of(images, labels, batch_size=IMAGES))
    one, taken = images[:1], [[], [], []]
    with torch.no_grad():
        for _ in range(ROUNDS):
            for network, times in zip((classifier, exported), taken[:2], strict=True):
                times += [milliseconds(lambda network=network: network(one)) for _ in range(RUNS + 1)][1:]
            taken[2] += browser.run(file, one.numpy(), runs=RUNS).milliseconds
    return [found.difference, found.largest, file.stat().st_size / 1e6, *map(statistics.median, taken)]


def milliseconds(run: Callable[[], object]) -> float:
    """Times one call."""
    begun = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - begun)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
