"""Writes model folders: whole or not at all, checked by loading them with timm, and described by their card."""

import json
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
import yaml
from timm.models import save_for_hf

from robust_hub.errors import CheckpointError, first_line
from robust_hub.evaluation import Report
from robust_hub.files import read_json, whole_folder, write_json
from robust_hub.model_folder.card import read_notes, write_card
from robust_hub.model_folder.config import read_config
from robust_hub.model_folder.folder import ModelFolder, require_provenance
from robust_hub.model_folder.info import ModelInfo
from robust_hub.model_folder.loading import load_folder
from robust_hub.model_folder.provenance import Provenance
from robust_hub.models import PixelClassifier
from robust_hub.names import CARD, CONFIG, CONFIG_KEY, DECIMALS, ENTRIES, EVALUATION, EVIDENCE, HUB_ID, INFO_KEY, public

try:
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
except ImportError:  # the first clients of 1.x know no entries
    EvalResultEntry = None

# Older folders tell intervals with more digits.
LONG_NUMBER = re.compile(rb"\d+\.\d{%d,}" % (DECIMALS + 1))
# What an evaluation draws; a picture of the same name from training, which compares models, stays.
PICTURES = {
    "accuracy_against_eps.png": "Accuracy under PGD-20 against eps, on the images of the honesty checks.",
    "classes.png": "Clean and robust accuracy of each class.",
    "stress.png": "Accuracy under changes that nobody chose to fool it, and under PGD in another norm; not a part of "
    "the claim.",
}


def save(
    folder: Path,
    classifier: PixelClassifier,
    provenance: Provenance,
    *,
    label_names: list[str],
    report: Report | None = None,
) -> None:
    """Writes a model folder beside its place, checks that timm loads it, and only then puts it in place.

    Args:
        folder: where it goes; a folder that is there already is replaced.
        classifier: what is saved; of a student, nothing that helped to train it.
        provenance: for config.json and README.md.
        label_names: class names in the order of the logits; empty where nobody knows them.
        report: of its evaluation; None where there was none.

    Raises:
        RuntimeError: when what was written does not give the same logits again.
    """
    with whole_folder(folder) as beside:
        model = _save_network(beside, classifier, label_names)
        _describe(beside, provenance, report)
        if not gives_same_logits(beside, model, classifier.input_size):
            raise RuntimeError(f"timm does not load {beside} back to the same logits; nothing was put in place")


def check_saving(classifier: PixelClassifier) -> None:
    """Saves a network to a folder in passing and loads it again, as timm does and as we do; random numbers stay.

    Raises:
        ValueError: when it can't be saved, or read back to the same logits.
    """
    with TemporaryDirectory() as place, torch.random.fork_rng(devices=[]):
        folder, name = Path(place), classifier.architecture
        try:
            model = _save_network(folder, classifier, [])
            load_folder(ModelFolder(name, f"local-dir:{folder}", folder, read_config(folder)))
            reason = "" if gives_same_logits(folder, model, classifier.input_size) else "its logits are others"
        except Exception as error:  # whatever a foreign architecture raises, the user needs the one sentence
            reason = first_line(error).replace(f"{folder}/", "")
    if reason:
        raise ValueError(
            f"{name} with {classifier.model_args} can't be saved and read back ({reason}); give it other arguments, or "
            "choose another architecture"
        )


def describe(folder: Path, provenance: Provenance, report: Report | None) -> None:
    """Writes card, config.json and evaluation.json of a folder anew; its notes, weights and all else are kept."""
    with _changing(folder) as beside:
        _describe(beside, provenance, report)


def add_evaluation(folder: Path, report: Report, measured: Path) -> None:
    """Puts a finished evaluation into the folder of the model it is about, and into its card.

    Args:
        folder: of the model.
        report: of the evaluation.
        measured: where the evaluation wrote its evidence, and those of its pictures that could be drawn.

    Raises:
        CheckpointError: when robust_hub did not write the folder.
    """
    provenance = require_provenance(folder)
    ours = {name: text for name, text in PICTURES.items() if provenance.pictures.get(name, text) == text}
    drawn = {name: text for name, text in ours.items() if (measured / name).is_file()}
    # A picture of an earlier evaluation goes, though there be no new one.
    others = {name: text for name, text in provenance.pictures.items() if name not in ours}
    with _changing(folder) as beside:
        for name in ours:
            (beside / name).unlink(missing_ok=True)
        for name in (EVIDENCE, *drawn):
            shutil.copy(measured / name, beside)
        _describe(beside, replace(provenance, pictures={**others, **drawn}), report)


