"""Foreign checkpoints: read without running code, mapped layer by layer, and equal to the modules they are from.

The modules below are written as the codes of this field write them, so the oracle is theirs.
"""

import os
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from robust_hub.conversion import (
    Foreign,
    Normaliser,
    Outputs,
    count_classes,
    create_target,
    fill,
    find_mapping,
    import_original,
    prove,
    read_checkpoint,
    settle_normaliser,
    stock_original,
)
from robust_hub.errors import CheckpointError
from robust_hub.models import PixelClassifier

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
NORMALISER = Normaliser(MEAN, STD)


def conv(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)


class CifarBlock(nn.Module):
    """The block of the ResNet that most CIFAR codes share."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = conv(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class ShortcutFirstBlock(CifarBlock):
    """The same, but its shortcut is registered first, and its two layers by names of their own."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        nn.Module.__init__(self)
        self.projects = stride != 1 or inputs != outputs
        if self.projects:
            self.bn_skip, self.conv_skip = nn.BatchNorm2d(outputs), conv(inputs, outputs, 1, stride)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv1, self.conv2 = conv(inputs, outputs, stride=stride), conv(outputs, outputs)

    def shortcut(self, x: Tensor) -> Tensor:
        return self.bn_skip(self.conv_skip(x)) if self.projects else x


class PreActBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut


class CifarNet(nn.Module):
    """Four stages of two blocks; a post-activation network has a BatchNorm after its stem, the other at its end."""

    def __init__(self, block: type, num_classes: int, widths: tuple[int, ...] = (8, 8, 16, 16)):
        super().__init__()
        self.preact = block is PreActBlock
        self.conv1 = conv(3, widths[0])
        if not self.preact:
            self.bn1 = nn.BatchNorm2d(widths[0])
        before = widths[0]
        for stage, width in enumerate(widths, start=1):
            first = block(before, width, 1 if stage == 1 else 2)
            self.add_module(f"layer{stage}", nn.Sequential(first, block(width, width, 1)))
            before = width
        if self.preact:
            self.bn = nn.BatchNorm2d(before)
        self.linear = nn.Linear(before, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x) if self.preact else F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        out = F.relu(self.bn(out)) if self.preact else out
        return self.linear(out.mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), conv(inputs, outputs, stride=stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), conv(outputs, outputs)
        self.convShortcut = conv(inputs, outputs, 1, stride) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.convShortcut(out) if self.convShortcut else x
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(out))))


class WideStage(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        blocks = (WideBlock(inputs, outputs, stride), *(WideBlock(outputs, outputs, 1) for _ in range(2)))
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class WideNet(nn.Module):
    """RobustBench's WideResNet; the one of TRADES has a stage that it never uses."""

    def __init__(self, num_classes: int, *, idle: bool = False):
        super().__init__()
        self.conv1 = conv(3, 8)
        self.block1 = WideStage(8, 16, 1)
        if idle:
            self.sub_block1 = WideStage(8, 16, 1)
        self.block2, self.block3 = WideStage(16, 24, 2), WideStage(24, 32, 2)
        self.bn1, self.fc = nn.BatchNorm2d(32), nn.Linear(32, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(out)).mean((2, 3)))


class Normalise(nn.Module):
    def __init__(self, shape: tuple[int, ...] = (1, 3, 1, 1)):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(shape))
        self.register_buffer("std", torch.tensor(STD).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean.view(1, 3, 1, 1)) / self.std.view(1, 3, 1, 1)


def cifar_resnet(num_classes: int = 5) -> nn.Module:
    return CifarNet(CifarBlock, num_classes)


def cifar_resnet_of_pixels() -> nn.Module:
    return nn.Sequential(Normalise(), cifar_resnet())


CNN = ("resnet18_cifar", {"layers": [2, 2, 2, 2], "channels": [8, 8, 16, 16]})
PREACT = ("preact_resnet18_cifar", {"layers": [2, 2, 2, 2], "channels": [8, 8, 16, 16], "stem_chs": 8})
WIDE = ("wide_resnet28_10_cifar", {"layers": [3, 3, 3], "channels": [16, 24, 32], "stem_chs": 8})
NETWORKS = {
    "cifar-resnet": (cifar_resnet, CNN),
    "shortcut-first": (lambda: CifarNet(ShortcutFirstBlock, 5), CNN),
    "preact": (lambda: CifarNet(PreActBlock, 5), PREACT),
    "wide": (lambda: WideNet(5), WIDE),
    "torchvision": (lambda: torchvision.models.resnet18(num_classes=5), ("resnet18", {})),
}


