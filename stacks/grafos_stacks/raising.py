"""Raise the fabric's orchestrator on a cloud: its machine, its software, its claim, the ledger; also from a backup.

Every step asks first whether it was done before, so the same command again goes on, and changes nothing once all is
done. A machine that is gone takes with it what its orchestrator kept: then the next one is made only from a backup. It
starts empty, under a CA of its own; it is claimed like any other, given the backup over that claim, and starts anew as
the orchestrator that the backup is of. Its cells know it by its CA, and by its address where that outlives a machine.
"""

from __future__ import annotations

import shutil
from typing import NamedTuple

import msgspec

from grafos_connectors.contract import Kind, State
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.ledger_place import Place
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_stacks.booting import console_tail
from grafos_stacks.bundle import Bundles
from grafos_stacks.cell_holds import ensure_held
from grafos_stacks.claiming import MachineOf, claimed, health_of, take
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.failover import make_somewhere
from grafos_stacks.handover import Handover
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.ledger_moves import move_ledger
from grafos_stacks.lost_ledger import catch_up_ledger
from grafos_stacks.making import Made, note_made, pinned_plan
from grafos_stacks.names import claim_secret
from grafos_stacks.orchestrator_machine import STACK, addresses_of, user_data_of
from grafos_stacks.orchestrators import OrchestratorHome, OrchestratorRecord
from grafos_stacks.plan import StackPlan
from grafos_stacks.planner import bundle_of, started_from
from grafos_stacks.progress import BEGUN, DONE, WAITING, Step
from grafos_stacks.provision import keep_begun, record_of, refuse_other_account, url_of
from grafos_stacks.records import OPERATOR, READY, CellHome, CellRecord, SchedulerHome
from grafos_stacks.spec import STOCK
from grafos_stacks.starting import check_still_there, start_of
from grafos_stacks.teardown import teardown
from grafos_stacks.unmaking import is_anything_of

START_PATIENCE_S = 90.0
"""From software that arrived, or a backup that was taken, to an orchestrator that answers."""
ASK_EVERY_S = 0.2


class Raised(NamedTuple):
    """The orchestrator, its machine, and where the ledger is. ``filled``: from a backup, in this run; ``moved_from`` is
    then where it answered before, if that was elsewhere."""

    orchestrator: OrchestratorRecord
    machine: CellRecord
    ledger: Place
    filled: bool = False
    moved_from: str = ""


def raise_orchestrator(hands: Hands, plan: StackPlan, bundles: Bundles, archive: bytes = b"") -> Raised:
    """An orchestrator that obeys this fabric and keeps its ledger. ``archive`` is a backup, for a machine that is lost.

    What stands in the way is raised, and the same call goes on: ``cell_gone`` for a lost machine without a backup,
    ``stack_busy``, ``cloud_auth`` when it was begun in another account, ``budget_exceeded`` before anything is made,
    the cloud's refusals, ``cell_not_ready``, ``claim_refused``, ``backup_invalid``, ``interrupted`` on Ctrl-C.
    """
    home = OrchestratorHome(hands.fabric)
    if archive and (over := ran_out(hands)):
        home.note_restoring(begun=True)  # so that what finishes an interrupted teardown spares the address, too
        _clear_for_the_next(hands, over)
    try:
        with hands.journal.lock(plan.stack):
            wanted = _planned(hands, plan, bundles, with_backup=bool(archive))
            if archive:
                home.note_restoring(begun=True)
            # The ledger that such a machine held is in the backup, and cannot be asked before it is filled.
            later = bool(archive) and not hands.fabric.ledger_place().is_here
            made = make_somewhere(hands, wanted, lambda tried: user_data_of(hands, tried), later=later)
            record = _recorded(hands, made)
            _software(hands, made, record, bundles)
            secret = bytes.fromhex(claim_secret(hands.fabric, made.plan.machine.key, made.attempt))
            if archive:
                empty = SchedulerHome(home.folder / f"empty-{made.plan.machine.key}-{made.attempt}", STACK)
                _fill(hands, home, empty, Filling(record.url, secret, archive))
            orchestrator = _claimed(hands, made, record, secret)
            ledger = move_ledger(hands.fabric, clock=hands.clock, progress=hands.progress)
            if archive:
                if later:
                    ensure_held(hands, made.plan)
                for note in catch_up_ledger(hands.fabric, hands.clock):
                    hands.progress(Step("catch up ledger", DONE, 0.0, note))
            note_made(hands, plan.stack)
            reached = msgspec.structs.replace(record, state=READY)
            CellHome(hands.fabric, plan.stack).keep_record(reached)
            moved_from = home.restored_from if home.restored_from != orchestrator.url else ""
            home.note_restoring(begun=False)
            return Raised(orchestrator, reached, ledger, filled=bool(archive), moved_from=moved_from)
    except KeyboardInterrupt:
        again = f"grafos fabric up --on {plan.spec.provider}"
        raise GrafosError(
            "interrupted",
            "stopped while the orchestrator was made",
            next=f"{again}   goes on; grafos fabric down   undoes",
        ) from None


