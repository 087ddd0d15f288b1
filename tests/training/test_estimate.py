"""A plan tells the cost and leaves everything as it was."""

import copy

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from robust_hub.data import Source, load_data, training_loader
from robust_hub.methods import IGAM, KD, IGAMOptions
from robust_hub.models import PixelClassifier, Teacher, create_classifier
from robust_hub.training import TrainingConfig
from robust_hub.training.estimate import CostEstimate, estimate_cost


def create() -> PixelClassifier:
    arguments = {"layers": (1, 1, 1, 1), "channels": (4, 4, 4, 8)}
    return create_classifier("resnet18_cifar", arguments, num_classes=4, image_shape=(3, 8, 8))


@pytest.fixture
def loader():
    rows = load_data(Source("synthetic")).train
    return training_loader(
        rows, create().preprocessing, batch_size=96, augmentation="none", seed=0, device=torch.device("cpu")
    )


def test_a_rehearsal_counts_the_steps_and_times_one(loader):
    estimate = estimate_cost(Accelerator(cpu=True), KD(create(), Teacher(create())), loader, TrainingConfig(epochs=5))
    assert estimate.steps == 5 * 3
    assert 0 < estimate.seconds < 600
    assert 2**25 < estimate.memory < estimate.fits


def test_a_rehearsal_meets_the_dearest_step_of_a_method_that_is_dear_at_some_steps_only(loader):
    rare, always = (
        estimate_cost(
            Accelerator(cpu=True),
            IGAM(create(), Teacher(create()), IGAMOptions(period=period, start=start)),
            loader,
            TrainingConfig(epochs=4),
        )
        for period, start in ((2, 0.5), (1, 0.0))
    )
    assert rare.passes == always.passes


def test_a_rehearsal_leaves_weights_statistics_counters_and_random_numbers_alone(loader):
    objective = KD(create(), Teacher(create()))
    before = copy.deepcopy(objective.state_dict())
    state = torch.random.get_rng_state()
    estimate_cost(Accelerator(cpu=True), objective, loader, TrainingConfig(epochs=1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in objective.state_dict().items())
    assert all(passes.forward == 0 for passes in objective.passes().values())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_plan_that_is_tight_says_how_to_make_it_fit():
    gib = 2**30
    assert str(CostEstimate(10, 128, 90.0, 2 * gib, 8 * gib)) == (
        "plan: 10 steps of 128 images, about 90 s of training and 2.0 of 8.0 GiB a process, by a rehearsal of two steps"
    )
    assert "this is tight: lower --batch-size" in str(CostEstimate(10, 128, 7300.0, 8 * gib, 8 * gib))


def test_a_step_that_does_not_fit_is_told_with_what_to_do(loader):
    objective = KD(create(), Teacher(create()))

    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    objective.student.model.forward_features = too_large
    with pytest.raises(ValueError, match=r"does not fit into the memory of cpu; lower --batch-size, divide each batch"):
        estimate_cost(Accelerator(cpu=True), objective, loader, TrainingConfig(epochs=1))


def test_a_batch_of_one_image_is_told_with_what_batch_norm_needs():
    rows = load_data(Source("synthetic")).train
    one = training_loader(
        rows, create().preprocessing, batch_size=1, augmentation="none", seed=0, device=torch.device("cpu")
    )
    message = (
        "BatchNorm needs at least 2 images at a time, and --batch-size 1, .* leaves it 1; say --batch-size 2 or more"
    )
    with pytest.raises(ValueError, match=message):
        estimate_cost(Accelerator(cpu=True), KD(create(), Teacher(create())), one, TrainingConfig(1, batch_size=1))


@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
def test_what_takes_second_derivatives_is_not_compiled(loader, backend):
    AcceleratorState._reset_state()
    compiling = Accelerator(cpu=True, dynamo_backend=backend)
    objective = IGAM(create(), Teacher(create()))
    with pytest.raises(
        ValueError, match=rf"IGAM .* torch does not compile; say --dynamo_backend no instead of {backend}"
    ):
        estimate_cost(compiling, objective, loader, TrainingConfig(epochs=1))
    AcceleratorState._reset_state()
