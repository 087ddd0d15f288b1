"""What the methods promise, on real digits: robustness without one adversarial example in the student's training."""

from pathlib import Path

import pytest

from recipes import transfer
from recipes.transfer import Config
from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.training import TrainingConfig

pytestmark = pytest.mark.slow
TEACHER = Path(__file__).parents[2] / "model_cards" / "small_cnn_grey.trades_linf0.1_digits"


@pytest.fixture(scope="module")
def robust(tmp_path_factory) -> dict[str, float]:
    """Robust accuracy of a student a quarter of the teacher's size, by method, at an eps where plain training fails."""
    methods = {"plain": transfer.plain, "kd": transfer.kd, "pag": transfer.pag}
    accuracy = {}
    for name, method in methods.items():
        config = Config(
            teacher=f"local-dir:{TEACHER}",
            student="small_cnn_grey",
            student_args={"channels": [16, 32, 64]},
            source=Source("digits", augmentation="none", test_images=60),
            output=Output(tmp_path_factory.mktemp(name) / "run"),
            threat="linf:0.15",
            training=TrainingConfig(epochs=6, batch_size=64, optimizer="adamw", lr=3e-3, weight_decay=0.05),
        )
        accuracy[name] = method(config).evaluation.robust_accuracy.value
    return accuracy


@pytest.mark.parametrize("method", ["plain", "kd"])
def test_clean_training_and_clean_distillation_are_not_robust(robust, method):
    assert robust[method] <= 0.05


def test_the_input_gradients_of_a_teacher_pass_robustness_on(robust):
    assert robust["pag"] >= 0.2
