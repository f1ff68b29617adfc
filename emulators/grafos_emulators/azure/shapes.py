"""Requests and answers held against the Azure SDK's own models: what they do not know, ARM does not know either.

The models are code that Microsoft generates from ARM's specification. A request with a field that no model has, a
value outside an enumeration, or without what is required is refused as ARM refuses it; an answer of ours with such a
fault is a bug, and never leaves the emulator.
"""

from __future__ import annotations

import enum
import functools
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType, UnionType
from typing import Any

from azure.mgmt.compute import models as compute
from azure.mgmt.network import models as network
from azure.mgmt.resource.resources import models as resources

from grafos_emulators.azure.errors import ArmError

MODELS: Mapping[str, ModuleType] = {"compute": compute, "network": network, "resources": resources}
# The SDK stopped naming new machine sizes in 2018 and sends any; which there are is the catalogue's to say.
OPEN_ENUMERATIONS = frozenset({"VirtualMachineSizeTypes"})
_SCALARS: Mapping[type, tuple[type, ...]] = {
    str: (str,), bool: (bool,), int: (int,), float: (int, float),
}  # fmt: skip


@dataclass(frozen=True)
class Field:
    """One field of a model. ``hint`` is its type as the SDK declares it; ``settable``: a client may send it."""

    name: str
    hint: Any
    required: bool
    settable: bool


@dataclass(frozen=True)
class Finding:
    """One fault of a document: where (``properties.hardwareProfile.vmSize``), of what kind, and in which words."""

    path: str
    kind: str  # unknown | missing | type | value
    text: str


def check_request(model: str, document: Any) -> None:
    """Refuses a request that ``model`` (``compute.VirtualMachine``) does not describe. Read-only fields are ignored."""
    for finding in _findings(document, model_named(model), "", strict=True):
        if finding.kind in {"unknown", "type"}:
            raise ArmError(
                400,
                "InvalidRequestContent",
                f"The request content was invalid and could not be deserialized: '{finding.text}'.",
                target=finding.path,
            )
        if finding.path == "location" and finding.kind == "missing":
            raise ArmError(400, "LocationRequired", "The location property is required for this definition.")
        raise ArmError(400, "InvalidParameter", finding.text, target=finding.path)


def check_answer(model: str, document: Any) -> None:
    """AssertionError, with the field's name, when an answer of ours is not what ``model`` describes."""
    for finding in _findings(document, model_named(model), "", strict=False):
        raise AssertionError(f"the answer is no {model}: {finding.path}: {finding.text}")


def model_named(name: str) -> type:
    module, _, model = name.partition(".")
    return typing.cast(type, getattr(MODELS[module], model))


@functools.cache
def fields_of(model: type) -> Mapping[str, Field]:
    """The fields of a model by their names on the wire."""
    module = MODELS[next(name for name, module in MODELS.items() if model.__module__.startswith(module.__name__))]
    hints = typing.get_type_hints(model, localns={"_models": module})
    found: dict[str, Field] = {}
    for ancestor in reversed(model.__mro__):
        for attribute, value in vars(ancestor).items():
            if type(value).__name__ == "_RestField":
                hint = hints[attribute]
                visible = value._visibility or ["create", "update"]  # noqa: SLF001  the SDK shows it nowhere else
                name = value._rest_name_input or attribute  # noqa: SLF001
                settable = bool({"create", "update"} & set(visible))
                found[name] = Field(name, hint, settable and type(None) not in typing.get_args(hint), settable)
    return found


@functools.cache
def _is_model(hint: type) -> bool:
    return hint.__module__.startswith(tuple(module.__name__ for module in MODELS.values())) and not issubclass(
        hint, enum.Enum
    )


def _findings(value: Any, hint: Any, path: str, *, strict: bool) -> Iterator[Finding]:
    """``strict`` is a client's request; else it is an answer, where read-only fields count too."""
    origin = typing.get_origin(hint)
    if hint is Any or (value is None and strict):
        return
    if origin in {typing.Union, UnionType}:
        yield from _of_union(value, typing.get_args(hint), path, strict=strict)
    elif origin is list:
        yield from _of_list(value, typing.get_args(hint)[0], path, strict=strict)
    elif origin is dict:
        yield from _of_dict(value, typing.get_args(hint)[1], path, strict=strict)
    elif isinstance(hint, type) and _is_model(hint):
        yield from _of_model(value, hint, path, strict=strict)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield from _of_enum(value, hint, path)
    elif not isinstance(value, _SCALARS.get(hint, (str,))) or (hint is not bool and isinstance(value, bool)):
        yield Finding(path, "type", f"Error converting value {value!r} to type '{hint.__name__}'. Path '{path}'")


def _of_union(value: Any, kinds: tuple[Any, ...], path: str, *, strict: bool) -> Iterator[Finding]:
    rest = [kind for kind in kinds if kind is not type(None)]
    enums = [kind for kind in rest if isinstance(kind, type) and issubclass(kind, enum.Enum)]
    if enums and isinstance(value, str):
        yield from _of_enum(value, enums[0], path)
        return
    each = [list(_findings(value, kind, path, strict=strict)) for kind in rest]
    if all(each):
        yield from each[0]


def _of_enum(value: Any, kind: type[enum.Enum], path: str) -> Iterator[Finding]:
    if kind.__name__ not in OPEN_ENUMERATIONS and str(value).lower() not in _values_of(kind):
        allowed = ", ".join(str(member.value) for member in kind)
        yield Finding(
            path, "value", f"The value {value!r} of parameter '{path}' is invalid. Allowed values: {allowed}."
        )


@functools.cache
def _values_of(kind: type[enum.Enum]) -> frozenset[str]:
    return frozenset(str(member.value).lower() for member in kind)


def _of_list(value: Any, hint: Any, path: str, *, strict: bool) -> Iterator[Finding]:
    if not isinstance(value, list):
        yield Finding(path, "type", f"Cannot deserialize the current JSON value into a list. Path '{path}'")
        return
    for index, each in enumerate(value):
        yield from _findings(each, hint, f"{path}[{index}]", strict=strict)


def _of_dict(value: Any, hint: Any, path: str, *, strict: bool) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield Finding(path, "type", f"Cannot deserialize the current JSON value into an object. Path '{path}'")
        return
    for key, each in value.items():
        yield from _findings(each, hint, f"{path}.{key}", strict=strict)


def _of_model(value: Any, model: type, path: str, *, strict: bool) -> Iterator[Finding]:
    if not isinstance(value, dict):
        yield Finding(path, "type", f"Cannot deserialize the current JSON value into an object. Path '{path}'")
        return
    fields = fields_of(model)
    for name, each in value.items():
        place = f"{path}.{name}" if path else name
        if name not in fields:
            text = f"Could not find member '{name}' on object of type '{model.__name__}'. Path '{place}'"
            yield Finding(place, "unknown", text)
        elif fields[name].settable or not strict:
            yield from _findings(each, fields[name].hint, place, strict=strict)
    for name, field in fields.items():
        if field.required and value.get(name) is None:
            place = f"{path}.{name}" if path else name
            yield Finding(place, "missing", f"Required parameter '{place}' is missing (null).")
