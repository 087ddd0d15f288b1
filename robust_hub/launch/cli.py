"""The command line of the recipes: sub-commands from function signatures, errors in one sentence."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from itertools import takewhile
from typing import get_type_hints

import tyro

from robust_hub.errors import close_names, printable, shortened
from robust_hub.launch.endings import told_how_to_go_on
from robust_hub.launch.words import EXPECTED_JSON, BadWord

CONFIG = (tyro.conf.OmitArgPrefixes,)
SECONDS_FOR_THE_MAIN_PROCESS = 5
# Loads torch, so that it is asked only where a run has loaded it.
PROCESSES = "robust_hub.launch.processes"
# Words of accelerate launch that are typed as ours, and what it calls them.
OF_ACCELERATE = {
    "mixed-precision": "--mixed_precision bf16",
    "device": "--cpu, or --gpu_ids 0",
    "num-processes": "--num_processes 2",
    "multi-gpu": "--multi_gpu",
    "cpu": "--cpu",
    "gpu": "--gpu_ids 0",
    "gpus": "--num_processes 2",
    "num-gpus": "--num_processes 2",
    "bf16": "--mixed_precision bf16",
    "amp": "--mixed_precision bf16",
}
# What a shell expands where a word begins: here as well behind an option's = and the source of a model.
PATH = re.compile(r"(--[\w-]+=)?(local-dir:)?(~[^/]*|\$\w+|\$\{\w+\})(/.*)?", re.DOTALL)


def command_line(commands: dict[str, Callable], *, default: str = "", launcher: str = "accelerate launch") -> None:
    """Runs the sub-command that was asked for; bad input ends in one sentence on standard error and exit code 2.

    So does a disk that takes no more; Ctrl-C and SIGTERM end in a line and the exit code that shells expect.

    Args:
        commands: a function for each sub-command; its signature is the command line. One alone needs no sub-command.
        default: the sub-command that is meant when there is no argument at all.
        launcher: what starts the program and has options of its own; empty where it starts itself.
    """
    try:
        arguments = [_expanded(word) for word in sys.argv[1:]] or [default or "--help"]
        _refuse_words_of_others(arguments, commands, launcher)
        with told_how_to_go_on(resumable="resume" in _known_options(arguments, commands)):
            if len(commands) == 1:
                (command,) = commands.values()
                tyro.cli(command, args=arguments, config=CONFIG)
            else:
                tyro.extras.subcommand_cli_from_dict(commands, args=arguments, config=CONFIG)
    except RuntimeError:
        # Alone it may look like a mistake of ours.
        if processes := sys.modules.get(PROCESSES):
            processes.let_the_watch_speak()
        raise
    except (ValueError, FloatingPointError, BadWord) as error:
        if processes := sys.modules.get(PROCESSES):
            processes.quieten()
        rank = _rank()
        if rank:
            # Most errors meet every process; the main one then tells it and the launcher ends the others meanwhile.
            time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
        told = shortened(f"error{f' (process {rank})' if rank else ''}: {error}")
        print(printable(told), file=sys.stderr)  # noqa: T201
        sys.exit(2)


def _expanded(word: str) -> str:
    """Expands ~ and an environment variable at the beginning of a path; all other text stays."""
    path = PATH.fullmatch(word)
    if path is None:
        return word
    option, source, start, rest = path.groups(default="")
    found = os.path.expandvars(os.path.expanduser(start))
    if found == start and start.startswith("$") and rest:
        raise ValueError(
            f"there is no environment variable {start}, with which {word} begins; set it, or write the path"
        )
    return f"{option}{source}{found}{rest}"


def _refuse_words_of_others(arguments: list[str], commands: dict[str, Callable], launcher: str) -> None:
    """Tells where a word belongs that people type as an option of ours, and is none of it.

    Raises:
        ValueError: when there is one, or the sub-command was forgotten.
    """
    _refuse_torn_json(arguments)
    known = _known_options(arguments, commands)
    for name, value in _options(arguments):
        if name in OF_ACCELERATE and name not in known and launcher:
            raise ValueError(
                f"--{name} belongs to {launcher}, before the recipe's name, where it is called {OF_ACCELERATE[name]}"
            )
        if name in ("eps", "epsilon") and name not in known and "threat" in known:
            eps = f"{value or 8}/255" if value.isdigit() or not value else value
            raise ValueError(f"--{name} is a part of the threat; say --threat linf:{eps}")
        if name in ("student", "teacher", "model") and value.startswith("timm/"):
            raise ValueError(f"{value} is a name on the Hub; say hf-hub:{value}")
    first = arguments[0]
    if len(commands) == 1 or first in commands or first in ("-h", "--help") or first.startswith("--tyro-"):
        return
    if first.startswith("--"):
        raise ValueError(f"expected one of {', '.join(commands)} before {first}; say which")
    raise ValueError(f"expected one of {', '.join(commands)}, got '{first}'{close_names(first.lower(), commands)}")


def _refuse_torn_json(arguments: list[str]) -> None:
    """Tells of JSON that lost its quotes, so that a shell made several words of it."""
    for place, word in enumerate(arguments):
        value = word.partition("=")[2] if word.startswith("--") else word
        words = takewhile(lambda word: not word.startswith("--"), arguments[place + 1 :])
        if value.startswith("{") and not value.endswith("}") and (torn := list(words)):
            raise ValueError(f"{EXPECTED_JSON}, got the words {' '.join([value, *torn])!r:.80}")


def _options(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """Yields the options that were typed, as --name value or --name=value, without what stands before a name."""
    for word, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            yield name[2:].replace("_", "-"), value if equals or following.startswith("--") else following


def _known_options(arguments: list[str], commands: dict[str, Callable]) -> set[str]:
    """Names the options of the sub-command that was asked for; of all where none was."""
    chosen = [commands[arguments[0]]] if arguments[0] in commands else commands.values()
    return {name for command in chosen for name in _option_names(command)}


def _option_names(asked: Callable) -> Iterator[str]:
    for name, kind in get_type_hints(asked).items():
        yield name.replace("_", "-")
        if is_dataclass(kind):
            yield from _option_names(kind)


def _rank() -> int:
    """Tells which of a run's processes this is, without loading Accelerate where nothing has needed it so far."""
    if "accelerate" not in sys.modules:
        return int(os.environ.get("RANK", "0"))
    from accelerate import PartialState

    return PartialState().process_index


def tell(text: object) -> None:
    """Prints, to be read by people: no character that steers a terminal, whoever wrote the text."""
    print(printable(str(text)))  # noqa: T201