def _planned(hands: Hands, plan: StackPlan, bundles: Bundles, *, with_backup: bool) -> StackPlan:
    """The plan to go by: the one of an earlier run, if there is one."""
    pinned = pinned_plan(hands, plan.spec)
    if pinned is not None:
        refuse_other_account(hands, pinned)
    check_standing(hands, pinned, with_backup=with_backup)
    _refuse_elsewhere(hands, plan)
    if pinned is None:
        CellHome(hands.fabric, plan.stack).begin_anew()
        return plan
    if with_backup and _machine_state(hands, pinned) is State.GONE:
        return _with_software_of_here(hands, pinned, bundles)
    check_still_there(hands, pinned)
    return pinned


def ran_out(hands: Hands) -> StackRow | None:
    """The row of a machine whose time is over, and of which something may be left."""
    row = hands.journal.stack(STACK)
    if row is None or row.plan is None or row.state is StackState.GONE or row.plan.expires_at > hands.clock.now():
        return None
    return row


def _clear_for_the_next(hands: Hands, over: StackRow) -> None:
    """What is left of a machine that ran out goes, but for the address under which cells look for the next one: its
    key is the same in the next plan."""
    no_project = hands.fabric.home  # none has an orchestrator among its cells
    teardown(hands, STACK, no_project, over.region, over.provider, spared=(Kind.ADDRESS,))


# --- what there is already --------------------------------------------------------------------------------------


def check_standing(hands: Hands, pinned: StackPlan | None, *, with_backup: bool) -> None:
    """``cell_gone`` if the orchestrator's machine is lost and there is no backup, ``config_invalid`` for a backup where
    none is wanted, and for an orchestrator that is somewhere else; ``unsupported`` for a port that shall be open to
    others than it was made for, where that cannot be changed."""
    home = OrchestratorHome(hands.fabric)
    record = home.record()
    refuse_another(hands.fabric)
    if pinned is not None:
        _refuse_unchangeable(hands, pinned)
    if with_backup and not home.is_granted(OPERATOR):
        raise GrafosError(
            "credentials_missing",
            "a backup opens to who was the operator of its orchestrator, and this home never was",
            next="restore the fabric's home as well; then run this again",
        )
    state = _machine_state(hands, pinned)
    lost = record is not None and state in (State.GONE, State.DELETING, State.FAILED)
    if record is not None and state is State.STOPPED:
        raise GrafosError(
            "cloud_conflict",
            "the orchestrator's machine was stopped from outside, and still has what it keeps",
            where=record.url,
            next="start it in the cloud's console; or delete it there, then: grafos fabric up --restore FILE",
        )
    if home.is_restoring and not with_backup:
        raise _needs_backup("a machine was being filled from a backup, and that was not finished")
    if lost and not with_backup:
        raise _needs_backup("the orchestrator's machine is gone, and with it what it kept")
    if with_backup and record is not None and not lost and not home.is_restoring:
        raise GrafosError(
            "config_invalid",
            "the orchestrator's machine is there, and a backup would take the place of what it keeps",
            where="--restore",
            next="leave --restore out; or end that machine first: grafos fabric down",
        )


