"""Robust ImageNet checkpoints as people download them: every layout becomes a folder of the same logits.

The originals are timm's, transformers', torchvision's, or written below as their authors' codes write them.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recipes import convert
from recipes.convert import Claims, Config, Source
from robust_hub import conversion
from robust_hub.errors import CheckpointError
from robust_hub.hub import open_folder
from robust_hub.model_folder import load_folder

MEAN, STD = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
CLAIMS = Claims(license="mit", data="imagenet-1k", method="PGD-AT", threat="linf:4/255")
SIZE, CLASSES, WIDTH, EMBEDDED = 32, 5, 16, 6
VIT = {"img_size": SIZE, "patch_size": 16, "embed_dim": WIDTH, "depth": 2, "num_heads": 2}
XCIT = {"img_size": SIZE, "embed_dim": 32, "depth": 1, "num_heads": 2}
SWIN = {"img_size": SIZE, "window_size": 4, "embed_dim": 8, "depths": (2, 1), "num_heads": (1, 2)}
CONVNEXT = {"depths": (1, 2, 1, 1), "dims": (4, 8, 8, 16)}


class Normalise(nn.Module):
    """As RobustBench puts it in front of a network."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class FusedClassAttention(nn.Module):
    """The class attention of facebookresearch/xcit: one layer for q, k and v, and a query of all tokens."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attention = ((q[:, :, 0:1] * k).sum(-1) * (width // self.heads) ** -0.5).softmax(-1)
        # Its block puts the other tokens behind, as timm's does.
        return self.proj((attention.unsqueeze(2) @ v).transpose(1, 2).reshape(batch, 1, width))


class TheirXcit(nn.Module):
    """facebookresearch/xcit: timm's, but for the class attention and the name of the positions."""

    def __init__(self):
        super().__init__()
        network = timm.create_model("xcit_nano_12_p16_224", num_classes=CLASSES, **XCIT)
        for block in network.cls_attn_blocks:
            block.attn = FusedClassAttention(XCIT["embed_dim"], XCIT["num_heads"])
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)

    def state_dict(self, **_) -> dict[str, Tensor]:
        state = self.network.state_dict()
        return {name.replace("pos_embed.", "pos_embeder."): tensor for name, tensor in state.items()}


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TheirConvNextBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.pwconv2(F.gelu(self.pwconv1(out)))).permute(0, 3, 1, 2)


