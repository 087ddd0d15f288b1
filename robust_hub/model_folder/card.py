"""A model card: what a run and an evaluation wrote, as a README.md with the YAML that the Hub reads."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCardData, hf_hub_url
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robust_hub.attacks import AUTO_ATTACK
from robust_hub.evaluation import Accuracy, Report
from robust_hub.model_folder.info import ModelInfo
from robust_hub.model_folder.provenance import Provenance, short_name
from robust_hub.models import is_stock
from robust_hub.names import HUB_ID, TAG
from robust_hub.threats import parse_threat

NOTES_BEGIN = "<!-- notes: what stands between these two lines is yours, and is kept -->"
NOTES_END = "<!-- end of notes -->"
PICTURE = re.compile(r"\w[\w.-]*\.png")
# What the Hub shows where a link to the model is shared.
THUMBNAIL = "accuracy_against_eps.png"
# Whichever Hub a process talks to, as a card is the same everywhere.
HUB = "https://huggingface.co"


class Paper(NamedTuple):
    """Where a method is from."""

    cite: str
    arxiv: str


PAPERS = {
    "igam": Paper("Chan et al., CVPR 2020", "1912.05699"),
    "mixacm": Paper("Awais et al., NeurIPS 2021", "2111.05073"),
    "rrm": Paper("Vaishnavi et al., USENIX Security 2022", "2202.09994"),
    "pag": Paper("Ganz et al., ICML 2023", "2207.11378"),
    "lifelong": Paper("Shafahi et al., ICLR 2020", "1905.08232"),
    "probe": Paper("Shafahi et al., ICLR 2020", "1905.08232"),
    "kd": Paper("Hinton et al., 2015", "1503.02531"),
    "ard": Paper("Goldblum et al., AAAI 2020", "1905.09747"),
    "rslad": Paper("Zi et al., ICCV 2021", "2108.07969"),
    "pgd": Paper("Madry et al., ICLR 2018", "1706.06083"),
    "nfgsm": Paper("de Jorge et al., NeurIPS 2022", "2202.01181"),
    "trades": Paper("Zhang et al., ICML 2019", "1901.08573"),
}
AUTO_ATTACK_PAPER = Paper("Croce and Hein, ICML 2020", "2003.01690")


def write_card(provenance: Provenance, report: Report | None, *, channels: int = 3, notes: str = "") -> str:
    """Writes the text of README.md.

    Args:
        provenance: what the model is.
        report: what was measured; None for one that nobody has evaluated yet.
        channels: of the images that it takes.
        notes: what its owner wants to add; Markdown.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    threat = report.threat if report else provenance.threat
    environment.filters |= {"code": _code, "fenced": _fenced, "quoted": _quoted}
    text = environment.get_template("card_template.md").render(
        provenance=provenance,
        report=report,
        stock=is_stock(provenance.architecture),
        channels=channels,
        is_at_chance=report is not None and _is_at_chance(report),
        threat=parse_threat(threat) if threat else None,
        pictures={file: caption for file, caption in provenance.pictures.items() if PICTURE.fullmatch(file)},
        protocol="" if report is None else report.protocol,
        is_auto_attack=report is not None and report.protocol == AUTO_ATTACK,
        after={} if report is None else {name: Accuracy.of(mask) for name, mask in report.evaluation.survivors.items()},
        place=f"hf-hub:{provenance.repository}" if provenance.repository else "local-dir:FOLDER",
        paper=paper_of(provenance.method),
        auto_attack_paper=AUTO_ATTACK_PAPER,
        notes=Markup(f"{NOTES_BEGIN}\n{notes}{NOTES_END}"),
    )
    return f"---\n{_front_matter(provenance, report)}\n---\n{text}"


def paper_of(method: str) -> Paper | None:
    """Names the paper a method is from; None where that is not known.

    Args:
        method: as it prints itself.
    """
    return PAPERS.get(short_name(method))