def refuse_another(fabric: Fabric) -> None:
    """``config_invalid`` for a fabric whose orchestrator is on a machine that grafos did not make."""
    record = OrchestratorHome(fabric).record()
    if record is not None and record.cell_id != STACK:
        raise GrafosError(
            "config_invalid",
            f"this fabric has an orchestrator already: {record.name} at {record.url}",
            next="leave it first: grafos fabric down",
        )


def _refuse_unchangeable(hands: Hands, pinned: StackPlan) -> None:
    """What a port is open to may be written with its firewall, once."""
    row = hands.journal.stack(STACK)
    before = row.plan.resources if row is not None and row.plan is not None else ()
    written = {what.key: what.inputs for what in before if what.kind is Kind.FIREWALL}
    if any(written.get(what.key, what.inputs) != what.inputs for what in pinned.resources):
        raise GrafosError(
            "unsupported",
            f"on {pinned.spec.provider} the orchestrator's port stays open to those for whom it was made",
            where="--allow",
            next="leave --allow out; its network security group can be changed in the cloud's console",
        )


def _refuse_elsewhere(hands: Hands, plan: StackPlan) -> None:
    """An address that was kept for the next machine bills on until that takes it, or it is given back."""
    row, here = hands.journal.stack(STACK), (plan.spec.provider, plan.spec.region)
    if row is None or (row.provider, row.region) == here or not is_anything_of(hands.journal, STACK):
        return
    raise GrafosError(
        "plan_stale",
        f"the orchestrator's address on {row.provider} in {row.region} was kept for its next machine",
        next=f"make that there: --on {row.provider} --region {row.region}; or first give it back: "
        f"grafos cloud teardown {row.provider} --cell-id {STACK}",
    )


def _machine_state(hands: Hands, pinned: StackPlan | None) -> State:
    """How the cloud has the machine of that plan; ``GONE`` for one that never was."""
    row = hands.journal.resources(STACK).get(pinned.machine.key) if pinned is not None else None
    return State.GONE if row is None or row.ref is None else Engine(hands).observe(row.ref).state


def _needs_backup(what: str) -> GrafosError:
    return GrafosError(
        "cell_gone",
        what,
        next="grafos fabric up --restore FILE; without a backup: grafos fabric down --lost, then begin anew",
    )


def _with_software_of_here(hands: Hands, pinned: StackPlan, bundles: Bundles) -> StackPlan:
    """The plan of a machine that is lost, for the next one: a backup may be of newer software than that one had, and
    the image that it started from, named or not, may be gone."""
    image = STOCK if pinned.spec.image == STOCK else ""
    spec = msgspec.structs.replace(pinned.spec, machine_type=pinned.facts.offer.machine_type, image=image)
    start = start_of(hands, spec)
    bundle = bundle_of(spec, start.image, bundles.pin)
    return started_from(pinned, start.image, start.baked, bundle, secure_boot=start.secure_boot)


# --- the steps --------------------------------------------------------------------------------------------------


def _recorded(hands: Hands, made: Made) -> CellRecord:
    """The record of the machine before it is anything, under the address that it is dialled at."""
    kept = addresses_of(hands, made.plan)
    # A read of the machine may not show yet what was put at it after it was made.
    url = f"https://{kept[0]}:{made.plan.spec.port}" if kept else url_of(made.plan, made.machine, in_public=True)
    record = msgspec.structs.replace(record_of(hands, made), url=url, tenant="")
    return keep_begun(CellHome(hands.fabric, made.plan.stack), record)


