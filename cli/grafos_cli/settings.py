"""The settings of the command line, and who says what each one is.

The first that says something counts: the flag, the variable, the project's ``grafos.toml``, the person's own
``config.toml``, the default. A key that does not exist is refused wherever it stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from grafos_core.errors import GrafosError

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT_FILE, PROJECT_TABLE = "grafos.toml", "settings"
USER_FILE = "config.toml"
FILE_BYTES_MAX = 256 * 1024
"""Such files are written by hand; a larger one is a mistake."""
AUTO, ALWAYS, NEVER = "auto", "always", "never"
_SHAPES = {
    "HOST:PORT": re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]{1,253}):[0-9]{1,5}"),
    # A password has no place in settings; the databases' own tools keep it.
    "BACKEND": re.compile(r"(?:file|s3|gs|azblob|postgres)://(?!/*[^/@]*:[^/@]*@).+"),
    "LIST": re.compile(r"[\w.-]+(?:, *[\w.-]+)*"),
    "NAME": re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"),
    "NUMBER": re.compile(r"[1-9][0-9]{0,8}"),
    "TIME": re.compile(r"[1-9][0-9]{0,6}[smhd]"),
    "URL": re.compile(r"https?://.*"),
}


class Setting(NamedTuple):
    """One setting. ``choices`` are its values, or empty for any text that ``shape`` fits. One that decides whom to
    trust, or where money goes, is none of a project's: projects are downloaded."""

    name: str
    flag: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    shape: str = ""
    in_project: bool = True

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"GRAFOS_{self.name.upper()}"


YES_NO = ("true", "false")
EXAMPLES = {
    "BACKEND": "s3://BUCKET or postgres://USER@HOST/DATABASE, without a password",
    "LIST": "ONE,TWO",
    "NUMBER": "20",
    "TIME": "8h",
}
SETTINGS = (
    Setting(
        "allowed_regions",
        "",
        "",
        "a guard rail: cells only in these regions, with commas",
        shape="LIST",
        in_project=False,
    ),
    Setting("allowed_types", "", "", "a guard rail: cells only of these machine types", shape="LIST", in_project=False),
    Setting("color", "--color", AUTO, "when output has colour; auto: on a terminal", (AUTO, ALWAYS, NEVER)),
    Setting(
        "env",
        "",
        "",
        "the environment of [runnable_targets] that names the provider of a deploy: deploy run --env",
        shape="NAME",
        in_project=False,
    ),
    Setting("fabric", "--fabric", "", "ask only the scheduler at this address", shape="HOST:PORT"),
    Setting(
        "keyless",
        "",
        "false",
        "cells on azure and gcp enrol by their cloud's word, with no secret in user data: cloud provision --keyless",
        YES_NO,
        in_project=False,
    ),
    Setting("longest_ttl", "", "", "a guard rail: no cell may live longer", shape="TIME", in_project=False),
    Setting("most_cells", "", "", "a guard rail: at most so many cells at once", shape="NUMBER", in_project=False),
    Setting(
        "most_cents_per_hour",
        "",
        "",
        "a guard rail: at most so many US cents an hour for all cells that are asked for at once",
        shape="NUMBER",
        in_project=False,
    ),
    Setting(
        "my_ip_url",
        "",
        "https://checkip.amazonaws.com/",
        "who tells the address that a question came from, for cloud allow --my-ip",
        shape="URL",
        in_project=False,
    ),
    Setting(
        "pulumi_backend",
        "",
        "",
        "where the state of cloud provision --engine pulumi is kept, for a team: a bucket or a database; no password",
        shape="BACKEND",
        in_project=False,
    ),
    Setting("wide", "--wide", "false", "every column of a table, also beyond the terminal's width", YES_NO),
)

_command_line: dict[str, str] = {}
"""The flags of this process that say a setting, by its name."""


class Found(NamedTuple):
    """A setting's value and who said it: ``flag``, ``environment``, ``project``, ``user`` or ``default``; ``where`` is
    the flag, the variable or the file."""

    setting: Setting
    value: str
    origin: str
    where: str


class Layer(NamedTuple):
    """One source of values: its name, where it is, and what it says by the settings' names."""

    origin: str
    where: Callable[[Setting], str]
    values: Mapping[str, str]


def named(name: str) -> Setting:
    """The setting of that name."""
    return next(setting for setting in SETTINGS if setting.name == name)


def user_file(environment: Mapping[str, str] | None = None) -> Path:
    """``$XDG_CONFIG_HOME/grafos/config.toml``; a relative path in the variable is ignored, as its standard says."""
    base = Path((os.environ if environment is None else environment).get("XDG_CONFIG_HOME") or "")
    return (base if base.is_absolute() else Path.home() / ".config") / "grafos" / USER_FILE