def randomised(network: nn.Module) -> nn.Module:
    """Makes every layer of equal shape differ from every other, as training would."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(std=0.3)
    return network.eval()


def bare(file: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), file)


def legacy(file: Path, network: nn.Module) -> None:
    torch.save(network.state_dict(), file, _use_new_zipfile_serialization=False)


def parallel(file: Path, network: nn.Module) -> None:
    weights = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 3, "best": torch.tensor(0.5), "state_dict": weights}, file)


def compiled(file: Path, network: nn.Module) -> None:
    torch.save({"net": {f"_orig_mod.module.{name}": tensor for name, tensor in network.state_dict().items()}}, file)


def madry(file: Path, network: nn.Module) -> None:
    """As MadryLab's robustness does: an attacker that holds the same network again, two normalisers, an optimizer."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    weights = {}
    for parent in ("module", "module.attacker"):
        weights |= {f"{parent}.model.{name}": tensor for name, tensor in network.state_dict().items()}
    for normaliser in ("module.normalizer", "module.attacker.normalize"):
        weights[f"{normaliser}.new_mean"] = torch.tensor(MEAN).view(3, 1, 1)
        weights[f"{normaliser}.new_std"] = torch.tensor(STD).view(3, 1, 1)
    torch.save({"model": weights, "optimizer": optimizer.state_dict(), "schedule": None, "epoch": 7}, file)


def safetensors(file: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), file)


def old(file: Path, network: nn.Module) -> None:
    """As before PyTorch 0.4.1: BatchNorm did not count its batches."""
    weights = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("batches_tracked")}
    torch.save({"state_dict": weights}, file)


FORMATS = {
    bare: "a.pt",
    legacy: "a.pth",
    parallel: "a.pth.tar",
    compiled: "a.pt",
    madry: "a.ckpt",
    safetensors: "a.safetensors",
    old: "a.t7",
}


def convert(foreign: Foreign, architecture: str, model_args: dict) -> PixelClassifier:
    classifier = create_target(
        architecture,
        model_args,
        outputs=Outputs("classes", count_classes(foreign.weights)),
        normaliser=foreign.normaliser or NORMALISER,
        image_size=32,
    )
    fill(classifier, foreign.weights, mapping_of(foreign, classifier))
    return classifier


def mapping_of(foreign: Foreign, classifier: PixelClassifier):
    return find_mapping(foreign.weights, classifier.model.state_dict(), ordered=foreign.ordered)


def assert_same_logits(classifier: PixelClassifier, original: nn.Module) -> None:
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        wanted = original((images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1))
        # Rounding of a linear layer against a 1x1 convolution; logits are of order 1.
        torch.testing.assert_close(classifier.eval()(images), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("written", FORMATS, ids=lambda written: written.__name__)
def test_every_network_gives_the_logits_of_its_original_from_every_format(tmp_path, name, written):
    create, (architecture, model_args) = NETWORKS[name]
    original = randomised(create())
    written(tmp_path / FORMATS[written], original)
    foreign = read_checkpoint(tmp_path / FORMATS[written])
    assert_same_logits(convert(foreign, architecture, model_args), original)


def test_a_madry_file_tells_its_prefixes_and_its_normaliser_and_keeps_each_weight_once(tmp_path):
    network = randomised(cifar_resnet())
    madry(tmp_path / "a.pt", network)
    foreign = read_checkpoint(tmp_path / "a.pt")
    assert (foreign.key, foreign.normaliser) == ("model", NORMALISER)
    assert foreign.prefixes == ("module.model.", "module.attacker.model.")
    assert list(foreign.weights) == list(network.state_dict())


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1), (1, 3, 1, 1)])
def test_a_normaliser_in_front_is_found_in_any_shape(tmp_path, shape):
    network = randomised(cifar_resnet())
    bare(tmp_path / "a.pt", nn.Sequential(Normalise(shape), network))
    foreign = read_checkpoint(tmp_path / "a.pt")
    assert (foreign.normaliser, foreign.prefixes) == (NORMALISER, ("1.",))
    assert_same_logits(convert(foreign, *CNN), network)


