"""The published document, the table of routes and real calls say the same about who may do what."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest
from standalone import CELL_ID, Identity, Standalone

from grafos_core import tokens, trust
from grafos_scheduler.authorize import CELL_RIGHTS, OPERATOR_RIGHTS, TENANT_RIGHTS
from grafos_scheduler.openapi import document
from grafos_scheduler.route import Route
from grafos_scheduler.routes import ROUTES, find_route

RIGHTS = {"operator": OPERATOR_RIGHTS, "tenant": TENANT_RIGHTS, "cell": CELL_RIGHTS}
GUARDED = [route for route in ROUTES if route.gate is not None]


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def path_of(route: Route) -> str:
    return re.sub(r"\{\w+\}", "0" * 64, route.path)


def ask(cell: Standalone, route: Route, who: Identity, *, token: str | None = None) -> tuple[int, str]:
    """The status and the error code of one call by somebody, with an empty JSON object where a body is due."""
    context = trust.client_context(cell.ca_pem, who.certificate, who.key)
    connection = HTTPSConnection("127.0.0.1", cell.port, context=context, timeout=60)
    headers = {"authorization": f"Bearer {who.token if token is None else token}"}
    try:
        connection.request(route.method, path_of(route), b"{}" if route.body else None, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("grafos-code", "")
    finally:
        connection.close()


def identity_of(town: Any, kind: str) -> Identity:
    return {"operator": town.operator, "tenant": town.acme, "cell": town.agent}[kind]


def minted(town: Any, who: Identity, kind: str, **changes: object) -> str:
    """A token as the scheduler itself would mint it, but for the changes."""
    peer = trust.peer_of(trust.certificate_der(who.certificate.read_text()))
    claims = tokens.ApiClaims(CELL_ID, kind, peer.name, peer.key_sha256, RIGHTS[kind], time.time() + 600)
    key = (town.cell.trust / "token-key").read_bytes()
    return tokens.mint_api_token(key, msgspec.structs.replace(claims, **changes))


@pytest.fixture(scope="module")
def published(town: Any) -> dict[str, Any]:
    context = trust.client_context(town.cell.ca_pem, town.acme.certificate, town.acme.key)
    connection = HTTPSConnection("127.0.0.1", town.cell.port, context=context, timeout=60)
    connection.request("GET", "/openapi.json", headers={"authorization": f"Bearer {town.acme.token}"})
    answer = msgspec.json.decode(connection.getresponse().read())
    connection.close()
    return answer


def test_the_published_document_has_exactly_the_routes_of_the_table(published: dict[str, Any]) -> None:
    seen = {(method.upper(), path) for path, operations in published["paths"].items() for method in operations}
    assert seen == {(route.method, route.path) for route in ROUTES}
    assert published == document()


def test_the_published_document_states_identity_kinds_and_right_of_every_route(published: dict[str, Any]) -> None:
    for route in ROUTES:
        operation = published["paths"][route.path][route.method.lower()]
        if route.gate is None:
            assert operation["security"] == []
        else:
            assert operation["security"] == [{"certificate": [], "token": []}]
            assert operation["x-identity-kinds"] == sorted(route.gate.kinds)
            assert operation["x-right"] == route.gate.right


def test_every_reference_in_the_document_leads_somewhere(published: dict[str, Any]) -> None:
    wanted = set(re.findall(r'"\$ref":"#/components/schemas/(\w+)"', msgspec.json.encode(published).decode()))
    assert wanted <= set(published["components"]["schemas"])


def test_nobody_is_asked_for_an_identity_only_where_none_can_be_had_yet() -> None:
    assert {name_of(route) for route in ROUTES if route.gate is None} == {
        "GET /health",
        "POST /api/v1/claim",
        "POST /api/v1/claim/challenge",
        "POST /api/v1/claim/regain",
        "POST /api/v1/cells/enroll",
        "POST /api/v1/account/login",
        "HEAD /api/v1/bundles/{sha256}",
        "GET /api/v1/bundles/{sha256}",
    }


def test_what_is_an_orchestrators_is_unsupported_at_a_standalone_cell(town: Any) -> None:
    theirs = [route for route in GUARDED if route.only == "orchestrator"]
    assert theirs
    for route in theirs:
        assert ask(town.cell, route, identity_of(town, min(route.gate.kinds))) == (422, "unsupported")


def test_every_right_that_a_route_asks_for_is_carried_by_each_kind_that_it_admits() -> None:
    for route in GUARDED:
        for kind in route.gate.kinds:
            assert route.gate.right in RIGHTS[kind], name_of(route)


def test_every_right_that_is_given_out_opens_something() -> None:
    asked = {(kind, route.gate.right) for route in GUARDED for kind in route.gate.kinds} | {("cell", "cells:link")}
    assert {(kind, right) for kind, rights in RIGHTS.items() for right in rights} == asked


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_each_identity_is_admitted_or_refused_as_the_table_says(town: Any, route: Route) -> None:
    for kind in RIGHTS:
        status, code = ask(town.cell, route, identity_of(town, kind))
        if kind in route.gate.kinds:
            assert status not in (401, 403), (kind, code)
        else:
            assert (status, code) == (403, "rights_missing"), kind


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_a_good_certificate_without_a_good_token_is_refused(town: Any, route: Route) -> None:
    kind = min(route.gate.kinds)
    who = identity_of(town, kind)
    others = [identity_of(town, other) for other in RIGHTS if other != kind]
    altered = who.token[:-2] + ("AA" if who.token[-2:] != "AA" else "BB")
    foreign = tokens.mint_api_token(b"x" * 32, tokens.ApiClaims(CELL_ID, kind, "acme", "0" * 64, RIGHTS[kind], 2e9))
    for token in ["", "gat1", "x" * 4000, altered, foreign, *(other.token for other in others)]:
        assert ask(town.cell, route, who, token=token) == (401, "token_refused"), token[:40]
    expired = minted(town, who, kind, expires_at=time.time() - 1)
    assert ask(town.cell, route, who, token=expired) == (401, "token_expired")
    powerless = minted(town, who, kind, rights=())
    assert ask(town.cell, route, who, token=powerless) == (403, "rights_missing")


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_a_certificate_of_another_ca_or_none_gets_no_answer(town: Any, route: Route, tmp_path: Path) -> None:
    kind = min(route.gate.kinds)
    who = identity_of(town, kind)
    stranger = replace(who, certificate=tmp_path / "leaf.pem", key=tmp_path / "leaf-key.pem")
    make_stranger(stranger, town.cell.fabric.id, kind)
    with pytest.raises(OSError):
        ask(town.cell, route, stranger)
    anonymous = HTTPSConnection("127.0.0.1", town.cell.port, context=trust.client_context(town.cell.ca_pem), timeout=60)
    with pytest.raises(OSError):
        answer_of(anonymous, route)
    anonymous.close()


def answer_of(connection: HTTPSConnection, route: Route) -> int:
    connection.request(route.method, path_of(route))
    return connection.getresponse().status


def make_stranger(files: Identity, fabric: str, kind: str) -> None:
    """A certificate that says all the right things, from a CA of its own."""
    ca_key, key, now = trust.new_key(), trust.new_key(), time.time()
    ca_pem = trust.make_ca(ca_key, "grafos cell cell-1", now)
    uri = trust.spiffe_id(fabric, kind, "acme", "local")
    pem = trust.sign_csr(ca_pem, ca_key, trust.make_csr(key, "acme"), uri, now, 3600)
    files.certificate.write_text(pem)
    files.key.write_bytes(trust.key_to_pem(key))


def test_every_pair_of_routes_is_told_apart() -> None:
    for one, other in itertools.combinations(ROUTES, 2):
        assert (one.method, one.path) != (other.method, other.path)
    for route in ROUTES:
        assert find_route(route.method, path_of(route))[0] is route
