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


# Those by which each kind of loop is seen: one network, with a teacher and second derivatives, BatchNorm.
FEW = [("vit", "plain"), ("vit", "igam"), ("resnet", "mixacm")]


def launch(folder: Path, parts: int, runs: list, *options: str) -> dict:
    accelerate = str(Path(sys.executable).with_name("accelerate"))
    chosen = [str(RUNS.index(run)) for run in runs]
    command = [accelerate, "launch", *options, "-m", SCRIPT, str(folder), str(parts), *chosen]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ON_CPU, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "results.pt", weights_only=True)


@pytest.fixture(scope="module", params=[FEW, pytest.param(RUNS, marks=pytest.mark.slow)], ids=["few", "all"])
def runs(request) -> list:
    return request.param


@pytest.fixture(scope="module")
def results(tmp_path_factory, runs):
    """What came of the same batches on one process in four steps, and on two in two accumulated steps each.

    Of all runs also on two without accumulating.
    """
    layouts = {"one": (4, *ONE_PROCESS), "accumulated": (2, *TWO_PROCESSES)}
    if runs == RUNS:
        layouts["two"] = (1, *TWO_PROCESSES)
    return {
        name: launch(tmp_path_factory.mktemp(name), parts, runs, *options)
        for name, (parts, *options) in layouts.items()
    }


def test_as_many_processes_ran_as_were_asked_for(results):
    counts = {layout: {int(run["processes"]) for run in result.values()} for layout, result in results.items()}
    assert counts == {layout: {1 if layout == "one" else 2} for layout in results}


def of(student: str, runs: list, *methods: str) -> list[str]:
    return [f"{name}-{method}" for name, method in runs if name == student and method in methods]


def test_a_student_without_batchnorm_gets_the_same_weights_from_any_layout(results, runs):
    # Methods with random starts draw other noise on other processes, so only these can agree. The distances of the last
    # two are shares of a mean over the images at a time, which are as many in two of the layouts.
    same = {"two": ("plain", "rrm", "kd"), "accumulated": ("plain", "rrm", "kd", "igam", "lifelong")}
    for layout in results.keys() & same.keys():
        for run in of("vit", runs, *same[layout]):
            difference = results[layout][run]["weights"] - results["one"][run]["weights"]
            # The rounding of float32 sums taken in another order.
            assert difference.abs().max() <= 1e-5, (layout, run)


def test_all_processes_hold_the_same_weights_under_every_method(results, runs):
    # The processes see other images, so weights that agree to the bit were trained on synchronised gradients.
    for layout, result in results.items():
        assert {run: told["spread"] for run, told in result.items() if told["spread"]} == {}, layout
        assert len(result) == len(runs)


def test_two_processes_evaluate_to_the_masks_of_one(results):
    one, two = results["one"]["vit-plain"], results["accumulated"]["vit-plain"]
    assert len(one["clean"]) == 80
    assert torch.equal(one["clean"], two["clean"])
    assert torch.equal(one["robust"], two["robust"])


def test_at_eps_zero_robust_accuracy_is_clean_accuracy_exactly(results):
    for result in results["one"].values():
        assert torch.equal(result["clean"], result["robust"])
