"""A file that leaves Python answers as the classifier does, and tells what it is and nothing of its maker's machine."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from robust_hub.__main__ import main
from robust_hub.data import Source, load_test_data
from robust_hub.export import OPSET, OnnxClassifier, export_model, exporting
from robust_hub.hub import load_with_folder
from robust_hub.models import create_classifier
from tests.made_up import CNN, VIT, trained

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The folder of a classifier of the synthetic set."""
    return trained(tmp_path_factory.mktemp("export") / "model", "resnet18_cifar", CNN)


@pytest.fixture(scope="module")
def opened(model):
    classifier, folder = load_with_folder(f"local-dir:{model}")
    return classifier.eval(), folder, load_test_data(Source("synthetic"))


@pytest.fixture(scope="module")
def as_floats(opened, tmp_path_factory):
    return export_model(*opened, tmp_path_factory.mktemp("floats") / "model.onnx", images=20)


@pytest.fixture(scope="module")
def as_bytes(opened, tmp_path_factory):
    return export_model(*opened, tmp_path_factory.mktemp("bytes") / "model.onnx", pixels="uint8", images=20)


@pytest.fixture(scope="module")
def for_torch(opened, tmp_path_factory):
    return export_model(*opened, tmp_path_factory.mktemp("torch") / "model.pt2", format="torch-export", images=20)


def logits_of(file: Path, images: np.ndarray) -> np.ndarray:
    """Runs a file by the definition of ONNX's operators in numpy."""
    (logits,) = ReferenceEvaluator(str(file)).run(None, {"images": images})
    return logits


@pytest.mark.slow
def test_the_definition_of_onnx_gives_the_logits_of_the_classifier(as_floats, opened):
    with torch.no_grad():
        expected = opened[0](IMAGES).numpy()
    # Sums of at most 1,152 products of float32.
    np.testing.assert_allclose(logits_of(as_floats.file, IMAGES.numpy()), expected, atol=1e-4)


@pytest.mark.parametrize("n", [1, 3])
def test_a_file_takes_any_number_of_images(as_floats, opened, n):
    with torch.no_grad():
        torch.testing.assert_close(OnnxClassifier(as_floats.file)(IMAGES[:n]), opened[0](IMAGES[:n]), atol=1e-4, rtol=0)


def test_bytes_stand_for_their_255th_part(as_bytes, opened):
    levels = (255 * IMAGES).round().to(torch.uint8)
    with torch.no_grad():
        expected = opened[0](levels / 255).numpy()
    np.testing.assert_allclose(logits_of(as_bytes.file, levels.numpy()), expected, atol=1e-4)


def test_a_file_tells_what_it_is(as_floats, opened):
    written, (classifier, folder, _) = onnx.load(as_floats.file), opened
    told = {each.key: each.value for each in written.metadata_props}
    assert json.loads(told["labels"]) == classifier.label_names != []
    assert json.loads(told["mean"]) == classifier.mean.flatten().tolist()
    assert json.loads(told["std"]) == classifier.std.flatten().tolist()
    assert told["weights_sha256"] == folder.sha256
    assert told["model"] == folder.public_place
    assert told["license"] == ""
    assert (written.opset_import[0].version, OPSET) == (OPSET, 18)
    assert f"opset {OPSET}" in str(as_floats)
    onnx.checker.check_model(written, full_check=True)


def texts_of(file: Path) -> bytes:
    """Gives all bytes of a file, unpacked where it is an archive."""
    if not zipfile.is_zipfile(file):
        return file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize("exported", ["as_floats", "for_torch"])
def test_no_file_tells_of_the_machine(exported, request, model):
    texts = texts_of(request.getfixturevalue(exported).file)
    for folder in (Path(exporting.__file__).parents[2], Path(sys.prefix), Path(torch.__file__).parent, model.parent):
        assert str(folder).encode() not in texts
    assert not re.search(rb'File "[^"]*\.py"', texts)


def test_torch_alone_reads_what_is_for_torch(for_torch, opened, tmp_path):
    torch.save(IMAGES, tmp_path / "images.pt")
    program = (
        "import sys, torch\n"
        "logits = torch.export.load(sys.argv[1]).module()(torch.load(sys.argv[2]))\n"
        "assert not {'timm', 'robust_hub'} & set(sys.modules)\n"
        "print(logits.tolist())\n"
    )
    command = [sys.executable, "-c", program, str(for_torch.file), str(tmp_path / "images.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), opened[0](IMAGES), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("architecture", "model_args"),
    [
        ("vit_tiny_patch16_224", VIT),
        pytest.param(
            "convnext_atto",
            {"depths": [1, 1, 1, 1], "dims": [4, 4, 8, 8], "patch_size": 1},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_networks_of_other_kinds_can_be_exported(tmp_path, architecture, model_args):
    folder = trained(tmp_path / "model", architecture, model_args)
    classifier, folder = load_with_folder(f"local-dir:{folder}")
    done = export_model(classifier, folder, load_test_data(Source("synthetic")), tmp_path / "model.onnx", images=8)
    assert done.agreement.equal == done.agreement.n == 8
    assert done.agreement.difference < 1e-4


def test_a_file_that_answers_otherwise_is_never_written(tmp_path, opened, monkeypatch):
    torch.manual_seed(5)
    other = create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=(3, 16, 16)).eval()
    write = exporting.write_onnx

    def write_other(network, *others):
        network.model = other.model
        write(network, *others)

    monkeypatch.setattr(exporting, "write_onnx", write_other)
    with pytest.raises(ValueError, match=r"can't be exported as it is: largest difference .* of 20 equal"):
        export_model(*opened, tmp_path / "model.onnx", images=20)
    assert list(tmp_path.iterdir()) == []


def run(monkeypatch, capsys, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["robust_hub", "export", *words])
    try:
        main()
    except SystemExit as stopped:
        return stopped.code, *capsys.readouterr()
    return 0, *capsys.readouterr()


def test_the_command_checks_on_what_the_model_was_evaluated_on(tmp_path, monkeypatch, capsys):
    file = tmp_path / "model.pt2"
    words = ("small_cnn_grey.trades_linf0.1_digits", "--to", "torch-export", "--output", str(file), "--images", "8")
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 0, err
    assert file.is_file()
    assert "checked on 8 test images of digits: largest difference of a logit" in out


def test_a_model_without_an_evaluation_needs_data(model, tmp_path, monkeypatch, capsys):
    words = (f"local-dir:{model}", "--to", "onnx", "--output", str(tmp_path / "model.onnx"))
    code, _, err = run(monkeypatch, capsys, *words)
    assert code == 2
    assert err.endswith("was evaluated on no data set that is known here; name one with --data\n")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": "torch-export", "precision": "int8"}, "int8 is made by onnxruntime"),
        ({"file": "there/is/none/model.onnx"}, "there is no folder"),
        ({"file": "model"}, "is there already"),
        ({"images": 0}, "the number of images must be at least 1, got 0"),
    ],
)
def test_what_can_t_be_is_refused_in_one_sentence(opened, model, changes, told):
    options = {"file": "fresh.onnx", **changes}
    with pytest.raises(ValueError, match=told):
        export_model(*opened, model.parent / options.pop("file"), **options)
    assert {file.name for file in model.parent.iterdir()} == {"model"}
