"""The plots of the catalogue's page: SVG whose points are links, in colours that the page names."""

import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from itertools import cycle
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from robust_hub.attacks import AUTO_ATTACK
from robust_hub.evaluation import shortened
from robust_hub.leaderboard.table import contest, cost_of, has_cost, is_auto_attack
from robust_hub.model_folder import ModelInfo, Paper, short_name

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
# Matplotlib knows no CSS variables: it draws in these colours, and the page says what they are by day and by night.
INK, MUTED, LINE, ACCENT, WARNING, PAPER = "#101010", "#202020", "#303030", "#404040", "#505050", "#606060"
# Of names beside points, the best first: a plot has no room for more, and looking for it takes time.
MOST_NAMES = 40
CSS = {INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", WARNING: "warning", PAPER: "paper"}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.4,
    "svg.fonttype": "none",
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
}


@dataclass(frozen=True)
class Entry:
    """A model of the page.

    Attributes:
        info: what its table row and its points show.
        folder: the name of its folder.
        anchor: where its card is on the page.
        link: its folder, as seen from the page.
        card: README.md as HTML; empty where there is none, or none that can be shown.
        wrong: why that is so.
        on_front: whether it is on its Pareto front.
        rank: among those of the same data and threat; None where it has none.
        repository: ORG/NAME on the Hub; empty where it is not there.
        image_size: height and width of its images; empty where that is not known.
        paper: where its method is from; None where that is not known.
    """

    info: ModelInfo
    folder: str
    anchor: str
    link: str
    card: Markup
    wrong: str
    on_front: bool
    rank: int | None
    repository: str
    image_size: tuple[int, ...]
    paper: Paper | None

    @property
    def threat(self) -> str:
        """Its threat, written in one way however its publisher writes it."""
        return contest(self.info)[1]

    @property
    def method(self) -> str:
        """The short name of its method."""
        return short_name(self.info.method)

    @property
    def load_line(self) -> str:
        """A line of Python that loads it from the Hub, where it is there."""
        modules = "timm" if self.info.stock else "timm, robust_hub"
        return f'import {modules}; model = timm.create_model("hf-hub:{self.repository}", pretrained=True).eval()'


@contextmanager
def _in_style() -> Generator[None]:
    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # The browser that shows the text has fonts of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


@_in_style()
def plot_against_clean(entries: list[Entry], *, name: str) -> Markup:
    """Draws robust against clean accuracy with 95 % intervals, as SVG; the name keeps ids apart on a page."""
    figure, axes = _figure("clean accuracy (%)")
    for entry in entries:
        clean, robust = entry.info.clean_accuracy, entry.info.robust_accuracy
        _interval(axes, entry, [clean.low, clean.high], [robust.value, robust.value])
        _interval(axes, entry, [clean.value, clean.value], [robust.low, robust.high])
    _points(figure, axes, [(100 * entry.info.clean_accuracy.value, entry) for entry in entries])
    return _as_svg(figure, entries, name)


@_in_style()
def plot_against_cost(entries: list[Entry], *, name: str) -> Markup:
    """Draws robust accuracy against the cost of training, and the Pareto fronts, as SVG; all entries have a cost."""
    figure, axes = _figure("training with the teacher's (seconds, logarithmic)")
    seconds = [cost_of(entry.info) for entry in entries]
    axes.set_xscale("log")
    # At least a factor of nine, so that a single model has ticks beside it too; over decades those suffice.
    axes.set_xlim(min(seconds) / 3, max(seconds) * 3)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(seconds) < 25 * min(seconds) else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    for entry, x in zip(entries, seconds, strict=True):
        robust = entry.info.robust_accuracy
        axes.plot([x, x], [100 * robust.low, 100 * robust.high], color=MUTED, linewidth=0.5, gid=f"of {entry.anchor}")
    _fronts(axes, [entry for entry in entries if entry.on_front])
    _points(figure, axes, list(zip(seconds, entries, strict=True)))
    return _as_svg(figure, entries, name)


def _fronts(axes: Axes, entries: list[Entry]) -> None:
    """Draws a Pareto front for each protocol, as a line of steps; one of a single point is a ring around it."""
    fronts: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: cost_of(entry.info)):
        fronts.setdefault(entry.info.protocol, []).append(entry)
    dashes, label_of_one = cycle(("--", ":", "-.")), "Pareto front of one model"
    for protocol, front in sorted(fronts.items(), key=lambda front: front[0] != AUTO_ATTACK):
        points = [(cost_of(entry.info), 100 * entry.info.robust_accuracy.value) for entry in front]
        if len(set(points)) == 1:
            ring: dict[str, Any] = {
                "marker": "o",
                "markersize": 13,
                "markerfacecolor": "none",
                "markeredgecolor": ACCENT,
            }
            # A label that begins with an underscore is none: the legend explains rings once.
            axes.plot(*points[0], **ring, linestyle="none", label=label_of_one, gid=f"of {front[0].anchor}")
            label_of_one = "_"
            continue
        x, y = zip(*points, strict=True)
        axes.step(
            [*x, axes.get_xlim()[1]],
            [*y, y[-1]],
            where="post",
            color=ACCENT,
            linestyle="-" if protocol == AUTO_ATTACK else next(dashes),
            linewidth=1.2,
            label=f"Pareto front, {shortened(protocol, 44)}",
        )


