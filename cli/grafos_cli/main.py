"""`grafos`: reads the global flags, finds the command, and gives every error its one shape.

The global flags work before and after the command. `grafos --help` and `grafos --version` are answered from
``catalog`` alone; a noun's module is imported when the noun is used, and heavy libraries inside the commands.
"""

from __future__ import annotations

import os
import sys

from grafos_cli import catalog, interrupts
from grafos_cli.terminal import Terminal, open_terminal
from grafos_core.errors import FAILURE, GrafosError

GLOBAL_FLAGS = ("--json", "--no-color", "--debug")


def main(words: list[str] | None = None) -> int:
    """Runs one command line and gives its exit code."""
    words = sys.argv[1:] if words is None else words
    flags, rest = split_globals(words)
    terminal = open_terminal(as_json="--json" in flags, no_color="--no-color" in flags, debug="--debug" in flags)
    interrupts.install()
    try:
        return _answered(rest, terminal)
    except BrokenPipeError:
        # Whoever read our output has left; what is still buffered must not fail again at exit.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return FAILURE


def _answered(rest: list[str], terminal: Terminal) -> int:
    """The exit code, with whatever went wrong told in its one shape."""
    try:
        return _answer(rest, terminal)
    except GrafosError as error:
        return _fail(error, terminal)
    except KeyboardInterrupt:
        return _fail(interrupts.interrupted(), terminal)
    except BrokenPipeError:
        raise
    except Exception as crash:  # noqa: BLE001 - the last resort: a person never sees a traceback
        if interrupts.was_pressed():  # some libraries, and Python while it makes a class, wrap what Ctrl-C raised
            return _fail(interrupts.interrupted(), terminal)
        from grafos_cli.failures import internal_error

        return _fail(internal_error(crash, rest, terminal), terminal)


def split_globals(words: list[str]) -> tuple[set[str], list[str]]:
    """The global flags, wherever they stand before a ``--``, and the rest."""
    end = words.index("--") if "--" in words else len(words)
    flags = {word for word in words[:end] if word in GLOBAL_FLAGS}
    return flags, [word for word in words[:end] if word not in GLOBAL_FLAGS] + words[end:]


def _answer(words: list[str], terminal: Terminal) -> int:
    if words in ([], ["--help"], ["-h"], ["help"]):
        terminal.emit({"help": catalog.root_help()}, catalog.root_help())
        return 0
    if words in (["--version"], ["-V"]):
        from grafos_cli import version

        terminal.emit({"version": version()}, f"grafos {version()}")
        return 0
    return _run_command(words, terminal)


def _run_command(words: list[str], terminal: Terminal) -> int:
    import typer

    from grafos_cli import taught

    command = taught.root_command()
    try:
        with command.make_context("grafos", words, obj=terminal) as context:
            command.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.TyperException as refused:
        raise taught.usage_error(refused) from None
    return 0


def _fail(error: GrafosError, terminal: Terminal) -> int:
    from grafos_cli.failures import show_error

    return show_error(error, terminal)


if __name__ == "__main__":
    sys.exit(main())
