"""Pictures are legible whatever classes are called, and cost no more than themselves where they can't be drawn."""

import warnings
from dataclasses import replace

import pytest
from accelerate import Accelerator
from PIL import Image

from robust_hub.evaluation import Accuracy, Curve, dispensable, finish, plots
from robust_hub.evaluation.lettering import legible
from robust_hub.evaluation.plots import plot_accuracy_curves, plot_classes
from robust_hub.launch import Output
from tests.made_up import NAMES, report

ODD = ["$x$", "US$ and A$", "a_b", "a^b_{c", "\\alpha", "cat \N{CAT FACE}", "\N{CJK UNIFIED IDEOGRAPH-732B}"]
ODD += ["\N{HEBREW LETTER HET}\N{HEBREW LETTER TAV}", "line\nbreak", "", "x" * 300, "x" * 299 + "y", "%s {0}", "\0"]


CURVE = Curve(20, 10, [0.0, 0.1], [1.0, 0.5])


def accuracies(robust: int, n: int = 10) -> tuple[Accuracy, Accuracy]:
    return Accuracy(1.0, 0.7, 1.0, n), Accuracy(robust / n, 0.0, 1.0, n)


@pytest.fixture
def drawn(monkeypatch):
    """Gives the figures, before they are written."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))
    return figures


def test_classes_of_any_name_are_drawn_without_a_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_classes(tmp_path / "classes.png", {name: accuracies(5) for name in ODD}, threat="linf:8/255")
    with Image.open(tmp_path / "classes.png") as image:
        image.load()
    assert [file.name for file in tmp_path.iterdir()] == ["classes.png"]


def test_a_dollar_is_a_dollar(tmp_path, drawn):
    plot_classes(tmp_path / "classes.png", {"$x$": accuracies(5)}, threat="linf:8/255")
    plot_accuracy_curves(tmp_path / "curve.png", {"$x$": CURVE}, norm="linf", reported=0.1)
    (label,) = drawn[0].axes[0].get_yticklabels()
    assert (label.get_text(), label.get_parse_math()) == ("$x$ (n = 10)", False)
    assert not drawn[1].axes[0].get_legend().get_texts()[0].get_parse_math()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("tabby cat", "tabby cat"),
        ("a\n b", "a b"),
        ("", "(no name)"),
        (" \t", "(no name)"),
        ("a\0b", "a U+0000 b"),
        # Of no alphabet, and so in no font.
        ("x\U0010ffff", "x U+10FFFF"),
        ("n" * 300, "n" * 17 + "..." + "n" * 16),
        ("begin " + 60 * "m" + " end", "begin mmmmmmmmmmm...mmmmmmmmmmmm end"),
    ],
)
def test_a_name_is_written_on_one_line_of_bounded_length(name, shown):
    assert legible(name) == shown


def test_classes_whose_names_look_the_same_have_a_bar_each(tmp_path, drawn):
    plot_classes(tmp_path / "classes.png", {"x" * 300: accuracies(5), "x" * 301: accuracies(6)}, threat="linf:8/255")
    assert len(drawn[0].axes[0].get_yticklabels()) == 2


def test_of_a_thousand_classes_both_ends_are_drawn_and_the_others_counted(tmp_path, drawn):
    plot_classes(tmp_path / "a.png", {f"{i:03d}": accuracies(i, 1000) for i in range(1000)}, threat="linf:8/255")
    axes = drawn[0].axes[0]
    shown = [label.get_text().partition(" ")[0] for label in axes.get_yticklabels()]
    assert shown == [f"{i:03d}" for i in [*range(25), *range(975, 1000)]]
    assert [text.get_text() for text in axes.texts] == ["950 of 1,000 classes lie between"]


def test_a_picture_that_fails_costs_itself_and_one_line(capsys):
    with dispensable("classes.png"):
        raise RuntimeError("no\nfont")
    assert capsys.readouterr().out == "warning: there is no classes.png (no); all else is kept\n"


def test_of_a_finished_evaluation_the_missing_pictures_are_drawn_and_one_that_fails_is_told(
    tmp_path, create_cnn, monkeypatch, capsys
):
    (tmp_path / "classes.png").write_bytes(b"there")

    def fail(*args, **options):
        raise ValueError("no font")

    monkeypatch.setattr("robust_hub.evaluation.measurement.plot_survivors", fail)
    measured = replace(report(create_cnn(), NAMES), curve=Curve(20, 4, [0.0, 8 / 255], [0.75, 0.25]))
    finish(Accelerator(), Output(tmp_path), measured)
    assert {file.name for file in tmp_path.iterdir()} == {"accuracy_against_eps.png", "classes.png"}
    assert (tmp_path / "classes.png").read_bytes() == b"there"
    assert capsys.readouterr().out == "warning: there is no survivors.png (no font); all else is kept\n"


def test_an_evaluation_of_before_has_no_picture_of_a_curve(tmp_path, create_cnn):
    finish(Accelerator(), Output(tmp_path), report(create_cnn(), NAMES))
    assert {file.name for file in tmp_path.iterdir()} == {"classes.png", "survivors.png"}
