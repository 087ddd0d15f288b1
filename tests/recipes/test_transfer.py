"""transfer.py from the command line to the folder that plain timm loads."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recipes import transfer
from recipes.transfer import Config
from robust_hub.data import Source
from robust_hub.launch import Output
from robust_hub.methods import (
    ARDOptions,
    IGAMOptions,
    KDOptions,
    MixACMOptions,
    PAGOptions,
    RRMOptions,
    RSLADOptions,
)
from robust_hub.model_folder import require_provenance, save
from robust_hub.models import create_classifier
from robust_hub.training import FineTuningConfig, TrainingConfig
from tests.made_up import provenance
from tests.training.test_processes import ON_CPU, ONE_PROCESS, TWO_PROCESSES

ROOT = Path(__file__).parents[2]
NAMES = ["vertical", "horizontal", "diagonal", "antidiagonal"]
CNN = {"layers": [1, 1, 1, 1], "channels": [4, 4, 4, 16]}
VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}


def save_teacher(folder: Path, *, names=NAMES) -> str:
    torch.manual_seed(0)
    teacher = create_classifier("resnet18_cifar", CNN, num_classes=4, image_shape=(3, 16, 16))
    save(folder, teacher, provenance("resnet18_cifar"), label_names=names or [])
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    return save_teacher(tmp_path_factory.mktemp("teachers") / "teacher")


def config(teacher: str, output: Path, **changes) -> Config:
    options = {
        "student": "vit_tiny_patch16_224",
        "student_args": VIT,
        "source": Source("synthetic", test_images=16),
        "training": TrainingConfig(epochs=1, batch_size=96, lr=0.01),
        **changes,
    }
    return Config(teacher=teacher, output=Output(output), **options)


def launch(*arguments: str) -> subprocess.CompletedProcess:
    """Runs transfer.py on two CPU processes in bf16."""
    accelerate = Path(sys.executable).with_name("accelerate")
    options = [*TWO_PROCESSES, "--mixed_precision", "bf16"]
    command = [str(accelerate), "launch", *options, "recipes/transfer.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ON_CPU, check=False)


@pytest.mark.slow
def test_two_processes_in_bf16_with_accumulation_write_a_folder_that_timm_loads(tmp_path, teacher):
    output = tmp_path / "run"
    done = launch(
        *("rrm", "--projection", "--teacher", teacher, "--data", "synthetic", "--student", "vit_tiny_patch16_224"),
        *("--student-args", json.dumps(VIT), "--epochs", "2", "--batch-size", "96", "--output", str(output)),
        *("--log-with", "tensorboard", "--gradient-accumulation-steps", "2"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("| teacher") == 1
    assert "80 test images" in done.stdout
    student = output / "student"
    # What is usual is told, and kept as what it came to.
    assert done.stdout.count("training images are augmented: crop-flip\n") == 1
    assert json.loads((output / "run.json").read_text())["data_facts"]["augmentation"] == "crop-flip"
    assert json.loads((student / "evaluation.json").read_text())["source"]["augmentation"] == "crop-flip"
    names = {"README.md", "config.json", "evaluation.json", "model.safetensors"}
    assert {file.name for file in student.iterdir()} == names | {"accuracy_against_eps.png", "input_gradients.png"}
    for picture in student.glob("*.png"):
        Image.open(picture).verify()
    model = timm.create_model(f"local-dir:{student}", pretrained=True)
    assert model.pretrained_cfg["label_names"] == NAMES
    told = json.loads((student / "config.json").read_text())["robustness"]["training"]
    images = 2 * (288 // 96) * 96
    assert told["passes"]["student"] == {"forward": images, "backward": images}
    assert told["passes"]["teacher"] == {"forward": images, "backward": 0}
    assert "2 x (" in told["hardware"]
    assert "bf16" in told["hardware"]
    assert json.loads((output / "run.json").read_text())["gradient_accumulation"] == 2
    (curves,) = output.rglob("events.out.tfevents*")
    read = EventAccumulator(str(curves)).Reload()
    # Those that docs/transfer.md names.
    assert {"loss", "lr", "validation_clean", "validation_robust"} < set(read.Tags()["scalars"])
    assert [point.step for point in read.Scalars("loss")] == [1, 2]


@pytest.mark.slow
def test_accumulation_that_accelerate_launch_would_not_pass_on_is_refused(tmp_path, teacher):
    accelerate = [Path(sys.executable).with_name("accelerate"), "launch", *ONE_PROCESS]
    words = ["--gradient_accumulation_steps", "2", "recipes/transfer.py", "plain", "--teacher", teacher]
    words += ["--student", "resnet18_cifar", "--data", "synthetic", "--output", tmp_path / "run"]
    done = subprocess.run([*accelerate, *words], capture_output=True, text=True, cwd=ROOT, env=ON_CPU, check=False)
    assert "error: accelerate launch does not pass --gradient_accumulation_steps on; say --gradient-acc" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_bad_input_ends_in_one_sentence_and_writes_nothing(tmp_path, teacher):
    done = launch(
        "rrm",
        "--teacher",
        teacher,
        "--student",
        "convnext_ato",
        "--data",
        "synthetic",
        "--output",
        str(tmp_path / "run"),
    )
    assert done.returncode != 0
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "timm knows no architecture 'convnext_ato'; close names are convnext_atto" in told
    assert not (tmp_path / "run").exists()


def test_two_point_matching_trains_a_student_of_another_architecture(tmp_path, teacher):
    result = transfer.two_point(config(teacher, tmp_path / "run"))
    assert result.classifier.architecture == "vit_tiny_patch16_224"
    told = json.loads((tmp_path / "run" / "student" / "config.json").read_text())["robustness"]["training"]["passes"]
    images = told["teacher"]["forward"]
    assert told["teacher"]["backward"] == images > 0
    assert told["student"] == {"forward": 3 * images, "backward": 3 * images}


@pytest.mark.parametrize(
    "options", [IGAMOptions(), IGAMOptions(gradient_of="loss", divergence_weight=0.0, start=0.3, period=2, pool=2)]
)
def test_igam_trains_a_student_of_another_architecture(tmp_path, teacher, options):
    result = transfer.igam(config(teacher, tmp_path / "run"), options)
    assert result.classifier.architecture == "vit_tiny_patch16_224"
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "resnet18_cifr"}, "close names are .*resnet18_cifar"),
        ({"student_args": {**VIT, "num_heads": 3}}, "can't be built for 3x16x16 images"),
        ({"student": "resnet18_cifar", "student_args": {"layer": 3}}, "can't be built"),
        ({"student": "local-dir:nowhere", "student_args": {}}, "no model folder at nowhere"),
        ({"teacher": "local-dir:nowhere"}, "no model folder at nowhere"),
        ({"teacher": "resnet18"}, "resnet18 is an untrained network, which only a student can be"),
        ({"source": Source("./synthetik")}, "there is no folder"),
        ({"student_args": {**VIT, "in_chans": 2}}, "must take grey or colour images, got 3 and 2 channels"),
        ({"threat": "linf:2"}, r"eps must be in \(0, 1\), got 2"),
        ({"threat": "l3:0.1"}, "threat must be linf:EPS or l2:EPS"),
        ({"training": TrainingConfig(batch_size=500)}, "at most the 288 training images"),
    ],
)
def test_bad_input_is_told_before_training_and_leaves_the_output_untouched(tmp_path, teacher, changes, message):
    chosen = config(changes.pop("teacher", teacher), tmp_path / "run", **changes)
    with pytest.raises(ValueError, match=message):
        transfer.plain(chosen)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (lambda chosen: transfer.kd(chosen, KDOptions(temperature=0.0)), "KD needs temperature >= 0.1, got 0"),
        (lambda chosen: transfer.ard(chosen, ARDOptions(steps=0)), "PGD needs steps >= 1"),
        (lambda chosen: transfer.igam(chosen, IGAMOptions(noise=-1.0)), "IGAM needs noise >= 0, got -1"),
        (
            lambda chosen: transfer.rrm(chosen, RRMOptions(cross_entropy_weight=-1.0)),
            "RRM needs cross_entropy_weight >= 0",
        ),
        (
            lambda chosen: transfer.pag(chosen, PAGOptions(classes_per_image=5)),
            "classes_per_image between 1 and 4, .* got 5",
        ),
        (
            lambda chosen: transfer.mixacm(chosen, MixACMOptions(concentration=0.0)),
            "MixACM needs concentration >= 0.01, got 0",
        ),
        (
            lambda chosen: transfer.mixacm(chosen, MixACMOptions(stages=("block.0",))),
            "has no stage 'block.0'; .*blocks.0",
        ),
        (
            lambda chosen: transfer.mixacm(chosen, MixACMOptions(("blocks.0",), ("layer1", "layer2"))),
            "must be as many, got 1 and 2",
        ),
    ],
)
def test_an_option_out_of_range_is_told_before_training(tmp_path, teacher, method, message):
    with pytest.raises(ValueError, match=message):
        method(config(teacher, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_other_classes_is_trained_a_head_for_these_first(tmp_path, capsys):
    other = save_teacher(tmp_path / "teacher", names=["up", "down", "left", "right"])
    result = transfer.kd(config(other, tmp_path / "run"))
    assert "the teacher knows other classes: it is trained a head for these first" in capsys.readouterr().out
    # The head sees 288 training images as they are and mirrored; then the teacher is asked once an image.
    assert result.passes["teacher"] == {"forward": 2 * 288 + 288, "backward": 0}
    assert (tmp_path / "run" / "student" / "model.safetensors").is_file()


@pytest.mark.parametrize("method", [transfer.kd, transfer.pag], ids=["kd", "pag"])
@pytest.mark.parametrize(
    ("shape", "args"),
    [
        ((1, 16, 16), {"in_chans": 1}),
        pytest.param((3, 8, 8), {}, marks=pytest.mark.slow),
        pytest.param((3, 32, 32), {}, marks=pytest.mark.slow),
    ],
    ids=["grey", "8", "32"],
)
def test_a_teacher_of_other_channels_or_sizes_teaches(tmp_path, method, shape, args):
    teacher = create_classifier("resnet18_cifar", {**CNN, **args}, num_classes=4, image_shape=shape)
    save(tmp_path / "teacher", teacher, provenance("resnet18_cifar"), label_names=NAMES)
    result = method(config(f"local-dir:{tmp_path / 'teacher'}", tmp_path / "run"))
    assert result.classifier.input_size == (3, 16, 16)


def test_a_grey_student_learns_from_a_teacher_that_sees_colours(tmp_path, teacher):
    result = transfer.kd(config(teacher, tmp_path / "run", student_args={**VIT, "in_chans": 1}))
    assert result.classifier.input_size == (1, 16, 16)


def test_a_teacher_that_is_not_robust_is_warned_of_in_one_line(tmp_path, teacher, capsys):
    transfer.plain(config(teacher, tmp_path / "run", threat="linf:0.5"))
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: the teacher")]
    # An untrained teacher answers the same whatever it sees, and that is right less often than by chance.
    assert re.search(r"the teacher withstands linf:0\.5 on \d+\.\d \[.*\] % of 32 validation images \(PGD-10\)", told)


def test_a_plan_is_told_before_training(tmp_path, teacher, capsys):
    transfer.plain(config(teacher, tmp_path / "run", training=TrainingConfig(epochs=2, batch_size=96, lr=0.01)))
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("plan:")]
    assert told.startswith("plan: 6 steps of 96 images, about ")


def save_targets(folder: Path, shape: tuple[int, ...]) -> Path:
    np.save(folder / "targets.npy", np.random.default_rng(0).normal(size=shape).astype(np.float32))
    return folder / "targets.npy"


def test_pag_follows_stored_targets(tmp_path, teacher):
    stored = save_targets(tmp_path, (400, 4, 3, 16, 16))
    result = transfer.pag(config(teacher, tmp_path / "run"), PAGOptions(targets="stored", stored=stored))
    assert result.passes == {"student": {"forward": 288, "backward": 3 * 288}}


@pytest.mark.parametrize("shape", [(400, 3, 3, 16, 16), (400, 4, 3, 8, 8), (100, 4, 3, 16, 16)])
def test_stored_targets_of_another_shape_are_told_before_training(tmp_path, teacher, shape):
    stored = save_targets(tmp_path, shape)
    with pytest.raises(ValueError, match=r"PAG targets must be floats of shape \(\d+, 4, 3, 16, 16\).* got float32 of"):
        transfer.pag(config(teacher, tmp_path / "run"), PAGOptions(targets="stored", stored=stored))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [{"targets": "stored"}, {"stored": Path("targets.npy")}])
def test_stored_targets_and_their_file_belong_together(tmp_path, teacher, options):
    with pytest.raises(ValueError, match="--targets stored and --stored FILE belong together"):
        transfer.pag(config(teacher, tmp_path / "run"), PAGOptions(**options))


def test_stored_targets_that_are_missing_are_told_before_training(tmp_path, teacher):
    with pytest.raises(ValueError, match=r"nowhere.npy is not a readable .npy of target gradients"):
        transfer.pag(config(teacher, tmp_path / "run"), PAGOptions(targets="stored", stored=Path("nowhere.npy")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "targets",
    [*(pytest.param(name, marks=pytest.mark.slow) for name in ("one-image", "class-mean")), "nearest-neighbour"],
)
def test_pag_makes_its_own_targets_of_training_images(tmp_path, teacher, targets):
    result = transfer.pag(config(teacher, tmp_path / "run"), PAGOptions(targets=targets, classes_per_image=2))
    # Two classes an image: two gradients, two ways back through them, and one through the loss.
    assert result.passes == {"student": {"forward": 288, "backward": 5 * 288}}


def test_the_cost_is_told_with_the_teacher_and_without(tmp_path, teacher):
    transfer.mixacm(config(teacher, tmp_path / "run"), MixACMOptions())
    told = require_provenance(tmp_path / "run" / "student")
    assert told.training.images == 288
    assert told.training.peak_memory > 2**27
    assert told.teacher.seconds == provenance("resnet18_cifar").training.seconds
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert f"| training | {told.training.seconds:.0f} s |" in card
    assert f"| with the teacher's own training | {told.training.seconds + told.teacher.seconds:.0f} s |" in card


def test_an_unknown_optimizer_is_told_with_close_names():
    with pytest.raises(ValueError, match=r"timm knows no optimizer 'sgdd'; close names are .*sgd"):
        TrainingConfig(optimizer="sgdd")


def test_a_run_killed_while_it_claimed_its_folder_can_begin_again(tmp_path, teacher):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json.unfinished").write_text('{"met')
    transfer.plain(config(teacher, tmp_path / "run"))


def test_a_finished_run_that_is_resumed_writes_the_same_student_again(tmp_path, teacher):
    chosen = config(teacher, tmp_path / "run")
    transfer.rrm(chosen)
    weights = (tmp_path / "run" / "student" / "model.safetensors").read_bytes()
    told = require_provenance(tmp_path / "run" / "student").training
    transfer.rrm(Config(**{**vars(chosen), "output": Output(tmp_path / "run", resume=True)}))
    assert (tmp_path / "run" / "student" / "model.safetensors").read_bytes() == weights
    again = require_provenance(tmp_path / "run" / "student").training
    assert (again.seconds, again.passes) == (told.seconds, told.passes)


def test_features_of_different_width_need_a_projection(tmp_path, teacher):
    wider = config(teacher, tmp_path / "run", student_args={**VIT, "embed_dim": 24})
    with pytest.raises(ValueError, match=r"differ in width \(24 and 16\).*--projection"):
        transfer.rrm(wider)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_another_run_is_left_alone(tmp_path, teacher):
    transfer.plain(config(teacher, tmp_path / "run"))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")}
    with pytest.raises(ValueError, match="holds a run already; add --resume"):
        transfer.plain(config(teacher, tmp_path / "run"))
    other = config(teacher, tmp_path / "run", training=TrainingConfig(epochs=5))
    with pytest.raises(ValueError, match=r"its training is .* not"):
        transfer.plain(Config(**{**vars(other), "output": Output(tmp_path / "run", resume=True)}))
    with pytest.raises(ValueError, match="is not empty and holds no run"):
        transfer.plain(config(teacher, tmp_path))
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize("starts", ["untrained", "from local-dir:teacher, weights of sha256 "])
def test_what_the_student_starts_from_is_told_once_and_before_training(tmp_path, teacher, capsys, starts):
    changes = {} if starts == "untrained" else {"student": teacher, "student_args": {}}
    transfer.plain(config(teacher, tmp_path / "run", **changes))
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("the student starts")]
    sha256 = hashlib.sha256((Path(teacher.removeprefix("local-dir:")) / "model.safetensors").read_bytes()).hexdigest()
    assert line == f"the student starts {starts if starts == 'untrained' else starts + sha256[:12]}"
    told = require_provenance(tmp_path / "run" / "student")
    assert told.starts_from_sha256 == ("" if starts == "untrained" else sha256)
    assert lines.index(line) < [line.startswith("plan:") for line in lines].index(True)


def open_transfer(*arguments, **changes) -> "transfer.training.TrainingRun":
    run, _, _ = transfer.open_transfer(config(*arguments, **changes), KDOptions())
    return run


def answers(run: "transfer.training.TrainingRun") -> torch.Tensor:
    return run.require_teacher()(torch.full((1, 3, 16, 16), 0.2))


def test_a_teacher_that_lists_its_classes_otherwise_answers_in_the_order_of_the_data(tmp_path, teacher, capsys):
    other = save_teacher(tmp_path / "other", names=NAMES[::-1])
    wanted = answers(open_transfer(teacher, tmp_path / "run"))
    assert "teacher:" not in capsys.readouterr().out
    torch.testing.assert_close(answers(open_transfer(other, tmp_path / "run")), wanted.flip(1))
    assert "teacher: the model lists the data's classes in another order: they are" in capsys.readouterr().out


def test_a_teacher_without_names_that_is_right_in_no_order_gets_a_new_head(tmp_path, capsys):
    nameless = save_teacher(tmp_path / "nameless", names=None)
    transfer.kd(config(nameless, tmp_path / "run"))
    printed = capsys.readouterr().out
    assert re.search(r"teacher: the model tells no class names: in the order .* would be needed\n", printed)
    assert "the teacher knows other classes: it is trained a head for these first" in printed


def test_names_that_are_stated_decide(tmp_path, teacher):
    nameless = save_teacher(tmp_path / "nameless", names=None)
    run = open_transfer(nameless, tmp_path / "run", label_names=tuple(NAMES[::-1]))
    assert run.teacher_knows
    torch.testing.assert_close(answers(run), answers(open_transfer(teacher, tmp_path / "run")).flip(1))


@pytest.mark.parametrize("place", [".", "run", "a/b"])
def test_a_run_never_writes_into_the_folder_of_a_model(tmp_path, place):
    teacher = save_teacher(tmp_path / "teacher")
    before = sorted((tmp_path / "teacher").rglob("*"))
    with pytest.raises(ValueError, match=r"--output .* lies in the folder of a model, .*teacher; choose one outside"):
        transfer.kd(config(teacher, tmp_path / "teacher" / place))
    assert sorted((tmp_path / "teacher").rglob("*")) == before


def test_a_run_that_is_not_there_can_not_be_resumed(tmp_path, teacher):
    with pytest.raises(ValueError, match=r"there is no run in .*run to resume; check --output, or leave --resume away"):
        transfer.plain(Config(**{**vars(config(teacher, tmp_path / "run")), "output": Output(tmp_path / "run", True)}))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (transfer.igam, IGAMOptions(discriminator_period=2), "--discriminator-period has no effect without --adversar"),
        (transfer.igam, IGAMOptions(weight=0.0), "IGAM compares gradients; give a --weight"),
        (transfer.rrm, RRMOptions(head="teacher"), "--head teacher reads the features behind a projection"),
        (transfer.mixacm, MixACMOptions(divergence_weight=0.0, temperature=2.0), "--temperature has no effect"),
        (transfer.mixacm, MixACMOptions(weight=0.0, stages=("blocks.0",)), "--stages has no effect without a --weight"),
        (transfer.pag, PAGOptions(weight=0.0, classes_per_image=2), "--classes-per-image has no effect without a --w"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused_before_anything_is_written(
    tmp_path, teacher, method, options, message
):
    with pytest.raises(ValueError, match=message):
        method(config(teacher, tmp_path / "run"), options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("targets", ["class-mean", "one-image"])
def test_pag_by_targets_that_ask_no_teacher_needs_none(tmp_path, targets):
    result = transfer.pag(config("", tmp_path / "run"), PAGOptions(targets=targets))
    told = json.loads((tmp_path / "run" / "student" / "config.json").read_text())["robustness"]
    assert set(told["training"]["passes"]) == {"student"}
    assert result.classifier.architecture == "vit_tiny_patch16_224"


@pytest.mark.parametrize("method", [transfer.kd, transfer.pag, transfer.igam, transfer.two_point])
def test_a_method_that_learns_from_a_teacher_asks_for_one(tmp_path, method):
    with pytest.raises(ValueError, match=r"^\w+ learns from a teacher; give --teacher$"):
        method(config("", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_student_of_four_channels_is_told_as_such(tmp_path, teacher):
    student = create_classifier("resnet18_cifar", {**CNN, "in_chans": 4}, num_classes=4, image_shape=(4, 16, 16))
    save(tmp_path / "four", student, provenance("resnet18_cifar"), label_names=NAMES)
    four = f"local-dir:{tmp_path / 'four'}"
    for changes in ({"student": four, "student_args": {}}, {"teacher": four}):
        with pytest.raises(ValueError, match="must take grey or colour images, of 1 or 3 channels, got 4; leave in_ch"):
            transfer.kd(config(**{"teacher": teacher, "output": tmp_path / "run", **changes}))


def test_a_student_that_starts_from_a_model_of_other_classes_is_trained_its_head_first(tmp_path, teacher, capsys):
    other = save_teacher(tmp_path / "other", names=["a", "b", "c", "d"])
    transfer.plain(config(teacher, tmp_path / "run", student=other, student_args={}, training=TrainingConfig(1, 96)))
    printed = capsys.readouterr().out
    assert printed.index("the student's new head is trained first") < printed.index("plan: ")
    # What nobody chose depends on where the student starts.
    assert "optimizer: adamw, learning rate up to 0.0005, weight decay 0.05\n" in printed
    assert (tmp_path / "run" / "features" / "features.npy").is_file()


def test_a_student_that_starts_from_a_model_of_the_same_classes_keeps_its_head_in_the_order_of_the_data(tmp_path):
    other = save_teacher(tmp_path / "other", names=NAMES[::-1])
    opened = config(other, tmp_path / "run", student=other, student_args={})
    run, student, starts_from = transfer.open_transfer(opened, KDOptions())
    images = torch.rand(3, 3, 16, 16)
    assert starts_from is not None
    torch.testing.assert_close(student.eval()(images), run.require_teacher()(images))
    assert student.label_names == NAMES


@pytest.mark.parametrize(("lr", "epochs", "learns"), [(1e-9, 1, False), (0.02, 8, True)])
def test_a_student_that_has_learnt_nothing_is_warned_of(tmp_path, teacher, capsys, lr, epochs, learns):
    training = TrainingConfig(epochs=epochs, batch_size=32, optimizer="adamw", lr=lr)
    student = {"student": "resnet18_cifar", "student_args": CNN, "source": Source("synthetic", test_images=80)}
    transfer.plain(config(teacher, tmp_path / "run", **student, training=training))
    masks = json.loads((tmp_path / "run" / "student" / "evaluation.json").read_text())["evaluation"]
    most_frequent = max(Counter(masks["labels"]).values())
    assert (masks["clean"].count("1") > most_frequent) == learns
    assert ("warning: the student is right on" in capsys.readouterr().out) == (not learns)


def test_a_teacher_is_asked_once_about_each_image_and_its_mirror_image(tmp_path, teacher):
    once = RSLADOptions(target="once")
    asked = config(teacher, tmp_path / "run", training=TrainingConfig(epochs=2, batch_size=96, lr=0.01))
    transfer.rslad(asked, once)
    run, student, _ = transfer.open_transfer(config(teacher, tmp_path / "other"), once)
    images = torch.cat([images for images, _ in run.training_images(student)])
    answers = np.load(tmp_path / "run" / "answers" / "answers.npy")
    for view, shown in enumerate((images, images.flip(3))):
        logits, features = run.require_teacher().forward_with_features(shown)
        # float32 sums in another order.
        np.testing.assert_allclose(answers[view], torch.cat([logits, features], 1).numpy(), rtol=1e-4, atol=1e-5)
    training = require_provenance(tmp_path / "run" / "student").training
    assert training is not None
    assert training.passes["teacher"] == {"forward": 2 * len(images), "backward": 0}
    mixed = TrainingConfig(1, 96, lr=0.01, fine_tuning=FineTuningConfig(mixup=1.0))
    with pytest.raises(ValueError, match="RSLAD needs one class an image; drop --mixup"):
        transfer.rslad(config(teacher, tmp_path / "mixed", training=mixed), once)


def test_a_teacher_is_asked_once_for_its_gradients_too(tmp_path, teacher):
    asked = config(teacher, tmp_path / "run", training=TrainingConfig(epochs=1, batch_size=96, lr=0.01))
    transfer.igam(asked, IGAMOptions(target="once"))
    training = require_provenance(tmp_path / "run" / "student").training
    assert training is not None
    # Each of 288 images as it is and mirrored.
    assert training.passes["teacher"] == {"forward": 576, "backward": 576}


def test_mixed_images_train_whoever_takes_them_and_others_refuse_them(tmp_path, teacher):
    mixed = TrainingConfig(1, 96, lr=0.01, fine_tuning=FineTuningConfig(mixup=1.0, cutmix=1.0, label_smoothing=0.1))
    transfer.rslad(config(teacher, tmp_path / "run", training=mixed))
    with pytest.raises(ValueError, match="IGAM needs one class an image; drop --mixup, --cutmix and --label-smoothing"):
        transfer.igam(config(teacher, tmp_path / "other", training=mixed), IGAMOptions())
    assert not (tmp_path / "other").exists()