def _software(hands: Hands, made: Made, record: CellRecord, bundles: Bundles) -> None:
    machine = made.machine
    Handover(
        fabric=hands.fabric,
        home=CellHome(hands.fabric, record.cell_id),
        url=record.url,
        clock=hands.clock,
        sleep=hands.sleep,
        console=lambda: console_tail(hands, machine),
        progress=hands.progress,
    ).bring_software(bundles.path)


def _claimed(hands: Hands, made: Made, record: CellRecord, secret: bytes) -> OrchestratorRecord:
    began = hands.clock.monotonic()
    hands.progress(Step("claim", BEGUN, 0.0))
    machine = MachineOf(record.provider, record.cell_id)
    try:
        taken = take(hands.fabric, record.url, lambda: secret, machine, patience_s=START_PATIENCE_S)
    except GrafosError as error:
        if error.code != "scheduler_unreachable":
            raise
        raise GrafosError(
            "cell_not_ready",
            "the orchestrator does not start",
            where=record.url,
            why=f"its console ends with:\n{console_tail(hands, made.machine)}",
            next="run the same command again: it goes on; or: grafos fabric down",
        ) from error
    hands.progress(Step("claim", DONE, hands.clock.monotonic() - began))
    return taken


# --- from a backup ----------------------------------------------------------------------------------------------


class Filling(NamedTuple):
    """Where an empty orchestrator answers, the secret that it is claimed with, and the backup that it gets."""

    url: str
    secret: bytes
    archive: bytes


def _fill(hands: Hands, home: OrchestratorHome, empty: SchedulerHome, how: Filling) -> None:
    """Gives the backup to the empty orchestrator, and waits until the one answers that it is of. ``empty`` keeps who we
    are at the one of this very machine."""
    began, url = hands.clock.monotonic(), how.url
    hands.progress(Step("restore", BEGUN, 0.0, f"{len(how.archive) / 1e6:.1f} MB"))
    if not _until_known(hands, home, url, began):
        if not empty.is_granted(OPERATOR):
            granted = claimed(hands.fabric, empty, url, how.secret, STACK)
            empty.pin_ca(granted.ca_pem)
            empty.keep_grant(OPERATOR, granted.certificate_pem, granted.api_token)
        with empty.open_client(OrchestratorClient, OPERATOR, url, START_PATIENCE_S) as client:
            client.restore(how.archive)
    while not _until_known(hands, home, url, began):
        if hands.clock.monotonic() - began > START_PATIENCE_S:
            raise GrafosError(
                "cell_not_ready",
                "the orchestrator took the backup, and does not answer as the one that it is of",
                where=url,
                next=f"see what it says: grafos cloud logs --cell-id {STACK}; then run the same command again",
            )
        hands.progress(Step("restore", WAITING, hands.clock.monotonic() - began, "until it starts anew"))
        hands.sleep(ASK_EVERY_S)
    for folder in home.folder.glob("empty*"):
        shutil.rmtree(folder, ignore_errors=True)
    hands.progress(Step("restore", DONE, hands.clock.monotonic() - began))


def _is_the_old_one(home: OrchestratorHome, url: str) -> bool:
    """Whether who answers there has a certificate of the CA that was pinned before the loss; ``scheduler_unreachable``.
    Our credentials would not tell: they may have run out, or another home may have taken our place, before the backup
    was made."""
    try:
        health_of(url, 0.0, home.newest_ca_pem)
    except GrafosError as error:
        if error.code == "certificate_refused":
            return False
        raise
    return True


def _until_known(hands: Hands, home: OrchestratorHome, url: str, began: float) -> bool:
    """Whether it is the old one, once somebody answers: while it starts anew nobody does."""
    while True:
        try:
            return _is_the_old_one(home, url)
        except GrafosError as error:
            if error.code != "scheduler_unreachable" or hands.clock.monotonic() - began > START_PATIENCE_S:
                raise
        hands.sleep(ASK_EVERY_S)
