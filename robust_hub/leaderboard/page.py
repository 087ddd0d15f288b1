"""The catalogue as one page that needs no server: a table, plots, and the card that each number stands on."""

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from robust_hub.errors import CheckpointError, printable, shortened
from robust_hub.files import write_text
from robust_hub.leaderboard.cards import render_card
from robust_hub.leaderboard.plots import Entry, plot_against_clean, plot_against_cost
from robust_hub.leaderboard.table import contest, has_cost, is_auto_attack, pareto_front, ranks
from robust_hub.model_folder import ModelInfo, paper_of, read_config
from robust_hub.names import CONFIG_KEY, HUB_ID

PAGE = "index.html"
# Of a text in a cell: names of folders are shorter, command lines of methods mostly.
LONGEST = 120
# Numbers of parameters by which models are told apart, and what those below each are called.
SIZES = {10**6: "under 1 M", 10**7: "1 to 10 M", 10**8: "10 to 100 M", 10**14: "over 100 M"}


@dataclass(frozen=True)
class Group:
    """The models that may be compared: those of the same data and threat.

    Attributes:
        data: the data set.
        threat: as `parse_threat` reads it.
        entries: the models; those with a rank first, then the most robust.
        against_clean: robust against clean accuracy, as SVG.
        against_cost: robust accuracy against the cost of training, as SVG; empty where no cost is known.
        hardware: what the models with a cost were trained on.
        without_cost: the models whose cost is not known.
    """

    data: str
    threat: str
    entries: list[Entry]
    against_clean: Markup
    against_cost: Markup
    hardware: list[str]
    without_cost: list[Entry]


def write_page(file: Path, models: Mapping[str, ModelInfo], *, left_out: Mapping[str, str]) -> dict[str, str]:
    """Writes the page, whole or not at all; its links hold as long as it is not moved away from the folders.

    Args:
        file: an HTML file.
        models: of folders on this machine, by their local-dir: names.
        left_out: why others are not among them, by their names.

    Returns:
        Why cards are not shown, by the names of their folders.
    """
    front = pareto_front(models.values())
    comparable = sorted(models.items(), key=lambda model: contest(model[1]))
    groups = []
    for (data, threat), together in groupby(comparable, key=lambda model: contest(model[1])):
        folders = {Path(place.removeprefix("local-dir:")): info for place, info in together}
        rank = ranks(folders.values())
        entries = [_entry(folder, info, file.parent, front, rank.get(info)) for folder, info in folders.items()]
        entries.sort(key=lambda entry: (entry.rank is None, -entry.info.robust_accuracy.value, entry.anchor))
        groups.append(_group(shortened(data, LONGEST), threat, entries))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sha256": _sha256, "is_auto_attack": is_auto_attack, "breakable": _breakable, "size": _size}
    page = environment.get_template("page_template.html").render(
        groups=groups,
        entries=[entry for group in groups for entry in group.entries],
        sizes=list(SIZES.values()),
        left_out={printable(name): reason for name, reason in left_out.items()},
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
    return {entry.folder: entry.wrong for group in groups for entry in group.entries if entry.wrong}


def _entry(folder: Path, info: ModelInfo, page_folder: Path, front: set[ModelInfo], rank: int | None) -> Entry:
    link = quote(os.fsencode(Path(os.path.relpath(folder, page_folder)).as_posix()))
    repository, image_size = _facts(folder)
    card, wrong = Markup(), ""
    try:
        card = render_card(folder, link)
    except CheckpointError as error:
        wrong = str(error)
    return Entry(
        info=_legible(info),
        folder=printable(folder.name),
        anchor=quote(os.fsencode(folder.name), safe=""),
        link=link,
        card=card,
        wrong=wrong,
        on_front=info in front,
        rank=rank,
        repository=repository,
        image_size=image_size,
        paper=paper_of(info.method),
    )


def _facts(folder: Path) -> tuple[str, tuple[int, ...]]:
    """Tells where a model is on the Hub, and the height and width of its images; nothing where that can't be read."""
    try:
        config = read_config(folder)
    except (ValueError, OSError, RecursionError):
        # It could be when the models were listed, and their figures stand.
        return "", ()
    repository = config.get(CONFIG_KEY, {}).get("repository")
    _, *size = config.get("pretrained_cfg", config)["input_size"]
    is_name = isinstance(repository, str) and HUB_ID.fullmatch(repository)
    return repository if is_name else "", tuple(size)


def _group(data: str, threat: str, entries: list[Entry]) -> Group:
    with_cost = [entry for entry in entries if has_cost(entry.info)]
    return Group(
        data=data,
        threat=threat,
        entries=entries,
        against_clean=plot_against_clean(entries, name=f"{data}, {threat}, clean"),
        against_cost=plot_against_cost(with_cost, name=f"{data}, {threat}, cost") if with_cost else Markup(),
        hardware=sorted({entry.info.hardware or "hardware that is not known" for entry in with_cost}),
        without_cost=[entry for entry in entries if not has_cost(entry.info)],
    )


def _legible(info: ModelInfo) -> ModelInfo:
    """Cuts texts that would fill the page; the threat is written anew where it is shown."""
    texts = {name: value for name, value in asdict(info).items() if isinstance(value, str) and name != "threat"}
    return replace(info, **{name: shortened(text, LONGEST) for name, text in texts.items()})


def _size(parameters: int) -> str:
    return next(told for below, told in SIZES.items() if parameters < below)


def _breakable(name: str) -> Markup:
    """Lets a name go on in the next line after a dot, an underscore or a slash."""
    return Markup("<wbr>").join(re.split(r"(?<=[._/])", name))


def _sha256(script: str) -> str:
    """Gives the name by which a content security policy allows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
