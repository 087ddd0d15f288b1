"""Verification: a stranger's copy of the data will do, a liar is named, and what nothing proves is called so."""

import hashlib
import json
import os
import re
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file

from robust_hub.data import Fingerprints, Rule, Source, evaluation_loader, find_images, load_data, subset
from robust_hub.data.content import look_at
from robust_hub.data.datasets import open_labelled
from robust_hub.errors import CheckpointError
from robust_hub.evaluation import SPOTS, Curve, Evidence, Report, verify_evaluation
from robust_hub.evaluation.spot_check import check_spots
from robust_hub.hub import MODEL_CARDS, check_folder, load, verify
from robust_hub.model_folder import describe, require_provenance
from robust_hub.threats import Linf
from tests.made_up import CNN, evaluated, raised

EVIDENCE = "evidence.safetensors"
NAMES = ["vertical", "horizontal", "diagonal", "antidiagonal"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model folder with evidence on 24 images of the synthetic set."""
    return evaluated(tmp_path_factory.mktemp("models") / "resnet", "resnet18_cifar", CNN)


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def tested() -> list[tuple[PILImage.Image, str]]:
    """The images of the evaluation with the names of their classes, in another order."""
    rows = subset(load_data(Source("synthetic")).test, 24)
    images = [(PILImage.open(BytesIO(row["image"]["bytes"])), NAMES[row["label"]]) for row in rows]
    return [images[number] for number in np.random.default_rng(1).permutation(24)]


def in_class_folders(place: Path, images: list[tuple[PILImage.Image, str]], ending: str, **how) -> Path:
    for number, (image, name) in enumerate(images):
        (place / name).mkdir(parents=True, exist_ok=True)
        image.save(place / name / f"{number}.{ending}", **how)
    return place


def in_parquet(place: Path, images: list[tuple[PILImage.Image, str]]) -> Path:
    """With numbers for classes."""
    columns = {"image": [image for image, _ in images], "label": [NAMES.index(name) for _, name in images]}
    place.mkdir()
    rows = Dataset.from_dict(columns, features=Features({"image": Image(), "label": Value("int64")}))
    rows.to_parquet(place / "test.parquet")
    return place


STORED = {
    "png": lambda place, images: in_class_folders(place, images, "png"),
    "webp": lambda place, images: in_class_folders(place, images, "webp", lossless=True),
    "parquet": in_parquet,
    "palette": lambda place, images: in_class_folders(
        place, [(image.convert("RGBA"), name) for image, name in images], "png"
    ),
}


@pytest.mark.parametrize(
    "stored", ["parquet", *(pytest.param(how, marks=pytest.mark.slow) for how in STORED if how != "parquet")]
)
def test_a_card_is_verified_with_the_same_images_however_they_are_stored_and_ordered(folder, tested, tmp_path, stored):
    verified = verify(f"local-dir:{folder}", data=str(STORED[stored](tmp_path / "images", tested)))
    assert verified.confirmed == verified.perturbations > 0
    assert verified.robust.value == Report.read(folder).evaluation.robust_accuracy.value


def test_one_pixel_that_differs_is_told(folder, tested, tmp_path):
    image, name = tested[0]
    changed = image.copy()
    changed.putpixel((3, 4), tuple(level ^ 1 for level in image.getpixel((3, 4))))
    data = in_class_folders(tmp_path / "images", [(changed, name), *tested[1:]], "png")
    told = r"1 of the 24 tested images are not in .*images, or not as often; say where the data is"
    with pytest.raises(CheckpointError, match=told):
        verify(f"local-dir:{folder}", data=str(data))


def test_two_labels_that_are_exchanged_are_told(folder, tested, tmp_path):
    other = next(number for number, (_, name) in enumerate(tested) if name != tested[0][1])
    own = list(tested)
    own[0], own[other] = (own[0][0], own[other][1]), (own[other][0], own[0][1])
    data = in_class_folders(tmp_path / "images", own, "png")
    with pytest.raises(CheckpointError, match=r"2 of the 24 tested images are labelled otherwise in .*, for example"):
        verify(f"local-dir:{folder}", data=str(data))


def test_files_of_a_lossy_format_are_known_by_their_bytes_where_another_decoder_gives_other_pixels(
    tested, tmp_path, monkeypatch
):
    data = in_class_folders(tmp_path / "images", tested, "jpg", quality=80)
    known = {file: hash_of(file) for file in data.rglob("*.jpg")}
    # As another version of libjpeg would: some levels differ by one.
    wanted = Fingerprints(np.zeros(24, np.uint64), np.array(list(known.values()), dtype=np.uint64))
    labels = np.array([NAMES.index(file.parent.name) for file in known])
    rows = find_images(Source(str(data)), wanted, labels, NAMES).rows
    assert [row["image"]["path"] for row in rows] == [str(file) for file in known]
    assert rows["label"][:] == labels.tolist()


def hash_of(file: Path) -> int:
    return int.from_bytes(hashlib.blake2b(file.read_bytes(), digest_size=8).digest(), "little")


def test_rows_without_images_are_told_before_anything_is_read(folder, tested, tmp_path):
    data = in_class_folders(tmp_path / "images", tested, "png")
    file = next(data.rglob("*.png"))
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match="say where the data is with --data"):
        verify(f"local-dir:{folder}", data=str(data))


def contradicted(folder: Path, seed: int) -> bool:
    torch.manual_seed(seed)
    classifier, report = load(f"local-dir:{folder}"), Report.read(folder)
    told = ""
    try:
        verify_evaluation(classifier, report, folder, spot_check=SPOTS, generator=np.random.default_rng(seed))
    except CheckpointError as error:
        told = str(error)
    return "claims too much: PGD" in told


@pytest.mark.parametrize("seeds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_claim_raised_by_ten_points_is_contradicted_and_an_honest_one_never(seeds, tmp_path):
    honest = shutil.copytree(MODEL_CARDS / "vit_tiny_patch16_224.igam_linf0.1_digits", tmp_path / "honest")
    assert not any(contradicted(honest, seed) for seed in range(seeds))
    caught = 0
    for seed in range(seeds):
        liar = shutil.copytree(honest, tmp_path / f"liar{seed}")
        caught += contradicted(raised(liar, 0.1, np.random.default_rng(seed)), seed)
    assert caught >= 0.95 * seeds


def test_publishing_and_verifying_refuse_what_their_spot_check_contradicts(tmp_path):
    liar = shutil.copytree(MODEL_CARDS / "vit_tiny_patch16_224.igam_linf0.1_digits", tmp_path / "liar")
    raised(liar, 0.14, np.random.default_rng(0))
    for refuse in (lambda: check_folder(liar), lambda: verify(f"local-dir:{liar}")):
        with pytest.raises(CheckpointError, match=r"claims too much: PGD.* of 80 images that it calls robust"):
            refuse()


def test_a_claim_without_perturbations_is_called_confirmed_by_nothing(copy):
    raised(copy, 1.0, np.random.default_rng(0))
    printed = str(verify(f"local-dir:{copy}", spot_check=0))
    assert "robust accuracy is confirmed by nothing; claimed: " in printed
    assert "that no attack leaves less than this upper bound is unproven; spot check: none was made" in printed


def test_evidence_of_a_part_gives_a_bound_for_that_part(copy):
    report = Report.read(copy)
    evidence = Evidence.load(copy / EVIDENCE, 24)
    Evidence.of(evidence.perturbations, evidence.images, most=15).save(copy / EVIDENCE)
    verified = verify(f"local-dir:{copy}", spot_check=0)
    assert verified.robust.n == 15
    assert verified.robust.value == report.evaluation.robust[:15].mean()
    assert "of the first 15 images, verified here" in str(verified)
    # One fooled image of the part is kept back.
    kept = evidence.perturbations.rows(evidence.perturbations.indices < 15)
    replace(evidence, perturbations=kept.rows(torch.arange(1, len(kept))), covered=15).save(copy / EVIDENCE)
    with pytest.raises(CheckpointError, match="must perturb each image that fell of the first 15, and no other"):
        verify(f"local-dir:{copy}", spot_check=0)


def test_evidence_of_before_in_steps_of_16_bits_is_verified(copy):
    evidence = Evidence.load(copy / EVIDENCE, 24)
    kept = evidence.perturbations
    # 127 steps of 258 of the small ones each.
    wide = replace(kept, perturbation=258 * kept.perturbation.short(), scale=kept.scale * (32767 / (127 * 258)))
    replace(evidence, perturbations=wide).save(copy / EVIDENCE)
    save_file(load_file(copy / EVIDENCE), copy / EVIDENCE, metadata={"format": "2", "covered": "24"})
    verified = verify(f"local-dir:{copy}", spot_check=0)
    assert verified.confirmed == verified.perturbations > 0


def test_evidence_of_another_part_than_the_evaluation_tells_of_is_refused(copy):
    told = json.loads((copy / "evaluation.json").read_text())
    (copy / "evaluation.json").write_text(json.dumps({**told, "covered": 15}))
    with pytest.raises(CheckpointError, match=r"safetensors covers 24 images, and the evaluation tells of 15; evalu"):
        verify(f"local-dir:{copy}", spot_check=0)


def change_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["robustness"]["claim"]["robust_accuracy"] = {"value": 0.99, "low": 0.9, "high": 1.0, "n": 24}
    (folder / "config.json").write_text(json.dumps(config))


def change_card(what: str, told: str, changed: str):
    def change(folder: Path) -> None:
        text = (folder / "README.md").read_text()
        found, replaced = re.subn(told, changed, text, count=1, flags=re.MULTILINE)
        assert replaced == 1, what
        (folder / "README.md").write_text(found)

    return change


LIES = {
    "config": (change_config, r"config\.json tells robust accuracy 99\.0 .* and evaluation\.json"),
    "front matter": (
        change_card("claim", r"^(  threat: )linf:1/255$", r"\1linf:8/255"),
        r"front matter of README\.md tells threat linf:8/255 and evaluation\.json linf:1/255",
    ),
    "results": (
        change_card("result", r"^(      value: )0\.\d+$", r"\g<1>0.999"),
        r"front matter of README\.md lists accuracy 0\.999 and evaluation\.json 0\.",
    ),
    "table": (
        change_card("row", r"^\| \*\*robust\*\* \| \*\*\d+\.\d", "| **robust** | **99.9"),
        r"the table of README\.md tells robust accuracy 99\.9 \[.* of 24 and evaluation\.json",
    ),
    "no table": (
        change_card("row", r"^\| clean \|", "| dirty |"),
        r"README\.md has 0 rows that tell the clean accuracy, where one is expected",
    ),
    "no YAML": (
        change_card("yaml", "^library_name: ", "library_name: [}"),
        r"the front matter of README\.md can't be read",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_contradicts_the_evaluation_is_named(copy, lie):
    change, named = LIES[lie]
    change(copy)
    with pytest.raises(CheckpointError, match=f"contradicts itself: .*{named}"):
        verify(f"local-dir:{copy}")


def test_the_card_tells_the_expected_robustness_of_the_evaluation_and_no_other(copy):
    text = (copy / "README.md").read_text()
    row = "| expected robustness | 87.5 | 24 | mean accuracy |"
    (copy / "README.md").write_text(text.replace("| **robust**", f"{row}\n| **robust**"))
    with pytest.raises(CheckpointError, match=r"has 1 rows that tell the expected robustness, where none is expected"):
        verify(f"local-dir:{copy}", spot_check=0)
    curve = Curve(20, 24, [0.0, 1 / 255], [1.0, 0.75])
    describe(copy, require_provenance(copy), replace(Report.read(copy), curve=curve))
    assert verify(f"local-dir:{copy}", spot_check=0).perturbations
    text = (copy / "README.md").read_text()
    (copy / "README.md").write_text(text.replace("| expected robustness | 87.5 |", "| expected robustness | 97.5 |"))
    with pytest.raises(
        CheckpointError, match=r"tells expected robustness 97\.5 % of 24 and evaluation\.json 87\.5 % of 24"
    ):
        verify(f"local-dir:{copy}", spot_check=0)


def test_what_stands_in_comments_or_in_the_owners_notes_is_no_row_of_the_table(copy):
    text = (copy / "README.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| clean |"))
    notes = text.replace("is kept -->\n", "is kept -->\n| clean | 1.0 [0.0, 2.0] | 10 | of another set |\n")
    assert notes != text
    (copy / "README.md").write_text(notes)
    assert verify(f"local-dir:{copy}", spot_check=0).perturbations
    (copy / "README.md").write_text(text.replace(row, f"<!--\n{row}\n-->\n| Clean | 99.9 [99.0, 100.0] | 24 | |"))
    with pytest.raises(CheckpointError, match=r"README\.md has 0 rows that tell the clean accuracy"):
        verify(f"local-dir:{copy}", spot_check=0)


def test_every_result_and_entry_is_compared_and_what_is_no_number_is_not_written_out(copy):
    text = (copy / "README.md").read_text()
    again = "    - type: robust_accuracy\n      value: 0.99\n      name: better\n"
    twice = re.sub(r"(?m)^    - type: robust_accuracy$", f"{again}    - type: robust_accuracy", text, count=1)
    assert twice != text
    (copy / "README.md").write_text(twice)
    with pytest.raises(CheckpointError, match=r"lists robust_accuracy 0\.99 and evaluation\.json"):
        verify(f"local-dir:{copy}", spot_check=0)
    bomb = "[" + ", ".join(["&a0 [x, x]", *(f"&a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]) + "]"
    (copy / "README.md").write_text(twice.replace("value: 0.99", f"value: {bomb}"))
    with pytest.raises(CheckpointError, match=r"lists robust_accuracy no number and evaluation\.json"):
        verify(f"local-dir:{copy}", spot_check=0)
    (copy / "README.md").write_text(text)
    (copy / ".eval_results").mkdir()
    (copy / ".eval_results" / "robust_hub.yaml").write_text("- dataset: {id: a/b, task_id: c}\n  value: 0.99\n")
    with pytest.raises(CheckpointError, match=r"\.eval_results/robust_hub\.yaml lists robust_accuracy 0\.99"):
        verify(f"local-dir:{copy}", spot_check=0)


def test_a_card_is_compared_even_where_config_tells_nothing(copy):
    config = json.loads((copy / "config.json").read_text())
    del config["robustness"]
    (copy / "config.json").write_text(json.dumps(config))
    change, named = LIES["front matter"]
    change(copy)
    with pytest.raises(CheckpointError, match=named):
        verify(f"local-dir:{copy}", spot_check=0)


def test_the_last_digits_of_an_interval_are_no_contradiction(copy):
    config = json.loads((copy / "config.json").read_text())
    config["robustness"]["claim"]["robust_accuracy"]["low"] += 1e-9
    (copy / "config.json").write_text(json.dumps(config))
    assert verify(f"local-dir:{copy}", spot_check=0).perturbations


def test_one_image_is_not_tested_twice(folder, tested, tmp_path):
    """Else a thousand copies of an easy one would do."""
    data = in_class_folders(tmp_path / "images", tested, "png")
    found = Evidence.load(folder / EVIDENCE, 24).images
    labels = Report.read(folder).evaluation.labels
    twice = Fingerprints(found.pixels[[0, *range(23)]], found.encoded[[0, *range(23)]])
    with pytest.raises(ValueError, match=r"1 of the 24 tested images are not in .*images, or not as often"):
        find_images(Source(str(data)), twice, labels[[0, *range(23)]], NAMES)


def test_it_is_told_of_which_split_the_images_are(folder):
    # The built-in set has train alone, of which test is drawn.
    printed = str(verify(f"local-dir:{folder}", spot_check=0))
    assert "the images are 24 of the 400 of train, as the evaluation chose them" in printed


def test_class_folders_that_are_called_by_numbers_are_taken_in_the_order_of_the_numbers(tmp_path):
    names = [f"kind {letter}" for letter in "abcdefghijkl"]
    images = [PILImage.new("RGB", (8, 8), (20 * number, 0, 0)) for number in range(12)]
    known = in_class_folders(tmp_path / "named", list(zip(images, names, strict=True)), "png")
    numbered = in_class_folders(tmp_path / "numbered", [(image, str(n)) for n, image in enumerate(images)], "png")
    rows = open_labelled(Source(str(known)), Rule()).splits["train"]
    pixels = [look_at(row["image"], "")[0] for row in rows]
    wanted = Fingerprints(np.array(pixels, np.uint64), np.zeros(12, np.uint64))
    labels = np.asarray(rows["label"][:], np.int64)
    assert find_images(Source(str(numbered)), wanted, labels, names).told == "12 of the 12 of train"


def test_logits_scaled_up_do_not_hide_from_the_spot_check():
    """Softmax is exactly one then, and the gradient of the cross-entropy exactly zero."""
    classifier = load(f"local-dir:{MODEL_CARDS / 'vit_tiny_patch16_224.igam_linf0.1_digits'}").eval()
    rows, device = load_data(Source("digits")).test.select(range(64)), torch.device("cpu")
    loader = evaluation_loader(rows, classifier.preprocessing, batch_size=64, device=device)
    before = check_spots(classifier, loader, Linf(0.3))
    with torch.no_grad():
        for layer in classifier.classifier_layers:
            layer.weight *= 1e6
            layer.bias *= 1e6
    assert check_spots(classifier, loader, Linf(0.3)).fooled >= 0.9 * before.fooled > 20


def test_a_longer_card_than_anybody_writes_is_not_read(copy):
    with (copy / "README.md").open("a") as card:
        card.write("- item\n" * 2**18)
    with pytest.raises(CheckpointError, match=r"has 1,8.* bytes, more than the 1,048,576 it may have"):
        verify(f"local-dir:{copy}")
