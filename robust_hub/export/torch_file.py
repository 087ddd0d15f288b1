"""torch.export: one file that torch alone reads, without timm."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from robust_hub.export.choices import Pixels
from robust_hub.export.network import PixelNetwork, as_pixels
from robust_hub.types import Images, Logits

FACTS = "facts.json"
# What torch notes of each node: lines of code and the folders that they stand in.
OF_THE_SOURCE = ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn")


def write_torch(network: PixelNetwork, example: Tensor, facts: Mapping[str, str], file: Path) -> None:
    """Writes a network for any number of images; the arguments are those of `write_onnx`."""
    program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            for note in OF_THE_SOURCE:
                node.meta.pop(note, None)
    with file.open("wb") as written:
        torch.export.save(program, written, extra_files={FACTS: json.dumps(dict(facts))})


class TorchClassifier(nn.Module):
    """A file of torch.export that is called as a classifier is.

    Args:
        file: as `write_torch` writes it.
    """

    def __init__(self, file: Path):
        super().__init__()
        told = {FACTS: ""}
        with file.open("rb") as written:
            self.network = torch.export.load(written, extra_files=told).module()
        self.pixels: Pixels = json.loads(told[FACTS])["pixels"]

    @torch.no_grad()
    def forward(self, images: Images) -> Logits:
        """Classifies images in [0, 1], rounded to bytes where the file takes these."""
        return self.network(as_pixels(images, self.pixels))
