"""One process and several train to the same weights, and evaluate to the same masks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.two_processes import RUNS

SCRIPT, ROOT = "tests.training.two_processes", Path(__file__).parents[2]
# `accelerate launch --cpu` starts one process whatever it is asked for; this starts two that talk over gloo.
ON_CPU = {**os.environ, "ACCELERATE_USE_CPU": "true"}
ONE_PROCESS = ("--quiet", "--num_machines", "1", "--num_processes", "1")
TWO_PROCESSES = ("--quiet", "--multi_gpu", "--num_machines", "1", "--num_processes", "2", "--main_process_port", "0")


def launch(folder: Path, parts: int, *options: str) -> dict:
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    command = [accelerate, "launch", *options, "-m", SCRIPT, str(folder), str(parts)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ON_CPU, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What came of the same batches on one process in four steps, on two, and on two in two accumulated steps each."""
    layouts = {
        "one": (4, *ONE_PROCESS),
        "two": (1, *TWO_PROCESSES),
        "accumulated": (2, *TWO_PROCESSES),
    }
    return {name: launch(tmp_path_factory.mktemp(name), *options) for name, options in layouts.items()}


def test_as_many_processes_ran_as_were_asked_for(results):
    counts = {layout: {int(run["processes"]) for run in result.values()} for layout, result in results.items()}
    assert counts == {"one": {1}, "two": {2}, "accumulated": {2}}


SAME = [(layout, method) for layout in ("two", "accumulated") for method in ("plain", "rrm", "kd")]
# Their distances are shares of a mean over the images at a time, which are a quarter of a batch in both layouts.
QUARTERS = [("accumulated", "igam"), ("accumulated", "lifelong")]


@pytest.mark.parametrize(("layout", "method"), [*SAME, *QUARTERS])
def test_a_student_without_batchnorm_gets_the_same_weights_from_any_layout(results, layout, method):
    # Methods with random starts draw other noise on other processes, so only these five can agree; 1e-5 is the
    # rounding of float32 sums taken in another order.
    difference = results[layout][f"vit-{method}"]["weights"] - results["one"][f"vit-{method}"]["weights"]
    assert difference.abs().max() <= 1e-5


@pytest.mark.parametrize("layout", ["two", "accumulated"])
@pytest.mark.parametrize(("student", "method"), RUNS)
def test_all_processes_hold_the_same_weights_under_every_method(results, layout, method, student):
    # The processes see other images, so weights that agree to the bit were trained on synchronised gradients.
    assert results[layout][f"{student}-{method}"]["spread"] == 0


def test_two_processes_evaluate_to_the_masks_of_one(results):
    one, two = results["one"]["vit-plain"], results["two"]["vit-plain"]
    assert len(one["clean"]) == 80
    assert torch.equal(one["clean"], two["clean"])
    assert torch.equal(one["robust"], two["robust"])


def test_at_eps_zero_robust_accuracy_is_clean_accuracy_exactly(results):
    for result in results["one"].values():
        assert torch.equal(result["clean"], result["robust"])