def _figure(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=label, ylabel="robust accuracy (%)")
    axes.grid()
    axes.set_axisbelow(True)
    return figure, axes


def _interval(axes: Axes, entry: Entry, x: list[float], y: list[float]) -> None:
    percent = [[100 * end for end in ends] for ends in (x, y)]
    axes.plot(*percent, color=MUTED, linewidth=0.5, gid=f"of {entry.anchor}")


def _points(figure: Figure, axes: Axes, placed: list[tuple[float, Entry]]) -> None:
    """Draws the models, those of AutoAttack filled, and a legend of the kinds that there are."""
    kinds = {}
    for x, entry in placed:
        flagged, trusted = bool(entry.info.flagged), is_auto_attack(entry.info)
        color = WARNING if flagged else ACCENT
        look: dict[str, Any] = {
            "marker": "X" if flagged else "o" if trusted else "s",
            "markersize": 7,
            "markeredgecolor": color,
            "markerfacecolor": color if trusted else PAPER,
            "linestyle": "none",
        }
        y = 100 * entry.info.robust_accuracy.value
        axes.plot([x], [y], **look, zorder=3, gid=f"of {entry.anchor}", url=f"#{entry.anchor}")
        told = f"{'AutoAttack' if trusted else 'not AutoAttack'}{', flagged' if flagged else ''}"
        kinds.setdefault(told, Line2D([], [], **look, label=told))
    fronts, _ = axes.get_legend_handles_labels()
    handles = [kinds[told] for told in sorted(kinds)] + fronts
    figure.legend(handles=handles, loc="outside lower left", frameon=False)
    # The axes keep their height however long the legend is.
    figure.set_figheight(3.1 + 0.19 * len(handles))
    _names(
        figure, axes, sorted(placed, key=lambda point: (not point[1].on_front, -point[1].info.robust_accuracy.value))
    )


def _names(figure: Figure, axes: Axes, placed: list[tuple[float, Entry]]) -> None:
    """Writes a method beside each point where there is room; the others have theirs in the point's tooltip."""
    figure.draw_without_rendering()
    points = [axes.transData.transform((x, 100 * entry.info.robust_accuracy.value)) for x, entry in placed]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in points]
    for x, entry in placed[:MOST_NAMES]:
        for side, height in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
            text = axes.annotate(
                shortened(entry.method, 20),
                (x, 100 * entry.info.robust_accuracy.value),
                (6 * side, 5 * height),
                textcoords="offset points",
                ha="left" if side > 0 else "right",
                va="bottom" if height > 0 else "top",
                fontsize=8,
                gid=f"of {entry.anchor}",
            )
            text.set_in_layout(False)
            box = text.get_window_extent()
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            if inside and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


def _as_svg(figure: Figure, entries: list[Entry], name: str) -> Markup:
    """Writes a figure as a part of the page: colours are its variables, points tell what they are, ids stay unique."""
    written = StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    infos = {f"#{entry.anchor}": entry.info for entry in entries}
    root = ElementTree.fromstring(written.getvalue())
    metadata = root.find(f"{SVG}metadata")
    assert metadata is not None
    root.remove(metadata)
    for size in ("width", "height"):
        del root.attrib[size]
    for element in root.iter():
        # Within HTML neither tags nor links have a namespace.
        element.tag = element.tag.removeprefix(SVG)
        element.attrib = {key.removeprefix(XLINK): value for key, value in element.attrib.items()}
        if style := element.get("style"):
            element.set("style", re.sub("#[0-9a-f]{6}", _variable, style))
        if element.tag == "g":
            kind, _, anchor = element.attrib.pop("id", "").partition(" ")
            element.attrib |= {"data-model": anchor} if kind == "of" else {}
        if element.tag == "a":
            ElementTree.SubElement(element, "title").text = _told(infos[element.attrib["href"]])
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _variable(color: re.Match) -> str:
    return f"var(--{CSS[color[0]]})" if color[0] in CSS else color[0]


def _told(info: ModelInfo) -> str:
    flagged = f"; {info.flagged} of {info.checks} checks flagged" if info.flagged else ""
    cost = f"; {cost_of(info):,.0f} s with the teacher" if has_cost(info) else ""
    return (
        f"{info.name}: {info.robust_accuracy} % robust ({info.protocol}), {info.clean_accuracy} % clean{cost}{flagged}"
    )
