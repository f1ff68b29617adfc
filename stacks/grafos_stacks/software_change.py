"""New software on the machine of a running orchestrator, with a way back: see ``grafos_cell.orchestrating``."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from grafos_core.errors import GrafosError
from grafos_scheduler.machine_messages import MachineOrders, MachineView
from grafos_stacks.bundle import Bundles
from grafos_stacks.direct import Hands
from grafos_stacks.journal import StackRow
from grafos_stacks.orchestrator_machine import STACK
from grafos_stacks.orchestrators import OrchestratorHome
from grafos_stacks.plan import BundlePin, StackPlan
from grafos_stacks.progress import BEGUN, DONE, WAITING, Step
from grafos_stacks.records import OPERATOR

CHANGE_PATIENCE_S = 240.0
"""Unpacking, stopping, starting, perhaps a migration; or all of it and the way back."""
ASK_EVERY_S = 0.5
AWAY = ("scheduler_unreachable", "certificate_refused")
"""While one version ends and the other starts."""


class Changed(NamedTuple):
    """SHA-256 of the software before and now; the same where there was nothing to do. ``version`` is what it says."""

    before: str
    after: str
    version: str


def change_software(hands: Hands, bundles: Bundles) -> Changed:
    """Brings the software that is installed here to the orchestrator's machine, and has it run that.

    ``cell_unknown`` where grafos made no such machine, ``unsupported`` where its software is that of a published image,
    ``upgrade_failed`` when the new one did not answer and the old
    one runs again, ``cell_not_ready`` when neither answers in time, ``stack_busy`` while another command works on it.
    """
    with hands.journal.lock(STACK):
        return _change(hands, bundles)


def _change(hands: Hands, bundles: Bundles) -> Changed:
    row = hands.journal.stack(STACK)
    if row is None or row.plan is None:
        raise GrafosError(
            "cell_unknown",
            "grafos made no machine for this fabric's orchestrator",
            next="on its own machine: install the new version, and start it again",
        )
    if row.plan.facts.baked:
        raise GrafosError(
            "unsupported",
            f"the orchestrator's software is that of the image {row.plan.facts.image.name}, which nothing changes",
            where=OrchestratorHome(hands.fabric).known().url,
            next=f"publish the next image: grafos cloud image publish {row.provider}; then grafos fabric backup FILE, "
            "delete the machine in the cloud's console, and grafos fabric up --restore FILE: it starts from that",
        )
    home, image = OrchestratorHome(hands.fabric), row.plan.facts.image
    began = hands.clock.monotonic()
    hands.progress(Step("software", BEGUN, 0.0))
    pin = bundles.pin(image.arch, image.python)
    with home.client(OPERATOR) as client:
        before = client.machine()
        if before.software_sha256 == pin.sha256:
            _note(hands, row, row.plan, pin)
            return Changed(pin.sha256, pin.sha256, client.health().version)
        client.put_bundle(bundles.path(pin.sha256).read_bytes())
        client.order_machine(MachineOrders(software_sha256=pin.sha256))
    hands.progress(Step("software", DONE, hands.clock.monotonic() - began, pin.sha256[:12]))
    hands.progress(Step("restart", BEGUN, 0.0))
    view, version = _settled(hands, home, pin.sha256, began)
    if view.software_sha256 != pin.sha256:
        raise GrafosError(
            "upgrade_failed",
            f"the orchestrator runs {view.software_sha256[:12]} again: {pin.sha256[:12]} {view.why}",
            where=home.known().url,
            next="its state is as it was; see why: grafos cloud logs --cell-id orchestrator",
        )
    _note(hands, row, row.plan, pin)
    hands.progress(Step("restart", DONE, hands.clock.monotonic() - began, version))
    return Changed(before.software_sha256, pin.sha256, version)


def _note(hands: Hands, row: StackRow, plan: StackPlan, pin: BundlePin) -> None:
    """Whoever looks at the plan finds what runs."""
    if plan.facts.bundle != pin:
        facts = msgspec.structs.replace(plan.facts, bundle=pin)
        hands.journal.write(row.moved(row.state, hands.clock.now(), plan=msgspec.structs.replace(plan, facts=facts)))


def _settled(hands: Hands, home: OrchestratorHome, wanted: str, began: float) -> tuple[MachineView, str]:
    """Once the wanted software runs, or was given up."""
    while True:
        try:
            with home.client(OPERATOR) as client:
                view = client.machine()
                if wanted in (view.software_sha256, view.refused):
                    return view, client.health().version
        except GrafosError as error:
            if error.code not in AWAY:
                raise
        waited_s = hands.clock.monotonic() - began
        if waited_s > CHANGE_PATIENCE_S:
            raise GrafosError(
                "cell_not_ready",
                "the orchestrator does not answer after its software was changed",
                where=home.known().url,
                next="see what it says: grafos cloud logs --cell-id orchestrator; then run the same command again",
            )
        hands.progress(Step("restart", WAITING, waited_s))
        hands.sleep(ASK_EVERY_S)
