"""What the commands of an emulated machine ask for: the options of ``shutdown``, ``systemd-run`` and ``systemctl``.

Only what a cell's start needs is understood; anything else is refused in words, never half done. Pure: text in, an
order out. Sandbox properties of ``systemd-run`` (``ProtectSystem=`` and the like) are accepted and not imitated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

POWER_COMMANDS = frozenset({"shutdown", "poweroff", "systemctl", "systemd-run"})
_SPAN_UNITS_S = {
    "us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0,
    "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0,
}  # fmt: skip
_RESTARTS = {"no", "on-failure", "always"}


@dataclass(frozen=True)
class Refused:
    """The command does not do that here."""

    text: str


@dataclass(frozen=True)
class When:
    """A moment: ``after_s`` seconds from now, or the unix time ``at``; neither means now."""

    after_s: float = 0.0
    at: float | None = None


@dataclass(frozen=True)
class PowerOff:
    """Switch the machine off; it replaces an earlier order."""

    when: When


@dataclass(frozen=True)
class CancelPowerOff:
    """Forget the order to switch off."""


@dataclass(frozen=True)
class RunService:
    """Run ``command`` as the unit ``name`` (without suffix), now or by a timer."""

    name: str
    command: tuple[str, ...]
    timer: When | None = None
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = ""
    restart: str = "no"
    restart_s: float = 0.1


@dataclass(frozen=True)
class StopUnits:
    """End the services and timers of these names."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class AskActive:
    """Tell whether these units are active."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Nothing:
    """Understood, and there is nothing to do."""


Order = PowerOff | CancelPowerOff | RunService | StopUnits | AskActive | Nothing | Refused


def parse(tool: str, arguments: Sequence[str], *, now: float, fresh_name: str) -> Order:
    """The order that ``tool arguments…`` means. ``now`` is unix time; ``fresh_name`` names a nameless unit."""
    try:
        if tool == "poweroff":
            return PowerOff(When())
        if tool == "shutdown":
            return _shutdown(arguments, now)
        if tool == "systemctl":
            return _systemctl(arguments)
        if tool == "systemd-run":
            return _systemd_run(arguments, fresh_name)
    except (ValueError, OverflowError) as problem:
        return Refused(f"{tool}: {problem}")
    return Refused(f"{tool}: not a command of an emulated machine")


def unit_name(name: str) -> str:
    """The name without its suffix: a service and the timer that starts it share it."""
    return name.removesuffix(".service").removesuffix(".timer")


def span_s(text: str) -> float:
    """Seconds of a systemd time span: ``90``, ``90s``, ``1h 30min``; ValueError for anything else."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text)
    if not parts or not re.fullmatch(r"(?:[0-9]+(?:\.[0-9]+)?\s*[a-z]*\s*)+", text):
        raise ValueError(f"not a time span: {text!r}")
    if any(unit not in _SPAN_UNITS_S for _, unit in parts):
        raise ValueError(f"not a time span: {text!r}")
    return sum(float(number) * _SPAN_UNITS_S[unit] for number, unit in parts)


def calendar_time(text: str) -> float:
    """Unix time of ``@SECONDS`` or ``YYYY-MM-DD HH:MM[:SS] [UTC]``; repeating calendar events are not imitated."""
    if text.startswith("@"):
        return float(text[1:])
    zone = timezone.utc if text.endswith((" UTC", "Z")) else None  # noqa: UP017  the name reads better here
    plain = text.removesuffix("Z").removesuffix(" UTC")
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"):
        try:
            return datetime.strptime(plain, form).replace(tzinfo=zone).timestamp()
        except ValueError:
            continue
    raise ValueError(f"not a point in time: {text!r}")


