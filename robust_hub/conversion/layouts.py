"""Brings what checkpoints store in several ways to one, so that layers of equal meaning have equal shapes.

Attention has one layer for queries, keys and values, in that order, or three, which only their names tell apart. Class
tokens and positions are tensors beside modules, with an axis for the batch or without, or the weights of an embedding.
The image tower of CLIP stands alone or beside one for texts, and ends in a matrix that a classifier of timm's holds.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from robust_hub.errors import CheckpointError

# As HuggingFace's, timm's, and older codes' names are.
ONE_OF_THREE = re.compile(
    r"(?P<parent>(?:.+\.)?)(?P<before>w|to_|proj_)?(?P<which>q|k|v|query|key|value)(?P<after>_proj|_lin|_linear)?"
    r"\.(?P<leaf>weight|bias)"
)
# Of torch.nn.MultiheadAttention.
FUSED = re.compile(r"(.*\bin_proj)_(weight|bias)")
TOKEN = r"(?:cls|class|dist|distillation|reg|register)_(?:token|embedding)s?"
POSITIONS = r"pos(?:ition|itional)?_embed(?:ding)?s?"
LONE = re.compile(rf"(?:.*\.)?(?:{TOKEN}|{POSITIONS})")
EMBEDDING = re.compile(rf"((?:.*\.)?{POSITIONS})\.weight")
# Of CLIP's image tower: OpenAI's and open_clip's, that of transformers, and open_clip's around a network of timm's.
MATRIX, PROJECTION, TRUNK, PROJECTION_OF_TRUNK = "proj", "visual_projection", "trunk.", "head.proj"
IMAGE_TOWER = ("visual.", "vision_model.", "visual_projection.")
TEXT_TOWER = ("token_embedding.", "text_model.", "text.")
# Tables that a size decides and nobody learns, which old files hold.
TABLES = ("position_ids", "relative_position_index", "attn_mask")


def is_lone(name: str) -> bool:
    """Tells whether a tensor is a token or positions, which are a layer of their own."""
    return LONE.fullmatch(name) is not None


def of_images(names: Mapping[str, str]) -> dict[str, str]:
    """Keeps the names of what a network for images has learnt, where another for texts stands beside it as well.

    Args:
        names: those in the file, each with itself without wrappers.
    """
    both = all(any(name.startswith(tower) for name in names.values()) for tower in (IMAGE_TOWER, TEXT_TOWER))
    return {
        name: short
        for name, short in names.items()
        if not short.endswith(TABLES) and (not both or short.startswith(IMAGE_TOWER))
    }


def parts(weights: Mapping[str, Tensor]) -> dict[str, tuple[str, ...]]:
    """Tells which tensors stand in the place of each: q, k and v in that of one, any other in its own.

    Raises:
        CheckpointError: when two would stand in one place.
    """
    threes: dict[tuple, dict[str, str]] = {}
    for name in weights:
        if match := ONE_OF_THREE.fullmatch(name):
            which = match["which"]
            alike = (match["parent"], match["before"], len(which) > 1, match["after"], match["leaf"])
            threes.setdefault(alike, {})[which[0]] = name
    together = {
        name: tuple(three[which] for which in "qkv")
        for three in threes.values()
        if len(three) == 3 and len({weights[name].shape for name in three.values()}) == 1
        for name in three.values()
    }
    found = {_name_of(names): names for names in (together.get(name, (name,)) for name in weights)}
    lost = set(weights).difference(*found.values())
    if lost:
        raise CheckpointError(
            f"the checkpoint stores what {min(lost)} is in two ways; leave one of them out with --without"
        )
    return found


def _name_of(names: tuple[str, ...]) -> str:
    if len(names) > 1:
        layers, leaf = [name.rpartition(".")[0] for name in names], names[0].rpartition(".")[2]
        parent, dot, first = layers[0].rpartition(".")
        return f"{parent}{dot}{'+'.join([first, *(layer.rpartition('.')[2] for layer in layers[1:])])}.{leaf}"
    if match := FUSED.fullmatch(names[0]):
        return f"{match[1]}.{match[2]}"
    match = EMBEDDING.fullmatch(names[0])
    return match[1] if match else names[0]


def unified(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Puts queries, keys and values together, and names tokens and positions as what they are."""
    return {
        name: torch.cat([weights[part] for part in names]) if len(names) > 1 else weights[names[0]]
        for name, names in parts(weights).items()
    }


def with_classifier(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Makes the projection of an image tower, which has no bias, a linear layer that has one, of zeros."""
    weights, layer = dict(weights), projection_of(weights)
    if not layer:
        return weights
    if MATRIX in weights:
        weights[f"{MATRIX}.weight"] = weights.pop(MATRIX).T
    matrix = weights[f"{layer}.weight"]
    return {**weights, f"{layer}.bias": matrix.new_zeros(len(matrix))}


def projection_of(weights: Mapping[str, Tensor]) -> str:
    """Names the projection that an image tower ends in; empty where there is none."""
    if MATRIX in weights and weights[MATRIX].ndim == 2 and f"{MATRIX}.weight" not in weights:
        return MATRIX
    layer = PROJECTION_OF_TRUNK if any(name.startswith(TRUNK) for name in weights) else PROJECTION
    return layer if f"{layer}.weight" in weights and f"{layer}.bias" not in weights else ""
