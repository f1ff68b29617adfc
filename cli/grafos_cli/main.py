"""`grafos`: reads the global flags, finds the command, and gives every error its one shape.

The global flags work before and after the command. `grafos --help` and `grafos --version` are answered from
``catalog`` alone; a noun's module is imported when the noun is used, and heavy libraries inside the commands.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from grafos_cli import catalog, interrupts
from grafos_cli.flags import Flags, read_flags
from grafos_cli.leaving import leave
from grafos_cli.terminal import Terminal, open_terminal
from grafos_core.errors import FAILURE, GrafosError

COMPLETE_VARIABLE = "_GRAFOS_COMPLETE"
"""Set by the shell's completion script, which wants words and no command."""


def main() -> NoReturn:
    """The program: runs the command line that this process was started with, and leaves with its exit code."""
    leave(run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Runs one command line and gives its exit code."""
    interrupts.install()
    try:
        if COMPLETE_VARIABLE in os.environ:
            from grafos_cli.completion import answer_shell

            return answer_shell(os.environ.pop(COMPLETE_VARIABLE))
        return _answered(words)
    except BrokenPipeError:
        # Whoever read our output has left; what is still buffered must not fail again at exit.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return FAILURE


def _answered(words: list[str]) -> int:
    """The exit code, with whatever went wrong told in its one shape."""
    terminal = open_terminal(Flags(json="--json" in words or "--stream" in words))
    try:
        flags, rest = read_flags(words)
        terminal = open_terminal(flags)
        return _answer(rest, flags, terminal)
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

        return _fail(internal_error(crash, words, terminal), terminal)


def _answer(words: list[str], flags: Flags, terminal: Terminal) -> int:
    if words in ([], ["--help"], ["-h"], ["help"]):
        text = catalog.root_help(terminal.width_max)
        terminal.emit({"help": text}, text)
        return 0
    if words in (["--version"], ["-V"]):
        from grafos_cli import version

        terminal.emit({"version": version()}, f"grafos {version()}")
        return 0
    if words[0] == "help":
        from grafos_cli.help_topics import topic

        if text := topic(words[1:], terminal.width_max):
            terminal.emit({"help": text}, text)
            return 0
        words = [*words[1:], "--help"]
    return _run_command(words, flags, terminal)


def _run_command(words: list[str], flags: Flags, terminal: Terminal) -> int:
    import typer

    from grafos_cli import taught

    if not {"--help", "-h"} & set(words):  # help can be read whatever the settings are
        from grafos_cli.settings import settle

        terminal = open_terminal(flags, {name: found.value for name, found in settle(flags.settings).items()})
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
    main()
