"""ONNX: written by torch's exporter, read by onnxruntime."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_hub.export.choices import Pixels
from robust_hub.export.network import PixelNetwork, as_pixels
from robust_hub.types import Images, Logits

# The oldest that torch's exporter writes without converting, which browsers and phones read as well.
OPSET = 18
IMAGES, LOGITS = "images", "logits"
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(network: PixelNetwork, example: Tensor, facts: Mapping[str, str], file: Path) -> None:
    """Writes a network for any number of images.

    Args:
        network: in eval mode.
        example: at least two images, as the network takes them.
        facts: what the file tells of itself.
        file: to write.

    Raises:
        ValueError: when a package is missing.
    """
    if missing := [package for package in NEEDED if find_spec(package) is None]:
        raise ValueError(f"ONNX needs {', '.join(missing)}, which is not here; pip install 'robust_hub[export]'")
    import onnx

    written = torch.onnx.export(
        network,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[IMAGES],
        output_names=[LOGITS],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        verbose=False,
    )
    assert written is not None
    model = written.model_proto
    forget_the_source(model.graph)
    onnx.helper.set_model_props(model, dict(facts))
    onnx.save(model, file)


def forget_the_source(graph) -> None:
    """Leaves out what torch notes of each node: among it lines of code and the folders that they stand in."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")


class OnnxClassifier(nn.Module):
    """An ONNX file that is called as a classifier is; it gives logits and no gradient.

    Args:
        file: as `write_onnx` writes it.
    """

    def __init__(self, file: Path):
        super().__init__()
        from onnxruntime import InferenceSession

        self.session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
        (taken,) = self.session.get_inputs()
        self.pixels: Pixels = "uint8" if taken.type == "tensor(uint8)" else "float32"

    def forward(self, images: Images) -> Logits:
        """Classifies images in [0, 1], rounded to bytes where the file takes these."""
        (logits,) = self.session.run([LOGITS], {IMAGES: as_pixels(images, self.pixels).cpu().numpy()})
        return torch.from_numpy(logits)
