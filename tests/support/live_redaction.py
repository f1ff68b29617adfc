"""What of a cloud's answer may be shown to anybody: its form, and the few words that only clouds choose.

Nothing is looked for that must go. Instead everything goes that is not known to be harmless: names of fields stay,
truth values stay, and a word stays where only the cloud chooses it (an error's code, a state). Every other text becomes
a placeholder that says of which sort it was, the same for the same text: ``{text-1}``, ``{url-2}``. Numbers become 0.
"""

from __future__ import annotations

import gzip
import json
import re
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Mapping
from typing import Any

KEPT_FIELDS = frozenset(
    ("code", "__type", "kind", "reason", "status", "provisioningstate", "operationtype", "severity", "targettype")
)
"""Fields whose words only the cloud chooses, in small letters."""
WORD = re.compile(r"[A-Za-z][A-Za-z_.#-]{1,60}")
"""A word of a cloud's own: it has no digit, so no id is one."""
FIELD = re.compile(r"[@$]?[A-Za-z][A-Za-z0-9_.@$-]{0,60}")
FREE_MAPS = frozenset(("labels", "tags", "items", "userassignedidentities"))
"""Fields below which the account's owner, or a place, chooses the names: as maps, they lose them."""
HEADERS = frozenset(("azure-asyncoperation", "content-type", "location", "retry-after", "x-amzn-errortype"))
"""Headers by which a client acts; of others not even the name stays."""
BODY_BYTES_MAX = 16 << 20

_SORTS = (
    ("digits", re.compile(r"-?\d+(\.\d+)?")),
    ("time", re.compile(r"\d{4}-\d\d-\d\dT.*")),
    ("truth", re.compile(r"true|false", re.IGNORECASE)),
    ("url", re.compile(r"https?://.*", re.DOTALL)),
    ("address", re.compile(r"\d{1,3}(\.\d{1,3}){3}(/\d+)?")),
)


class Placeholders:
    """The same placeholder for the same text, counted in the order in which they came."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def of(self, text: str, sort: str = "") -> str:
        if not text:
            return text
        sort = sort or next((name for name, form in _SORTS if form.fullmatch(text)), "text")
        key = f"{sort}:{text}"
        return self._given.setdefault(key, f"{{{sort}-{len(self._given) + 1}}}")


def redacted(document: Any, placeholders: Placeholders, field: str = "") -> Any:
    """The document with its form and nothing of its content."""
    if isinstance(document, dict):
        free = field.lower() in FREE_MAPS
        return {
            name if not free and FIELD.fullmatch(name) else placeholders.of(name, "key"): redacted(
                value, placeholders, name if not free else ""
            )
            for name, value in document.items()
        }
    if isinstance(document, list):
        within = "" if field.lower() in FREE_MAPS else field
        return [redacted(value, placeholders, within) for value in _each_form_once(document)]
    if document is None or isinstance(document, bool):
        return document
    if isinstance(document, int | float):
        return type(document)(0)
    text = str(document)
    return text if field.lower() in KEPT_FIELDS and WORD.fullmatch(text) else placeholders.of(text)


def _each_form_once(elements: list[Any]) -> list[Any]:
    """The elements of a list that show what none before them shows; how many there were is nobody's matter."""
    kept, shown = [], set[tuple[str, str]]()
    for element in elements:
        form = form_of(redacted(element, Placeholders()))
        if not kept or not form <= shown:
            kept.append(element)
            shown |= form
    return kept


def form_of(document: Any, path: str = "") -> set[tuple[str, str]]:
    """Every place in a redacted document with the sort of thing that is there; the elements of a list are in one place,
    and so are the values of a map whose names are somebody's own."""
    if isinstance(document, dict):
        inner = [form_of(value, f"{path}.{'*' if name.startswith('{') else name}") for name, value in document.items()]
        return {(path, "object")}.union(*inner)
    if isinstance(document, list):
        return {(path, "list")}.union(*(form_of(value, f"{path}[]") for value in document))
    if isinstance(document, str):
        placeholder = re.fullmatch(r"\{([a-z]+)-\d+\}", document)
        return {(path, placeholder[1] if placeholder else "text" if document else "empty")}
    return {(path, "nothing" if document is None else type(document).__name__)}


def redacted_headers(headers: Mapping[str, str], placeholders: Placeholders) -> dict[str, str]:
    """The headers that matter, by small letters."""
    found = {}
    for name, value in sorted(headers.items()):
        if name.lower() == "content-type":
            found["content-type"] = value.partition(";")[0].strip()
        elif name.lower() in HEADERS:
            found[name.lower()] = placeholders.of(value)
    return found


def document_in(body: bytes, headers: Mapping[str, str]) -> Any:
    """The body as plain data: JSON, or XML as objects and lists; None if there is none. ValueError for other bytes."""
    lower = {name.lower(): value for name, value in headers.items()}
    if lower.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    elif lower.get("content-encoding") == "deflate":
        body = zlib.decompress(body)
    if len(body) > BODY_BYTES_MAX:
        raise ValueError("the answer is too long")
    if not body.strip():
        return None
    if body.lstrip()[:1] == b"<":
        try:
            root = ET.fromstring(body)  # noqa: S314  from a cloud, or from our own emulator
        except ET.ParseError as problem:
            raise ValueError(str(problem)) from problem
        return {_plain_name(root.tag): _of_element(root)}
    return json.loads(body)


def _of_element(element: ET.Element) -> Any:
    """AWS writes a list as elements called ``item`` or ``member``; anything else with children is an object."""
    children = list(element)
    if not children:
        return element.text or ""
    names = [_plain_name(child.tag) for child in children]
    if set(names) <= {"item", "member"}:
        return [_of_element(child) for child in children]
    return {name: _of_element(child) for name, child in zip(names, children, strict=True)}


def _plain_name(tag: str) -> str:
    return tag.rpartition("}")[2]
