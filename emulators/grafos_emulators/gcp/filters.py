"""The ``filter`` parameter of lists: ``labels.a=b AND (status = RUNNING OR name:web*)``, and ``name eq 'web-.*'``.

Both syntaxes of Compute Engine's lists, as its discovery document describes them. Expressions that stand side by side
must all hold; OR binds more tightly than AND (AIP-160).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from grafos_emulators.gcp.errors import invalid

Test = Callable[[Mapping[str, Any]], bool]

_TOKEN = re.compile(
    r"""\s*(?: (?P<mark>\(|\)) | (?P<operator>!=|<=|>=|=|:|<|>)
      | "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)' | (?P<word>[^\s()=!<>:"']+) )""",
    re.VERBOSE,
)
_REGEX_OPERATORS = {"eq", "ne"}


def parse(text: str) -> Test:
    """What tells whether a resource's JSON is wanted; ``invalid`` for an expression that cannot be read."""
    try:
        tokens = _tokens(text)
        test, rest = _all_of(tokens)
        if rest:
            raise ValueError(rest[0])
    except (ValueError, IndexError, re.error):
        raise invalid("filter", text, "Invalid list filter expression.") from None
    return test


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at, text = [], 0, text.rstrip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(text[at:])
        kind = str(found.lastgroup)
        value = found[kind]
        tokens.append(("value", re.sub(r"\\(.)", r"\1", value)) if kind in {"double", "single"} else (kind, value))
        at = found.end()
    return tokens


def _all_of(tokens: list[tuple[str, str]]) -> tuple[Test, list[tuple[str, str]]]:
    tests: list[Test] = []
    while tokens and tokens[0] != ("mark", ")"):
        if tests and tokens[0] == ("word", "AND"):
            tokens = tokens[1:]
        test, tokens = _any_of(tokens)
        tests.append(test)
    return (lambda body: all(test(body) for test in tests)), tokens


def _any_of(tokens: list[tuple[str, str]]) -> tuple[Test, list[tuple[str, str]]]:
    first, tokens = _one(tokens)
    tests = [first]
    while tokens and tokens[0] == ("word", "OR"):
        test, tokens = _one(tokens[1:])
        tests.append(test)
    return (lambda body: any(test(body) for test in tests)), tokens


def _one(tokens: list[tuple[str, str]]) -> tuple[Test, list[tuple[str, str]]]:
    if tokens[0] == ("word", "NOT"):
        test, rest = _one(tokens[1:])
        return (lambda body: not test(body)), rest
    if tokens[0] == ("mark", "("):
        test, rest = _all_of(tokens[1:])
        if rest[0] != ("mark", ")"):
            raise ValueError("(")
        return test, rest[1:]
    (kind, field), (operator_kind, operator), (value_kind, value) = tokens[:3]
    is_regex = operator_kind == "word" and operator in _REGEX_OPERATORS
    if kind != "word" or not (operator_kind == "operator" or is_regex) or value_kind not in {"word", "value"}:
        raise ValueError(operator)
    return _comparison(field, operator, value), tokens[3:]


def _comparison(field: str, operator: str, value: str) -> Test:
    if operator in _REGEX_OPERATORS:
        pattern = re.compile(value)
        return lambda body: bool(pattern.fullmatch(_text(_at(body, field)))) == (operator == "eq")
    if operator in {"=", "!="}:
        return lambda body: (_text(_at(body, field)) == value) == (operator == "=")
    if operator == ":":
        return lambda body: _has(_at(body, field), value)
    return lambda body: _ordered(_text(_at(body, field)), operator, value)


def _at(body: Mapping[str, Any], field: str) -> Any:
    value: Any = body
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _has(value: Any, wanted: str) -> bool:
    if wanted == "*":
        return value is not None
    if isinstance(value, Mapping | list):
        return wanted in value
    text = _text(value)
    return text.startswith(wanted[:-1]) if wanted.endswith("*") else value is not None and wanted in text


def _ordered(text: str, operator: str, wanted: str) -> bool:
    try:
        difference = float(text) - float(wanted)
    except ValueError:
        difference = (text > wanted) - (text < wanted) if text else float("nan")
    return {"<": difference < 0, ">": difference > 0, "<=": difference <= 0, ">=": difference >= 0}[operator]
