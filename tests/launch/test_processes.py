"""The processes of a run agree before it begins, and notice when one is gone."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from robust_hub.launch import processes
from robust_hub.launch.processes import check_same, check_shared
from tests.machines import Network, kill, network, weights_of
from tests.made_up import CNN, trained
from tests.recipes.test_evaluate import measured

VIT = '{"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}'
TRAIN = ["recipes/transfer.py", "plain", "--student", "vit_tiny_patch16_224", "--student-args", VIT]
TRAIN += ["--batch-size", "32", "--test-images", "16", "--threat", "linf:1/255"]
# What is left of the rounding of float32 sums taken in another order, after some hundred steps of a rate that does not
# make much of little; at the usual one two machines and one part by 0.01.
TRAIN += ["--lr", "0.02"]
ROUNDING = 1e-5


@pytest.fixture
def accelerator():
    return Accelerator(cpu=True)


@pytest.fixture
def others(monkeypatch):
    """Lets other processes answer."""

    def answer(*told) -> None:
        monkeypatch.setattr(processes, "gather_object", lambda own: [*own, *told])

    return answer


def test_processes_that_are_about_the_same_go_on(others):
    others({"method": "plain", "of the data images": "7"})
    check_same({"method": "plain", "of the data": {"images": 7}})


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (
            {"the version of timm": "1.0.30", "seed": "0"},
            "the version of timm is 1.0.31 on the first and 1.0.30 on pro",
        ),
        ({"the version of timm": "1.0.31", "seed": "1"}, "seed is 0 on the first and 1 on process 1"),
        ({"the version of timm": "1.0.31"}, "seed is 0 on the first and missing on process 1"),
    ],
)
def test_what_differs_is_told_with_both_values(others, there, told):
    others(there)
    with pytest.raises(ValueError, match=told):
        check_same({"the version of": {"timm": "1.0.31"}, "seed": 0})


def test_a_path_of_another_machine_is_told_by_its_last_name_only(others):
    others({"data": "/home/somebody/photos"})
    with pytest.raises(ValueError, match="data is pictures on the first and photos on process 1"):
        check_same({"data": "/home/me/pictures"})


def test_a_folder_that_is_not_shared_is_refused_and_left_as_it_was(accelerator, others, tmp_path):
    check_shared(accelerator, tmp_path)
    others(True, False)
    with pytest.raises(ValueError, match=r"process 2 does not see what the first one writes into .*; choose an --outp"):
        check_shared(accelerator, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def machines():
    with network() as between:
        yield between


def run(machines: Network, words: list[str], log: Path, **options) -> list[int]:
    """Runs a command to its end, and gives what each machine ended with."""
    return [machine.wait(timeout=300) for machine in machines.start_all(words, log, **options)]


def once_there(pattern: str, folder: Path) -> None:
    """Waits until a run has written something."""
    until = time.monotonic() + 200
    while not list(folder.glob(pattern)):
        assert time.monotonic() < until
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("on", [1, 2])
def test_a_run_of_which_a_machine_died_ends_in_a_sentence_and_goes_on_to_the_same_weights(machines, tmp_path, on):
    words = [*TRAIN, "--data", "synthetic", "--epochs", "24", "--output"]
    assert run(machines, [*words, str(tmp_path / "whole")], tmp_path / "whole.log") == [0, 0]
    first, second = machines.start_all([*words, str(tmp_path / "run")], tmp_path / "run.log")
    once_there("checkpoints/epoch-000002", tmp_path / "run")
    kill(second)
    assert first.wait(timeout=60) != 0
    said = (tmp_path / "run.0").read_text()
    assert said.count("error: another process of this run is gone") == 1
    assert not (tmp_path / "run" / "student").exists()
    assert run(machines, [*words, str(tmp_path / "run"), "--resume"], tmp_path / "again.log", on=on) == [0] * on
    torch.testing.assert_close(weights_of(tmp_path / "run"), weights_of(tmp_path / "whole"), atol=ROUNDING, rtol=0)


@pytest.mark.slow
def test_a_machine_of_another_version_is_refused_before_the_first_step(machines, tmp_path):
    told = tmp_path / "other" / "robust_hub-99.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: robust_hub\nVersion: 99\n")
    words = [*TRAIN, "--data", "synthetic", "--epochs", "1", "--output", str(tmp_path / "run")]
    codes = run(machines, words, tmp_path / "run.log", environments=[{}, {"PYTHONPATH": str(told.parent)}])
    assert all(codes)
    assert "the version of robust_hub is" in (tmp_path / "run.0").read_text()
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_another_copy_of_the_data_is_refused_before_the_first_step(machines, tmp_path):
    here, there = (photos(tmp_path / name / "photos", seed) for seed, name in enumerate(("here", "there")))
    words = [*TRAIN, "--data", "$PLACE/photos", "--epochs", "1", "--output", str(tmp_path / "run")]
    codes = run(machines, words, tmp_path / "run.log", environments=[{"PLACE": here}, {"PLACE": there}])
    assert all(codes)
    assert "all processes of a run need the same, and of the data sha256 train is" in (tmp_path / "run.0").read_text()
    assert not (tmp_path / "run").exists()


def photos(folder: Path, seed: int) -> str:
    """Writes a folder of pictures, two classes of 32, and names the one above it."""
    rng = np.random.default_rng(seed)
    for number in range(64):
        place = folder / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(16, 16, 3), dtype=np.uint8)).save(place / f"{number}.png")
    return str(folder.parent)


@pytest.mark.slow
def test_an_evaluation_of_which_a_machine_died_ends_as_on_one_machine(machines, tmp_path):
    model = trained(tmp_path / "models" / "resnet", "resnet18_cifar", CNN)
    words = ["recipes/evaluate.py", "--model", f"local-dir:{model}", "--data", "synthetic", "--test-images", "24"]
    words += ["--threat", "linf:1/255", "--version", "quick", "--honesty-images", "6", "--batch-size", "4", "--output"]
    assert run(machines, [*words, str(tmp_path / "whole")], tmp_path / "whole.log", on=1) == [0]
    first, second = machines.start_all([*words, str(tmp_path / "run")], tmp_path / "run.log")
    once_there("checkpoints/00000004.apgd-ce.safetensors", tmp_path / "run")
    kill(second)
    assert first.wait(timeout=60) != 0
    assert run(machines, [*words, str(tmp_path / "run"), "--resume"], tmp_path / "again.log") == [0, 0]
    whole, merged = (json.loads((tmp_path / run / "evaluation.json").read_text()) for run in ("whole", "run"))
    assert measured(merged) == measured(whole)
