"""Property maps as Pulumi sends them: what is unknown, what is secret, and plain values for the rest.

On the wire all numbers are floats, a secret is a map with a signature, and what a preview does not know yet is a fixed
text. Here a whole number is an ``int``, an unknown value is ``UNKNOWN``, and which top-level properties are, or
hold, secrets stands beside the values. A list or map with a secret anywhere in it is secret as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.struct_pb2 import Struct

SIGNATURE = "4dabf18193072939515e22adb298388d"
"""The key by which a map tells that it stands for something else."""
SECRECY = "1b47061264138c4ac30d75fd1eb44270"
OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_TEXTS = frozenset(
    {
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # a truth value
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # a number
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # a text, and what every engine sends for anything
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",  # a list
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",  # a map
    }
)
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
WHOLE_MAX = 2**53
"""Up to here a float holds every whole number."""


class _Unknown:
    """The only value of its kind; it is no value, so it is neither true nor false."""

    def __repr__(self) -> str:
        return "UNKNOWN"

    def __bool__(self) -> bool:
        raise TypeError("what is unknown has no truth")


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Properties:
    """A property map: plain values by name, and the names of those that are secret."""

    values: Mapping[str, Any]
    secrets: frozenset[str] = frozenset()

    @property
    def unknown(self) -> frozenset[str]:
        """The names of those that are not, or not wholly, known yet."""
        return frozenset(name for name, value in self.values.items() if has_unknown(value))

    def known(self) -> dict[str, Any]:
        """The values that are wholly known."""
        return {name: value for name, value in self.values.items() if not has_unknown(value)}


def has_unknown(value: object) -> bool:
    """Whether anything in the value is unknown."""
    if isinstance(value, list):
        return any(map(has_unknown, value))
    if isinstance(value, dict):
        return any(map(has_unknown, value.values()))
    return value is UNKNOWN


def decode(struct: Struct) -> Properties:
    """The property map of a message."""
    values, secrets = {}, set()
    for name, raw in _plain_map(struct).items():
        value, secret = _read(raw)
        values[name] = value
        if secret:
            secrets.add(name)
    return Properties(values, frozenset(secrets))


def encode(values: Mapping[str, Any], secrets: Collection[str] = ()) -> Struct:
    """A message of these values; ``None`` is left out, as an engine itself does."""
    kept = {name: _write(value) for name, value in values.items() if value is not None}
    struct = Struct()
    struct.update({name: _sealed(value) if name in secrets else value for name, value in kept.items()})
    return struct


def _plain_map(struct: Struct) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict

    return dict(MessageToDict(struct))


def _read(raw: object) -> tuple[Any, bool]:
    """The value, and whether anything in it is secret."""
    if isinstance(raw, str):
        return (UNKNOWN if raw in UNKNOWN_TEXTS else raw), False
    if isinstance(raw, float):
        return (int(raw) if raw.is_integer() and abs(raw) <= WHOLE_MAX else raw), False
    if isinstance(raw, list):
        parts = [_read(part) for part in raw]
        return [value for value, _ in parts], any(secret for _, secret in parts)
    if isinstance(raw, dict):
        return _read_map(raw)
    return raw, False


def _read_map(raw: dict[str, Any]) -> tuple[Any, bool]:
    signature = raw.get(SIGNATURE)
    if signature == SECRECY:
        return _read(raw.get("value"))[0], True
    if signature == OUTPUT:
        value, inner = _read(raw["value"]) if "value" in raw else (UNKNOWN, False)
        return value, inner or bool(raw.get("secret", False))
    parts = {name: _read(part) for name, part in raw.items()}
    return {name: value for name, (value, _) in parts.items()}, any(secret for _, secret in parts.values())


def _write(value: object) -> Any:
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    if isinstance(value, Mapping):
        return {str(name): _write(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_write(part) for part in value]
    return value


def _sealed(value: object) -> dict[str, object]:
    return {SIGNATURE: SECRECY, "value": value}
