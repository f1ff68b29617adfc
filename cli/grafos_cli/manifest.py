"""`grafos.toml`: what a program is. Every key that may stand in it is in ``TABLES``, and nothing else may.

    [program]                 [[tasklets]]            [runnable_targets]
    name = "png-metadata"     name = "png-metadata"   dev = "local"
    version = "0.1.0"         source = "src/a.zig"    production = "aws"
    language = "zig"          input = "fixtures/a.png"

`docs/reference/grafos-toml.md` describes each key; a test holds the two together.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from grafos_cell import abi
from grafos_cli import service_manifest, settings
from grafos_cli.graph import fault_in
from grafos_cli.manifest_keys import TABLES
from grafos_cli.nearness import nearest
from grafos_cli.service_manifest import ServiceEntry
from grafos_core.errors import GrafosError
from grafos_core.tiers import Tier
from grafos_scheduler.service_messages import Strategy

FILE_NAME = "grafos.toml"
FILE_BYTES_MAX = 256 * 1024
"""A manifest is written by hand; a larger file is a mistake."""
NUMBER_SHOWN_MAX = 1e24
"""TOML's whole numbers have no bound; what nobody would read to its end is not shown."""
TASKLETS_MAX = 64
"""Per program; each is one module to build, check and store."""

LANGUAGES = {"rust": ".rs", "zig": ".zig", "c": ".c", "wat": ".wat"}
"""What tasklets may be written in, and how the names of such files end."""
CLOUDS = ("aws", "gcp", "azure")
PROVIDERS = ("local", *CLOUDS, "any")
CONTEXT = "context"
"""An input of that name is not a file: the tasklet's input is its context."""
LEFT = ("output", "response")
"""What a tasklet leaves. An input `output:NAME` is no file either, but what the tasklet of that name has left."""
ALL_RESPONSES = ("responses", "")
"""The input of a tasklet that needs others and names none: one JSON object with their responses by name."""

NAME_RULE = "use 1 to 40 characters of a-z, 0-9 and inner hyphens"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*")


@dataclass(frozen=True)
class Tasklet:
    """One tasklet of a program. Paths are absolute; ``input_file`` is None when the input is the context.

    ``needs`` are the tasklets of the program that must be done before. ``input_of`` is what one of them left that is
    the input, as ("output", name) or ("response", name), or ``ALL_RESPONSES``. ``retry``: it may run again when a cell
    was lost under it.
    ``mem`` is fabric memory, ``block`` room in blocks, in bytes that a run leases from the cell unless it asks for
    another amount. ``tier`` is the tier of its runs unless they ask for another. ``provider`` is whose cell it runs on
    in a program that is run whole at an orchestrator; empty for the one that is asked for.
    """

    name: str
    source: Path
    input_file: Path | None
    fuel: int = abi.FUEL_DEFAULT
    memory_bytes: int = abi.MEMORY_BYTES_DEFAULT
    deadline_s: float = abi.DEADLINE_S_DEFAULT
    mem: int = 0
    block: int = 0
    tier: Tier = Tier.STANDARD
    needs: tuple[str, ...] = ()
    input_of: tuple[str, str] | None = None
    retry: bool = True
    provider: str = ""

    def provider_of(self, asked: str) -> str:
        """Where it runs when the program is asked for at that provider: on this machine all of it does."""
        return self.provider if self.provider and asked in CLOUDS else asked