def read_notes(card: str) -> str:
    """Gives what the owner of a card added to it; empty where there is nothing, or no place for it."""
    _, _, rest = card.partition(NOTES_BEGIN + "\n")
    notes, end, _ = rest.rpartition(NOTES_END)
    return notes if end else ""


def _front_matter(provenance: Provenance, report: Report | None) -> str:
    method, paper = short_name(provenance.method), paper_of(provenance.method)
    starts_from = provenance.starts_from or (provenance.teacher.name if provenance.teacher else "")
    base_model = _repository(starts_from)
    # The Hub knows no word for a model that was distilled; of its own four this one is least wrong.
    related: dict[str, Any] = {"base_model": base_model, "base_model_relation": "finetune"} if base_model else {}
    if provenance.repository and THUMBNAIL in provenance.pictures:
        related["thumbnail"] = hf_hub_url(provenance.repository, THUMBNAIL, endpoint=HUB)
    data = provenance.data if report is None else report.source.data
    told: dict[str, Any] = (
        {}
        if report is None
        else {
            "model_name": provenance.name,
            "eval_results": _results(report),
            TAG: ModelInfo.of(provenance, report).plain(),
        }
    )
    is_robust = bool(provenance.threat) and not (report is not None and _is_at_chance(report))
    card = ModelCardData(
        library_name="timm",
        pipeline_tag="image-classification",
        license=provenance.license or None,
        tags=[
            "image-classification",
            "timm",
            TAG,
            *(["adversarial-robustness"] if is_robust else []),
            *([provenance.threat.partition(":")[0]] if provenance.threat else []),
            method,
            *([f"arxiv:{paper.arxiv}"] if paper else []),
        ],
        datasets=[data] if HUB_ID.fullmatch(data) else [provenance.data],
        **related,
        metrics=["accuracy", "robust_accuracy"],
        **told,
    )
    return card.to_yaml()


def _is_at_chance(report: Report) -> bool:
    """Tells whether the robust accuracy, within its interval, is no more than guessing gives."""
    return report.evaluation.robust_accuracy.low <= 1 / len(report.label_names)


def _results(report: Report) -> list[EvalResult]:
    evaluation = report.evaluation
    measured = [
        ("accuracy", "clean accuracy", evaluation.clean_accuracy),
        ("robust_accuracy", f"robust accuracy, {report.threat}, {report.protocol}", evaluation.robust_accuracy),
    ]
    return [
        EvalResult(
            task_type="image-classification",
            dataset_type=report.source.data if HUB_ID.fullmatch(report.source.data) else report.data,
            dataset_name=report.data,
            dataset_split="test",
            metric_type=kind,
            metric_name=name,
            metric_value=accuracy.value,
            metric_args={"n": accuracy.n, "low": accuracy.low, "high": accuracy.high},
        )
        for kind, name, accuracy in measured
    ]


def _repository(name: str) -> str:
    return name.removeprefix("hf-hub:").partition("@")[0] if name.startswith("hf-hub:") else ""


def _escaped(value: object) -> object:
    """Makes a value mean nothing but itself in Markdown and in HTML, on one line."""
    if isinstance(value, Markup | Accuracy):
        return value
    text = re.sub(r"([\\`*\[\]|$~])", r"\\\1", " ".join(str(value).split()))
    # What begins a heading, a list or a rule at the beginning of a line.
    text = re.sub(r"^(#{1,6}|[-+]|=+|-+)(?=\s|$)", r"\\\1", text)
    text = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(value: object) -> Markup:
    """Writes a value as code within a line; in a table too, where a bar would end the cell."""
    text = " ".join(str(value).split()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{ticks} {text} {ticks}" if "`" in text else f"{ticks}{text}{ticks}")


def _fenced(value: object) -> Markup:
    """Writes a value as a block of code."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", str(value))), default=0))
    return Markup(f"{ticks}bash\n{value}\n{ticks}")


def _quoted(value: str) -> Markup:
    """Writes a value as a Python string."""
    return Markup(json.dumps(value))
