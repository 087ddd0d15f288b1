"""The command line of the recipes: sub-commands from function signatures, errors in one sentence."""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Annotated

import tyro
from tyro.constructors import PrimitiveConstructorSpec

SECONDS_FOR_THE_MAIN_PROCESS = 5


def _json_object(words: list[str]) -> dict:
    value = json.loads(words[0])
    if not isinstance(value, dict):
        raise ValueError(f'expected a JSON object such as {{"img_size": 32}}, got {words[0]}')
    return value


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


def command_line(commands: dict[str, Callable], *, default: str = "") -> None:
    """Runs the sub-command that was asked for; bad input ends in one sentence on standard error and exit code 2.

    Args:
        commands: a function for each sub-command; its signature is the command line. One alone needs no sub-command.
        default: the sub-command that is meant when there is no argument at all.
    """
    arguments = sys.argv[1:] or [default or "--help"]
    try:
        if len(commands) == 1:
            (command,) = commands.values()
            tyro.cli(command, args=arguments, config=(tyro.conf.OmitArgPrefixes,))
        else:
            tyro.extras.subcommand_cli_from_dict(commands, args=arguments, config=(tyro.conf.OmitArgPrefixes,))
    except (ValueError, FloatingPointError) as error:
        rank = _rank()
        if rank:
            # Most errors meet every process; the main one then tells it and the launcher ends the others meanwhile.
            time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
        print(f"error{f' (process {rank})' if rank else ''}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _rank() -> int:
    """Tells which of a run's processes this is, without loading Accelerate where nothing has needed it so far."""
    if "accelerate" not in sys.modules:
        return int(os.environ.get("RANK", "0"))
    from accelerate import PartialState

    return PartialState().process_index


def tell(text: object) -> None:
    """Prints, to be read by people: no character that steers a terminal, whoever wrote the text."""
    print("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in str(text)))  # noqa: T201
