"""Cards of strangers: what is shown of them, and what is not and why; Python's own parser reads their HTML."""

import os
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from robust_hub.errors import CheckpointError
from robust_hub.leaderboard.cards import render_card

ROOT = Path(__file__).parents[2]
# Tags of Markdown; what else is found was a stranger's.
OF_MARKDOWN = {"p", "a", "img", "em", "strong", "code", "pre", "ul", "ol", "li", "h3", "br", "blockquote"}


class Read(HTMLParser):
    """The tags of an HTML text, and where they lead."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(str(text))

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def card_of(folder: Path, text: str) -> Read:
    (folder / "README.md").write_text(text, encoding="utf-8")
    return Read(render_card(folder, "link"))


@pytest.mark.parametrize("folder", sorted((ROOT / "model_cards").iterdir()), ids=lambda folder: folder.name)
def test_the_cards_that_are_published_are_shown(folder):
    card = Read(render_card(folder, "link"))
    assert card.tags[0] == "h3"
    assert folder.name in card.text
    assert "library_name" not in card.text
    assert card.all("src") == [
        f"link/{name}"
        for name in ("accuracy_against_eps.png", "input_gradients.png", "classes.png")
        if (folder / name).is_file()
    ]


def test_a_folder_without_a_card_has_none(tmp_path):
    assert render_card(tmp_path, "link") == ""


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (b"- a\n" * 2_000_000, "has 8,000,000 bytes, more than the 24,576 that are shown"),
        (b"-\n" * 12_000, "has more than 5,000 lines, or cells of tables in them"),
        (b"|" + b"a|" * 500 + b"\n|" + b"-|" * 500 + b"\n" + b"|\n" * 5_000, "has more than 5,000 lines, or cells"),
    ],
    ids=["not utf-8", "8 MB", "items", "cells"],
)
def test_a_card_that_is_too_much_is_refused_before_it_is_parsed(tmp_path, monkeypatch, content, reason):
    (tmp_path / "README.md").write_bytes(content)
    monkeypatch.setattr(MarkdownIt, "parse", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(CheckpointError, match=f"^README.md {reason}"):
        render_card(tmp_path, "link")


@pytest.mark.parametrize("target", ["../secret.txt", "nowhere", "README.md"])
def test_a_card_that_is_a_link_is_refused(tmp_path, target):
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").symlink_to(target)
    with pytest.raises(CheckpointError, match="is a link, which may lead out of the folder"):
        render_card(tmp_path / "model", "link")


@pytest.mark.parametrize("text", [">" * 20_000, "- " * 10_000, "![" * 2_000 + "a" + "](b)" * 2_000, "*" * 20_000])
def test_a_card_that_is_nested_without_end_is_still_shown(tmp_path, text):
    assert len(card_of(tmp_path, text).tags) < 1_000


def test_whatever_a_parser_raises_costs_the_card(tmp_path, monkeypatch):
    def parse(*_):
        raise IndexError("list index out of range")

    (tmp_path / "README.md").write_text("a")
    monkeypatch.setattr(MarkdownIt, "parse", parse)
    with pytest.raises(CheckpointError, match=r"README\.md can't be parsed \(IndexError: list index out of range\)"):
        render_card(tmp_path, "link")


def test_links_and_pictures_stay_in_the_folder_or_lead_to_a_site(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("secret.png", "model/in it.png", "model/evaluation.json"):
        (tmp_path / name).write_text("a file")
    (folder / "out.png").symlink_to("../secret.png")
    leading_out = [
        "../secret.png",
        "%2e%2e/secret.png",
        f"{tmp_path}/secret.png",
        "//host/a.png",
        "out.png",
        "%00",
        f"file://{tmp_path}/secret.png",
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java&#10;script:a",
        "data:text/html,<b>",
        "vbscript:a",
        "smb://host/a",
        "n" * 300,
        "not-there.png",
        "http:secret.png",
    ]
    links = "".join(f"[text {place}](<{address}>)\n" for place, address in enumerate(leading_out))
    card = card_of(
        folder,
        f"{links}{links.replace('[', '![')} [own](evaluation.json) [site](https://arxiv.org/abs/1) ![own](<in it.png>) "
        "![far](https://example.com/a.png)\n\n[by name][x] <https://arxiv.org> \n\n[x]: ../secret.png\n",
    )
    assert card.all("href") == ["link/evaluation.json", "https://arxiv.org/abs/1", "https://arxiv.org"]
    assert card.all("src") == ["link/in%20it.png"]
    assert all(f"text {place}" in card.text for place in range(len(leading_out)))
    assert "by name" in card.text


def test_html_in_a_card_stays_text(tmp_path):
    hostile = (
        '<script>alert(1)</script> <img src=x onerror="alert(1)"> <a href="javascript:alert(1)">run</a>\n\n'
        "<style>* { display: none }</style>\n\n<!-- <iframe src=x> -->\n\n# <b onclick=a>heading</b>\n\n"
        '`<svg onload=a>` [a](<evaluation.json> "\\"><script>")\n'
    )
    card = card_of(tmp_path, hostile)
    assert set(card.tags) <= OF_MARKDOWN
    assert {name for name, _ in card.attributes} <= {"href", "title"}
    for text in ("<script>alert(1)</script>", "<style>", "<iframe src=x>", "<b onclick=a>", "<svg onload=a>"):
        assert text in card.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_card_that_is_no_file_is_none(tmp_path):
    os.mkfifo(tmp_path / "README.md")
    assert render_card(tmp_path, "link") == ""
