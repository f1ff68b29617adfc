"""What the REST routes for programs of several tasklets do; see ``handlers`` for the others."""

from __future__ import annotations

import random

from grafos_core.errors import GrafosError
from grafos_core.ids import sha256_of
from grafos_scheduler import handlers, messages, reservation_messages, reservations
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.decide import decide
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.reservation_events import ReservationAsked, ReservationEnded


async def reserve(services: Services, request: Request) -> reservation_messages.ReservationView:
    answer = await services.shell.handle(_asked(services, request), by=request.who.text)
    assert isinstance(answer, reservation_messages.ReservationView)
    return answer


async def foresee(services: Services, request: Request) -> messages.Admission:
    """Decides as ``reserve`` would, and lets the decision go."""
    await services.shell.settled()
    event, now = _asked(services, request), services.shell.clock.now()
    try:
        decide(services.shell.state, event, now, random.Random(0))  # noqa: S311 - nothing of it is kept
    except GrafosError as refusal:
        return messages.Admission(
            admitted=False,
            code=refusal.code,
            what=refusal.what,
            next=refusal.next,
            worst_case_micro_cents=event.micro_cents,
        )
    return messages.Admission(admitted=True, worst_case_micro_cents=event.micro_cents)


def _asked(services: Services, request: Request) -> ReservationAsked:
    asked: reservation_messages.ReservationRequest = request.body
    expires_at = services.shell.clock.now() + asked.ttl_s
    return ReservationAsked(request.who.name, asked.reservation_key, asked.micro_cents, expires_at, asked.program)


async def end(services: Services, request: Request) -> reservation_messages.ReservationView:
    event = ReservationEnded(request.who.name, request.path["key"])
    answer = await services.shell.handle(event, by=request.who.text)
    assert isinstance(answer, reservation_messages.ReservationView)
    return answer


async def list_all(services: Services, request: Request) -> reservation_messages.ReservationList:
    await services.shell.settled()
    tenant = "" if request.who.kind == OPERATOR else request.who.name
    return reservation_messages.ReservationList(reservations.listed(services.shell.state, tenant))


async def keep_artifact(services: Services, request: Request) -> messages.BlobStored:
    part = request.path["part"]
    kept = await handlers.kept_artifact(services, request)
    if part not in ("output", "response"):
        raise GrafosError("not_found", f"a run leaves a response and an output, and no {part[:40]!r}")
    data = kept.output if part == "output" else kept.response_json.encode()
    sha256 = sha256_of(data)
    await services.blobs.put(request.who.name, sha256, data)
    return messages.BlobStored(sha256, len(data))
