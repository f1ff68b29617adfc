"""One registered cell as the fabric's orchestrator has to do with it: whether it could join there, how it is seen, what
its end is, and how its identity is taken back."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_scheduler.messages import Terms
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.direct import Hands
from grafos_stacks.journal import StackRow
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.plan import StackPlan
from grafos_stacks.progress import BEGUN, DONE, Step
from grafos_stacks.records import OPERATOR, CellHome
from grafos_stacks.spec import BY_WORD, PATTERNS, REGISTERED, CellSpec

REACH_PATIENCE_S = 3.0
"""An orchestrator that is just starting again, or changing its leader, gets this."""
TAKE_BACK_S_MAX = 10.0
"""How long an identity may take to end whose runs get no grace; it takes a fraction of this."""
ASK_EVERY_S = 0.1
ALONE = "or let the machine boot and do no more: --no-join"


# --- whether it could join ----------------------------------------------------------------------------------------


def in_the_way(fabric: Fabric, spec: CellSpec, *, emulated: bool) -> GrafosError | None:
    """Why such a cell could not join, if it wants to; nothing is changed."""
    try:
        check_way(fabric, spec, emulated=emulated)
    except GrafosError as error:
        return error
    return None


def check_way(fabric: Fabric, spec: CellSpec, *, emulated: bool) -> None:
    """``scheduler_unreachable`` where there is no orchestrator, it does not answer, or a cell could not reach it; what
    else it would refuse such a cell with. The machines of an emulated cloud reach what we reach."""
    if not spec.joins:
        return
    home = OrchestratorHome(fabric)
    record = home.record()
    if record is None:
        raise GrafosError(
            "scheduler_unreachable",
            f"a cell on {spec.provider} joins an orchestrator, and this fabric has none",
            next=f"raise one: grafos fabric up --on aws; or on a machine of yours: grafos fabric init; {ALONE}",
        )
    if not emulated:
        _check_address(record.url)
    try:
        with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
            _check_takes(client, spec, record.url)
    except GrafosError as error:
        if error.code == "scheduler_unreachable":
            error.next = f"start the orchestrator; if it has moved: grafos fabric claim URL; {ALONE}"
        raise


def _check_address(url: str) -> None:
    """Whether a machine on a cloud can dial it, as far as its address tells."""
    host, why = urlsplit(url).hostname or "", ""
    try:
        found = _addresses(host)
    except OSError as error:
        found, why = set(), f"its name is not found: {error}"
    inside = sorted(str(address) for address in found if not address.is_global)
    if found and not inside:
        return
    raise GrafosError(
        "scheduler_unreachable",
        "a machine on a cloud could not reach the fabric's orchestrator",
        where=url,
        why=why or f"{', '.join(inside)} is no address of the internet",
        next=f"give it a public address, then: grafos fabric claim https://ADDRESS:PORT; {ALONE}",
    )


def _addresses(host: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return {ipaddress.ip_address(host)}
    except ValueError:
        return {ipaddress.ip_address(str(info[4][0]).partition("%")[0]) for info in socket.getaddrinfo(host, None)}


def _check_takes(client: OrchestratorClient, spec: CellSpec, url: str) -> None:
    enabled = {view.provider for view in client.providers() if view.enabled}
    if spec.provider not in enabled:
        raise GrafosError(
            "enrolment_refused",
            f"the orchestrator takes no cells of {spec.provider}",
            where=url,
            next=f"start it with --provider {spec.provider} as well",
        )
    if spec.joining == BY_WORD and not (roots := client.attestation_roots(spec.provider)).names:
        raise GrafosError(
            "attestation_refused",
            f"the orchestrator knows nothing to verify the word of {spec.provider} with",
            where=url,
            why=roots.why_empty,
            next=f"grafos admin attestation-roots set {spec.provider} --file FILE; or leave out --keyless",
        )


def check_free(hands: Hands, spec: CellSpec) -> None:
    """``enrolment_refused`` if a cell of that name is at the orchestrator that was not provisioned from this home."""
    if CellHome(hands.fabric, spec.cell_id).is_recorded:
        return
    with OrchestratorHome(hands.fabric).client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        if not seen_at(client, spec.provider, spec.cell_id).enrolled:
            return
    raise GrafosError(
        "enrolment_refused",
        f"a cell {spec.cell_id} is at the orchestrator already, and it was not made here",
        next=f"choose another --cell-id; or end that one: grafos provider revoke-cell {spec.provider} {spec.cell_id}",
    )


# --- how it is seen, and its end there ----------------------------------------------------------------------------


class SeenCell(NamedTuple):
    """A cell as its orchestrator sees it: whether it has enrolled, and which signals it lacks, with the reasons."""

    enrolled: bool
    unmet: Mapping[str, str]

    @property
    def ready(self) -> bool:
        return self.enrolled and not self.unmet


def seen_at(client: OrchestratorClient, provider: str, cell_id: str) -> SeenCell:
    """One that was revoked is none."""
    try:
        unmet = client.provider(provider).unmet.get(cell_id, {})
    except GrafosError as error:
        if error.code != "not_found":
            raise
        return SeenCell(enrolled=False, unmet={})
    is_ready = not unmet and any(view.cell_id == cell_id and view.ready for view in client.cells())
    return SeenCell(bool(unmet) or is_ready, unmet)


def tell_end(hands: Hands, plan: StackPlan) -> None:
    """The end and the price of a cell that was extended; one that the orchestrator does not have gets nothing to do
    from it anyway."""
    with OrchestratorHome(hands.fabric).client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        try:
            client.set_cell_terms(plan.stack, Terms(plan.rate_micro_cents_per_hour, float(plan.expires_at)))
        except GrafosError as error:
            if error.code != "cell_unknown":
                raise


def leave(hands: Hands, row: StackRow, grace_s: float) -> str:
    """Has the orchestrator drain a cell that ends, and revoke it; what came of that, in words, empty if there is nobody
    to tell. An orchestrator that does not answer stops no teardown."""
    joins = row.plan.spec.joins if row.plan is not None else PATTERNS.get(row.provider) == REGISTERED
    home, began = OrchestratorHome(hands.fabric), hands.clock.monotonic()
    try:
        record = home.record() if joins else None
        if record is None:
            return ""
        hands.progress(Step("revoke", BEGUN, 0.0, f"at {record.url}"))
        with home.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
            ended_at = take_back(hands, client, row.stack, "torn down", grace_s)
        # An earlier cell of the name may have had one, which ended before this one began.
        words = f"revoked at {record.url}" if ended_at >= row.created_at else "never enrolled"
    except GrafosError as error:
        words = f"not revoked: {error.what}"
    hands.progress(Step("revoke", DONE, hands.clock.monotonic() - began, words))
    return words


def take_back(hands: Hands, client: OrchestratorClient, cell_id: str, why: str, grace_s: float = 0.0) -> float:
    """Revokes the identity that a cell has, and waits until it ended: when that was (Unix seconds), 0 if it never had
    one. Runs get ``grace_s``."""
    until = hands.clock.monotonic() + grace_s + TAKE_BACK_S_MAX
    while True:
        try:
            identity = client.revoke_cell(cell_id, why=why, grace_s=grace_s)
        except GrafosError as error:
            if error.code != "cell_unknown":
                raise
            return 0.0
        if identity.revoked_at:
            return identity.revoked_at
        if hands.clock.monotonic() > until:
            raise GrafosError(
                "cell_not_ready",
                f"the identity of cell {cell_id} does not come to its end at the orchestrator",
                why=f"{identity.running} runs have not ended",
                next=f"grafos provider revoke-cell {identity.provider} {cell_id} --grace 0s, then this again",
            )
        hands.sleep(ASK_EVERY_S)
