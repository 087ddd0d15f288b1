"""Model folders: written whole or not at all, checked by loading them with timm, and described by their card."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
import yaml
from timm.models import save_for_hf

from robust_hub.cards import HUB_ID, read_notes, write_card
from robust_hub.claims import Claim
from robust_hub.classifiers import PixelClassifier
from robust_hub.facts import Facts
from robust_hub.messages import CheckpointError, first_line, public
from robust_hub.records import UNFINISHED, write_json
from robust_hub.reports import EVIDENCE, FILE, Report
from robust_hub.safety import CONFIG, KEY, read_config

try:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
except ImportError:  # the first clients of 1.x know no entries
    EvalResultEntry = None

CARD = "README.md"
# Ends the name of a folder that is in place no more.
REPLACED = ".replaced"
CLAIM = "claim"
ENTRIES = Path(".eval_results") / "robust_hub.yaml"
# What an evaluation draws; a picture of the same name from training, which compares models, stays.
PICTURES = {
    "accuracy_against_eps.png": "Accuracy under PGD-20 against eps, on the images of the honesty checks.",
    "classes.png": "Clean and robust accuracy of each class.",
}


def save(
    folder: Path,
    classifier: PixelClassifier,
    facts: Facts,
    *,
    label_names: list[str],
    report: Report | None = None,
    pictures: Sequence[Path] = (),
) -> None:
    """Writes a model folder beside its place, checks that timm loads it, and only then puts it in place.

    Args:
        folder: where it goes; a folder that is there already is replaced.
        classifier: what is saved; of a student, nothing that helped to train it.
        facts: for config.json and README.md.
        label_names: class names in the order of the logits; empty where nobody knows them.
        report: of its evaluation; None where there was none.
        pictures: plots that the facts name, copied into the folder.

    Raises:
        RuntimeError: when what was written does not give the same logits again.
    """
    with put_in_place(folder) as beside:
        model = deepcopy(classifier.model).cpu().to(memory_format=torch.contiguous_format).eval()
        names = label_names or None
        model.pretrained_cfg = {**model.pretrained_cfg, "num_classes": model.num_classes, "label_names": names}
        save_for_hf(
            model,
            str(beside),
            model_args=classifier.model_args,
            model_config={"label_names": names},
            safe_serialization=True,
        )
        _describe(beside, facts, report)
        for picture in pictures:
            shutil.copy(picture, beside)
        if not gives_same_logits(beside, model, classifier.input_size):
            raise RuntimeError(f"timm does not load {beside} back to the same logits; nothing was put in place")


def describe(folder: Path, facts: Facts, report: Report | None) -> None:
    """Writes card, config.json and evaluation.json of a folder anew; its notes, weights and all else are kept."""
    with put_in_place(folder, begin_with=folder) as beside:
        _describe(beside, facts, report)


def add_evaluation(folder: Path, report: Report, measured: Path) -> None:
    """Puts a finished evaluation into the folder of the model it is about, and into its card.

    Args:
        folder: of the model.
        report: of the evaluation.
        measured: where the evaluation wrote its evidence and its pictures.

    Raises:
        CheckpointError: when robust_hub did not write the folder.
    """
    facts = require_facts(folder)
    pictures = {name: text for name, text in PICTURES.items() if facts.pictures.get(name, text) == text}
    told = replace(facts, pictures={**facts.pictures, **pictures})
    with put_in_place(folder, begin_with=folder) as beside:
        for name in (EVIDENCE, *pictures):
            shutil.copy(measured / name, beside)
        _describe(beside, told, report)


def files_of(folder: Path) -> list[str]:
    """Lists the files of a model folder, as the Hub names them."""
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())


def read_facts(folder: Path) -> Facts | None:
    """Reads what a folder tells of its checkpoint; None where robust_hub did not write it.

    Raises:
        CheckpointError: when what it tells can't be read.
    """
    config = read_config(folder)
    if KEY not in config:
        return None
    facts = Facts.of(config[KEY], str(folder / CONFIG))
    if facts.architecture != config["architecture"]:
        raise CheckpointError(f"{folder / CONFIG} tells two architectures, {facts.architecture!r:.80} in {KEY}")
    return facts


def require_facts(folder: Path) -> Facts:
    """Reads what a folder tells of its checkpoint; see `read_facts`.

    Raises:
        CheckpointError: when robust_hub did not write the folder as well.
    """
    facts = read_facts(folder)
    if facts is None:
        raise CheckpointError(f"{folder} was not written by robust_hub and has no card; see recipes/convert.py")
    return facts


def is_as_described(folder: Path, facts: Facts, report: Report) -> bool:
    """Tells whether card, claim and entries of a folder are what facts and report make them; notes are free."""
    with TemporaryDirectory() as place:
        again = Path(place)
        for name in (CARD, CONFIG):
            shutil.copy(folder / name, again)
        _describe(again, facts, report)
        return all(_content(folder / name) == _content(again / name) for name in (CARD, CONFIG, FILE, ENTRIES))


def gives_same_logits(folder: Path, model: torch.nn.Module, input_size: tuple[int, int, int]) -> bool:
    """Tells whether plain timm loads a folder to the logits of a model in eval mode, bit for bit."""
    images = torch.rand(2, *input_size)
    with torch.no_grad():
        return torch.equal(timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images), model(images))


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _describe(folder: Path, facts: Facts, report: Report | None) -> None:
    card, config = folder / CARD, json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if report is not None:
        data = report.source.data
        known = Path(data).name if Path(data).expanduser().exists() else public(data)
        report = replace(report, model=facts.name, source=replace(report.source, data=known))
    claim = None if report is None else Claim.of(facts, report).plain()
    write_json(folder / CONFIG, {**config, KEY: {**facts.plain(), CLAIM: claim}})
    try:
        notes = read_notes(card.read_text(encoding="utf-8")) if card.is_file() else ""
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{card} is no text ({first_line(error)}); remove it, and it is written anew") from error
    card.write_text(write_card(facts, report, notes=notes), encoding="utf-8")
    (folder / ENTRIES).unlink(missing_ok=True)
    if report is not None:
        report.write(folder)
    if report is not None and EvalResultEntry and HUB_ID.fullmatch(report.source.data):
        entry = EvalResultEntry(
            dataset_id=report.source.data,
            task_id="robust_accuracy",
            value=report.evaluation.robust_accuracy.value,
            notes=f"{report.threat}, {report.protocol}, n = {len(report.evaluation.clean)}",
        )
        (folder / ENTRIES).parent.mkdir(exist_ok=True)
        (folder / ENTRIES).write_text(yaml.safe_dump(eval_result_entries_to_yaml([entry])), encoding="utf-8")


@contextmanager
def put_in_place(folder: Path, begin_with: Path | None = None) -> Iterator[Path]:
    """Gives a folder beside, empty or a copy; once all has gone well in it, it takes the folder's place."""
    folder = folder.resolve()
    beside, replaced = folder.with_name(folder.name + UNFINISHED), folder.with_name(folder.name + REPLACED)
    shutil.rmtree(beside, ignore_errors=True)
    if replaced.is_dir() and not folder.exists():
        # A run was killed between the two renames below.
        replaced.rename(folder)
    if begin_with:
        shutil.copytree(begin_with.resolve(), beside, symlinks=True)
    else:
        beside.mkdir(parents=True)
    try:
        yield beside
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    beside.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
