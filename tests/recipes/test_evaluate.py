"""evaluate.py from a model folder to a report that can be confirmed, resumed and doubted."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from recipes import evaluate
from recipes.evaluate import Config
from robust_hub import hub
from robust_hub.attacks import AutoAttack
from robust_hub.data import Source, load_data, subset
from robust_hub.evaluation import Check, Report
from robust_hub.hub import verify
from robust_hub.launch import Output
from robust_hub.model_folder import Lineage, require_provenance, save
from robust_hub.models import create_classifier
from tests.made_up import CNN, change_perturbations, provenance, trained
from tests.made_up import quick_evaluation as config
from tests.recipes.test_transfer import NAMES
from tests.training.test_processes import ON_CPU, TWO_PROCESSES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model folder: a small ResNet."""
    return trained(tmp_path_factory.mktemp("models") / "resnet", "resnet18_cifar", CNN)


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("runs") / "finished"
    evaluate.main(config(folder, output))
    return output


def other_weights(folder: Path, place: Path) -> Path:
    """Copies a model folder, and changes one weight."""
    shutil.copytree(folder, place)
    weights = load_file(place / "model.safetensors")
    weights["fc.bias"] = weights["fc.bias"] + 1
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    return place


def told(output: Path) -> dict:
    return json.loads((output / "evaluation.json").read_text())


def test_a_report_tells_masks_costs_checks_and_what_was_measured_on_what(finished, folder):
    report = told(finished)
    assert report["evaluation"]["n"] == len(report["evaluation"]["clean"]) == 24
    assert report["evaluation"]["clean_accuracy"]["value"] == report["evaluation"]["clean"].count("1") / 24
    assert (
        report["evaluation"]["robust_accuracy"]["value"] == report["evaluation"]["survivors"]["apgd-t"].count("1") / 24
    )
    assert report["evaluation"]["attack"].startswith("APGD-CE and APGD-T, not AutoAttack")
    # Four classes: three others to aim at, and enough logits for the ratio.
    assert report["attacks"]["apgd-t"].endswith("targets=3, loss=targeted_difference_of_logits_ratio, steps=100)")
    assert report["costs"]["apgd-ce"]["attacked"] == report["evaluation"]["clean"].count("1")
    assert {check["name"] for check in report["checks"]} >= {"eps zero", "square", "transfer from a plain network"}
    assert report["search_precision"] == "float32"
    assert [round(255 * eps, 9) for eps in report["curve"]["eps"]] == [0, 0.25, 0.5, 0.75, 1, 1.5, 2]
    assert (report["curve"]["n"], report["curve"]["accuracy"][0]) == (
        6,
        report["evaluation"]["clean"][:6].count("1") / 6,
    )


def test_a_finished_run_leaves_no_journal_and_three_pictures(finished):
    assert {file.name for file in finished.iterdir()} == {
        "evaluation.json",
        "evidence.safetensors",
        "run.json",
        "accuracy_against_eps.png",
        "classes.png",
        "survivors.png",
    }
    for picture in finished.glob("*.png"):
        with Image.open(picture) as image:
            assert min(image.size) > 200


def test_the_evidence_of_a_finished_run_is_confirmed(finished):
    printed = str(verify(str(finished)))
    report = told(finished)["evaluation"]
    fallen = report["clean"].count("1") - report["survivors"]["apgd-t"].count("1")
    assert fallen > 0
    assert f"confirmed: {fallen} of {fallen} perturbations" in printed


def test_a_finished_run_is_told_again_without_being_run(finished, folder, capsys):
    before = (finished / "evaluation.json").stat().st_mtime_ns
    evaluate.main(replace(config(folder, finished), output=Output(finished, resume=True)))
    assert "after" in capsys.readouterr().out
    assert (finished / "evaluation.json").stat().st_mtime_ns == before


def test_evidence_of_other_weights_is_refused(finished, folder, tmp_path):
    copy = other_weights(folder, tmp_path / "resnet")
    report = told(finished)
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps({**report, "model": f"local-dir:{copy}"}))
    with pytest.raises(ValueError, match=r"the weights of .* are not those that"):
        verify(str(tmp_path / "run"))