def project_file() -> Path | None:
    """The nearest ``grafos.toml``, from the current folder upwards."""
    try:
        here = Path.cwd()
    except OSError:
        return None
    return next((path for folder in (here, *here.parents) if (path := folder / PROJECT_FILE).is_file()), None)


def settle(flags: Mapping[str, str] | None = None) -> dict[str, Found]:
    """Every setting as it counts now. ``flags`` are those of the command line, by the settings' names; they count from
    then on, for a process has one command line."""
    if flags is not None:
        _command_line.clear()
        _command_line.update(flags)
    layers = layers_of(_command_line, os.environ, project_file(), user_file())
    return {setting.name: first_of(setting, layers) for setting in SETTINGS}


def layers_of(
    flags: Mapping[str, str], environment: Mapping[str, str], project: Path | None, user: Path
) -> tuple[Layer, ...]:
    """The sources, the one that counts most first; ``usage`` or ``config_invalid`` for a value that is none."""
    variables = {one.name: environment[one.variable] for one in SETTINGS if environment.get(one.variable)}
    layers = (
        Layer("flag", lambda setting: setting.flag, flags),
        Layer("environment", lambda setting: setting.variable, variables),
        Layer("project", lambda _: str(project), _of_project(project)),
        Layer("user", lambda _: str(user), _of_user(user)),
    )
    for layer in layers[:2]:
        for name, value in layer.values.items():
            _refuse_bad(named(name), value, layer.where(named(name)), "usage" if layer.origin == "flag" else "")
    return layers


def first_of(setting: Setting, layers: tuple[Layer, ...]) -> Found:
    """What the first layer says that says something."""
    for layer in layers:
        if setting.name in layer.values:
            return Found(setting, layer.values[setting.name], layer.origin, layer.where(setting))
    return Found(setting, setting.default, "default", "")


def value_of(name: str) -> str:
    """A setting as it counts now, for whoever is far from the command line."""
    return settle()[name].value


def _of_project(path: Path | None) -> dict[str, str]:
    """The table of the manifest. One that is no TOML is told by the commands that need a manifest."""
    document = None if path is None else _parsed(path, complain=False)
    return {} if path is None or document is None else checked(document.get(PROJECT_TABLE, {}), path, in_project=True)


def _of_user(path: Path) -> dict[str, str]:
    document = _parsed(path, complain=True)
    return {} if document is None else checked(document, path, in_project=False)


def _parsed(path: Path, *, complain: bool) -> dict[str, Any] | None:
    import tomllib

    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ValueError(f"it has more than {FILE_BYTES_MAX} bytes")
        return tomllib.loads(data.decode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        if not complain:
            return None
        why = "lists or tables are nested too deep" if isinstance(error, RecursionError) else str(error)
        raise GrafosError(
            "config_invalid", "Your settings cannot be read", where=str(path), why=why, next="mend or remove that file"
        ) from error


def checked(table: object, path: Path, *, in_project: bool) -> dict[str, str]:
    """The values of a table of settings; ``config_invalid`` for a key or value that is none."""
    if not isinstance(table, dict):
        raise GrafosError(
            "config_invalid", f"{PROJECT_TABLE} is not a table", where=str(path), next=f"write [{PROJECT_TABLE}]"
        )
    known = {setting.name: setting for setting in SETTINGS if setting.in_project or not in_project}
    values = {}
    for key, value in table.items():
        if key not in known:
            raise _unknown(key, list(known), path, in_project=in_project)
        text = str(value).lower() if isinstance(value, bool) else value
        _refuse_bad(known[key], text, str(path), "")
        values[key] = text
    return values


def _unknown(key: str, known: list[str], path: Path, *, in_project: bool) -> GrafosError:
    from grafos_cli.nearness import nearest

    match = nearest(key, known)
    elsewhere = in_project and any(setting.name == key for setting in SETTINGS)
    return GrafosError(
        "config_invalid",
        f"There is no setting {key[:60]!r}" + (" of a project" if elsewhere else ""),
        where=str(path),
        why="it decides whom to trust or where money goes, so it is for your own settings alone"
        if elsewhere
        else (f"did you mean {match!r}?" if match else f"there are {', '.join(known)}"),
        next="grafos config schema lists every setting",
    )


def _refuse_bad(setting: Setting, value: object, where: str, code: str) -> None:
    fits = isinstance(value, str) and (
        value in setting.choices if setting.choices else _SHAPES[setting.shape].fullmatch(value)
    )
    if fits:
        return
    shape = EXAMPLES.get(setting.shape, setting.shape)
    wanted = f"one of {', '.join(setting.choices)}" if setting.choices else f"like {shape}"
    shown = f"{value if isinstance(value, str) else type(value).__name__!r:.60}"
    shown = "that" if setting.shape == "BACKEND" else shown  # a password may be in it
    raise GrafosError(
        code or "config_invalid",
        f"{setting.name} cannot be {shown}",
        where=where,
        next=f"give it a value {wanted}",
    )
