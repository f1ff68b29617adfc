"""The flags that every command takes, wherever they stand on the command line."""

from __future__ import annotations

from dataclasses import dataclass, field

from grafos_core.errors import GrafosError

SWITCHES = ("--json", "--stream", "--wide", "--no-color", "--debug")
WITH_VALUE = ("--color", "--fabric")


@dataclass
class Flags:
    """What was given. ``settings`` are the flags that say a setting, by its name."""

    json: bool = False
    stream: bool = False
    debug: bool = False
    settings: dict[str, str] = field(default_factory=dict)


def read_flags(words: list[str]) -> tuple[Flags, list[str]]:
    """The global flags before any ``--``, and the other words; ``usage`` for one without its value."""
    end = words.index("--") if "--" in words else len(words)
    given: dict[str, str] = {}
    rest: list[str] = []
    coming = iter(words[:end])
    for word in coming:
        name, has_value, value = word.partition("=")
        if word in SWITCHES:
            given[word] = ""
        elif name in WITH_VALUE:
            given[name] = value if has_value else next(coming, "")
            if not given[name]:
                raise GrafosError("usage", f"{name} needs a value", next=f"{name} {_example(name)}")
        else:
            rest.append(word)
    return _flags(given), rest + words[end:]


def _example(name: str) -> str:
    return "never" if name == "--color" else "127.0.0.1:8443"


def _flags(given: dict[str, str]) -> Flags:
    settings = {name.removeprefix("--"): given[name] for name in WITH_VALUE if name in given}
    if "--no-color" in given:
        settings["color"] = "never"
    if "--wide" in given:
        settings["wide"] = "true"
    streams = "--stream" in given
    return Flags(json=streams or "--json" in given, stream=streams, debug="--debug" in given, settings=settings)