class TheirConvNext(nn.Module):
    """facebookresearch/ConvNeXt."""

    def __init__(self):
        super().__init__()
        depths, dims = CONVNEXT["depths"], CONVNEXT["dims"]
        stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, stride=4), ChannelNorm(dims[0], eps=1e-6))
        downsample = [
            nn.Sequential(ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2))
            for before, width in pairwise(dims)
        ]
        self.downsample_layers = nn.ModuleList([stem, *downsample])
        self.stages = nn.ModuleList(
            nn.Sequential(*(TheirConvNextBlock(width) for _ in range(depth)))
            for depth, width in zip(depths, dims, strict=True)
        )
        self.norm, self.head = nn.LayerNorm(dims[-1], eps=1e-6), nn.Linear(dims[-1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        return self.head(self.norm(x.mean((2, 3))))


class QuickGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", QuickGelu())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        out = self.ln_1(x)
        x = x + self.attn(out, out, out, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Resblocks(nn.Module):
    def __init__(self, width: int, heads: int, depth: int):
        super().__init__()
        self.resblocks = nn.Sequential(*(ResidualBlock(width, heads) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class Tower(nn.Module):
    """The image tower of OpenAI's CLIP and of open_clip; a projection that is none gives the features."""

    def __init__(self, embedded: int | None = EMBEDDED):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIZE // 16) ** 2 + 1, WIDTH))
        self.proj = nn.Parameter(torch.randn(WIDTH, embedded)) if embedded else None
        self.conv1 = nn.Conv2d(3, WIDTH, 16, stride=16, bias=False)
        self.ln_pre = nn.LayerNorm(WIDTH)
        self.transformer = Resblocks(WIDTH, VIT["num_heads"], VIT["depth"])
        self.ln_post = nn.LayerNorm(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        features = self.ln_post(self.transformer(self.ln_pre(x))[:, 0])
        return features if self.proj is None else features @ self.proj


class Clip(nn.Module):
    """Both towers, as open_clip's files have them."""

    def __init__(self):
        super().__init__()
        self.positional_embedding, self.logit_scale = nn.Parameter(torch.randn(7, 8)), nn.Parameter(torch.tensor(4.6))
        self.text_projection = nn.Parameter(torch.randn(8, EMBEDDED))
        self.visual, self.transformer = Tower(), Resblocks(8, 2, 1)
        self.token_embedding, self.ln_final = nn.Embedding(11, 8), nn.LayerNorm(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


class Trunk(nn.Module):
    """An image tower of open_clip around a network of timm's."""

    def __init__(self):
        super().__init__()
        self.trunk = timm.create_model("convnext_tiny", num_classes=0, **CONVNEXT)
        self.head = nn.Sequential()
        self.head.add_module("proj", nn.Linear(CONVNEXT["dims"][-1], EMBEDDED, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images))


class Attribute(nn.Module):
    """A model of transformers, which returns its outputs by name."""

    def __init__(self, model: nn.Module, name: str):
        super().__init__()
        self.model, self.name, self.called = model, name, model.forward

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.called(pixel_values=images), self.name)


def hugging_face(kind: str, output: str, **options) -> Attribute:
    transformers = pytest.importorskip("transformers", reason="transformers is missing; see `make test`")
    sizes = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": VIT["depth"],
        "num_attention_heads": VIT["num_heads"],
        "image_size": SIZE,
        "patch_size": 16,
    }
    model = getattr(transformers, kind)
    return Attribute(model(model.config_class(**sizes, **options)), output)


def clip_of_hugging_face() -> Attribute:
    """Both towers, of which the one for texts has other sizes."""
    transformers = pytest.importorskip("transformers", reason="transformers is missing; see `make test`")
    towers = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": VIT["num_heads"]}
    text = {"num_hidden_layers": 1, "vocab_size": 11, "bos_token_id": 0, "eos_token_id": 1}
    images = {"num_hidden_layers": VIT["depth"], "image_size": SIZE, "patch_size": 16}
    parts = {"text_config": towers | text, "vision_config": towers | images, "projection_dim": EMBEDDED}
    model = Attribute(transformers.CLIPModel(transformers.CLIPConfig(**parts)), "pooler_output")
    model.called = model.model.get_image_features
    return model


def randomised(network: nn.Module) -> nn.Module:
    """Makes every layer of equal shape differ from every other, as training would, and as strongly as it would."""
    for name, tensor in nn.Module.state_dict(network).items():
        if tensor.is_floating_point() and "mean" not in name and "std" not in name:
            tensor.normal_(std=1 / tensor[0].numel() ** 0.5 if tensor.ndim > 1 else 0.3)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
            elif tensor.ndim == 1 and name.endswith(("weight", "gamma")):
                tensor.add_(1)
    return network.eval()


def of_timm(architecture: str, model_args: dict) -> nn.Module:
    return timm.create_model(architecture, num_classes=CLASSES, **model_args)


def plain(file: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), file)


def parallel(file: Path, network: nn.Module) -> None:
    torch.save({"state_dict": {f"module.model.{name}": tensor for name, tensor in network.state_dict().items()}}, file)


def robustbench(file: Path, network: nn.Module) -> None:
    names = {f"model.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({f"normalize.{name}": tensor for name, tensor in Normalise().state_dict().items()} | names, file)


def in_sequence(file: Path, network: nn.Module) -> None:
    names = {f"1.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({f"0.{name}": tensor for name, tensor in Normalise().state_dict().items()} | names, file)


def old_swin(file: Path, network: nn.Module) -> None:
    """As timm had it before 0.9: merging ends a stage instead of beginning the next, and tables are stored."""
    state = {f"layers.0.blocks.{block}.attn.relative_position_index": torch.zeros(16, 16).long() for block in (0, 1)}
    state["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    for name, tensor in network.state_dict().items():
        state[name.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc", "head")] = tensor
    torch.save({"model": state}, file)


def visual(file: Path, network: nn.Module) -> None:
    torch.save({f"module.visual.{name}": tensor for name, tensor in network.state_dict().items()}, file)


def sorted_safetensors(file: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), file)


def pretrained(file: Path, network: nn.Module) -> None:
    """As transformers saves it, whose files have other names than its modules."""
    network.model.save_pretrained(file.parent / "saved")
    (file.parent / "saved" / "model.safetensors").rename(file)


def pretrained_old(file: Path, network: nn.Module) -> None:
    """As transformers did before, with a table of places, in a pickle; here of names that a safetensors file had."""
    pretrained(file.with_suffix(".safetensors"), network)
    state = load_file(file.with_suffix(".safetensors"))
    places = {"vision_model.embeddings.position_ids": torch.arange(5)[None]} if "CLIP" in repr(network) else {}
    torch.save({f"module.{name}": tensor for name, tensor in (places | state).items()}, file)


VIT_CLIP = "vit_base_patch16_clip_quickgelu_224"
LAYOUTS = {
    "xcit-timm": (lambda: of_timm("xcit_nano_12_p16_224", XCIT), "xcit_nano_12_p16_224", XCIT),
    "xcit-facebook": (TheirXcit, "xcit_nano_12_p16_224", XCIT),
    "convnext-timm": (lambda: of_timm("convnext_tiny", CONVNEXT), "convnext_tiny", CONVNEXT),
    "convnext-facebook": (TheirConvNext, "convnext_tiny", CONVNEXT),
    "swin": (lambda: of_timm("swin_tiny_patch4_window7_224", SWIN), "swin_tiny_patch4_window7_224", SWIN),
    "vit-timm": (lambda: of_timm("vit_base_patch16_224", VIT), "vit_base_patch16_224", VIT),
    "vit-torchvision": (
        lambda: torchvision.models.VisionTransformer(SIZE, 16, 2, 2, WIDTH, 4 * WIDTH, num_classes=CLASSES),
        "vit_base_patch16_224",
        VIT,
    ),
    "tower": (Tower, VIT_CLIP, VIT),
    "tower-headless": (lambda: Tower(None), VIT_CLIP, VIT),
    "tower-trunk": (Trunk, "convnext_tiny", CONVNEXT),
    "clip": (Clip, VIT_CLIP, VIT),
    "vit-transformers": (
        lambda: hugging_face("ViTForImageClassification", "logits", num_labels=CLASSES),
        "vit_base_patch16_224",
        VIT,
    ),
    "tower-transformers": (
        lambda: hugging_face("CLIPVisionModelWithProjection", "image_embeds", projection_dim=EMBEDDED),
        VIT_CLIP,
        VIT,
    ),
    "clip-transformers": (clip_of_hugging_face, VIT_CLIP, VIT),
    "tower-transformers-headless": (lambda: hugging_face("CLIPVisionModel", "pooler_output"), VIT_CLIP, VIT),
}
CASES = [
    ("xcit-timm", robustbench),
    ("xcit-facebook", plain),
    ("convnext-facebook", plain),
    ("swin", old_swin),
    ("vit-torchvision", plain),
    ("vit-transformers", pretrained),
    ("tower", visual),
    ("tower-headless", plain),
    ("tower-trunk", plain),
    ("tower-transformers", pretrained_old),
    ("clip-transformers", pretrained),
    # The same layers in other wrappings.
    pytest.param("xcit-facebook", in_sequence, marks=pytest.mark.slow),
    pytest.param("convnext-timm", robustbench, marks=pytest.mark.slow),
    pytest.param("convnext-facebook", sorted_safetensors, marks=pytest.mark.slow),
    pytest.param("tower", sorted_safetensors, marks=pytest.mark.slow),
    pytest.param("vit-transformers", pretrained_old, marks=pytest.mark.slow),
    pytest.param("clip", sorted_safetensors, marks=pytest.mark.slow),
    pytest.param("tower-transformers-headless", pretrained, marks=pytest.mark.slow),
    pytest.param("vit-timm", parallel, marks=pytest.mark.slow),
]


def converted(tmp_path: Path, name: str, network: nn.Module, written: Callable, *, original: str = "") -> Path:
    file = tmp_path / ("a.safetensors" if written in (sorted_safetensors, pretrained) else "a.pt")
    written(file, network)
    _, architecture, model_args = LAYOUTS[name]
    stated = {} if written in (robustbench, in_sequence) else {"mean": MEAN, "std": STD}
    source = Source(str(file), original=original, **stated)
    convert.convert(Config(source, CLAIMS, architecture, tmp_path / "out", model_args))
    return tmp_path / "out"


@pytest.mark.parametrize(("name", "written"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_every_layout_becomes_a_folder_of_which_timm_alone_makes_the_original(tmp_path, name, written):
    network = randomised(LAYOUTS[name][0]())
    folder = converted(tmp_path, name, network, written)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        # Rounding, of other kernels; logits are of order 1. transformers' LayerNorm has another eps in a ViT.
        torch.testing.assert_close(model(images), network(images), rtol=1e-4, atol=1e-4)


def original_tower() -> nn.Module:
    return Tower()


def original_clip() -> nn.Module:
    return Clip()


def original_tower_of_transformers() -> nn.Module:
    return LAYOUTS["tower-transformers"][0]()


@pytest.mark.parametrize(
    ("name", "original", "written"),
    [
        ("tower", "original_tower", plain),
        ("clip", "original_clip", parallel),
        ("tower-transformers", "original_tower_of_transformers", pretrained),
    ],
)
def test_an_image_tower_is_proven_by_the_module_it_is_from(tmp_path, capsys, name, original, written):
    network = randomised(LAYOUTS[name][0]())
    converted(tmp_path, name, network, written, original=f"{__name__}:{original}")
    shown = capsys.readouterr().out
    assert "proven: logits of 4 random images are equal" in shown
    assert "has no classes, and the logits of its folder are the 6 numbers of its embedding; train a head" in shown
    assert ("left out, as they see no images: 18 tensors" in shown) == (name == "clip")


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)], ids=["q and k", "q and v", "k and v"])
def test_the_proof_refuses_queries_keys_and_values_that_changed_places(tmp_path, monkeypatch, one, other):
    fill = conversion.fill

    def fill_swapped(classifier, weights, mapping):
        fill(classifier, weights, mapping)
        for tensor in (classifier.model.blocks[1].attn.qkv.weight, classifier.model.blocks[1].attn.qkv.bias):
            rows = list(tensor.data.chunk(3))
            rows[one], rows[other] = rows[other], rows[one]
            tensor.data = torch.cat(rows)

    monkeypatch.setattr(conversion, "fill", fill_swapped)
    with pytest.raises(CheckpointError, match=r"does not give the logits of the original .*Tower, they differ by"):
        converted(tmp_path, "tower", randomised(Tower()), plain, original=f"{__name__}:original_tower")
    assert not (tmp_path / "out").exists()


def test_the_proof_refuses_the_activation_of_another_clip(tmp_path, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "tower", (Tower, "vit_base_patch16_clip_224", VIT))
    with pytest.raises(CheckpointError, match=r"compute differently \(activation"):
        converted(tmp_path, "tower", randomised(Tower()), plain, original=f"{__name__}:original_tower")


def test_the_table_names_the_three_layers_that_become_one(tmp_path, capsys):
    converted(tmp_path, "vit-transformers", randomised(LAYOUTS["vit-transformers"][0]()), pretrained)
    rows = [re.sub(" +", " ", line) for line in capsys.readouterr().out.splitlines()]
    layer = "vit.encoder.layer.1.attention.attention"
    assert f"| {layer}.query+key+value | blocks.1.attn.qkv | 48 48x16 | place |" in "\n".join(rows)


@pytest.mark.parametrize(("name", "kind"), [("tower", "embedding"), ("tower-headless", "features")])
def test_a_tower_is_a_student_to_start_from_and_tells_that_it_has_no_classes(tmp_path, name, kind):
    tower = randomised(LAYOUTS[name][0]())
    folder = open_folder(f"local-dir:{converted(tmp_path, name, tower, plain)}")
    assert f"numbers of its {kind}; train a head on it" in folder.provenance.origin
    student = load_folder(folder, num_classes=3)
    images = torch.rand(2, 3, SIZE, SIZE)
    tower.proj = None
    with torch.no_grad():
        logits, features = student.eval().forward_with_features(images)
        torch.testing.assert_close(features, tower((images - student.mean) / student.std), rtol=1e-4, atol=1e-4)
    assert logits.shape == (2, 3)


def test_names_for_what_is_no_class_are_refused(tmp_path):
    plain(tmp_path / "a.pt", Tower())
    config = Config(Source(str(tmp_path / "a.pt"), mean=MEAN, std=STD), CLAIMS, VIT_CLIP, tmp_path / "out", VIT)
    named = replace(config, claims=replace(CLAIMS, label_names=tuple("abcdef")))
    with pytest.raises(ValueError, match=r"has no classes, .* its embedding; .*; leave --label-names away"):
        convert.convert(named)


def stem(*widths: int) -> nn.Sequential:
    """Of Singh et al., who put several convolutions where the patches were."""
    layers: list[nn.Module] = []
    for before, width in pairwise((3, *widths)):
        layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), ChannelNorm(width), nn.GELU()]
    return nn.Sequential(OrderedDict(stem=nn.Sequential(*layers)))


@pytest.mark.parametrize(("name", "written"), [("convnext-timm", plain), ("vit-timm", robustbench)])
def test_a_stem_of_several_convolutions_is_refused_as_no_network_of_timms(tmp_path, name, written):
    network = LAYOUTS[name][0]()
    if name == "vit-timm":
        network.patch_embed.proj = stem(4, 8, 8, WIDTH)
    else:
        network.stem = stem(2, CONVNEXT["dims"][0])
    with pytest.raises(
        CheckpointError, match=r"stem\.0\.weight .*several convolutions .*timm has no ViT or ConvNeXt with such"
    ) as told:
        converted(tmp_path, name, network, written)
    assert "\n" not in str(told.value)


def test_a_clip_of_other_images_is_told_to_name_their_size(tmp_path, monkeypatch):
    monkeypatch.setitem(LAYOUTS, "tower", (Tower, VIT_CLIP, {**VIT, "img_size": 64}))
    with pytest.raises(CheckpointError, match=r"positional_embedding \(5x16\) .* pos_embed \(1x17x16\).*image size"):
        converted(tmp_path, "tower", Tower(), plain)


@pytest.mark.parametrize("pair", [("pos_embed", "pos_embed.weight"), ("attn.in_proj_weight", "attn.in_proj.weight")])
def test_a_checkpoint_that_stores_one_layer_in_two_ways_is_refused(pair):
    weights = {name: torch.zeros(3, 4) for name in pair}
    with pytest.raises(CheckpointError, match="in two ways; leave one of them out with --without"):
        conversion.find_mapping(weights, weights, ordered=True)


def test_weights_in_the_order_of_the_alphabet_are_not_taken_for_ordered(tmp_path):
    layers = {name: nn.Conv2d(2, 2, 3) for name in ("alpha", "beta")}
    torch.save({f"{name}.weight": layer.weight.data for name, layer in layers.items()}, tmp_path / "a.pt")
    torch.save({f"{name}.weight": layers[name].weight.data for name in reversed(layers)}, tmp_path / "b.pt")
    assert [conversion.read_checkpoint(tmp_path / name).ordered for name in ("a.pt", "b.pt")] == [False, True]
