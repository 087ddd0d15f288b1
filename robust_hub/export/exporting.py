"""Exports a model: written, checked on test images, and attacked where it was quantised."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from torch import Tensor, nn

from robust_hub.data import Data, Loader, batch_size_for, evaluation_loader, subset
from robust_hub.evaluation import find_class_order, in_order_of
from robust_hub.export.agreement import Agreement, compare
from robust_hub.export.choices import Format, Pixels, Precision
from robust_hub.export.network import PixelNetwork, as_pixels
from robust_hub.export.onnx_file import OPSET, OnnxClassifier, write_onnx
from robust_hub.export.quantisation import quantise
from robust_hub.export.torch_file import TorchClassifier, write_torch
from robust_hub.export.transfer import Withstood, withstood
from robust_hub.files import whole_file
from robust_hub.launch import check_new_file
from robust_hub.model_folder import ModelFolder
from robust_hub.models import PixelClassifier
from robust_hub.threats import parse_threat

# Images at a time, and of the training split that tell the ranges of eight bits.
BATCH, CALIBRATION = 64, 128


@dataclass(frozen=True)
class Exported:
    """A file, and what it was found to do.

    Attributes:
        file: where it is.
        format: with its opset, where it has one.
        pixels: what it takes.
        shape: channels, height and width of an image.
        data: the set that it was checked on.
        agreement: with the classifier.
        withstood: what the file withstands; None in float32, where that is what the classifier does, and for a model
            that nobody made robust.
    """

    file: Path
    format: str
    pixels: Pixels
    shape: tuple[int, int, int]
    data: str
    agreement: Agreement
    withstood: Withstood | None

    def __str__(self) -> str:
        """Writes it in a few lines."""
        takes = "bytes of 0 to 255" if self.pixels == "uint8" else "float32 in [0, 1]"
        lines = [
            f"written: {self.file}, {self.format}, {self.file.stat().st_size / 1e6:.1f} MB",
            f"takes n x {' x '.join(map(str, self.shape))} (channels, height, width), {takes}; mean and std are inside",
            f"checked on {self.agreement.n} test images of {self.data}: {self.agreement}",
            *([str(self.withstood)] if self.withstood else []),
        ]
        return "\n".join(lines)


def export_model(
    classifier: PixelClassifier,
    folder: ModelFolder,
    data: Data,
    file: Path,
    *,
    format: Format = "onnx",
    pixels: Pixels = "float32",
    precision: Precision = "float32",
    images: int = 200,
) -> Exported:
    """Writes a classifier as one file that needs no timm, and checks that it answers as the classifier does.

    Args:
        classifier: on the CPU.
        folder: that it was loaded from.
        data: whose test images it is checked on; int8 takes its ranges from training images.
        file: a new one.
        format: onnx, or torch-export, which torch alone reads.
        pixels: what the file takes.
        precision: of weights and activations; int8 is onnx only.
        images: how many are tested.

    Raises:
        ValueError: when that can't be written, or in float32 does not give the classifier's labels; then there is no
            file.
    """
    check_new_file(file, "--output")
    if precision == "int8" and format != "onnx":
        raise ValueError("int8 is made by onnxruntime, so it goes with --to onnx; drop --precision, or choose that")
    if precision == "int8" and not len(data.train):
        raise ValueError(
            f"int8 takes the ranges of its activations from training images, and {data.name} has none; name another "
            "--data, or drop --precision"
        )
    threat = folder.provenance.threat if folder.provenance and precision == "int8" else ""
    classifier.eval()
    if threat:
        data = _in_the_order_of_logits(classifier, folder, data)
    tested = _loader(classifier, data.test, images)
    facts = facts_of(classifier, folder, pixels)
    network = PixelNetwork(classifier, pixels).eval()
    # Their values do not matter, but one image alone would be taken for the only number there can be.
    example = as_pixels(torch.zeros(2, *classifier.input_size), pixels)
    with whole_file(file) as unfinished:
        exported = _write(network, example, facts, unfinished, format)
        if precision == "int8":
            exported = _quantise(unfinished, as_pixels(_images(classifier, data), pixels))
        agreement = compare(classifier, exported, tested)
        if precision == "float32" and agreement.equal < agreement.n:
            raise ValueError(f"{classifier.architecture} can't be exported as it is: {agreement}; choose another")
        # In float32 a file withstands what the classifier does.
        attacked = withstood(classifier, exported, tested, parse_threat(threat)) if threat else None
    told = f"ONNX of opset {OPSET}, {precision}" if format == "onnx" else f"torch.export of torch {torch.__version__}"
    return Exported(file, told, pixels, classifier.input_size, data.name, agreement, attacked)


def facts_of(classifier: PixelClassifier, folder: ModelFolder, pixels: Pixels) -> dict[str, str]:
    """Tells what a file should say of itself, each as text.

    Args:
        classifier: what is exported.
        folder: that it was loaded from.
        pixels: what the file takes.
    """
    provenance = folder.provenance
    return {
        "model": folder.public_place,
        "architecture": classifier.architecture,
        "weights_sha256": folder.sha256,
        "license": folder.lineage().license,
        "labels": json.dumps(classifier.label_names),
        "pixels": pixels,
        "mean": json.dumps(classifier.mean.flatten().tolist()),
        "std": json.dumps(classifier.std.flatten().tolist()),
        "normalisation": "inside",
        "preprocessing": str(classifier.preprocessing),
        "method": provenance.method if provenance else "",
        "threat": provenance.threat if provenance else "",
        "precision": "float32",
    }


def _in_the_order_of_logits(classifier: PixelClassifier, folder: ModelFolder, data: Data) -> Data:
    claimed = folder.info.clean_accuracy.value if folder.info else 0.0
    order = find_class_order(classifier, data, claimed=claimed)
    if not order.label_names:
        raise ValueError(
            f"what int8 withstands is measured on the model's own classes, but {order.told}; name its --data"
        )
    return in_order_of(data, order.label_names)


def _write(network: PixelNetwork, example: Tensor, facts: Mapping[str, str], file: Path, format: Format) -> nn.Module:
    if format == "onnx":
        write_onnx(network, example, facts, file)
        return OnnxClassifier(file)
    write_torch(network, example, facts, file)
    return TorchClassifier(file)


def _quantise(file: Path, calibration: Tensor) -> OnnxClassifier:
    quantised = file.with_name(file.name + ".int8")
    try:
        quantise(file, quantised, calibration)
        quantised.replace(file)
    finally:
        quantised.unlink(missing_ok=True)
    return OnnxClassifier(file)


def _images(classifier: PixelClassifier, data: Data) -> Tensor:
    return torch.cat([images for images, _ in _loader(classifier, data.train, CALIBRATION)])


def _loader(classifier: PixelClassifier, rows: Dataset, count: int) -> Loader:
    batch_size = batch_size_for(classifier.input_size, most=BATCH)
    return evaluation_loader(
        subset(rows, count), classifier.preprocessing, batch_size=batch_size, device=torch.device("cpu")
    )