def _shutdown(arguments: Sequence[str], now: float) -> Order:
    flags = {word for word in arguments if word.startswith("-")}
    words = [word for word in arguments if not word.startswith("-")]
    if "-c" in flags:
        return CancelPowerOff()
    unknown = flags - {"-P", "-h", "--poweroff", "--no-wall"}
    if unknown:
        raise ValueError(f"not emulated: {' '.join(sorted(unknown))}")
    time = words[0] if words else "+1"  # what the real one does when no time is given
    if time == "now":
        return PowerOff(When())
    if re.fullmatch(r"\+?[0-9]+", time):
        return PowerOff(When(after_s=60.0 * int(time)))
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", time)
    if match is None:
        raise ValueError(f"not a time: {time!r}")
    today = datetime.fromtimestamp(now).astimezone()
    moment = today.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
    return PowerOff(When(at=(moment if moment > today else moment + timedelta(days=1)).timestamp()))


def _systemctl(arguments: Sequence[str]) -> Order:
    words = [word for word in arguments if not word.startswith("-")]
    verb, names = (words[0], tuple(unit_name(word) for word in words[1:])) if words else ("", ())
    if verb == "poweroff":
        return PowerOff(When())
    if verb in {"daemon-reload", "reset-failed"}:
        return Nothing()
    if verb in {"is-active", "stop"} and not names:
        raise ValueError(f"{verb} needs a unit")
    if verb == "is-active":
        return AskActive(names)
    if verb == "stop":
        return StopUnits(names)
    raise ValueError(f"not emulated: {verb or 'no verb'}")


_WITH_VALUE = {"-u": "--unit", "-p": "--property", "-E": "--setenv"}
_TAKES_VALUE = {
    "--unit", "--property", "--setenv", "--on-active", "--on-calendar", "--timer-property", "--description",
    "--working-directory", "--service-type",
}  # fmt: skip
_FLAGS = {"-G", "--collect", "-q", "--quiet", "--no-block", "-r", "--remain-after-exit", "--system"}


def _systemd_run(arguments: Sequence[str], fresh_name: str) -> Order:
    options, command = _split_options(list(arguments))
    if not command:
        raise ValueError("no command given")
    wanted: dict[str, Any] = {"name": fresh_name}
    environment: dict[str, str] = {}
    for option, value in options:
        key, _, text = value.partition("=")
        if option == "--setenv":
            environment[key] = text
        elif option == "--property" and key == "Environment":
            variable, _, content = text.strip('"').partition("=")
            environment[variable] = content
        elif option == "--property" and key in _PROPERTIES:
            field_name, read = _PROPERTIES[key]
            wanted[field_name] = read(text)
        elif option in _OPTIONS:
            field_name, read = _OPTIONS[option]
            wanted[field_name] = read(value)
    if not re.fullmatch(r"[A-Za-z0-9:_.@-]{1,200}", wanted["name"]):
        raise ValueError(f"not a unit name: {wanted['name']!r}")
    return RunService(command=tuple(command), environment=environment, **wanted)


def _split_options(words: list[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """The options before the command, as pairs; the command is what follows them."""
    options: list[tuple[str, str]] = []
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        option, has_value, value = word.partition("=")
        option = _WITH_VALUE.get(option, option)
        if option in _TAKES_VALUE:
            if not has_value and not words:
                raise ValueError(f"{option} needs a value")
            options.append((option, value if has_value else words.pop(0)))
        elif option not in _FLAGS:
            raise ValueError(f"not emulated: {option}")
    return options, words


def _checked_restart(text: str) -> str:
    if text not in _RESTARTS:
        raise ValueError(f"not emulated: Restart={text}")
    return text


# Which field of ``RunService`` an option or a property sets, and how its text is read.
_OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    "--unit": ("name", unit_name),
    "--on-active": ("timer", lambda text: When(after_s=span_s(text))),
    "--on-calendar": ("timer", lambda text: When(at=calendar_time(text))),
    "--working-directory": ("directory", str),
}
_PROPERTIES: dict[str, tuple[str, Callable[[str], object]]] = {
    "Restart": ("restart", _checked_restart),
    "RestartSec": ("restart_s", span_s),
    "WorkingDirectory": ("directory", str),
}
