"""Typer with our manners: help that teaches by example, nearest matches, nouns imported when used."""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from grafos_cli import catalog
from grafos_cli.nearness import nearest, nearest_flag
from grafos_cli.wrapping import paragraphs, wrapped
from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal


_RANGE = re.compile(r"(\d+)<=x<=(\d+)")
"""How the parser writes the numbers that an option takes."""


class AsItIs:
    """Takes a value that has its parameter's type already; any other goes the way that typer made for it.

    Typer's own way imports pydantic, a tenth of a second, also for a plain text that needs no conversion.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """As typer's own runtime parameters do."""
        if value is None or type(value) is param.type_descriptor.annotation:
            return value
        param._runtime_param = None  # noqa: SLF001 - typer has no public seam here; a test holds what it spares
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _lightened(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if parameter._runtime_param is None:  # noqa: SLF001 - as above
            parameter._runtime_param = AsItIs()  # noqa: SLF001 - as above
    return parameters


class TaughtCommand(TyperCommand):
    """A command whose help begins with examples and ends with the next command."""

    examples: tuple[str, ...] = ()
    next_command: str = ""
    streams: str = ""
    """The list of its document whose entries ``--stream`` gives one by one."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _lightened(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        _refuse_empty(self, ctx)
        terminal: Terminal | None = ctx.obj
        if terminal is not None and terminal.stream:
            ctx.obj = dataclasses.replace(terminal, streams=_streamed(self, ctx))
        return super().invoke(ctx)

    def get_help(self, ctx: Any) -> str:
        width = _width_for(ctx)
        lines = ["Examples:", *(f"  {example}" for example in self.examples), ""]
        pieces = " ".join(self.collect_usage_pieces(ctx)).translate({ord(brace): None for brace in "{}"})
        lines += [f"Usage: {ctx.command_path} {pieces}", ""]
        lines += [*paragraphs(self.help or "", width), ""]
        lines += _parameter_lines(self, ctx, width)
        lines += [*wrapped(_global_line(streams=bool(self.streams)), width), "", f"Docs: {_page_of(ctx.command_path)}"]
        lines += [f"Next: {self.next_command}"]
        return _for_reader("\n".join(lines), ctx)


class TaughtGroup(TyperGroup):
    """A noun with several verbs; its help lists them below examples. ``bare`` is the verb that is meant where none is
    said, if there is one."""

    examples: tuple[str, ...] = ()
    next_command: str = ""
    bare: str = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if self.bare and (not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)):
            args = [self.bare, *args]
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        return _lightened(super().get_params(ctx))

    def get_help(self, ctx: Any) -> str:
        width = _width_for(ctx)
        verbs = [(name, _summary(self.commands[name])) for name in self.list_commands(ctx)]
        lines = ["Examples:", *(f"  {example}" for example in self.examples), ""]
        verb = "[COMMAND]" if self.bare else "COMMAND"
        lines += [f"Usage: {ctx.command_path} {verb} [OPTIONS]", "", *paragraphs(self.help or "", width), ""]
        lines += ["Commands:", *catalog.rows(verbs, width), "", *wrapped(_global_line(streams=False), width), ""]
        lines += [f"Docs: {catalog.DOCS}", f"Next: {self.next_command}"]
        return _for_reader("\n".join(lines), ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise unknown_word(name, self.list_commands(ctx), ctx.command_path, self.bare)
        return super().resolve_command(ctx, args)


class RootGroup(TaughtGroup):
    """`grafos` itself: its nouns are modules of this package, imported one at a time."""

    def get_help(self, ctx: Any) -> str:
        return catalog.root_help(_width_for(ctx)).rstrip()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the parser's signature
        return [entry.name for entry in catalog.NOUNS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the parser's signature
        noun = catalog.noun(cmd_name)
        if noun is None:
            return None
        module = importlib.import_module(noun.module)
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command


def _width_for(ctx: Any) -> int | None:
    """Columns that the help may have; None for a program, or where nothing says."""
    terminal: Terminal | None = ctx.find_root().obj
    return terminal.width_max if terminal is not None else None


def _for_reader(text: str, ctx: Any) -> str:
    """Help as it is printed: for programs it is a document too."""
    terminal: Terminal | None = ctx.find_root().obj
    return terminal.rendered({"help": text}) if terminal is not None and terminal.json else text


def _refuse_empty(command: Any, ctx: Any) -> None:
    """``usage`` for a value that was given and is empty. It would be taken for none, and a default would be used: from
    ``--cell-id "$CELL"`` with nothing in the variable a cell of another name would come."""
    for parameter in command.params:
        source = ctx.get_parameter_source(parameter.name)
        if ctx.params.get(parameter.name) == "" and source is not None and source.name == "COMMANDLINE":
            raise GrafosError(
                "usage",
                f"{parameter.opts[0] if parameter.param_type_name == 'option' else parameter.metavar} is empty",
                where=ctx.command_path,
                why="a variable in the command line may have no value",
                next="name a value, or leave it out",
            )


def _summary(command: Any) -> str:
    """The first sentence of a command's help."""
    return (command.help or "").strip().split("\n\n")[0].replace("\n", " ").rstrip(".")


def _parameter_lines(command: Any, ctx: Any, width: int | None) -> list[str]:
    """The command's own arguments and options as two columns."""
    own = [parameter for parameter in command.get_params(ctx) if "--help" not in parameter.opts]
    records = [record for parameter in own if (record := parameter.get_help_record(ctx))]
    entries = [(record[0].replace(" <str>", ""), _RANGE.sub(r"\1 to \2", record[1])) for record in records]
    return ["Options:", *catalog.rows(entries, width), ""] if entries else []


def _streamed(command: TaughtCommand, ctx: Any) -> str:
    """The key of the command's list; ``usage``, before anything is done, when it has none."""
    if not command.streams:
        raise GrafosError(
            "usage", f"{ctx.command_path} gives no list that could stream", next=f"{ctx.command_path} --json"
        )
    return command.streams


def _global_line(*, streams: bool) -> str:
    names = [name.partition(",")[0] for name, _ in catalog.GLOBAL_OPTIONS]
    return "Always: " + "  ".join(name for name in names if name != "--version" and (streams or name != "--stream"))


def _page_of(path: str) -> str:
    """Where a command is described in the documentation."""
    return f"{catalog.DOCS}#{path.replace(' ', '-')}"


def new_group(*, help: str, examples: tuple[str, ...], next: str, bare: str = "") -> typer.Typer:
    """The Typer application of a noun with verbs, of which ``bare`` is meant where none is said."""
    cls = type("NounGroup", (TaughtGroup,), {"examples": examples, "next_command": next, "bare": bare})
    app = typer.Typer(cls=cls, help=help, add_completion=False, rich_markup_mode=None, no_args_is_help=False)

    @app.callback()
    def _of_the_noun() -> None:
        """Does nothing; with a callback, one verb alone still is a verb."""

    return app


def new_command_app() -> typer.Typer:
    """The Typer application of a noun that is a command itself."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def taught(*, examples: tuple[str, ...], next: str, streams: str = "") -> type[TyperCommand]:
    """The class for ``app.command(cls=…)`` of a command with these examples and this next command. ``streams`` is the
    key of the list in its document that ``--stream`` may give entry by entry."""
    return type("TaughtVerb", (TaughtCommand,), {"examples": examples, "next_command": next, "streams": streams})


def unknown_word(word: str, known: list[str], path: str, bare: str = "") -> GrafosError:
    """``usage`` for a command that does not exist; after a ``bare`` verb it may be what that verb is about."""
    meant = [found] if (found := nearest(word, known)) else []
    if path == "grafos" and not meant:
        meant = _with_verb(word)
    return GrafosError(
        "usage",
        f"There is no command {word[:60]!r} in '{path}'",
        why=f"did you mean {' or '.join(map(repr, meant))}?" if meant else "",
        next=f"{path} {meant[0]}" if len(meant) == 1 else f"{path} {bare} {word[:60]}" if bare else f"{path} --help",
    )


def _with_verb(word: str) -> list[str]:
    """The commands of nouns whose verb the word is: whoever says `logs` may mean those of three nouns."""
    nouns = {entry.name: root_command().get_command(None, entry.name) for entry in catalog.NOUNS}
    return [f"{name} {word}" for name, noun in nouns.items() if word in getattr(noun, "commands", {})]


def usage_error(refused: typer.TyperException) -> GrafosError:
    """The parser's refusal as one of our errors, with the nearest flag where one was mistyped."""
    ctx: Any = getattr(refused, "ctx", None)
    path = ctx.command_path if ctx is not None else "grafos"
    option = getattr(refused, "option_name", "")
    if option and hasattr(refused, "possibilities"):
        known = [name for parameter in ctx.command.get_params(ctx) for name in parameter.opts] if ctx else []
        match = nearest_flag(option, [*known, *catalog.global_flags()])
        why = f"did you mean {match}?" if match else ""
        if option.lstrip("-").isdigit():
            why = "a number below zero is read as a flag, and no command takes one"
        return GrafosError("usage", f"{path} has no flag {option[:60]}", why=why, next=f"{path} --help")
    return GrafosError("usage", refused.format_message().rstrip("."), where=path, next=f"{path} --help")


def terminal_of(ctx: typer.Context) -> Terminal:
    """The terminal that ``main`` made for this command."""
    terminal: Terminal = ctx.obj
    return terminal


def root_command() -> RootGroup:
    """`grafos`, ready to parse."""
    return RootGroup(name="grafos", rich_markup_mode=None, context_settings={"help_option_names": ["--help", "-h"]})