def add_pictures(folder: Path, pictures: Mapping[Path, str]) -> None:
    """Puts pictures, with what they show, into the folder of a model and into its card."""
    captions = {picture.name: caption for picture, caption in pictures.items()}
    provenance = require_provenance(folder)
    report = Report.read(folder) if (folder / EVALUATION).is_file() else None
    with _changing(folder) as beside:
        for picture in pictures:
            shutil.copy(picture, beside)
        _describe(beside, replace(provenance, pictures={**provenance.pictures, **captions}), report)


def name_labels(folder: Path, label_names: Sequence[str]) -> None:
    """Writes into the config.json of a folder what its logits stand for, in their order."""
    write_json(folder / CONFIG, read_json(folder / CONFIG) | {"label_names": list(label_names)})


def is_as_described(folder: Path, provenance: Provenance, report: Report) -> bool:
    """Tells whether card, claim and entries of a folder are what provenance and report make them; notes are free."""
    with TemporaryDirectory() as place:
        again = Path(place)
        for name in (CARD, CONFIG):
            shutil.copy(folder / name, again)
        _describe(again, provenance, report)
        return all(_content(folder / name) == _content(again / name) for name in (CARD, CONFIG, EVALUATION, ENTRIES))


def gives_same_logits(folder: Path, model: torch.nn.Module, input_size: tuple[int, int, int]) -> bool:
    """Tells whether timm loads a folder to the logits of a model in eval mode, bit for bit; random numbers stay."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        images = torch.rand(2, *input_size)
        loaded, given = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images), model(images)
    # Untrained statistics may make logits of no number.
    return loaded.shape == given.shape and torch.allclose(loaded, given, rtol=0, atol=0, equal_nan=True)


@contextmanager
def _changing(folder: Path) -> Generator[Path]:
    """Gives a copy of a folder to change, which then takes its place; refuses links, which could lead anywhere."""
    link = next((path for path in sorted(folder.rglob("*")) if path.is_symlink()), None)
    if link:
        raise CheckpointError(f"{link} is a link, and nothing is written through one; put the file itself there")
    with whole_folder(folder, begin_with=folder) as beside:
        yield beside


def _save_network(folder: Path, classifier: PixelClassifier, label_names: list[str]) -> torch.nn.Module:
    """Lets timm write weights and config.json, and gives the network in eval mode, on the CPU, as it was written."""
    model = deepcopy(classifier.model).cpu().to(memory_format=torch.contiguous_format).eval()
    names = label_names or None
    # What timm would show it in a test of its own is left out: our figures are of the size and crop it was trained for.
    told = {key: value for key, value in model.pretrained_cfg.items() if not key.startswith("test_")}
    model.pretrained_cfg = {**told, "num_classes": model.num_classes, "label_names": names}
    save_for_hf(
        model,
        str(folder),
        model_args=classifier.model_args,
        model_config={"label_names": names},
        safe_serialization=True,
    )
    write_json(folder / CONFIG, _config_for_all(folder))
    return model


def _config_for_all(folder: Path) -> dict:
    """Reads config.json without the number of classes among the arguments, as transformers would give it twice."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    config.get("model_args", {}).pop("num_classes", None)
    return config


def _content(file: Path) -> bytes | None:
    return LONG_NUMBER.sub(_shortened, file.read_bytes()) if file.is_file() else None


def _shortened(number: re.Match[bytes]) -> bytes:
    return repr(round(float(number[0]), DECIMALS)).encode()


def _describe(folder: Path, provenance: Provenance, report: Report | None) -> None:
    card, config = folder / CARD, _config_for_all(folder)
    if report is not None:
        data = report.source.data
        known = Path(data).name if Path(data).expanduser().exists() else public(data)
        report = replace(report, model=provenance.name, source=replace(report.source, data=known))
    info = None if report is None else ModelInfo.of(provenance, report).plain()
    write_json(folder / CONFIG, {**config, CONFIG_KEY: {**provenance.plain(), INFO_KEY: info}})
    try:
        notes = read_notes(card.read_text(encoding="utf-8")) if card.is_file() else ""
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{card} is no text ({first_line(error)}); remove it, and it is written anew") from error
    # Older folders of timm's have no level of their own for it.
    channels = config.get("pretrained_cfg", config)["input_size"][0]
    card.write_text(write_card(provenance, report, channels=channels, notes=notes), encoding="utf-8")
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
