"""convert.py from a foreign file to a folder that plain timm loads."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from huggingface_hub import ModelCard, constants
from torch import nn

from recipes import convert
from recipes.convert import UNPROVEN, Claims, Config, Source
from robust_hub import hub
from tests.conversion.test_conversion import (
    CNN,
    MEAN,
    STD,
    Normalise,
    assert_same_logits,
    bare,
    cifar_resnet,
    madry,
    randomised,
    safetensors,
)
from tests.loopback_hub.server import File, Repository

ROOT = Path(__file__).parents[2]
CLAIMS = Claims(license="mit", data="CIFAR 10", threat="linf:8/255", method="PGD-AT(steps=7)", origin="a paper")


def config(tmp_path, **changes) -> Config:
    architecture, model_args = CNN
    source = Source(str(tmp_path / "a.pt"), mean=MEAN, std=STD)
    return Config(
        **{
            "source": source,
            "claims": CLAIMS,
            "architecture": architecture,
            "output": tmp_path / "out",
            "model_args": model_args,
            **changes,
        }
    )


@pytest.mark.slow
def test_stock_torchvision_is_proven_unasked_and_loads_in_a_process_with_timm_alone(tmp_path):
    original = randomised(torchvision.models.resnet18(num_classes=4))
    madry(tmp_path / "a.pt", original)
    options = "--architecture resnet18 --license mit --data cifar10 --threat linf:8/255 --method PGD-AT --image-size 32"
    command = [sys.executable, "recipes/convert.py", "--checkpoint", str(tmp_path / "a.pt"), *options.split()]
    command += ["--output", str(tmp_path / "out"), "--label-names", "ant", "bee", "cat", "dog"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={"PYTHONPATH": "."}, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "prefixes taken off: module.model., module.attacker.model." in done.stdout
    assert "41 of 41 layers keep their names" in done.stdout
    assert "are equal bit for bit to those of the original torchvision.models.resnet.ResNet" in done.stdout

    images = torch.rand(2, 3, 32, 32)
    torch.save(images, tmp_path / "images.pt")
    program = (
        "import timm, torch\n"
        f"model = timm.create_model('local-dir:{tmp_path}/out', pretrained=True).eval()\n"
        "cfg = model.pretrained_cfg\n"
        "mean, std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ('mean', 'std'))\n"
        f"torch.save(model((torch.load('{tmp_path}/images.pt') - mean) / std).detach(), '{tmp_path}/logits.pt')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        # One core or several round differently.
        wanted = original((images - mean) / std)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), wanted, rtol=1e-5, atol=1e-5)


def test_the_folder_tells_where_it_comes_from_and_under_which_licence(tmp_path):
    network = randomised(cifar_resnet())
    bare(tmp_path / "a.pt", network)
    convert.convert(config(tmp_path))
    digest = sha256((tmp_path / "a.pt").read_bytes()).hexdigest()
    told = json.loads((tmp_path / "out" / "config.json").read_text())["robustness"]
    assert told["origin"] == f"Converted from a.pt (sha256 {digest}), from a paper; the conversion is {UNPROVEN}."
    assert told["name"] == "resnet18_cifar.pgd-at_linf8_cifar-10"
    assert (told["license"], told["threat"], told["method"]) == ("mit", "linf:8/255", "PGD-AT(steps=7)")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: mit" in card
    assert digest in card
    classifier = hub.load(f"local-dir:{tmp_path / 'out'}")
    assert classifier.label_names == []
    assert_same_logits(classifier, network)


def test_what_was_found_and_the_mapping_are_shown_before_the_proof(tmp_path, capsys):
    safetensors(tmp_path / "a.safetensors", nn.Sequential(Normalise(), randomised(cifar_resnet())))
    source = Source(str(tmp_path / "a.safetensors"), original="tests.conversion.test_conversion:cifar_resnet_of_pixels")
    convert.convert(config(tmp_path, source=source))
    shown = capsys.readouterr().out
    parts = (
        "weights: 122 tensors, the file itself",
        "prefixes taken off: 1.",
        "normaliser in the file: Normaliser(",
        f"runs the Python code {source.original} of this machine",
        "| layer2.0.shortcut.0 | layer2.0.downsample.0 |",
        "| linear ",
        "proven: ",
        "written: timm.create_model",
    )
    places = [shown.index(part) for part in parts]
    assert places == sorted(places)
    assert "given pixels" in shown


def test_pixels_as_they_are_can_be_stated(tmp_path):
    network = randomised(cifar_resnet())
    bare(tmp_path / "a.pt", network)
    convert.convert(config(tmp_path, source=Source(str(tmp_path / "a.pt"), mean=(0.0,) * 3, std=(1.0,) * 3)))
    model = hub.load(f"local-dir:{tmp_path / 'out'}")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), network(images), rtol=1e-5, atol=1e-5)


def test_the_size_is_the_architectures_own_unless_stated(tmp_path):
    bare(tmp_path / "a.pt", cifar_resnet())
    convert.convert(config(tmp_path))
    convert.convert(config(tmp_path, output=tmp_path / "larger", image_size=64))
    sizes = [
        timm.create_model(f"local-dir:{tmp_path / name}", pretrained=True).pretrained_cfg["input_size"][1:]
        for name in ("out", "larger")
    ]
    assert list(map(tuple, sizes)) == [(32, 32), (64, 64)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"claims": replace(CLAIMS, license=" ")}, "--license must be stated"),
        ({"claims": replace(CLAIMS, data="")}, "--data must be stated"),
        ({"claims": replace(CLAIMS, method="")}, "--method must be stated"),
        ({"claims": replace(CLAIMS, threat="linf:8")}, "eps must be in"),
        ({"claims": replace(CLAIMS, label_names=("ant",))}, "has 5 classes and --label-names has 1 names"),
        ({"image_size": -1}, "--image-size must be at least 0"),
        ({"architecture": "resnet18"}, "does not fit the architecture"),
        ({"architecture": "resnt18"}, "timm knows no architecture 'resnt18'"),
        ({"original": "tests.conversion.test_conversion:WideStage"}, "can't be built"),
        ({"mean": (), "std": ()}, "holds no normaliser"),
        ({"key": "ema"}, "no weights under --key ema"),
    ],
)
def test_bad_input_is_told_and_nothing_is_written(tmp_path, changes, message):
    bare(tmp_path / "a.pt", cifar_resnet())
    of_source = {key: changes[key] for key in ("original", "mean", "std", "key") if key in changes}
    rest = {key: value for key, value in changes.items() if key not in of_source}
    bad = config(tmp_path, **rest)
    with pytest.raises(ValueError, match=re.escape(message)):
        convert.convert(replace(bad, source=replace(bad.source, **of_source)))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    bare(tmp_path / "a.pt", cifar_resnet())
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match="is there already; choose another --output"):
        convert.convert(config(tmp_path))


def test_a_checkpoint_of_a_repository_is_fetched_at_one_commit_and_named_by_it(tmp_path, empty_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    original = randomised(torchvision.models.resnet18(num_classes=4))
    madry(tmp_path / "a.pt", original)
    content = (tmp_path / "a.pt").read_bytes()
    repository = empty_hub.add(Repository("models", "tiny-org/net", private=False), author="writer")
    commit = repository.commit({"weights/linf 4.pt": File(content, lfs=True)}, "Weights.", author="writer").id
    repository.commit({"weights/linf 4.pt": File(b"other", lfs=True)}, "Others.", author="writer")
    bad = config(tmp_path)
    source = replace(bad.source, checkpoint=f"hf-hub:tiny-org/net@{commit}:weights/linf 4.pt", mean=(), std=())
    convert.convert(replace(bad, source=source, architecture="resnet18", model_args={}, image_size=32))
    told = json.loads((tmp_path / "out" / "config.json").read_text())["robustness"]["origin"]
    place = f"hf-hub:tiny-org/net@{commit}:weights/linf 4.pt"
    assert told.startswith(f"Converted from {place} (sha256 {sha256(content).hexdigest()}), from a paper")
    loaded = hub.load(f"local-dir:{tmp_path / 'out'}")
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images), original((images - mean) / std))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("https://example.org/a.pt", "is an address, and nobody can tell what it gives tomorrow; download the file"),
        ("hf-hub:tiny-org/net", "must be named hf-hub:ORG/NAME:FILE, got hf-hub:tiny-org/net"),
        ("hf-hub:tiny-org/net:../../a.pt", "must be named hf-hub:ORG/NAME:FILE"),
        ("hf-hub:tiny-org/net:gone.pt", "the Hub did not give gone.pt of tiny-org/net (there is no such repository"),
        ("gone.pt", "there is no checkpoint gone.pt; give a file, or hf-hub:ORG/NAME:FILE"),
    ],
)
def test_a_checkpoint_that_is_nowhere_is_told(tmp_path, empty_hub, name, message):
    bad = config(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        convert.convert(replace(bad, source=replace(bad.source, checkpoint=name)))


def test_a_plain_checkpoint_needs_no_threat_and_its_card_claims_none(tmp_path):
    bare(tmp_path / "a.pt", randomised(cifar_resnet()))
    convert.convert(config(tmp_path, claims=replace(CLAIMS, threat="", method="plain")))
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert "# resnet18_cifar.plain_cifar-10" in card.text
    assert "Nobody made it robust" in card.text
    assert "Threat model" not in card.text
    assert not {"adversarial-robustness", "linf", ""} & set(card.data.tags)