def test_evidence_of_other_images_is_refused(finished, tmp_path):
    report = told(finished)
    shutil.copytree(finished, tmp_path / "run")
    report["data_sha256"] = "0" * 64
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"evidence\.safetensors is of other images than the evaluation"):
        verify(str(tmp_path / "run"))


def test_evidence_that_does_nothing_is_refused(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    change_perturbations(tmp_path / "run", lambda kept: replace(kept, perturbation=torch.zeros_like(kept.perturbation)))
    with pytest.raises(ValueError, match=r"perturbations do not do what .* says"):
        verify(str(tmp_path / "run"))


def test_a_folder_without_an_evaluation_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no evaluation\.json in"):
        verify(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "its seed is 0, not 1"),
        ({"threat": "linf:2/255"}, "holds another run"),
        ({"source": Source("synthetic", test_images=16)}, "holds another run"),
    ],
)
def test_the_state_of_another_evaluation_is_refused(finished, folder, change, message):
    other = replace(config(folder, finished), output=Output(finished, resume=True), **change)
    with pytest.raises(ValueError, match=message):
        evaluate.main(other)


def test_the_state_of_other_weights_is_refused(finished, folder, tmp_path):
    copy = other_weights(folder, tmp_path / "resnet")
    shutil.copytree(finished, tmp_path / "run")
    identity = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**identity, "model": f"local-dir:{copy}"}))
    resumed = replace(config(copy, tmp_path / "run"), output=Output(tmp_path / "run", resume=True))
    with pytest.raises(ValueError, match="its model_sha256 is"):
        evaluate.main(resumed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": Source("synthetic", test_images=0)}, "the number of images must be at least 1, got 0"),
        ({"honesty_images": 0}, "--honesty-images must be at least 1, got 0"),
        ({"batch_size": 0}, "--batch-size must be at least 1, got 0"),
        ({"threat": "linf:8"}, r"eps must be in \(0, 1\), got 8"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_written(folder, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        evaluate.main(config(folder, tmp_path / "run", **change))
    assert not (tmp_path / "run").exists()


# A fresh process, killed when everything but the report has been written.
KILLED_BEFORE_REPORT = """
import os, signal, sys
from pathlib import Path
import robust_hub.evaluation.surrogate as surrogate
from tests.recipes.test_evaluate import Report, config, evaluate
surrogate.STEPS = 20
Report.write = lambda report, folder: os.kill(os.getpid(), signal.SIGKILL)
evaluate.main(config(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.slow
def test_a_run_killed_before_its_report_goes_on_to_the_same_masks(finished, folder, tmp_path):
    settings = config(folder, tmp_path / "run")
    command = [sys.executable, "-c", KILLED_BEFORE_REPORT, str(folder), str(tmp_path / "run")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "evaluation.json").exists()
    evaluate.main(replace(settings, output=Output(tmp_path / "run", resume=True)))
    masks = [
        {key: told(run)["evaluation"][key] for key in ("clean", "survivors")} for run in (finished, tmp_path / "run")
    ]
    assert masks[0] == masks[1]


def measured(report: dict) -> dict:
    """Gives all that a report tells but where it was measured, and how long that took."""
    evaluation = {name: value for name, value in report["evaluation"].items() if name != "seconds"}
    costs = {stage: {**cost, "seconds": 0} for stage, cost in report["costs"].items()}
    rest = {name: value for name, value in report.items() if name not in ("command", "hardware")}
    return {**rest, "evaluation": evaluation, "costs": costs}


@pytest.mark.slow
def test_two_processes_measure_what_one_does(finished, folder, tmp_path):
    accelerate = Path(sys.executable).with_name("accelerate")
    arguments = f"--model local-dir:{folder} --data synthetic --test-images 24 --threat linf:1/255 --version quick"
    arguments += f" --honesty-images 6 --batch-size 24 --output {tmp_path / 'run'}"
    command = [str(accelerate), "launch", *TWO_PROCESSES, "recipes/evaluate.py", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ON_CPU, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert measured(told(tmp_path / "run")) == measured(told(finished))
    verify(str(tmp_path / "run"))


def test_weights_that_timm_does_not_know_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"must be named .* or as timm's weights \(.*\), got 'resnt18'"):
        evaluate.main(Config("resnt18", Source("synthetic"), Output(tmp_path / "run")))


def test_a_finished_evaluation_goes_into_the_folder_and_card_of_its_model(finished, folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "resnet"))
    identity = json.loads((finished / "run.json").read_text())
    output = Path(shutil.copytree(finished, tmp_path / "run"))
    (output / "run.json").write_text(json.dumps({**identity, "model": f"local-dir:{copy}"}))
    evaluate.main(replace(config(copy, output), output=Output(output, resume=True), update_card=True))
    assert (copy / "evidence.safetensors").read_bytes() == (finished / "evidence.safetensors").read_bytes()
    told = ModelCard.load(copy / "README.md")
    assert told.data.eval_results[1].metric_value == Report.read(finished).evaluation.robust_accuracy.value
    assert require_provenance(copy).pictures.keys() == {"accuracy_against_eps.png", "classes.png"}
    assert all((copy / picture).is_file() for picture in require_provenance(copy).pictures)


def test_a_card_on_the_hub_can_not_be_updated_from_here(tmp_path):
    with pytest.raises(ValueError, match="--update-card writes into a folder; download hf-hub:tiny-org/net"):
        evaluate.main(Config("hf-hub:tiny-org/net", Source("synthetic"), Output(tmp_path / "run"), update_card=True))


def nameless(folder: Path, place: Path) -> Path:
    """Copies a model folder with its logits backwards and without their names."""
    weights = load_file(other_weights(folder, place) / "model.safetensors")
    before = load_file(folder / "model.safetensors")
    rows = {name: before[name].flip(0).contiguous() for name in ("fc.weight", "fc.bias")}
    save_file({**weights, **rows}, place / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((place / "config.json").read_text())
    config.pop("label_names")
    config["pretrained_cfg"].pop("label_names", None)
    (place / "config.json").write_text(json.dumps(config))
    return place


def untrained(place: Path, side: int, label_names: list[str]) -> str:
    classifier = create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=(3, side, side))
    save(place, classifier, provenance("resnet18_cifar"), label_names=label_names)
    return f"local-dir:{place}"


@pytest.fixture
def hasty(monkeypatch):
    """Lets attacks take five steps, and makes up the one honesty check."""
    stages = AutoAttack.stages
    monkeypatch.setattr(
        AutoAttack, "stages", lambda self, n: {name: replace(each, steps=5) for name, each in stages(self, n).items()}
    )
    check = Check("square", 0.0, 0.02, flagged=False, meaning="share of images that Square fools")
    monkeypatch.setattr("robust_hub.evaluation.measurement.check_honesty", lambda *_, **__: [check])
    monkeypatch.setattr(evaluate, "passing_surrogates", lambda *_: [])


def test_the_labels_of_an_evaluation_follow_its_model_and_it_can_be_verified(folder, tmp_path, hasty):
    data, copy = load_data(Source("synthetic", test_images=8)), nameless(folder, tmp_path / "resnet")
    names = data.label_names[::-1]
    settings = config(copy, tmp_path / "run", label_names=tuple(names), honesty_images=1)
    evaluate.main(replace(settings, source=Source("synthetic", test_images=8)))
    report, rows = told(tmp_path / "run"), subset(data.test, 8)
    assert report["label_names"] == names
    assert [names[label] for label in report["evaluation"]["labels"]] == [data.label_names[n] for n in rows["label"]]
    # As the model is mostly right, and would hardly ever be with its labels in the other order.
    assert report["evaluation"]["clean"].count("1") > 4
    assert "confirmed" in str(verify(str(tmp_path / "run")))


def test_a_model_without_names_that_is_right_in_no_order_is_refused(tmp_path):
    copy = Path(untrained(tmp_path / "resnet", 16, []).removeprefix("local-dir:"))
    with pytest.raises(ValueError, match=r"tells no class names: in the order .* would be needed; .* --label-names"):
        evaluate.main(config(copy, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("side", "names", "message"),
    [
        (24, NAMES, "surrogate local-dir:other takes images of 3x24x24 and the model of 3x16x16"),
        (
            16,
            ["a", "b", "c", "d"],
            r"surrogate local-dir:other must know the classes of the data, but .* \(a, b, c, ...\)",
        ),
        (16, [], "surrogate local-dir:other must know the classes of the data, but the model tells no class names"),
    ],
)
def test_a_surrogate_that_does_not_fit_is_refused_before_anything_is_written(folder, tmp_path, side, names, message):
    surrogate = untrained(tmp_path / "other", side, names)
    with pytest.raises(ValueError, match=message):
        evaluate.main(config(folder, tmp_path / "run", surrogates=(surrogate,)))
    assert not (tmp_path / "run").exists()


def test_a_surrogate_that_lists_its_classes_otherwise_answers_in_the_order_of_the_data(tmp_path):
    data, images = load_data(Source("synthetic")), torch.rand(2, 3, 16, 16)
    torch.manual_seed(1)
    name = untrained(tmp_path / "other", 16, NAMES[::-1])
    surrogate = evaluate.open_surrogate(name, data, hub.load(name))
    torch.testing.assert_close(surrogate(images), hub.load(name).eval()(images).flip(1))


def test_what_nobody_asked_for_is_left_out_with_a_line(folder, tmp_path, capsys):
    teacher = untrained(tmp_path / "teacher", 24, NAMES)
    told = replace(provenance("resnet18_cifar"), teacher=Lineage(teacher, "0" * 64))
    student = create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=(3, 8, 8))
    save(tmp_path / "student", student, told, label_names=NAMES)
    opened = hub.open_folder(f"local-dir:{tmp_path / 'student'}")
    settings = config(tmp_path / "student", tmp_path / "run")
    found = evaluate.passing_surrogates(Accelerator(), settings, load_data(settings.source), student, opened)
    assert dict(found) == {}
    plain, other = capsys.readouterr().out.splitlines()
    assert plain.startswith("no plain network is trained for the honesty checks, as it would take images of 3x16x16")
    assert other.startswith(
        "the teacher is left out of the honesty checks: the surrogate local-dir:teacher takes images"
    )


def test_surrogates_of_one_name_are_all_kept():
    here, there = nn.Identity(), nn.Identity()
    called = evaluate.called_apart([("local-dir:/a/student", here), ("local-dir:/b/student", there)])
    assert list(called.items()) == [("local-dir:student", here), ("local-dir:student (2)", there)]


def test_curves_of_an_evaluation_are_refused(tmp_path):
    with pytest.raises(ValueError, match="--log-with tensorboard has no effect, as an evaluation has no curves"):
        Config("resnet18.a1_in1k", Source("synthetic"), Output(tmp_path, log_with="tensorboard"))


def test_evidence_of_large_images_stays_small_and_its_part_is_told(tmp_path, hasty, monkeypatch, capsys):
    torch.manual_seed(0)
    small = {"embed_dim": 12, "depth": 1, "num_heads": 1}
    classifier = create_classifier("vit_tiny_patch16_224", small, num_classes=4, image_shape=(3, 224, 224))
    folder, most = tmp_path / "vit", 400_000
    save(folder, classifier, provenance("vit_tiny_patch16_224"), label_names=NAMES)
    # So that two images that fell fit, of 150 kB each.
    monkeypatch.setattr("robust_hub.evaluation.evidence.MOST_BYTES", most)
    evaluate.main(config(folder, tmp_path / "run", threat="linf:8/255", honesty_images=4, update_card=True))
    report = Report.read(folder)
    evaluation, covered = report.evaluation, report.covered
    fallen = evaluation.clean & ~evaluation.robust
    assert fallen[:covered].sum() == 2 < fallen.sum()
    assert 2 * 3 * 224**2 < (folder / "evidence.safetensors").stat().st_size <= most
    assert f"| expected robustness | {100 * report.expected_robustness:.1f} | 4 |" in (folder / "README.md").read_text()
    part = f"the first {covered} of 24 images"
    assert f"evidence: perturbations of {part} are kept; of the others the robust" in capsys.readouterr().out
    assert f"The evidence covers {part}: of the others the robust" in (folder / "README.md").read_text()
    assert f"% of the first {covered} images, verified here" in str(verify(f"local-dir:{folder}", spot_check=0))
