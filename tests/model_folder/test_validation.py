"""Whatever a downloaded folder holds, nothing is run, nothing grows without bounds, and one error type comes out."""

import json
import random
import struct

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from robust_hub import hub
from robust_hub.errors import CheckpointError
from robust_hub.hub import check_folder, list_models, verify

# The fuzz below is drawn anew by nobody: the same on every run.
ROUNDS = 20


def rewrite(folder, change) -> None:
    """Changes config.json, in place or by what `change` gives back."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(change(config) or config))


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(config):
        place = config
        for key in path:
            place = place[key]
        place[last] = value

    return change


def load_and_read(name: str) -> None:
    hub.load(name)
    _ = hub.open_folder(name).provenance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: [config], "must hold a JSON object, got list"),
        (put("architecture", "no_such_net"), "timm knows no architecture 'no_such_net'"),
        (put("architecture", "vit_tiny_patch16_22"), "close names are vit_tiny_patch16_224"),
        (put("architecture", "hf-hub:evil/net"), "must name an architecture of timm's, got 'hf-hub:evil/net'"),
        (put("architecture", 7), "must name an architecture of timm's, got 7"),
        (put("model_args", []), "model_args must be an object, got list"),
        (put("model_args", "checkpoint_path", "/etc/passwd"), "model_args may not have 'checkpoint_path'"),
        (put("model_args", "pretrained_cfg", {"url": "http://evil"}), "model_args may not have 'pretrained_cfg'"),
        (put("model_args", "pretrained_strict", False), "model_args may not have 'pretrained_strict'"),
        (put("pretrained_cfg", "input_size", [1, 4096, 4096]), "input_size must be channels, height and width"),
        (put("model_args", "act_layer", "../evil"), r"\['act_layer'\] must be a plain value .* got '../evil'"),
        (put("model_args", "act_layer", "hf-hub:evil"), r"\['act_layer'\] must be a plain value"),
        (put("model_args", "embed_dim", 10**9), r"\['embed_dim'\] must be a plain value up to 32,768"),
        (put("model_args", "drop_rate", float("nan")), r"\['drop_rate'\] must be a plain value"),
        (put("model_args", "a b", 1), "model_args may not have 'a b'"),
        (put("model_args", "depth", 4000), "describes more layers than the"),
        (put("model_args", "embed_dim", 8192), r"more than [\d,]+ bytes, far more than model.safetensors has"),
        (
            lambda config: {**config, "architecture": "vit_giant_patch14_224", "model_args": {}},
            r"describes a network that has more than [\d,]+ bytes",
        ),
        (put("model_args", "img_size", [32768, 32768]), r"describes a network that has more than [\d,]+ bytes"),
        (put("model_args", "embed_dim", -8), r"can't be loaded \("),
        (put("model_args", "no_such_option", 1), r"can't be loaded \("),
        (put("pretrained_cfg", "input_size", [3, 0, 3]), "input_size must be channels, height and width"),
        (put("pretrained_cfg", "input_size", [10**9, 8, 8]), "input_size must be channels, height and width"),
        (put("pretrained_cfg", "mean", ["a"]), "mean must be 1 numbers, one a channel"),
        (put("pretrained_cfg", "std", [0.0]), "std must be 1 numbers, one a channel"),
        (put("pretrained_cfg", "custom_load", "hf"), "weights in a format of its own"),
        (put("pretrained_cfg", 3), "pretrained_cfg must be an object, got int"),
        (put("num_classes", "many"), "num_classes must be a number"),
        (put("label_names", ["a"]), "1 label_names do not fit 3 classes"),
        (put("robustness", {"name": 3}), "is none of ours"),
        (put("robustness", "much"), "robustness must be an object, got str"),
    ],
)
def test_a_config_that_is_not_plain_is_refused(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_and_read(f"local-dir:{folder}")


def test_a_config_as_deep_as_the_sea_is_refused(folder):
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    with pytest.raises(CheckpointError, match=r"config.json is not readable JSON"):
        hub.load(f"local-dir:{folder}")


def test_a_config_as_large_as_a_film_is_refused(folder):
    with (folder / "config.json").open("wb") as file:
        file.truncate(2**26)
    with pytest.raises(CheckpointError, match="more than the 33,554,432 it may have"):
        hub.load(f"local-dir:{folder}")


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 100) + b"{",
        struct.pack("<Q", 8) + b"not json",
        struct.pack("<Q", 2) + b"{}",
        b"",
        b"PK\3\4 a zip",
        struct.pack("<Q", 66) + b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}' + b"1234",
    ],
)
def test_a_malformed_or_oversized_safetensors_header_is_refused(folder, header):
    (folder / "model.safetensors").write_bytes(header)
    with pytest.raises(CheckpointError):
        hub.load(f"local-dir:{folder}")


def test_a_pickle_beside_the_weights_is_never_read(folder, tmp_path):
    class Harm:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'harmed')!r}, 'w')",))

    for name in ("pytorch_model.bin", "model.pth", "checkpoint.pt"):
        torch.save(Harm(), folder / name)
    hub.load(f"local-dir:{folder}")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no model.safetensors in it"):
        hub.load(f"local-dir:{folder}")
    assert not (tmp_path / "harmed").exists()


def test_every_stock_architecture_passes_as_timm_saves_it(tmp_path):
    # One of each kind of argument: nested lists, floats, None, booleans, layer names.
    networks = {
        "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8], "patch_size": 2, "drop_path_rate": 0.1},
        "resnet10t": {"channels": [8, 8, 8, 16], "output_stride": 8, "act_layer": "silu"},
        "vit_tiny_patch16_224": {"img_size": [16, 16], "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2},
    }
    for architecture, arguments in networks.items():
        model = timm.create_model(architecture, num_classes=3, **arguments).eval()
        timm.models.save_for_hf(model, str(tmp_path / architecture), model_args=arguments, safe_serialization=True)
        loaded = hub.load(f"local-dir:{tmp_path / architecture}").eval()
        images = torch.rand(2, *loaded.input_size)
        with torch.no_grad():
            assert torch.equal(loaded(images), model((images - loaded.mean) / loaded.std))


HOSTILE = [None, True, -1, 0, 10**18, 1e308, float("nan"), "", "../../x", "<script>", "\0", "a" * 10_000, [], {}, [[]]]


def mutated(value, draw: random.Random):
    """Puts something hostile somewhere into plain values, or takes something away."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(sorted(value))
        if draw.random() < 0.15:
            return {name: inner for name, inner in value.items() if name != key}
        return {**value, key: mutated(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.7:
        place = draw.randrange(len(value))
        return [*value[:place], mutated(value[place], draw), *value[place + 1 :]]
    return draw.choice(HOSTILE)


def broken(content: bytes, draw: random.Random) -> bytes:
    """Cuts a file, or changes, adds or repeats bytes of it."""
    place = draw.randrange(len(content))
    return draw.choice(
        [
            content[:place],
            content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :],
            content[:place] + draw.randbytes(8) + content[place:],
            draw.randbytes(place % 64) + content,
        ]
    )


@pytest.fixture
def complete(folder):
    """A folder with evidence; of what, is not the point here."""
    evidence = {
        "indices": torch.tensor([1, 2]),
        "predicted": torch.tensor([1, 1]),
        "scale": torch.tensor([0.01, 0.01]),
        "perturbation": torch.ones(2, 1, 16, 16, dtype=torch.int16),
    }
    save_file(evidence, folder / "evidence.safetensors")
    assert load_file(folder / "evidence.safetensors")
    return folder


READ = (lambda folder: folder.provenance, lambda folder: folder.info, lambda folder: folder.lineage())
FILES = ["README.md", "config.json", "evaluation.json", "model.safetensors", "evidence.safetensors"]


@pytest.mark.parametrize("file", FILES)
def test_only_our_own_error_comes_out_of_a_broken_folder(complete, file):
    draw, whole, refused = random.Random(file), (complete / file).read_bytes(), 0
    uses = [hub.load, *(lambda name, read=read: read(hub.open_folder(name)) for read in READ)]
    uses += [verify, lambda _: check_folder(complete)]
    for number in range(ROUNDS):
        as_values = file.endswith(".json") and number % 3
        content = json.dumps(mutated(json.loads(whole), draw)).encode() if as_values else broken(whole, draw)
        (complete / file).write_bytes(content)
        for use in uses:
            try:
                use(f"local-dir:{complete}")
            except CheckpointError:
                refused += 1
        list_models(folder=complete.parent)
    # The evidence above is nothing's, so verifying always refuses.
    assert refused >= ROUNDS
