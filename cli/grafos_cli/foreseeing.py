"""What `grafos deploy plan` finds out: what each tasklet needs, and whether and where it would be let run. Nothing is
uploaded, held or begun."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from grafos_cli.building import built_module
from grafos_cli.choosing import as_admission, ask_each
from grafos_cli.manifest import Program, Tasklet
from grafos_cli.reach import LOCAL, Reach, resolve
from grafos_cli.run_keys import RUN_KEY_BYTES
from grafos_cli.sizes import whole_blocks
from grafos_cli.whole_program import held_for_s
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.tiers import Tier
from grafos_scheduler import messages
from grafos_scheduler.reservation_messages import ReservationRequest
from grafos_scheduler.standing_messages import Offer

if TYPE_CHECKING:
    from grafos_scheduler.client import SchedulerClient

NO_MODULE = "0" * 64
"""Stands for the module that is not built yet: whether a run is admitted does not depend on it."""


class Need(NamedTuple):
    """One tasklet as it would be asked for. ``obstacle`` is why it cannot be as things stand here."""

    tasklet: Tasklet
    module_sha256: str
    lease_mem_bytes: int
    lease_block_bytes: int
    tier: Tier
    obstacle: GrafosError | None = None


class Foreseen(NamedTuple):
    """What one provider says to every need, in their order; and to holding their worst cases together, where they are a
    whole program that it lets run one by one. A tasklet of a whole program may run on a cloud of its own: ``providers``
    has that of each."""

    provider: str
    providers: tuple[str, ...]
    answers: tuple[messages.Admission, ...]
    hold: messages.Admission | None = None

    @property
    def admits(self) -> bool:
        """Whether all of them would be let run there."""
        return self.refusal is None

    @property
    def refusal(self) -> messages.Admission | None:
        """The first, if there is one."""
        said = (*self.answers, *([self.hold] if self.hold else []))
        return next((answer for answer in said if not answer.admitted), None)


def needs_of(
    program: Program,
    tasklets: Sequence[Tasklet],
    lease_mem_bytes: int | None,
    lease_block_bytes: int | None,
    tier: Tier | None,
) -> list[Need]:
    """What the tasklets need, with the amounts of grafos.toml where none are given. A module that is not up to
    date is an obstacle, not an error."""
    found = []
    for tasklet in tasklets:
        memory = tasklet.mem if lease_mem_bytes is None else lease_mem_bytes
        blocks = whole_blocks(tasklet.block if lease_block_bytes is None else lease_block_bytes)
        try:
            built, _ = built_module(program, tasklet)
        except GrafosError as error:
            if error.code != "build_stale":
                raise
            found.append(Need(tasklet, "", memory, blocks, tier or tasklet.tier, error))
        else:
            found.append(Need(tasklet, built.module_sha256, memory, blocks, tier or tasklet.tier))
    return found


def providers_to_ask(program: Program, provider: str) -> list[str]:
    """The one that was named, else those of `runnable_targets` in their order, else this machine."""
    return [provider] if provider else list(dict.fromkeys(program.targets.values())) or [LOCAL]


def foresee(
    program: Program,
    needs: Sequence[Need],
    provider: str,
    fabric: Fabric,
    project: Path,
    cell_id: str,
    tenant: str = "",
    *,
    whole: bool = False,
) -> Foreseen:
    """What the provider's scheduler would say now; ``whole``: also to holding all of it at once. A provider that cannot
    be asked refuses all, in its own words."""
    providers = tuple(need.tasklet.provider_of(provider) if whole else provider for need in needs)
    try:
        reach = resolve(provider, fabric, project, cell_id)
        reach = reach._replace(tenant=tenant or reach.tenant)
        with reach.client() as client:
            asked = [_request(program, need, where) for need, where in zip(needs, providers, strict=True)]
            answers = tuple(map(client.foresee, asked))
            is_held = whole and all(answer.admitted for answer in answers)
            return Foreseen(provider, providers, answers, _hold(client, program, needs, answers) if is_held else None)
    except GrafosError as error:
        refusal = messages.Admission(admitted=False, code=error.code, what=error.what, next=error.next)
        return Foreseen(provider, providers, tuple(refusal for _ in needs))


def _hold(
    client: SchedulerClient, program: Program, needs: Sequence[Need], answers: Sequence[messages.Admission]
) -> messages.Admission | None:
    """Whether all their worst cases would be held together; None where the scheduler cannot say."""
    most = sum(answer.worst_case_micro_cents for answer in answers)
    held_s = held_for_s([need.tasklet for need in needs])
    request = ReservationRequest(secrets.token_hex(RUN_KEY_BYTES), most, held_s, program.name)
    try:
        return client.foresee_reservation(request)
    except GrafosError as error:
        if error.code != "not_found":
            raise
        return None


def foresee_each(
    program: Program, needs: Sequence[Need], provider: str, reaches: Sequence[Reach], most_micro_cents: int | None
) -> list[Foreseen]:
    """What every cell of those schedulers would say now: the cheapest that admits everything first."""
    answers: dict[tuple[str, str], list[Offer]] = {}
    for need in needs:
        asked = partial(_request, program, need)
        for one in ask_each(reaches, asked, provider, most_micro_cents):
            answers.setdefault((one.reach.url, one.offer.cell_id), []).append(one.offer)
    whole = [offers for offers in answers.values() if len(offers) == len(needs)]
    whole.sort(
        key=lambda offers: (not all(one.fits for one in offers), sum(one.worst_case_micro_cents for one in offers))
    )
    return [
        Foreseen(offers[0].provider, tuple(one.provider for one in offers), tuple(map(as_admission, offers)))
        for offers in whole
    ]


def _request(program: Program, need: Need, provider: str) -> messages.RunRequest:
    tasklet = need.tasklet
    return messages.RunRequest(
        run_key=secrets.token_hex(RUN_KEY_BYTES),
        provider=provider,
        program=program.name,
        tasklet=tasklet.name,
        module_sha256=need.module_sha256 or NO_MODULE,
        input_sha256="",
        fuel=tasklet.fuel,
        memory_bytes=tasklet.memory_bytes,
        lease_mem_bytes=need.lease_mem_bytes,
        deadline_s=tasklet.deadline_s,
        lease_block_bytes=need.lease_block_bytes,
        tier=need.tier,
    )


def chosen(asked: Sequence[Foreseen]) -> Foreseen:
    """The first provider that admits everything, else the first."""
    return next((one for one in asked if one.admits), asked[0])
