"""The failure table of services, on real cells, processes and guests: what clients see, and what is recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import failure_table as table
import pytest
from service_fabric import CUT_OFF, ServiceFabric, echoed, is_gone, service_fabric, until

from grafos_core.audit_chain import AuditKind, AuditRecord
from grafos_core.errors import GrafosError

pytestmark = pytest.mark.timeout(300)

SURELY_OVER_AFTER_S = 6.0
"""What a scheduler waits beyond a lease's end: the difference that clocks may have, and a second."""


@pytest.fixture(scope="module")
def fabric(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceFabric]:
    with service_fabric(tmp_path_factory.mktemp("services")) as made:
        made.deploy()
        yield made


def test_a_client_goes_on_at_once_when_a_cell_is_killed_and_the_replica_comes_when_its_lease_is_surely_over(
    fabric: ServiceFabric,
) -> None:
    seen = table.node_killed(fabric)
    assert seen.told == "cell_lost"
    assert seen.again != seen.before.instance_id
    started = fabric.event(seen.since, AuditKind.FAILOVER_STARTED)
    provisioned = fabric.event(seen.since, AuditKind.INSTANCE_PROVISIONED)
    assert started.subject == seen.before.instance_id
    assert started.sequence < provisioned.sequence
    check_surely_over(seen, provisioned)
    [new] = [each for each in fabric.whole().instances if each.instance_id == provisioned.subject]
    assert (new.why, new.slot) == ("failover", seen.before.slot)
    assert new.cell_id != seen.before.cell_id
    fabric.revive(seen.before.cell_id)


def check_surely_over(seen: table.Seen, record: AuditRecord) -> None:
    """There was room for the replica all the time, and yet this did not come before two could serve by no clock."""
    assert record.at_ms / 1000 >= seen.leased_until + SURELY_OVER_AFTER_S


def test_a_guest_that_traps_is_started_again_on_its_cell_under_the_same_leases(fabric: ServiceFabric) -> None:
    cores = {each.instance_id: fabric.lease(each.instance_id, "cpu").lease_id for each in fabric.whole().instances}
    seen = table.tasklet_crashed(fabric)
    assert seen.told == "trapped"
    provisioned = fabric.event(seen.since, AuditKind.INSTANCE_PROVISIONED)
    assert (provisioned.details["why"], provisioned.cell_id) == ("restart", seen.before.cell_id)
    assert fabric.lease(provisioned.subject, "cpu").lease_id == cores[seen.before.instance_id]
    assert provisioned.subject in {each.instance_id for each in fabric.whole().instances}


def test_an_instance_without_its_listener_lease_is_fenced_and_takes_no_session(fabric: ServiceFabric) -> None:
    seen = table.listener_revoked(fabric)
    assert seen.told == "lease_revoked"
    assert fabric.event(seen.since, AuditKind.FAILOVER_STARTED).subject == seen.before.instance_id
    provisioned = fabric.event(seen.since, AuditKind.INSTANCE_PROVISIONED)
    assert provisioned.details["why"] == "failover"
    fabric.whole()


def test_without_any_replica_a_client_is_told_so_and_served_when_the_cells_are_back(fabric: ServiceFabric) -> None:
    seen, refusal = table.all_killed(fabric)
    assert (seen.told, refusal) == ("cell_lost", "no_healthy_replica")
    code = fabric.event(seen.since, AuditKind.FAILOVER_STARTED).details["code"]
    assert code in ("cell_lost", "lease_expired"), "by what came first: the cell's new start, or the lease's end"
    fabric.whole()


def test_a_cell_that_is_cut_off_ends_its_instance_by_itself_and_gets_another_when_it_is_back(
    fabric: ServiceFabric,
) -> None:
    fabric.remove()
    view = fabric.deploy(cells=("two", CUT_OFF))
    pid = fabric.process_of(next(each for each in view.instances if each.cell_id == CUT_OFF))
    try:
        seen = table.partitioned(fabric)
        assert seen.told == "cell_lost"
        assert seen.again != seen.before.instance_id
        until(lambda: is_gone(pid))  # the cell did that alone: nothing reaches it
        ended = fabric.event(seen.since, AuditKind.INSTANCE_ENDED)
        assert (ended.subject, ended.details["code"]) == (seen.before.instance_id, "lease_expired")
        check_surely_over(seen, ended)
    finally:
        fabric.gate.open()
    provisioned = fabric.event(seen.since, AuditKind.INSTANCE_PROVISIONED)
    assert (provisioned.cell_id, provisioned.details["why"]) == (CUT_OFF, "failover")
    assert fabric.event(seen.since, AuditKind.FAILOVER_STARTED).sequence < provisioned.sequence
    check_surely_over(seen, provisioned)
    fabric.whole()


def test_a_planned_cutover_loses_no_session_that_is_under_way(fabric: ServiceFabric) -> None:
    view = fabric.whole()
    old = view.instances[0]

    async def story() -> str:
        session = await fabric.session_at(old.cell_id)
        since = fabric.head()
        await asyncio.to_thread(fabric.client.cut_over_service, "echo", old.instance_id)
        others = {(await _answering(fabric)) for _ in range(4)}
        assert old.instance_id not in others, "who drains takes no new session"
        ends_at = time.monotonic() + 1.0
        await table.in_flight(session, lambda: time.monotonic() > ends_at)
        session.end_writing()
        assert await session.read() == b""
        await session.close()
        return since

    since = asyncio.run(story())
    done = fabric.event(since, AuditKind.CUTOVER_COMPLETED)
    kinds = [record.kind for record in fabric.events(since)]
    order = [AuditKind.CUTOVER_STARTED, AuditKind.INSTANCE_PROVISIONED, AuditKind.CUTOVER_COMPLETED]
    assert [kind for kind in kinds if kind in order] == order
    assert done.details["follows"] == old.instance_id
    assert AuditKind.FAILOVER_STARTED not in kinds
    fabric.whole()


@pytest.mark.deep
def test_a_session_outlives_the_certificate_with_which_its_cell_dialled(fabric: ServiceFabric) -> None:
    fabric.remove()
    agent = fabric.agents["one"]
    agent.processes[-1].end()
    agent.hold(life_s=12.0)
    ends_at, old = time.time() + 12.0, agent.certificate()
    fabric.revive("one")
    fabric.deploy(replicas=1, cells=("one",))

    async def story() -> None:
        session = await fabric.session_at("one")
        await table.in_flight(session, lambda: time.time() > ends_at + 1.0)
        await session.close()

    asyncio.run(story())
    assert agent.certificate() != old
    fabric.remove()
    fabric.deploy()


async def _answering(fabric: ServiceFabric) -> str:
    session = await fabric.sessions().open("echo")
    assert await echoed(session, b"new") == b"new"
    await session.close()
    return session.instance_id


def test_a_cutover_waits_for_its_sessions_no_longer_than_the_drain_deadline(fabric: ServiceFabric) -> None:
    fabric.deploy(cells=("two", CUT_OFF), drain_deadline_s=0.5)
    old = fabric.whole().instances[0]

    async def story() -> str:
        session = await fabric.session_at(old.cell_id)
        await asyncio.to_thread(fabric.client.cut_over_service, "echo", old.instance_id)
        with pytest.raises(GrafosError) as ended:
            await table.in_flight(session, lambda: False)
        await session.close()
        return ended.value.code

    assert asyncio.run(story()) == "deadline_exceeded"
    fabric.whole()
