"""Errors about what somebody else wrote, and the turns of phrase that sentences share."""

import json
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from urllib.parse import quote

# What a message of somebody else's may quote and nobody may read: a token, by its form, in a header or in the query of
# a signed address, and the name and password in an address.
SECRETS = {
    r"\bhf_\w+": "***",
    r"(?i)\b(bearer|basic)\s+[^\s'\",)]+": r"\1 ***",
    r"(?i)\b([\w-]*(?:signature|token|credential|secret|password))=[^\s&'\",)]+": r"\1=***",
    r"://[^/\s'\"]*@": "://***@",
}
# Shorter ones are no secrets, and would blacken words.
SHORTEST_SECRET = 6
# A longer one quotes what a stranger wrote without end.
LONGEST_SENTENCE = 2_000
# Of classes and layers; ImageNet's have 140 letters.
LONGEST_NAME = 300
# What steers a terminal, turns the direction of what follows, or is no letter of any encoding.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class CheckpointError(ValueError):
    """A model, or what stands beside it, is missing, broken or not what it says."""


def close_names(name: str, known: Iterable[str]) -> str:
    """Writes the end of a sentence about an unknown name: the known ones most like it; empty where none is."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; close names are {', '.join(near)}" if near else ""


def first_line(error: Exception) -> str:
    """Gives the first line of what an error says, without secrets, or its type where it says nothing.

    Where that ends in a colon, as torch's do about weights that do not fit, the next line belongs to it.
    """
    # Before the lines are parted, as a token may hold the end of one.
    told = without_secrets(str(error).strip(), *(os.environ.get(name, "") for name in TOKEN_VARIABLES))
    first, *others = (told or type(error).__name__).splitlines()
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def printable(text: str) -> str:
    """Leaves out of a text what steers a terminal, whoever wrote it."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def shortened(sentence: str, longest: int = LONGEST_SENTENCE) -> str:
    """Leaves out the middle of a sentence that quotes too much: its end says what to do.

    Args:
        sentence: of any length.
        longest: the most characters of it that are kept.
    """
    if len(sentence) <= longest:
        return sentence
    half = longest // 2
    return f"{sentence[:half]} ... {sentence[-half:]}"


def strange_name(names: Iterable[str]) -> str:
    """Finds the first name that people can't be shown, too long or with what steers a terminal; quoted, or empty."""
    strange = next((name for name in names if len(name) > LONGEST_NAME or STEERING.search(name)), "")
    return f"{strange!a:.60}" if strange else ""


def without_secrets(text: str, *tokens: str) -> str:
    """Blackens what may not be read in a message: what looks like a secret, and tokens however they are quoted.

    Args:
        text: the message.
        tokens: the secrets that are known.
    """
    known = {part for token in tokens for part in (token.strip(), *token.split()) if len(part) >= SHORTEST_SECRET}
    written = known | {way(token) for token in known for way in (quote, _fully_quoted, _as_python, _as_bytes, _as_json)}
    for secret in sorted(written, key=len, reverse=True):
        text = text.replace(secret, "***")
    for pattern, instead in SECRETS.items():
        text = re.sub(pattern, instead, text)
    return text


def _fully_quoted(token: str) -> str:
    return quote(token, safe="")


def _as_python(token: str) -> str:
    return repr(token)[1:-1]


def _as_bytes(token: str) -> str:
    return repr(token.encode())[2:-1]


def _as_json(token: str) -> str:
    return json.dumps(token)[1:-1]
