"""Names as a picture can show them, whatever somebody called a class."""

import unicodedata
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache

import matplotlib as mpl
from matplotlib import font_manager

LONGEST = 36
# Scripts that matplotlib's own font lacks: the first of these that a machine has helps out.
OTHER_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Emoji",
    "Segoe UI Emoji",
)


@contextmanager
def lettering() -> Generator[None]:
    """Lets matplotlib write a $ as a $, in fonts that this machine has; decorates what draws."""
    with mpl.rc_context({"text.parse_math": False, "text.usetex": False, "font.family": list(_fonts())}):
        yield


def legible(name: str, longest: int = LONGEST) -> str:
    """Writes a name on one line, as long as there is room, in characters that a font of this machine has.

    Args:
        name: whatever it holds.
        longest: the most columns it may take; of a longer one the middle is left out.
    """
    line = " ".join(name.split())
    shown = "".join(letter if _is_shown(letter) else f" U+{ord(letter):04X} " for letter in line)
    return shortened(shown or "(no name)", longest)


def shortened(text: str, longest: int) -> str:
    """Writes a text on one line, without its middle where it takes more columns; wide characters take two."""
    text = " ".join(text.split())
    if sum(map(_columns, text)) <= longest:
        return text
    begin, end = _fitting(text, longest // 2 - 1), _fitting(text[::-1], (longest - 1) // 2 - 1)[::-1]
    return f"{begin.rstrip()}...{end.lstrip()}"


def _fitting(text: str, columns: int) -> str:
    """Gives as many of the first characters as fit."""
    taken = 0
    for place, letter in enumerate(text):
        taken += _columns(letter)
        if taken > columns:
            return text[:place]
    return text


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def _is_shown(letter: str) -> bool:
    return letter.isprintable() and ord(letter) in _known()


@lru_cache
def _fonts() -> tuple[str, ...]:
    there = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in OTHER_FONTS if name in there))


@lru_cache
def _known() -> frozenset[int]:
    """Collects the code points that some font has."""
    files = [font_manager.findfont(name) for name in _fonts()]
    return frozenset(code for file in files for code in font_manager.get_font(file).get_charmap())
