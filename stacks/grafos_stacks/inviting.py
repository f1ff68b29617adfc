"""How a registered cell's machine is invited to the orchestrator, just before it is made.

An invitation is a bootstrap token, or where no secret is wanted an expectation of the machine. It is for one attempt at
one machine, and kept in the cell's home until the cell is ready, so that a create call which is repeated after a crash
sends the same bytes.

    <fabric>/cells/<cell_id>/invitation-<machine's key>-<attempt>.json
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_core.attestation import Expectation
from grafos_scheduler.enrolment_messages import BOOTSTRAP_S_MAX, BootstrapRequest, ExpectedCell
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.bootstrap import Joining, render
from grafos_stacks.bundle import Bundles
from grafos_stacks.creating import LateInputs, late_user_data
from grafos_stacks.direct import Hands
from grafos_stacks.orchestrated import REACH_PATIENCE_S, take_back
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.plan import StackPlan
from grafos_stacks.progress import BEGUN, DONE, Step
from grafos_stacks.records import MAKING, OPERATOR, CellHome, kept
from grafos_stacks.spec import BY_WORD

USABLE_FRACTION = 1 / 3
"""An invitation with less than this part of its life left is made anew: a machine needs minutes to come up."""


class Patience(NamedTuple):
    """How long a machine may take from the create call to its enrolment, at most a token's life, and from there until
    its cell is ready (seconds)."""

    enrol_s: float = BOOTSTRAP_S_MAX
    ready_s: float = 240.0


class Invitation(msgspec.Struct, frozen=True):
    """What a machine enrols with: a token, or the text of an expectation, which is no secret."""

    orchestrator: str
    ca_pem: str
    word: str
    valid_until: float
    expectation_id: str = ""

    @property
    def joining(self) -> Joining:
        """The same as the machine's first program takes it."""
        return Joining(self.orchestrator, self.ca_pem, self.word)


def user_data_of(hands: Hands, plan: StackPlan, invited: Callable[[int], Joining] | None = None) -> LateInputs:
    """The machine's user data. ``invited`` gives by attempt what a registered cell joins with."""
    return late_user_data(lambda attempt: render(hands.fabric, plan, attempt, invited(attempt) if invited else None))


def invite(hands: Hands, plan: StackPlan, attempt: int, bundles: Bundles, patience: Patience) -> Joining:
    """The invitation of this attempt: the one that was kept while it is of use, else a fresh one.

    Before a fresh one is made the orchestrator has the software of a machine that fetches it, and whatever identity
    the cell id had is revoked: its machine is gone, or this attempt would not be made.
    """
    home = CellHome(hands.fabric, plan.stack)
    file, before = _file(home, plan, attempt), invitation_of(hands, plan, attempt)
    if before is not None and before.valid_until - hands.clock.now() > USABLE_FRACTION * patience.enrol_s:
        return before.joining
    orchestrator = OrchestratorHome(hands.fabric)
    with orchestrator.client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        if not plan.facts.baked:
            _bring_software(hands, client, bundles.path(plan.facts.bundle.sha256))
        take_back(hands, client, plan.stack, "its machine is made anew")
        if home.is_recorded and not home.record().gone_at:
            home.keep_record(msgspec.structs.replace(home.record(), state=MAKING))
        made = _minted(client, plan, orchestrator.known().url, patience.enrol_s)
    kept(file, msgspec.json.encode(made))
    return made.joining


def invitation_of(hands: Hands, plan: StackPlan, attempt: int) -> Invitation | None:
    """What was kept of an attempt; None if it is not there, or cannot be read."""
    try:
        data = _file(CellHome(hands.fabric, plan.stack), plan, attempt).read_bytes()
        return msgspec.json.decode(data, type=Invitation)
    except (OSError, msgspec.DecodeError):
        return None


def forget_invitations(home: CellHome) -> None:
    """The cell has joined, so they are worth nothing."""
    for file in home.folder.glob("invitation-*.json"):
        file.unlink(missing_ok=True)


def _bring_software(hands: Hands, client: OrchestratorClient, bundle: Path) -> None:
    began = hands.clock.monotonic()
    hands.progress(Step("software", BEGUN, 0.0, f"{bundle.stat().st_size / 1e6:.1f} MB"))
    sha256 = client.put_bundle(bundle.read_bytes())
    hands.progress(Step("software", DONE, hands.clock.monotonic() - began, sha256[:12]))


def _minted(client: OrchestratorClient, plan: StackPlan, url: str, valid_s: float) -> Invitation:
    spec, rate, ends_at = plan.spec, plan.rate_micro_cents_per_hour, float(plan.expires_at)
    if spec.joining != BY_WORD:
        token = client.bootstrap(BootstrapRequest(spec.provider, plan.stack, spec.region, rate, ends_at, valid_s))
        return Invitation(url, token.ca_pem, token.token, token.valid_until)
    asked = ExpectedCell(spec.provider, plan.stack, spec.region, rate, ends_at, valid_s, account=plan.facts.account)
    expected = client.expect_cell(asked)
    word = Expectation(expected.expectation_id, expected.valid_until).text
    return Invitation(url, expected.ca_pem, word, expected.valid_until, expected.expectation_id)


def _file(home: CellHome, plan: StackPlan, attempt: int) -> Path:
    return home.folder / f"invitation-{plan.machine.key}-{attempt}.json"
