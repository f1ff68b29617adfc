"""What is asked of Google beside Compute Engine: permissions, switched-on services, prices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from gce_here import GceHere

from grafos_core.clock import VirtualClock
from grafos_emulators.gcp.discovery import compute_document
from grafos_emulators.gcp.filters import parse
from grafos_emulators.gcp.routing import Router
from grafos_emulators.gcp.schema import Schemas
from grafos_emulators.http import Request

PROJECT = "grafos-emulated"
SKUS = "/gcp/cloudbilling/v1/services/6F81-5844-456A/skus"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[GceHere]:
    with GceHere(tmp_path / "emulator", clock=VirtualClock(), boots=False) as emulator:
        yield emulator


def ask(here: GceHere, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
    path, _, query = path.partition("?")
    text = b"" if body is None else json.dumps(body).encode()
    response = here.front.answer(Request(method, path, {}, text, query))
    return response.status, json.loads(response.body)


def reason(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["errors"][0]["reason"]


# Permissions and services


def test_a_permission_that_was_taken_away_is_missing_and_its_call_is_refused(here: GceHere) -> None:
    here.front.project.denied.add("compute.instances.list")
    asked = {"permissions": ["compute.instances.list", "compute.disks.list"]}
    path = f"/gcp/cloudresourcemanager/v1/projects/{PROJECT}:testIamPermissions"
    assert ask(here, "POST", path, asked) == (200, {"permissions": ["compute.disks.list"]})
    assert ask(here, "POST", path, {"permissions": ["compute.instances.list"]}) == (200, {})
    instances = f"/compute/v1/projects/{PROJECT}/zones/us-central1-a/instances"
    assert reason(ask(here, "GET", instances)) == (403, "forbidden")
    assert ask(here, "GET", f"/compute/v1/projects/{PROJECT}/zones/us-central1-a/disks")[0] == 200
    assert reason(ask(here, "POST", path, {"permissions": ["everything"]})) == (400, "badRequest")


def test_a_service_that_is_switched_off_says_so_and_does_nothing(here: GceHere) -> None:
    path = f"/gcp/serviceusage/v1/projects/{PROJECT}/services/compute.googleapis.com"
    assert ask(here, "GET", path)[1]["state"] == "ENABLED"
    here.front.project.disabled_services.add("compute.googleapis.com")
    assert ask(here, "GET", path)[1]["state"] == "DISABLED"
    networks = f"/compute/v1/projects/{PROJECT}/global/networks"
    made = ask(here, "POST", networks, {"name": "net", "autoCreateSubnetworks": False})
    assert reason(made) == (403, "accessNotConfigured")
    here.front.project.disabled_services.clear()
    assert "items" not in ask(here, "GET", networks)[1]


def test_another_service_of_google_is_not_imitated(here: GceHere) -> None:
    assert reason(ask(here, "GET", "/gcp/storage/v1/b/bucket")) == (501, "notImplemented")


# Prices


def rows(here: GceHere, description: str, region: str) -> list[dict[str, Any]]:
    found = ask(here, "GET", SKUS)[1]["skus"]
    return [
        each for each in found if re.fullmatch(description, each["description"]) and region in each["serviceRegions"]
    ]


def usd(sku: dict[str, Any]) -> Decimal:
    price = sku["pricingInfo"][0]["pricingExpression"]["tieredRates"][-1]["unitPrice"]
    return Decimal(price["units"]) + Decimal(price["nanos"]) / 10**9


def test_a_machines_price_is_a_row_for_its_cores_and_one_for_its_memory(here: GceHere) -> None:
    (core,) = rows(here, "E2 Instance Core running in .*", "us-central1")
    (memory,) = rows(here, "E2 Instance Ram running in .*", "us-central1")
    assert usd(core) * 1 + usd(memory) * 4 == Decimal("0.03350571")  # an e2-medium
    assert "fictional" in core["pricingInfo"][0]["summary"]


@pytest.mark.parametrize(
    ("family", "region"), [("T2A Arm", "europe-west4"), ("C4A Arm", "europe-west1"), ("G2", "us-central1")]
)
def test_spot_costs_less_and_commitments_stand_beside(here: GceHere, family: str, region: str) -> None:
    (core,) = rows(here, f"{family} Instance Core running in .*", region)
    (spot,) = rows(here, f"Spot Preemptible {family} Instance Core running in .*", region)
    assert usd(spot) < usd(core)
    assert [core["category"]["usageType"], spot["category"]["usageType"]] == ["OnDemand", "Preemptible"]
    usages = {each["category"]["usageType"] for each in ask(here, "GET", SKUS)[1]["skus"]}
    assert usages == {"OnDemand", "Preemptible", "Commit1Yr"}


def test_an_addresss_first_hours_cost_nothing(here: GceHere) -> None:
    (address,) = rows(here, "External IP Charge on a Standard VM", "global")
    rates = address["pricingInfo"][0]["pricingExpression"]["tieredRates"]
    assert [(each["startUsageAmount"], each["unitPrice"]["nanos"]) for each in rates] == [(0.0, 0), (744.0, 5_000_000)]


def test_the_catalog_comes_in_pages(here: GceHere) -> None:
    whole = [each["skuId"] for each in ask(here, "GET", SKUS)[1]["skus"]]
    token, paged = "", []
    while token or not paged:
        page = ask(here, "GET", f"{SKUS}?pageSize=50&pageToken={token}")[1]
        paged += [each["skuId"] for each in page["skus"]]
        token = page["nextPageToken"]
    assert paged == whole
    assert len(set(whole)) == len(whole)
    assert reason(ask(here, "GET", f"{SKUS}?currencyCode=EUR")) == (501, "notImplemented")


# The discovery document


def test_an_answer_of_ours_that_breaks_the_document_is_found_with_its_field() -> None:
    schemas = Schemas(compute_document())
    assert schemas.fault_of_answer("Operation", {"id": "7", "status": "DONE"}) is None
    for body, where in (
        ({"id": 7}, "Operation.id"),
        ({"status": "READY"}, "Operation.status"),
        ({"error": {"errors": [{"code": None}]}}, "Operation.error.errors[0].code"),
        ({"progress": "50"}, "Operation.progress"),
    ):
        fault = schemas.fault_of_answer("Operation", body)
        assert fault is not None
        assert fault.where == where


def test_every_method_that_is_imitated_is_one_of_the_documents(here: GceHere) -> None:
    router = Router(compute_document())
    known = {method.method_id for methods in router._methods.values() for method in methods}
    compute = here.front._compute
    assert compute is not None
    assert {*compute._handlers, *compute._image_handlers} <= known


def test_filters_know_both_of_their_syntaxes() -> None:
    body = {"name": "web-1", "labels": {"a": "b"}, "count": "7", "on": True}
    for text in ("name=web-1", "labels.a:*", "count>6", "on=true", "name eq web-.*", "name:web*", "NOT labels.c:*", ""):
        assert parse(text)(body), text
    for text in ("name=web", "labels.b:*", "count<6", "on=false", "name ne web-.*", "labels.a!=b"):
        assert not parse(text)(body), text