@dataclass(frozen=True)
class Program:
    """A program as its `grafos.toml` says it; ``targets`` maps an environment to a provider."""

    folder: Path
    name: str
    version: str
    language: str
    tasklets: tuple[Tasklet, ...]
    targets: dict[str, str] = field(default_factory=dict)
    services: tuple[ServiceEntry, ...] = ()

    def tasklet(self, name: str = "") -> Tasklet:
        """The tasklet of that name; without a name the only one. Else ``usage``."""
        names = [tasklet.name for tasklet in self.tasklets]
        if not name and len(self.tasklets) == 1:
            return self.tasklets[0]
        for tasklet in self.tasklets:
            if tasklet.name == name:
                return tasklet
        what = f"{self.name} has no tasklet {name!r}" if name else f"{self.name} has {len(names)} tasklets"
        raise GrafosError("usage", what, why=f"it has {', '.join(names)}", next=f"add --tasklet {names[0]}")

    def provider_of(self, environment: str) -> str:
        """The provider that an environment of `[runnable_targets]` runs on; else ``usage``."""
        if environment in self.targets:
            return self.targets[environment]
        raise GrafosError(
            "usage",
            f"{self.name} has no environment {environment[:60]!r}",
            where=str(self.folder / FILE_NAME),
            why=f"it has {', '.join(self.targets)}" if self.targets else "there is no [runnable_targets]",
            next=f"add --env {next(iter(self.targets))}" if self.targets else "add --provider local",
        )


def is_name(word: str) -> bool:
    """Whether a program, a tasklet or an environment may be called that."""
    return _NAME.fullmatch(word) is not None


