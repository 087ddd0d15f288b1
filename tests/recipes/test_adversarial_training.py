"""adversarial_training.py makes a teacher that transfer.py and evaluate.py take."""

from pathlib import Path

import pytest

from recipes import adversarial_training, evaluate
from recipes.adversarial_training import Config
from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.methods import PGDOptions
from robust_hub.training import TrainingConfig

CNN = {"layers": [1, 1, 1, 1], "channels": [8, 8, 8, 16]}


def config(output: Path, epochs: int) -> Config:
    training = TrainingConfig(epochs=epochs, batch_size=32, optimizer="adamw", lr=0.01)
    source = Source("synthetic", test_images=24)
    return Config(source, Output(output), "resnet18_cifar", CNN, threat="linf:4/255", training=training)


@pytest.mark.parametrize("method", [adversarial_training.n_fgsm, adversarial_training.trades])
def test_a_method_writes_a_teacher_folder(tmp_path, method):
    method(config(tmp_path / "run", epochs=1))
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_teacher_trained_on_pgd_is_measured_the_same_by_evaluate(tmp_path, capsys):
    adversarial_training.pgd(config(tmp_path / "run", epochs=4), PGDOptions(steps=3))
    (row,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| pgd")]
    source = Source("synthetic", test_images=24)
    evaluate.main(
        evaluate.Config(
            f"local-dir:{tmp_path / 'run' / 'student'}",
            source,
            Output(tmp_path / "evaluation"),
            threat="linf:4/255",
            version="quick",
            honesty_images=4,
        )
    )
    (measured,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| clean")]
    # The attacks differ, so the robust accuracies may; clean accuracy may not.
    assert row.split("|")[2].strip() == measured.split("|")[2].strip()


def test_a_model_of_other_classes_is_refused(tmp_path):
    adversarial_training.n_fgsm(config(tmp_path / "run", epochs=1))
    with pytest.raises(ValueError, match=r"knows 4 classes .* and the data has 10"):
        evaluate.main(
            evaluate.Config(
                f"local-dir:{tmp_path / 'run' / 'student'}", Source("digits"), Output(tmp_path / "evaluation")
            )
        )
