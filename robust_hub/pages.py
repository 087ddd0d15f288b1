"""The catalogue as one page that needs no server: a table, plots, and the card that each number stands on."""

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from robust_hub.cards import NOTES_BEGIN, NOTES_END
from robust_hub.catalogue import Listed
from robust_hub.claims import Claim
from robust_hub.folders import CARD
from robust_hub.page_plots import Entry, contest, has_cost, is_auto_attack, plot_against_clean, plot_against_cost
from robust_hub.records import write_whole

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


def pareto_front(claims: Iterable[Claim]) -> set[Claim]:
    """Finds the models that no other one beats in both robust accuracy and cost.

    Only models of the same data, threat and protocol are compared. One that is flagged, or whose training time with
    its teacher's is not known, takes no part.
    """
    believed = [claim for claim in claims if not claim.flagged and has_cost(claim)]
    return {claim for claim in believed if not any(_beats(other, claim) for other in believed)}


def write_page(file: Path, models: list[Listed], *, unevaluated: list[str]) -> None:
    """Writes the page, whole or not at all; its links hold as long as it is not moved away from the folders.

    Args:
        file: an HTML file.
        models: of folders on this machine, in the order of the table.
        unevaluated: names of models that nobody has evaluated yet.
    """
    front = pareto_front(model.claim for model in models)
    entries = [_entry(model, file.parent, front) for model in models]
    comparable = sorted(entries, key=lambda entry: contest(entry.claim))
    panels = [
        _panel(data, threat, list(together))
        for (data, threat), together in groupby(comparable, key=lambda entry: contest(entry.claim))
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
    write_whole(file, page)


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


def _entry(model: Listed, page_folder: Path, front: set[Claim]) -> Entry:
    folder = Path(model.place.removeprefix("local-dir:"))
    link = quote(Path(os.path.relpath(folder, page_folder)).as_posix())
    card = render_card(folder, link) if (folder / CARD).is_file() else Markup()
    return Entry(model.claim, quote(folder.name, safe=""), link, card, model.claim in front)


def _panel(data: str, threat: str, entries: list[Entry]) -> Panel:
    with_cost = [entry for entry in entries if has_cost(entry.claim)]
    return Panel(
        data=data,
        threat=threat,
        against_clean=plot_against_clean(entries, name=f"{data}, {threat}, clean"),
        against_cost=plot_against_cost(with_cost, name=f"{data}, {threat}, cost") if with_cost else Markup(),
        hardware=sorted({entry.claim.hardware or "hardware that is not known" for entry in with_cost}),
        without_cost=[entry for entry in entries if not has_cost(entry.claim)],
    )


def _beats(one: Claim, other: Claim) -> bool:
    """Tells whether a model is at least as good in both, and better in one; both have a cost."""
    if (contest(one), one.protocol) != (contest(other), other.protocol):
        return False
    ours, theirs = ((claim.robust_accuracy.value, -claim.seconds_with_teacher) for claim in (one, other))
    return ours != theirs and ours[0] >= theirs[0] and ours[1] >= theirs[1]


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