def load_program(folder: Path) -> Program:
    """The program in ``folder``; ``manifest_invalid`` names file, line, cause and next step."""
    path = folder / FILE_NAME
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(path, str(error)) from error
    except RecursionError as error:
        raise _syntax_error(path, "lists or tables are nested too deep") from error
    return _Reader(folder, path, text, document).program()


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise GrafosError(
            "manifest_invalid",
            f"There is no {FILE_NAME} here",
            where=str(path.parent),
            next="go to the folder of a program, or name that folder behind the command\nto make one: grafos new NAME",
        ) from None
    except OSError as error:
        why = error.strerror or str(error)
        raise _unread(path, f"{FILE_NAME} cannot be read", why, "make it a file that you may read") from error
    if len(data) > FILE_BYTES_MAX:
        what = f"{FILE_NAME} has {len(data)} bytes, the limit is {FILE_BYTES_MAX}"
        raise _unread(path, what, "", "keep data out of it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _unread(path, f"{FILE_NAME} is not UTF-8", str(error), "save it as UTF-8") from error


def _unread(path: Path, what: str, why: str, next: str) -> GrafosError:
    return GrafosError("manifest_invalid", what, where=str(path), why=why, next=next)


def _syntax_error(path: Path, why: str) -> GrafosError:
    """The TOML parser's words; the line it names moves to where."""
    line = re.search(r"line (\d+)", why)
    where = f"{path}:{line.group(1)}" if line else str(path)
    return GrafosError("manifest_invalid", f"{FILE_NAME} is not TOML", where=where, why=why, next="mend that line")


class _Reader:
    """Checks a parsed document against ``TABLES`` and gives the program."""

    def __init__(self, folder: Path, path: Path, text: str, document: dict[str, Any]) -> None:
        self._folder, self._path, self._text, self._document = folder, path, text, document

    def program(self) -> Program:
        for name in self._document:
            if name not in TABLES:
                raise self._unknown(name, list(TABLES), self._line_of_table(name), "table or key")
        settings.checked(self._document.get("settings", {}), self._path, in_project=True)
        about = self._table("program", self._document.get("program"), 0)
        self._check_name("program", about["name"], 0)
        if about["language"] not in LANGUAGES:
            raise self._unknown(about["language"], list(LANGUAGES), self._line("program", 0, "language"), "language")
        if not _VERSION.fullmatch(about.get("version", "0.1.0")):
            raise self._wrong(
                "program.version is no version", self._line("program", 0, "version"), "write it like 0.1.0"
            )
        return Program(
            folder=self._folder,
            name=about["name"],
            version=about.get("version", "0.1.0"),
            language=about["language"],
            tasklets=self._tasklets(about["language"]),
            targets=self._targets(),
            services=self._services(),
        )

    def _tasklets(self, language: str) -> tuple[Tasklet, ...]:
        entries = self._document.get("tasklets", [])
        if entries and not isinstance(entries, list):
            line = self._line_of_table("tasklets")
            raise self._wrong("tasklets is no list of tables", line, "write [[tasklets]] above each of them")
        if not entries:
            raise self._wrong(
                "the program declares no tasklets",
                self._line_of_table("tasklets"),
                "add a [[tasklets]] with name and source",
            )
        if len(entries) > TASKLETS_MAX:
            line = self._line_of_table("tasklets", TASKLETS_MAX)
            raise self._wrong(f"{len(entries)} tasklets, the limit is {TASKLETS_MAX}", line, "split the program")
        seen: set[str] = set()
        tasklets = []
        for index, entry in enumerate(entries):
            tasklet = self._tasklet(index, entry, language)
            if tasklet.name in seen:
                raise self._wrong(
                    f"two tasklets are called {tasklet.name!r}",
                    self._line("tasklets", index, "name"),
                    "rename one of them",
                )
            seen.add(tasklet.name)
            tasklets.append(tasklet)
        self._check_needs(tasklets)
        return tuple(tasklets)

    def _check_needs(self, tasklets: list[Tasklet]) -> None:
        names = [tasklet.name for tasklet in tasklets]
        if fault := fault_in({tasklet.name: tasklet.needs for tasklet in tasklets}):
            raise self._wrong(fault.what, self._line("tasklets", names.index(fault.tasklet), "needs"), fault.next)
        for index, tasklet in enumerate(tasklets):
            other = tasklet.input_of[1] if tasklet.input_of else ""
            if other and other not in tasklet.needs:
                what = f"the input of {tasklet.name} is what {other[:60]!r} leaves, which it does not need"
                raise self._wrong(what, self._line("tasklets", index, "input"), "add it to its needs")

    def _tasklet(self, index: int, entry: object, language: str) -> Tasklet:
        values = self._table("tasklets", entry, index)
        self._check_name("tasklets", values["name"], index)
        source = self._file(values["source"], "tasklets", index, "source")
        if source.suffix != LANGUAGES[language]:
            raise self._wrong(
                f"the program is written in {language}, and tasklets.source is {values['source']}",
                self._line("tasklets", index, "source"),
                f"name a file that ends with {LANGUAGES[language]}, or mend the program's language",
            )
        needs = tuple(dict.fromkeys(values.get("needs", ())))
        given = values.pop("input", "" if needs else CONTEXT)
        part, _, other = given.partition(":")
        input_of = (part, other) if part in LEFT and other else None if given else ALL_RESPONSES
        is_file = given != CONTEXT and input_of is None
        input_file = self._file(given, "tasklets", index, "input") if is_file else None
        bounds = {key: values[key] for key in ("fuel", "memory_bytes", "deadline_s", "mem", "block") if key in values}
        tier = values.get("tier", Tier.STANDARD)
        if tier not in set(Tier):
            raise self._unknown(tier, list(Tier), self._line("tasklets", index, "tier"), "tier")
        if (provider := values.get("provider", "")) and provider not in CLOUDS:
            raise self._unknown(provider, list(CLOUDS), self._line("tasklets", index, "provider"), "cloud")
        return Tasklet(
            name=values["name"],
            source=source,
            input_file=input_file,
            tier=Tier(tier),
            needs=needs,
            input_of=input_of,
            retry=values.get("retry", True),
            provider=provider,
            **bounds,
        )

    def _services(self) -> tuple[ServiceEntry, ...]:
        """What the program serves; each by one of its tasklets."""
        entries = self._document.get("services", [])
        if not isinstance(entries, list):
            line = self._line_of_table("services")
            raise self._wrong("services is no list of tables", line, "write [[services]] above each of them")
        found: dict[str, ServiceEntry] = {}
        tasklets = [entry.get("name") for entry in self._document.get("tasklets", []) if isinstance(entry, dict)]
        for index, entry in enumerate(entries):
            service = self._service(index, entry)
            line = self._line_of_table("services", index)
            if service.name in found:
                raise self._wrong(f"two services are called {service.name!r}", line, "rename one of them")
            if service.tasklet not in tasklets:
                line = self._line("services", index, "tasklet")
                raise self._unknown(service.tasklet, [str(name) for name in tasklets], line, "tasklet of a service")
            found[service.name] = service
        return tuple(found.values())

    def _service(self, index: int, entry: object) -> ServiceEntry:
        values = self._table("services", entry, index)
        self._check_name("services", values["name"], index)
        for key, known in (("priority", list(Tier)), ("strategy", list(Strategy))):
            if key in values and values[key] not in known:
                raise self._unknown(values[key], list(known), self._line("services", index, key), key)
        for key in ("cell_ids", "anti_affinity_services"):
            for name in values.get(key, ()):
                if not is_name(name):
                    what = f"services.{key} has {name[:60]!r}, which is no name"
                    raise self._wrong(what, self._line("services", index, key), NAME_RULE)
        try:
            return service_manifest.read_service(values)
        except msgspec.ValidationError as error:
            key, why = service_manifest.fault_in(error)
            line = self._line("services", index, key) if key else self._line_of_table("services", index)
            what = f"{f'services.{key}' if key else 'a service'} is not as it must be: {why}"
            raise self._wrong(what, line, "see docs/reference/grafos-toml.md for its keys") from error

    def _targets(self) -> dict[str, str]:
        targets = self._document.get("runnable_targets", {})
        if not isinstance(targets, dict):
            raise self._wrong(
                "runnable_targets is not a table",
                self._line_of_table("runnable_targets"),
                'write [runnable_targets] and below it dev = "local"',
            )
        for environment, provider in targets.items():
            line = self._line("runnable_targets", 0, environment)
            if not is_name(environment):
                raise self._wrong(
                    f"{environment!r} is no name for an environment", line, "use a-z, 0-9 and inner hyphens"
                )
            if not isinstance(provider, str):
                kind = _toml_kind(provider)
                raise self._wrong(f"the provider of {environment} is {kind}", line, 'name it in quotes, like "local"')
            if provider not in PROVIDERS:
                raise self._unknown(provider, list(PROVIDERS), line, "provider")
        return targets

    def _table(self, name: str, values: object, index: int) -> dict[str, Any]:
        """A copy of the table with each key known, of its type and within its bounds."""
        if not isinstance(values, dict):
            header = f"[[{name}]]" if name in ("tasklets", "services") else f"[{name}]"
            if values is None:
                raise self._wrong(f"there is no table {header}", 0, f"add {header}")
            raise self._wrong(f"{name} is {_toml_kind(values)}", self._line_of_table(name), f"write it below {header}")
        keys = TABLES[name]
        checked: dict[str, Any] = {}
        for key, value in values.items():
            if key not in keys:
                raise self._unknown(key, list(keys), self._line(name, index, key), f"key in [{name}]")
            checked[key] = self._value(name, index, key, value)
        for key, rule in keys.items():
            if rule.required and key not in checked:
                raise self._wrong(f"[{name}] lacks {key}", self._line_of_table(name, index), f"add {key} = …")
        return checked

    def _value(self, table: str, index: int, key: str, value: object) -> object:
        rule, line = TABLES[table][key], self._line(table, index, key)
        fits = isinstance(value, (int, float) if rule.kind is float else rule.kind)
        if isinstance(value, list) and fits:
            fits = all(isinstance(one, str) and one for one in value)
        if not fits or (isinstance(value, bool) and rule.kind is not bool):
            wanted, example = _WANTED[rule.kind]
            what = f"{table}.{key} must be {wanted}, and is {_toml_kind(value)}"
            raise self._wrong(what, line, f"write it like {example}")
        if isinstance(value, str) and not value:
            raise self._wrong(f"{table}.{key} is empty", line, "give it a value")
        if isinstance(value, (int, float)) and rule.kind is not bool and not rule.least <= value <= rule.most:
            what = f"{table}.{key} is {_number(value)}"
            raise self._wrong(what, line, f"it must be {_number(rule.least)} to {_number(rule.most)}")
        return float(value) if rule.kind is float and isinstance(value, int) else value

    def _check_name(self, table: str, name: str, index: int) -> None:
        if not is_name(name):
            raise self._wrong(
                f"{name[:60]!r} is no name",
                self._line(table, index, "name"),
                NAME_RULE,
            )

    def _file(self, given: str, table: str, index: int, key: str) -> Path:
        """The file, which must be there and inside the program's folder."""
        line = self._line(table, index, key)
        try:
            path = (self._folder / given).resolve()
            is_folder, is_file = path.is_dir(), path.is_file()
        except (OSError, RuntimeError, ValueError) as error:  # too long, a ring of links, a NUL
            why = (isinstance(error, OSError) and error.strerror) or str(error).split(" from ")[0]
            raise self._wrong(f"{table}.{key} is no path ({why}): {given[:60]!r}", line, "mend the path") from error
        if not path.is_relative_to(self._folder.resolve()):
            raise self._wrong(
                f"{table}.{key} leaves the program's folder: {given}", line, "use a path inside the folder"
            )
        if is_folder:
            raise self._wrong(f"{table}.{key} names a folder: {given}", line, "name a file in it")
        if not is_file:
            raise self._wrong(
                f"{table}.{key} names a file that is not there: {given}", line, "make the file, or mend the path"
            )
        return path

    def _wrong(self, what: str, line: int, next: str) -> GrafosError:
        where = f"{self._path}:{line}" if line else str(self._path)
        return GrafosError("manifest_invalid", what, where=where, next=next)

    def _unknown(self, word: str, known: list[str], line: int, kind: str) -> GrafosError:
        match = nearest(word, known, likeness_min=0.65)
        hint = f"did you mean {match!r}?" if match else f"known are {', '.join(known)}"
        return self._wrong(f"unknown {kind}: {word[:60]!r}", line, hint)

    def _line_of_table(self, name: str, index: int = 0) -> int:
        """The line of the table's header, or of a top-level key of that name; 0 when it is not there."""
        word = rf"[\"']?{re.escape(name)}[\"']?"
        headers = re.compile(rf"^[ \t]*(?:\[\[?\s*{word}\s*\]|{word}\s*[.=])", re.MULTILINE)
        found = list(headers.finditer(self._text))
        if found and "[" not in found[0][0]:
            index = 0  # a list or dotted keys: one place for all of them
        return self._text.count("\n", 0, found[index].end()) + 1 if index < len(found) else 0

    def _line(self, table: str, index: int, key: str) -> int:
        """The line on which the key of that table stands; the table's own where it cannot be told."""
        start, lines = self._line_of_table(table, index), self._text.splitlines()
        if index and start == self._line_of_table(table):
            return start
        word = re.escape(key) or "[\"']{2}"
        for number in range(max(start - 1, 0), len(lines)):
            if number >= start and re.match(r"\s*\[", lines[number]):
                break
            if re.match(rf"(?:[^#]*[\s,{{.])?[\"']?{word}[\"']?\s*=", lines[number]):
                return number + 1
        return start


_WANTED = {
    str: ("a text", '"this"'),
    int: ("a whole number", "65536"),
    float: ("a number", "2.5"),
    bool: ("true or false", "true"),
    list: ("a list of names", '["first", "second"]'),
}
"""What a key wants, by its kind, and an example."""


def _number(value: float) -> str:
    """In full, as a person would write it."""
    if abs(value) >= NUMBER_SHOWN_MAX:
        return "beyond all bounds"
    return str(int(value)) if value == value // 1 else f"{value:g}"


def _toml_kind(value: object) -> str:
    kinds = {
        bool: "true or false",
        str: "a text",
        int: "a whole number",
        float: "a number",
        list: "a list",
        dict: "a table",
    }
    return kinds.get(type(value), "a date or time")
