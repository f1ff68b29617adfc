"""The reference of the REST API names the routes, identities, rights and limits that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from grafos_scheduler import (
    audit_messages,
    audit_reading,
    blobs,
    bundles,
    credentials,
    enrolment,
    enrolment_messages,
    frames,
    framing,
    link,
    messages,
    order_check,
    people,
    protocol,
    refusing,
    server,
    shell,
    tenants,
)
from grafos_scheduler import route as routing
from grafos_scheduler.authorize import CELL_RIGHTS, OPERATOR_RIGHTS, TENANT_RIGHTS
from grafos_scheduler.route import JSON_BYTES_MAX, Route
from grafos_scheduler.routes import ROUTES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "rest.md").read_text()


def type_of(kind: type | None) -> str:
    return "" if kind is None else "bytes" if kind is bytes else f"`{kind.__name__}`"


def row(route: Route) -> str:
    who, right = "anybody", ""
    if route.gate is not None:
        who, right = ", ".join(sorted(route.gate.kinds)), f"`{route.gate.right}`"
    fields = [f"`{name}`" for name in route.query.__struct_fields__] if route.query else []
    takes = type_of(route.body) or ", ".join(fields)
    return f"| `{route.method} {route.path}` | {who} | {right} | {takes} | {type_of(route.answer)} | {route.summary} |"


def test_the_page_has_exactly_the_rows_of_the_table_in_their_order() -> None:
    assert re.findall(r"^\| `[A-Z]+ /.*$", PAGE, re.MULTILINE) == [row(route) for route in ROUTES]


def test_the_page_names_the_rights_that_each_token_carries() -> None:
    for kind, rights in (("operator", OPERATOR_RIGHTS), ("tenant", TENANT_RIGHTS), ("cell", CELL_RIGHTS)):
        assert f"| {kind} | {', '.join(f'`{right}`' for right in rights)} |" in PAGE


def test_the_page_names_the_limits_that_hold() -> None:
    limits = (
        f"{protocol.HEAD_BYTES_MAX // 1024} KiB, within {protocol.HEAD_S_MAX:g} s",
        f"{JSON_BYTES_MAX // 1024} KiB, within {routing.BODY_S_MAX:g} s",
        f"{messages.BLOB_BYTES_MAX // 1024**2} MiB; {blobs.TENANT_BYTES_MAX // 1024**3} GiB for all blobs of a tenant",
        f"{server.QUERY_BYTES_MAX // 1024} KiB, {server.QUERY_FIELDS_MAX} fields",
        f"| a page of runs | {messages.RUNS_PAGE_MAX} |",
        f"| a page of the audit log | {audit_messages.AUDIT_PAGE_MAX}; {audit_reading.LOOKED_AT_MAX} looked at",
        f"| runs in a batch | {messages.RUNS_BATCH_MAX} |",
        f"{messages.WAIT_S_MAX:g} s; {shell.WAITERS_MAX} at once",
        f"| connections | {protocol.CONNECTIONS_MAX}; {protocol.ORCHESTRATOR_CONNECTIONS_MAX} at an orchestrator",
        f"{protocol.STRANGERS_MAX} of them without a certificate |",
        f"| a bundle | {bundles.BUNDLE_BYTES_MAX // 1024**2} MiB, within {bundles.UPLOAD_S_MAX:g} s;",
        f"{bundles.KEPT_MAX} are kept; {bundles.FETCHES_MAX} fetches at once, each within {bundles.FETCH_S_MAX:g} s |",
        f"| a bootstrap token | one use, {enrolment_messages.BOOTSTRAP_S_MAX:g} s; {enrolment.OPEN_MAX} at once |",
        f"| a cell's certificate at an orchestrator | {credentials.CELL_LIFE_S:g} s |",
        f"| keys of a tenant at an orchestrator | {tenants.KEYS_PER_TENANT_MAX}; a further person is refused",
        f"| an invitation | one use, a day at most; {people.OPEN_MAX} at once |",
        f"| an order | {order_check.ORDER_AGE_S_MAX:g} s old at most",
        f"{link.HELLO_BYTES_MAX // 1024**2} MiB, within {link.HELLO_S_MAX:g} s",
        "| claims, enrolments and sign-ins of one address that failed |",
        f"{refusing.TRIES_AT_ONCE_MAX} at once, one more every {refusing.TRY_AGAIN_EVERY_S:g} s",
        f"of at most {framing.FRAME_BYTES_MAX // 1024**2} MiB",
        f"ALPN `{frames.LINK_ALPN}`",
        f"`{messages.CODE_HEADER}`",
    )
    assert [limit for limit in limits if limit not in PAGE] == []
