"""The list of all resources, over all types and regions: filtered by tag, in pages, and late.

ARM keeps it apart from the services that own the resources. What was made or changed shortly before is missing or old
in it, and what was removed shortly before is still there: for the world's visibility delay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from grafos_emulators.azure import shapes
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.store import Resource
from grafos_emulators.azure.type_names import GROUP

PAGE_SIZE = 100  # the least that a page of ours may hold is what the caller asks for with $top
_TERM = re.compile(
    r"\s*(tagName|tagValue|resourceType|location|resourceGroup|name)\s+eq\s+'((?:[^']|'')*)'\s*", re.IGNORECASE
)
_FIELDS = ("sku", "kind", "managedBy", "identity", "plan", "zones")


class Listing:
    """``resources`` of the subscription or of one group. The caller holds the world's lock."""

    def __init__(self, account: AzureAccount) -> None:
        self._account = account

    def answer(self, call: ArmCall) -> dict[str, Any]:
        terms = terms_of(call.query.get("$filter", ""))
        group = call.place.group
        found = [
            each
            for each in self._visible()
            if (not group or each.place.group.lower() == group.lower()) and fits(each, terms)
        ]
        start, size = _number(call, "$skiptoken", 0), min(_number(call, "$top", PAGE_SIZE), PAGE_SIZE) or PAGE_SIZE
        page = [self._row(each, call) for each in found[start : start + size]]
        answer: dict[str, Any] = {"value": page}
        if start + size < len(found):
            again = {**call.query, "$skiptoken": str(start + size)}
            answer["nextLink"] = f"{self._account.endpoint}{call.request.path}?{urlencode(again)}"
        return answer

    def _visible(self) -> Iterator[Resource]:
        """What has been there long enough, and what has not been gone for long enough."""
        world = self._account.world
        latest = world.clock.monotonic() - world.times.visible_after_s
        for each in self._account.store.all():
            if each.is_tracked and each.type != GROUP and each.made_at_monotonic <= latest:
                yield each
        for removal in self._account.removals:
            each = removal.resource
            was_seen = each.made_at_monotonic <= latest
            replaced = self._account.store.get(each.id) is not None
            if removal.at_monotonic > latest and was_seen and each.is_tracked and each.type != GROUP and not replaced:
                yield each

    def _row(self, resource: Resource, call: ArmCall) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": resource.id,
            "name": resource.name,
            "type": resource.type,
            "location": resource.location,
            "tags": dict(resource.tags),
        }
        row |= {name: resource.body[name] for name in _FIELDS if name in resource.body and name != "zones"}
        if "provisioningstate" in call.query.get("$expand", "").lower():
            row["provisioningState"] = resource.state
        shapes.check_answer("resources.GenericResourceExpanded", row)
        return row


def terms_of(text: str) -> dict[str, str]:
    """The terms of a filter, all joined by ``and``: names in lower case. ARM takes tags alone or not at all."""
    terms: dict[str, str] = {}
    for part in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE) if text.strip() else []:
        found = _TERM.fullmatch(part)
        if found is None:
            raise ArmError(
                400, "InvalidFilterInQueryString", f"Invalid $filter '{text}' specified in the query string."
            )
        terms[found[1].lower()] = found[2].replace("''", "'")
    tags = {"tagname", "tagvalue"} & set(terms)
    if ("tagvalue" in terms and "tagname" not in terms) or (tags and set(terms) - tags):
        raise ArmError(
            400,
            "InvalidFilterInQueryString",
            f"Invalid $filter '{text}' specified in the query string: tag filters go with no other, and a value with "
            "its name.",
        )
    return terms


def fits(resource: Resource, terms: dict[str, str]) -> bool:
    tags = {name.lower(): value for name, value in resource.tags.items()}
    for name, wanted in terms.items():
        if name == "tagname":
            if wanted.lower() not in tags or terms.get("tagvalue", tags[wanted.lower()]) != tags[wanted.lower()]:
                return False
        elif name != "tagvalue":
            values = {
                "resourcetype": resource.type,
                "location": resource.location,
                "resourcegroup": resource.place.group,
                "name": resource.name,
            }
            if values[name].lower() != wanted.lower():
                return False
    return True


def _number(call: ArmCall, name: str, default: int) -> int:
    text = call.query.get(name, "")
    if text and not text.isdecimal():
        raise ArmError(400, "InvalidQueryParameterValue", f"The value '{text}' of {name} is no number.")
    return int(text) if text else default
