"""How a home of the fabric that claimed this scheduler gets in again: the rows of the table of routes."""

from __future__ import annotations

from grafos_core.receipts import Signed
from grafos_scheduler.authorize import OPERATOR
from grafos_scheduler.handlers import Request, Services
from grafos_scheduler.regaining_messages import RegainChallenge, RegainGrant, RegainRequest
from grafos_scheduler.route import Route, gate


async def challenge(services: Services, _: Request) -> RegainChallenge:
    return services.regaining.challenge()


async def regain(services: Services, request: Request) -> RegainGrant:
    return await services.regaining.regain(request.body, request.client)


async def keep_voucher(services: Services, request: Request) -> Signed:
    return await services.regaining.keep_voucher(request.body)


REGAIN_ROUTES: tuple[Route, ...] = (
    Route(
        "POST",
        "/api/v1/claim/challenge",
        None,
        challenge,
        "What the fabric's key is to sign, to become the operator again.",
        RegainChallenge,
    ),
    Route(
        "POST",
        "/api/v1/claim/regain",
        None,
        regain,
        "Become the operator by the fabric's key; the key before is worth nothing any more.",
        RegainGrant,
        body=RegainRequest,
    ),
    Route(
        "PUT",
        "/api/v1/claim/voucher",
        gate("account:write", OPERATOR),
        keep_voucher,
        "Hand in what the fabric signed of this scheduler, for its other homes.",
        Signed,
        body=Signed,
    ),
)
