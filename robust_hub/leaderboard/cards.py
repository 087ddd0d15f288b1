"""Model cards as HTML: what strangers wrote, bounded, and with nothing in it that leads astray."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from robust_hub.errors import CheckpointError, first_line
from robust_hub.model_folder import NOTES_BEGIN, NOTES_END
from robust_hub.names import CARD

# Nearly four times the longest of ours. The slowest texts, of nothing but [ or of items, take half a second at this
# size, and 14 MB; those of 256 KiB some seconds.
MOST_BYTES = 24 * 2**10
# Of lines, each counted as often as it might have cells; ours come to a thousand. A few bytes of a table can ask for
# 65,536 cells.
MOST_CELLS = 5_000
FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def render_card(folder: Path, link: str) -> Markup:
    """Writes a model's card as HTML; nothing in it becomes markup that is not Markdown, or is loaded from elsewhere.

    Args:
        folder: of the model.
        link: the same folder, as seen from the page.

    Returns:
        HTML; empty where there is no card.

    Raises:
        CheckpointError: when it is a link, too large, no text, or nothing that can be parsed; in a few words.
    """
    text = FRONT_MATTER.sub("", _read(folder / CARD))
    lines = text.splitlines()
    if len(lines) * max((1 + line.count("|") for line in lines), default=0) > MOST_CELLS:
        raise CheckpointError(f"{CARD} has more than {MOST_CELLS:,} lines, or cells of tables in them")
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    try:
        tokens = parser.parse(text.replace(NOTES_BEGIN, "").replace(NOTES_END, ""))
        for token in tokens:
            if token.type in ("heading_open", "heading_close"):
                # The page has two levels of its own above a card.
                token.tag = f"h{min(6, int(token.tag.removeprefix('h')) + 2)}"
            _keep_within(folder.resolve(), link, token.children or [])
        return Markup(parser.renderer.render(tokens, parser.options, {}))
    except Exception as error:
        # Whatever a parser comes to that a stranger's text leads: it costs this card, not the page.
        raise CheckpointError(f"{CARD} can't be parsed ({type(error).__name__}: {first_line(error)})") from error


def _read(file: Path) -> str:
    try:
        if file.is_symlink():
            raise CheckpointError(f"{file.name} is a link, which may lead out of the folder")
        if not file.is_file():
            return ""
        if (size := file.stat().st_size) > MOST_BYTES:
            raise CheckpointError(f"{file.name} has {size:,} bytes, more than the {MOST_BYTES:,} that are shown")
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file.name} is no text in UTF-8") from error
    except OSError as error:
        raise CheckpointError(f"{file.name} can't be read ({error.strerror})") from error


def _keep_within(folder: Path, link: str, parts: list[Token]) -> None:
    """Lets pictures and links lead to files of the folder, and links to other sites; of all others the text stays."""
    is_kept = True
    for part in parts:
        if part.type == "image":
            source = str(part.attrs["src"])
            if _is_within(folder, source):
                part.attrs |= {"src": f"{link}/{source}", "loading": "lazy"}
            else:
                part.type, part.children = "text", None
        elif part.type == "link_open":
            target = str(part.attrs["href"])
            is_inner = _is_within(folder, target)
            is_kept = is_inner or _leads_to_a_site(target)
            part.attrs["href"] = f"{link}/{target}" if is_inner else target
        if part.type in ("link_open", "link_close") and not is_kept:
            part.type, part.tag, part.nesting, part.content = "text", "", 0, ""


def _is_within(folder: Path, address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path:
        return False
    try:
        file = (folder / unquote(parts.path)).resolve()
        return file.is_relative_to(folder) and file.is_file()
    except (OSError, ValueError, RuntimeError):
        # A name that is too long, a null in it, or links in a circle.
        return False


def _leads_to_a_site(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in ("http", "https") and bool(parts.netloc)
