"""The catalogue as one page that needs no server: a table, plots, and the card that each number stands on."""

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from robust_hub.files import write_text
from robust_hub.leaderboard.plots import Entry, plot_against_clean, plot_against_cost
from robust_hub.leaderboard.table import contest, has_cost, is_auto_attack, pareto_front
from robust_hub.model_folder import NOTES_BEGIN, NOTES_END, ModelInfo
from robust_hub.names import CARD

PAGE = "index.html"
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Panel:
    """The plots of the models that may be compared: those of the same data and threat.

    Attributes:
        data: the data set.
        threat: as `parse_threat` reads it.
        against_clean: robust against clean accuracy, as SVG.
        against_cost: robust accuracy against the cost of training, as SVG; empty where no cost is known.
        hardware: what the models with a cost were trained on.
        without_cost: the models whose cost is not known.
    """

    data: str
    threat: str
    against_clean: Markup
    against_cost: Markup
    hardware: list[str]
    without_cost: list[Entry]


def write_page(file: Path, models: Mapping[str, ModelInfo], *, unevaluated: list[str]) -> None:
    """Writes the page, whole or not at all; its links hold as long as it is not moved away from the folders.

    Args:
        file: an HTML file.
        models: of folders on this machine, by their local-dir: names, in the order of the table.
        unevaluated: names of models that nobody has evaluated yet.
    """
    front = pareto_front(models.values())
    entries = [
        _entry(Path(place.removeprefix("local-dir:")), info, file.parent, front) for place, info in models.items()
    ]
    comparable = sorted(entries, key=lambda entry: contest(entry.info))
    panels = [
        _panel(data, threat, list(together))
        for (data, threat), together in groupby(comparable, key=lambda entry: contest(entry.info))
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"sha256": _sha256, "is_auto_attack": is_auto_attack, "breakable": _breakable}
    page = environment.get_template("page_template.html").render(
        entries=entries, panels=panels, unevaluated=unevaluated
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)


def render_card(folder: Path, link: str) -> Markup:
    """Writes a model's card as HTML; nothing in it becomes markup that is not Markdown, or is loaded from elsewhere.

    Args:
        folder: of the model.
        link: the same folder, as seen from the page.
    """
    text = FRONT_MATTER.sub("", (folder / CARD).read_text(encoding="utf-8", errors="replace"))
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text.replace(NOTES_BEGIN, "").replace(NOTES_END, ""))
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            # The page has two levels of its own above a card.
            token.tag = f"h{min(6, int(token.tag.removeprefix('h')) + 2)}"
        for part in token.children or []:
            if part.type == "image" and not _is_within(folder, str(part.attrs["src"])):
                part.type, part.children = "text", None
            elif part.type == "image":
                part.attrs |= {"src": f"{link}/{part.attrs['src']}", "loading": "lazy"}
            elif part.type == "link_open" and _is_relative(str(part.attrs["href"])):
                part.attrs["href"] = f"{link}/{part.attrs['href']}"
    return Markup(parser.renderer.render(tokens, parser.options, {}))


def _entry(folder: Path, info: ModelInfo, page_folder: Path, front: set[ModelInfo]) -> Entry:
    link = quote(Path(os.path.relpath(folder, page_folder)).as_posix())
    card = render_card(folder, link) if (folder / CARD).is_file() else Markup()
    return Entry(info, quote(folder.name, safe=""), link, card, info in front)


def _panel(data: str, threat: str, entries: list[Entry]) -> Panel:
    with_cost = [entry for entry in entries if has_cost(entry.info)]
    return Panel(
        data=data,
        threat=threat,
        against_clean=plot_against_clean(entries, name=f"{data}, {threat}, clean"),
        against_cost=plot_against_cost(with_cost, name=f"{data}, {threat}, cost") if with_cost else Markup(),
        hardware=sorted({entry.info.hardware or "hardware that is not known" for entry in with_cost}),
        without_cost=[entry for entry in entries if not has_cost(entry.info)],
    )


def _is_within(folder: Path, source: str) -> bool:
    file = (folder / unquote(source)).resolve()
    return file.is_relative_to(folder.resolve()) and file.is_file()


def _is_relative(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.path) and not (parts.scheme or parts.netloc or parts.path.startswith("/"))


def _breakable(name: str) -> Markup:
    """Lets a name go on in the next line after a dot or an underscore."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])", name))


def _sha256(script: str) -> str:
    """Gives the name by which a content security policy allows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
