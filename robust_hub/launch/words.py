"""What is typed as more than a word: JSON, and the names of classes."""

import json
from pathlib import Path
from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec

EXPECTED_JSON = """expected a JSON object such as '{"img_size": 32}', in quotes"""


class BadWord(Exception):
    """Something else was typed than asked for; no ValueError, about which tyro would write sentences of its own."""


def _json_object(words: list[str]) -> dict:
    try:
        value = json.loads(words[0])
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise BadWord(f"{EXPECTED_JSON}, got {words[0]!r:.80}")
    return value


def _label_names(words: list[str]) -> tuple[str, ...]:
    """Reads class names: the words themselves, or where there is one word, a JSON list or a file."""
    if len(words) != 1:
        return tuple(words)
    text = words[0]
    if not text.lstrip().startswith("["):
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadWord(
                f"--label-names must be names, a JSON list of them, or a file with one on each line, got {text!r:.80}, "
                "which is no text file; check the path"
            ) from error
    if not text.lstrip().startswith("["):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadWord(f"""expected a JSON list of names such as '["cat", "dog"]', in quotes, got {text!r:.80}""")
    return tuple(names)


Json = Annotated[
    dict,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=_json_object,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    ),
]
LabelNames = Annotated[
    tuple[str, ...],
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAMES|JSON|FILE",
        instance_from_str=_label_names,
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=list,
    ),
]