def test_mean_and_std_of_the_network_go_into_its_configuration(tmp_path):
    bare(tmp_path / "a.pt", nn.Sequential(Normalise(), cifar_resnet()))
    cfg = convert(read_checkpoint(tmp_path / "a.pt"), *CNN).model.pretrained_cfg
    assert (cfg["mean"], cfg["std"], cfg["num_classes"], cfg["input_size"]) == (MEAN, STD, 5, (3, 32, 32))


class Opener:
    """Unpickled, it would make a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_that_needs_code_is_refused_and_none_is_run(tmp_path, zipped):
    content = {"state_dict": cifar_resnet().state_dict(), "args": Opener(tmp_path / "ran")}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"without running code \(\w+\.mkdir\); load it once in a sandbox"):
        read_checkpoint(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_module_is_refused_by_its_name(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"running code \(torch.nn.modules.linear.Linear\)"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("written", [bare, legacy, safetensors], ids=lambda written: written.__name__)
@pytest.mark.parametrize("kept", [0.5, 0.01, 0])
def test_a_truncated_file_is_told_in_one_sentence(tmp_path, written, kept):
    file = tmp_path / FORMATS[written]
    written(file, cifar_resnet())
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=r"can't be read \(.+\); expected a whole file") as told:
        read_checkpoint(file)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"<!doctype html>", b"hello", b"\x80\x04\x95", bytes(64)])
def test_garbage_is_told_in_one_sentence(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"can't be read \(.+\); expected a whole file"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_file_that_is_not_there_is_told_with_close_names(tmp_path):
    bare(tmp_path / "resnet.pt", nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"there is no file .*resnt.pt; close names are .*resnet.pt"):
        read_checkpoint(tmp_path / "resnt.pt")


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (["model", "ema"], "model"),
        (["ema", "state_dict"], "state_dict"),
        (["ema"], "ema"),
        (["optimizer", "teacher"], "teacher"),
    ],
)
def test_weights_are_chosen_by_the_usual_names(tmp_path, keys, chosen):
    torch.save({"epoch": 1, **{key: nn.Linear(2, 2).state_dict() for key in keys}}, tmp_path / "a.pt")
    foreign = read_checkpoint(tmp_path / "a.pt")
    assert foreign.key == chosen
    assert foreign.others == tuple(key for key in keys if key not in (chosen, "optimizer"))


def test_weights_that_are_named_are_taken(tmp_path):
    ema = nn.Linear(2, 2)
    torch.save({"model": nn.Linear(2, 2).state_dict(), "ema": {"module": ema.state_dict()}}, tmp_path / "a.pt")
    foreign = read_checkpoint(tmp_path / "a.pt", key="ema.module")
    assert torch.equal(foreign.weights["weight"], ema.weight)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({"student": {"w": torch.rand(2, 2)}, "teacher": {"w": torch.rand(2, 2)}}, {}, "student, teacher; choose one"),
        ({"model": {"w": torch.rand(2, 2)}}, {"key": "modl"}, "no weights under --key modl; where it does: model"),
        ({"epoch": 3}, {}, "holds no state dict"),
        (torch.rand(2), {}, "holds no state dict"),
        ({"w": torch.rand(2, 2), "n": 3}, {}, "n in .* is no tensor"),
        ({"w": torch.tensor([[torch.nan]])}, {}, "w in .* not finite"),
        ({"w": torch.rand(2, 2)}, {"without": ["v"]}, "--without v names nothing"),
    ],
)
def test_what_can_not_be_chosen_is_told(tmp_path, content, options, message):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / "a.pt", **options)


def test_two_different_networks_in_one_state_dict_are_refused_until_one_is_left_out(tmp_path):
    one, other = (nn.Linear(2, 2).state_dict() for _ in range(2))
    both = {f"module.model.fc.{name}": tensor for name, tensor in one.items()}
    both |= {f"module.attacker.model.fc.{name}": tensor for name, tensor in other.items()}
    torch.save({"model": both}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"two different networks .* --without module.attacker.model$"):
        read_checkpoint(tmp_path / "a.pt")
    kept = read_checkpoint(tmp_path / "a.pt", without=["module.attacker.model"])
    assert torch.equal(kept.weights["fc.weight"], one["weight"])


def test_different_normalisers_are_refused(tmp_path):
    weights = {"fc.weight": torch.rand(2, 2), "mean": torch.rand(3), "std": torch.rand(3)}
    torch.save({**weights, "b.mean": torch.rand(3), "b.std": torch.rand(3)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"different normalisers \(mean, b.mean\)"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("found", "mean", "std", "message"),
    [
        (None, (), (), "holds no normaliser; state it with --mean and --std"),
        (NORMALISER, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "but the checkpoint holds"),
        (None, (0.0, 0.0, 0.0), (), "a value for each channel, got 3 and 0"),
        (None, (123.7, 116.3, 103.5), (58.4, 57.1, 57.4), "divide by 255"),
        (None, (0.0, 0.0, 0.0), (0.0, 1.0, 1.0), r"std in \(0, 1\]"),
    ],
)
def test_a_normaliser_is_never_assumed(found, mean, std, message):
    with pytest.raises(ValueError, match=message):
        settle_normaliser(found, mean, std)


def test_a_stated_normaliser_is_taken():
    assert settle_normaliser(None, MEAN, STD) == settle_normaliser(NORMALISER, (), ()) == NORMALISER
    assert settle_normaliser(NORMALISER, MEAN, STD) == NORMALISER


def shapes(**layers: tuple[int, ...]) -> dict[str, Tensor]:
    return {f"{name.replace('__', '.')}.weight": torch.zeros(shape) for name, shape in layers.items()}


def pairs(source: dict[str, Tensor], target: dict[str, Tensor], *, ordered: bool = True) -> dict[str, str]:
    found = find_mapping(source, target, ordered=ordered)
    return {pair.source: f"{pair.target} by {pair.by}" for pair in found.pairs}


SQUARE = (4, 4, 3, 3)


@pytest.mark.parametrize("ordered", [True, False])
def test_layers_numbered_from_zero_are_not_shifted_onto_those_numbered_from_one(ordered):
    source = shapes(b__conv_0=SQUARE, b__conv_1=SQUARE, fc=(2, 4))
    target = shapes(b__conv1=SQUARE, b__conv2=SQUARE, fc=(2, 4))
    assert pairs(source, target, ordered=ordered) == {
        "b.conv_0": "b.conv1 by order",
        "b.conv_1": "b.conv2 by order",
        "fc": "fc by name",
    }


def test_units_are_ordered_by_their_numbers_not_by_their_letters():
    units = [1, 10, 2, 3, 4, 5, 6, 7, 8, 9]  # as a safetensors file lists them
    source = {f"units.{unit}.weight": torch.zeros(SQUARE) for unit in units}
    target = {f"blocks.{block}.weight": torch.zeros(SQUARE) for block in range(10)}
    found = find_mapping(source, target, ordered=False)
    assert all(pair.target == f"blocks.{int(pair.source.split('.')[1]) - 1}" for pair in found.pairs)


def test_a_shortcut_of_the_shape_of_the_last_layer_is_told_from_it_by_its_name():
    source = shapes(l__shortcut__0=(8, 4, 1, 1), l__conv1=(4, 4, 1, 1), l__conv3=(8, 4, 1, 1))
    target = shapes(s__conv1=(4, 4, 1, 1), s__conv3=(8, 4, 1, 1), s__downsample__conv=(8, 4, 1, 1))
    assert pairs(source, target, ordered=False) == {
        "l.shortcut.0": "s.downsample.conv by place",
        "l.conv1": "s.conv1 by place",
        "l.conv3": "s.conv3 by place",
    }


def test_a_projection_that_is_registered_first_is_told_by_its_name():
    # As torchvision's RegNet registers it; timm's has it last.
    source = shapes(block__proj=(8, 4, 1, 1), block__f__a=(8, 4, 1, 1), block__f__b=(8, 8, 3, 3))
    target = shapes(b__conv1=(8, 4, 1, 1), b__conv2=(8, 8, 3, 3), b__downsample=(8, 4, 1, 1))
    assert pairs(source, target) == {
        "block.proj": "b.downsample by place",
        "block.f.a": "b.conv1 by place",
        "block.f.b": "b.conv2 by place",
    }


def test_layers_whose_names_all_agree_are_paired_by_them_in_any_order():
    names = ("attn.proj", "other.proj", "mlp.a", "mlp.b")
    source = {f"x.{name}.weight": torch.zeros(4, 4) for name in names}
    target = {f"y.{name}.weight": torch.zeros(4, 4) for name in reversed(names)}
    assert pairs(source, target) == {f"x.{name}": f"y.{name} by place" for name in names}


def test_the_table_says_where_order_alone_decided():
    source = shapes(a=SQUARE, b=SQUARE, fc=(2, 4))
    target = shapes(conv=SQUARE, shortcut=SQUARE, head=(2, 4))
    table = find_mapping(source, target, ordered=True).table()
    told = [line.split("|")[1:5] for line in table.splitlines() if line.startswith("| ")][1:]
    assert [tuple(map(str.strip, row)) for row in told] == [
        ("a", "conv", "4x4x3x3", "order"),
        ("b", "shortcut", "4x4x3x3", "order"),
        ("fc", "head", "2x4", "place"),
    ]
    assert table.endswith("2 of 3 layers were told from others of equal shapes by order alone")


def test_order_is_that_of_registration_whatever_the_names_have_in_common():
    source = shapes(a1=SQUARE, b=SQUARE, a2=SQUARE, fc=(2, 4))
    target = shapes(p=SQUARE, q=SQUARE, r=SQUARE, fc=(2, 4))
    assert pairs(source, target) == {"a1": "p by order", "b": "q by order", "a2": "r by order", "fc": "fc by name"}


def test_where_only_order_could_tell_and_there_is_none_the_file_is_refused():
    source, target = shapes(a=SQUARE, b=SQUARE), shapes(conv=SQUARE, shortcut=SQUARE)
    with pytest.raises(
        ValueError, match=r"a, b have equal shapes, .* safetensors file does not keep; give .*--original"
    ):
        find_mapping(source, target, ordered=False)


class Anonymous(nn.Module):
    """Layers whose names tell nothing, registered in another order than that of the alphabet."""

    def __init__(self):
        super().__init__()
        self.z, self.y, self.x = conv(3, 4), conv(4, 4), conv(4, 4)
        self.b = nn.Linear(4, 5)


def test_an_original_gives_a_safetensors_file_its_order_back(tmp_path):
    original = Anonymous()
    save_file(original.state_dict(), tmp_path / "a.safetensors")
    foreign = read_checkpoint(tmp_path / "a.safetensors").in_order_of(original)
    assert (list(foreign.weights), foreign.ordered) == (list(original.state_dict()), True)
    target = shapes(stem=(4, 3, 3, 3), one=SQUARE, two=SQUARE)
    target |= {"fc.weight": torch.zeros(5, 4), "fc.bias": torch.zeros(5)}
    assert find_mapping(foreign.weights, target, ordered=foreign.ordered).names["y.weight"] == "one.weight"


def test_modules_are_opened_until_both_sides_hold_the_same():
    # A norm at the end of the last unit here, on its own there; the stem's norm has the same shape.
    source = shapes(stem__conv=(4, 3, 3, 3), stem__bn=(4,), unit__conv=SQUARE, unit__bn=(4,))
    target = shapes(conv1=(4, 3, 3, 3), bn1=(4,), layer__conv=SQUARE, norm=(4,))
    assert pairs(source, target) == {
        "stem.conv": "conv1 by place",
        "stem.bn": "bn1 by order",
        "unit.conv": "layer.conv by place",
        "unit.bn": "norm by order",
    }


def test_a_linear_layer_becomes_a_1x1_convolution_and_back():
    linear, pointwise = shapes(fc=(5, 4)), shapes(head=(5, 4, 1, 1))
    assert pairs(linear, pointwise) == {"fc": "head by place"}
    assert pairs(pointwise, linear) == {"head": "fc by place"}


def test_layers_without_a_partner_are_named_on_both_sides():
    source = shapes(conv1=SQUARE, extra=(3, 4), more=(7,), fc=(2, 4))
    target = shapes(conv1=SQUARE, norm=(4,), fc=(2, 4))
    with pytest.raises(
        ValueError,
        match=r"extra.weight \(3x4\), more.weight \(7\) of the checkpoint and norm.weight \(4\) of the architecture",
    ):
        find_mapping(source, target, ordered=True)


def test_a_network_of_another_depth_is_refused(tmp_path):
    bare(tmp_path / "a.pt", cifar_resnet())
    architecture, model_args = CNN
    with pytest.raises(ValueError, match=r"without a partner are none of the checkpoint and layer4\.2\.conv1"):
        convert(read_checkpoint(tmp_path / "a.pt"), architecture, {**model_args, "layers": [2, 2, 2, 3]})


def test_a_stage_that_is_never_used_is_refused_until_it_is_left_out(tmp_path):
    original = randomised(WideNet(5, idle=True))
    parallel(tmp_path / "a.pt", original)
    with pytest.raises(ValueError, match=r"are sub_block1\.layer\.0\..* with --without"):
        convert(read_checkpoint(tmp_path / "a.pt"), *WIDE)
    foreign = read_checkpoint(tmp_path / "a.pt", without=["sub_block1"])
    assert_same_logits(convert(foreign, *WIDE), original)


@pytest.mark.parametrize(
    ("weights", "classes"),
    [
        (shapes(fc1=(9, 4), fc2=(5, 9)), 5),
        (shapes(hidden=(9, 4), output=(5, 9)), 5),
        # As a safetensors file lists a ConvNeXt and a VGG.
        (shapes(head__fc=(5, 4), stages__0__mlp__fc1=(8, 4), stages__0__mlp__fc2=(4, 8)), 5),
        (shapes(classifier__0=(9, 4), classifier__3=(9, 9), classifier__12=(5, 9)), 5),
        (shapes(conv=SQUARE, head__fc=(5, 4, 1, 1)), 5),
    ],
)
def test_classes_are_counted_at_the_last_layer(weights, classes):
    assert count_classes(weights) == classes


def test_weights_without_a_last_layer_are_refused():
    with pytest.raises(ValueError, match="no linear layer"):
        count_classes(shapes(conv=SQUARE))


def test_half_precision_is_widened(tmp_path):
    original = randomised(cifar_resnet())
    bare(tmp_path / "a.pt", original.half())
    classifier = convert(read_checkpoint(tmp_path / "a.pt"), *CNN)
    assert {tensor.dtype for tensor in classifier.parameters()} == {torch.float32}
    assert_same_logits(classifier, original.float())


def test_an_original_proves_the_conversion_whether_it_normalises_or_not(tmp_path):
    bare(tmp_path / "a.pt", nn.Sequential(Normalise(), randomised(cifar_resnet())))
    foreign = read_checkpoint(tmp_path / "a.pt")
    classifier = convert(foreign, *CNN)
    for create, given in ((cifar_resnet, "normalised images"), (cifar_resnet_of_pixels, "pixels")):
        proof = prove(create(), foreign, classifier)
        assert proof.startswith("proven: logits of 4 random images are equal")
        assert proof.endswith(f"given {given}")


def test_the_proof_refuses_two_layers_that_changed_places(tmp_path):
    bare(tmp_path / "a.pt", randomised(cifar_resnet()))
    foreign = read_checkpoint(tmp_path / "a.pt")
    classifier = convert(foreign, *CNN)
    block = classifier.model.layer1[0]
    block.bn1, block.bn2 = block.bn2, block.bn1
    with pytest.raises(ValueError, match=r"does not give the logits of the original .*CifarNet, they differ by"):
        prove(cifar_resnet(), foreign, classifier)


def test_the_proof_refuses_another_activation(tmp_path):
    bare(tmp_path / "a.pt", randomised(CifarNet(PreActBlock, 5)))
    foreign = read_checkpoint(tmp_path / "a.pt")
    architecture, model_args = PREACT
    classifier = convert(foreign, architecture, {**model_args, "act_layer": "silu"})
    with pytest.raises(ValueError, match="compute differently"):
        prove(CifarNet(PreActBlock, 5), foreign, classifier)


@pytest.mark.parametrize(
    ("original", "message"),
    [
        (nn.Linear(2, 2), "has other weights than the checkpoint: only there is bias, only in the checkpoint bn1"),
        (CifarNet(CifarBlock, 6), "does not take the checkpoint .*size mismatch"),
    ],
)
def test_an_original_of_something_else_is_refused(tmp_path, original, message):
    bare(tmp_path / "a.pt", cifar_resnet())
    foreign = read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=message) as told:
        prove(original, foreign, convert(foreign, *CNN))
    assert "\n" not in str(told.value)


def test_torchvision_is_the_original_of_its_own_names_only(tmp_path):
    bare(tmp_path / "a.pt", torchvision.models.resnet18(num_classes=5))
    foreign = read_checkpoint(tmp_path / "a.pt")
    assert isinstance(stock_original("resnet18", foreign, 5), torchvision.models.ResNet)
    assert stock_original("resnet34", foreign, 5) is None
    assert stock_original("resnet18_cifar", foreign, 5) is None


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("torchvision.models", "must be MODULE:FUNCTION"),
        ("no_such_module:f", r"can't be built \(No module named"),
        ("torchvision.models:resnt18", r"can't be built \(.*resnt18"),
        ("builtins:dict", r"can't be built \(expected a torch.nn.Module, got dict|can't be built \(no signature"),
    ],
)
def test_an_original_that_can_not_be_built_is_told(where, message):
    with pytest.raises(ValueError, match=message):
        import_original(where, 5)


def test_an_original_is_built_for_the_classes_of_the_checkpoint():
    assert import_original("tests.conversion.test_conversion:cifar_resnet", 7).linear.out_features == 7
    assert import_original("tests.conversion.test_conversion:cifar_resnet_of_pixels", 7)[1].linear.out_features == 5


def test_channels_of_another_number_than_the_normaliser_are_told():
    with pytest.raises(ValueError, match="takes 1 channels and the normaliser has 3"):
        create_target(
            CNN[0], {**CNN[1], "in_chans": 1}, outputs=Outputs("classes", 5), normaliser=NORMALISER, image_size=32
        )


def circle() -> dict:
    inside = {}
    inside["model"] = inside
    return inside


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (circle(), "holds no state dict"),
        ({"fc.weight": torch.ones(2, 2).to_sparse()}, "fc.weight in .* is not stored as plain numbers"),
        ({"fc.weight": torch.ones(2, 2, device="meta")}, "fc.weight in .* is not stored as plain numbers"),
        ({"fc.weight": torch.ones(1).expand(2**20, 2**20)}, "fc.weight in .* is not stored as plain numbers"),
    ],
)
def test_tensors_that_are_more_than_what_is_stored_of_them_are_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("here", "there", "message"),
    [
        ({}, {"img_size": 32}, r"are pos_embed \(1x5x8\) of .* and pos_embed \(1x17x8\) of .*'{\"img_size\": 224}'"),
        ({}, {"embed_dim": 16}, r"are cls_token \(1x1x8\), .* and cls_token \(1x1x16\), .*check --architecture"),
    ],
)
def test_a_vit_of_another_size_is_told_by_the_tensor_that_differs(here, there, message):
    common = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
    source, target = (timm.create_model("vit_tiny_patch16_224", **common | own).state_dict() for own in (here, there))
    with pytest.raises(CheckpointError, match=message):
        find_mapping(source, target, ordered=True)


def test_a_size_that_the_architecture_does_not_take_is_told():
    with pytest.raises(
        ValueError, match=r"vit_tiny_patch16_224 takes images of 224x224 px, whatever --image-size says"
    ):
        create_target(
            "vit_tiny_patch16_224",
            {"depth": 1},
            outputs=Outputs("classes", 3),
            normaliser=Normaliser(MEAN, STD),
            image_size=32,
        )
