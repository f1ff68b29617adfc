"""Lists: of one scope, or of all scopes at once; filtered, ordered, in pages, and a little behind the truth.

``get`` by name always tells the truth. A list may not show yet what was made in the last ``visible_after_s``.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from grafos_emulators.gcp import filters
from grafos_emulators.gcp.calls import ApiCall, Handler
from grafos_emulators.gcp.errors import invalid
from grafos_emulators.gcp.project import Project, Resource, scope_of

MAX_RESULTS = 500  # items in a page, when less is not asked for; the real one's limit too
NEWEST_FIRST = "creationTimestamp desc"

View = dict[str, Any]
Entry = tuple[str, Callable[[], View]]
"""A path, and what an answer shows of it: only asked for what a page is made of, for a list may be long."""


@dataclass(frozen=True)
class Page:
    """What one answer holds, each with its path; ``next_token`` is empty on the last page."""

    views: tuple[tuple[str, View], ...]
    next_token: str


def readers(
    project: Project,
    collection: str,
    kind: str,
    view: Callable[[Resource], dict[str, Any]],
    *,
    scopes: Iterable[str] = (),
) -> dict[str, Handler]:
    """``get``, ``list`` and, for what is not global, ``aggregatedList`` of one kind of resource.

    ``scopes`` are all that exist: an aggregated list names each.
    """

    def entries(scope: str = "") -> list[Entry]:
        return [(each.path, partial(view, each)) for each in project.of_kind(kind, scope) if _is_listed(project, each)]

    handlers: dict[str, Handler] = {
        f"compute.{collection}.get": lambda call: view(project.get(call.target)),
        f"compute.{collection}.list": lambda call: listed(project, call, kind, entries(call.scope)),
    }
    every_scope = tuple(scopes)
    if every_scope:
        handlers[f"compute.{collection}.aggregatedList"] = lambda call: aggregated(
            project, call, kind, collection, entries(), every_scope
        )
    return handlers


def _is_listed(project: Project, resource: Resource) -> bool:
    return project.world.clock.monotonic() >= resource.made_at + project.world.times.visible_after_s


def listed(project: Project, call: ApiCall, kind: str, entries: Iterable[Entry]) -> dict[str, Any]:
    """A list of one scope; like the real one it has no ``items`` when there are none."""
    page = page_of(call.query, entries)
    body = _head(project, call, f"compute#{kind}List", page)
    if page.views:
        body["items"] = [view for _, view in page.views]
    return body


def aggregated(
    project: Project, call: ApiCall, kind: str, collection: str, entries: Iterable[Entry], scopes: Iterable[str]
) -> dict[str, Any]:
    """A list of all scopes, by scope; one without anything says so in a warning."""
    page = page_of(call.query, entries)
    items: dict[str, Any] = {}
    for path, view in page.views:
        items.setdefault(scope_of(path), {}).setdefault(collection, []).append(view)
    for scope in scopes:
        items.setdefault(scope, {"warning": _nothing_there(scope)})
    return _head(project, call, f"compute#{kind}AggregatedList", page) | {"items": dict(sorted(items.items()))}


def page_of(query: Mapping[str, str], entries: Iterable[Entry]) -> Page:
    """The page that a query asks for; a page's token names the last entry before it."""
    wanted = filters.parse(query.get("filter", ""))
    ordered = sorted(entries, key=lambda entry: entry[0])
    if query.get("orderBy") == NEWEST_FIRST:
        ordered.sort(key=lambda entry: str(entry[1]().get("creationTimestamp", "")), reverse=True)
    elif query.get("orderBy", "name") != "name":
        raise invalid("orderBy", query["orderBy"], "Only name and creationTimestamp desc are supported.")
    start = 0
    if "pageToken" in query:
        last = _read_token(query["pageToken"])
        paths = [path for path, _ in ordered]
        start = paths.index(last) + 1 if last in paths else len([path for path in paths if path <= last])
    size = int(query.get("maxResults", 0)) or MAX_RESULTS
    shown = ((path, view()) for path, view in ordered[start:])
    found = list(itertools.islice((each for each in shown if wanted(each[1])), size + 1))
    next_token = _token(found[size - 1][0]) if len(found) > size else ""
    return Page(tuple(found[:size]), next_token)


def _head(project: Project, call: ApiCall, kind: str, page: Page) -> dict[str, Any]:
    path = "/".join(call.path.get(each[1:-1], each) for each in call.method.segments[2:])
    head: dict[str, Any] = {"kind": kind, "id": f"projects/{project.project_id}/{path}", "selfLink": project.link(path)}
    if page.next_token:
        head["nextPageToken"] = page.next_token
    return head


def _nothing_there(scope: str) -> dict[str, Any]:
    return {
        "code": "NO_RESULTS_ON_PAGE",
        "message": f"There are no results for scope '{scope}' on this page.",
        "data": [{"key": "scope", "value": scope}],
    }


def _token(path: str) -> str:
    return base64.urlsafe_b64encode(path.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise invalid("pageToken", token, "Invalid page token.") from None
