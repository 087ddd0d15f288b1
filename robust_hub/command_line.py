"""The command line of the recipes: sub-commands from function signatures, errors in one sentence."""

import json
import sys
from collections.abc import Callable
from typing import Annotated

import tyro
from accelerate import PartialState
from tyro.constructors import PrimitiveConstructorSpec

Json = Annotated[
    dict,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: json.loads(words[0]),
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
        if PartialState().is_main_process:
            print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
