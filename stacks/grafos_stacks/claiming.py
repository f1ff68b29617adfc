"""How a person takes possession of an orchestrator: one that they started, or one whose machine grafos made.

The same outcome however often it is repeated. Nothing that the other side says is trusted before the claim, by which
both prove that they know the one-time secret; from then on its CA is pinned. A home that has the fabric's key and no
credentials gets in by that key (``_regain``), and knows the orchestrator by what the key signed of it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from grafos_core import trust
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_core.paths import private_folder
from grafos_scheduler.claiming_client import claim
from grafos_scheduler.messages import ClaimGrant, Health
from grafos_scheduler.orchestrator_client import OrchestratorClient
from grafos_scheduler.regaining_client import regain, voucher_of
from grafos_scheduler.regaining_messages import RegainGrant
from grafos_scheduler.tenant_messages import TenantAsked
from grafos_scheduler.wire import TIMEOUT_S, Wire, decode
from grafos_stacks.orchestrators import DEFAULT_TENANT, OrchestratorHome, OrchestratorRecord
from grafos_stacks.records import OPERATOR, SchedulerHome, tenant_name
from grafos_stacks.spec import ORCHESTRATOR

CLAIM_PATIENCE_S = 5.0
"""An orchestrator that was started just now answers within a second or two."""
ASK_EVERY_S = 0.1
LOST = ("operator_replaced", "certificate_expired")
"""What our credentials are refused with that were good once; the fabric's key gives us new ones."""


class MachineOf(NamedTuple):
    """The machine that grafos made for it; empty for one of a person's own."""

    provider: str = ""
    cell_id: str = ""


def take_orchestrator(
    fabric: Fabric, url: str, secret_file: Path | None, *, replace: bool = False
) -> OrchestratorRecord:
    """Claims the orchestrator at ``url``, pins its CA, and creates the tenant `default` there; the same outcome however
    often it is repeated. An orchestrator that is ours already may have got another address. One that another home of
    the fabric claimed, or that no longer knows us, lets us in by the fabric's key, and the home before out. With
    ``replace`` it takes the place of the one before, once it has been claimed.

    ``claim_refused`` (another fabric's, another one than before, a wrong secret, no orchestrator), ``config_invalid``
    (no secret), ``scheduler_unreachable``.
    """
    home = OrchestratorHome(fabric)
    return take(fabric, url, lambda: read_secret(secret_file or home.secret_file), replace=replace)


def take(
    fabric: Fabric,
    url: str,
    secret: Callable[[], bytes],
    machine: MachineOf | None = None,
    *,
    replace: bool = False,
    patience_s: float = CLAIM_PATIENCE_S,
) -> OrchestratorRecord:
    """The same with the secret itself, which is asked for if it is needed; and with its machine, if that is known to
    be one that grafos made. What the record says of its machine stays."""
    home = OrchestratorHome(fabric)
    told = health_of(url, patience_s)
    if told.mode != ORCHESTRATOR:
        raise GrafosError(
            "claim_refused",
            f"at that address is the scheduler of the standalone cell {told.name[:40]}",
            where=url,
            next="start one with --mode orchestrator; grafos fabric init prints how",
        )
    if replace or not home.is_granted(OPERATOR):
        _enter(fabric, home, url, told, secret)
    try:
        _settle_in(fabric, home, url, told)
    except GrafosError as error:
        if error.code in LOST:
            _regain(fabric, home, url, told)
            _settle_in(fabric, home, url, told)
        elif error.code in ("certificate_refused", "token_refused"):
            raise _another(url, home.record(), error) from error
        else:
            raise
    record = home.record()
    if record is None or replace:
        home.keep_record(OrchestratorRecord(url, told.name, time.time(), *(machine or MachineOf())))
        return _kept(home)
    machine = machine or MachineOf(record.provider, record.cell_id)
    if (record.url, record.provider, record.cell_id) != (url, *machine):
        home.keep_record(msgspec.structs.replace(record, url=url, provider=machine.provider, cell_id=machine.cell_id))
    return _kept(home)


def _kept(home: OrchestratorHome) -> OrchestratorRecord:
    home.secret_file.unlink(missing_ok=True)
    return home.known()


def health_of(url: str, patience_s: float = CLAIM_PATIENCE_S, ca_pem: str = "") -> Health:
    """What whoever answers at ``url`` says of itself; nothing of it is to be trusted unless its certificate had to be
    one of ``ca_pem`` (else ``certificate_refused``). Asked again for ``patience_s`` while nobody answers."""
    until = time.monotonic() + patience_s
    context = trust.client_context(ca_pem) if ca_pem else trust.unverified_context()
    while True:
        try:
            with Wire(url, context, TIMEOUT_S) as wire:
                return decode(wire.exchange("GET", "/health", None, {}), Health)
        except GrafosError as error:
            if error.code != "scheduler_unreachable" or time.monotonic() >= until:
                raise
        time.sleep(ASK_EVERY_S)


def read_secret(file: Path) -> bytes:
    """The secret in a file (hex), or ``config_invalid``."""
    try:
        secret = bytes.fromhex(file.read_text().strip())
    except (OSError, ValueError) as error:
        raise GrafosError(
            "config_invalid",
            "there is no claim secret that can be read",
            where=str(file),
            why=str(error),
            next="name the file that the orchestrator was started with: --secret-file FILE",
        ) from error
    return secret


def _enter(fabric: Fabric, home: OrchestratorHome, url: str, told: Health, secret: Callable[[], bytes]) -> None:
    """Claims it with the secret; or, where that was done before, gets in by the fabric's key."""
    try:
        _claim(fabric, home, url, told, secret())
    except GrafosError as error:
        if not told.claimed or error.code not in ("claim_refused", "config_invalid"):
            raise
        _regain(fabric, home, url, told)


def regained(
    fabric: Fabric, home: SchedulerHome, url: str, scheduler: str, context: ssl.SSLContext | None = None
) -> RegainGrant:
    """The operator's credentials at a scheduler that the fabric's key opens; ``context`` lets a visitor in."""
    return regain(
        url,
        fabric.sign,
        fabric=str(fabric.id),
        fabric_key_pem=fabric.public_key_pem,
        operator=OPERATOR,
        csr_pem=home.request_for(OPERATOR),
        scheduler=scheduler,
        context=context,
    )


def _regain(fabric: Fabric, home: OrchestratorHome, url: str, told: Health) -> None:
    private_folder(home.folder)
    try:
        granted = regained(fabric, home, url, told.name)
    except GrafosError as error:
        error.where = error.where or url
        raise
    _keep(home, granted)


def _claim(fabric: Fabric, home: OrchestratorHome, url: str, told: Health, secret: bytes) -> None:
    try:
        granted = claimed(fabric, home, url, secret, told.name)
    except GrafosError as error:
        if error.code == "claim_refused":
            error.where = url
            error.next = (
                "name the secret that it was started with: --secret-file FILE; grafos fabric init says its fabric"
            )
        raise
    _keep(home, granted)


def _keep(home: OrchestratorHome, granted: ClaimGrant | RegainGrant) -> None:
    """Pins the CA and keeps the operator's credentials."""
    for token_file in home.folder.glob(f"{tenant_name('*')}-token"):
        home.forget_grant(token_file.name.removesuffix("-token"))  # there it is nobody yet, or no more
    home.pin_ca(granted.ca_pem)
    home.keep_grant(OPERATOR, granted.certificate_pem, granted.api_token)


def claimed(fabric: Fabric, home: SchedulerHome, url: str, secret: bytes, name: str) -> ClaimGrant:
    """What an unclaimed orchestrator of that name grants the operator, with the request that ``home`` keeps."""
    private_folder(home.folder)
    return claim(
        url,
        secret,
        fabric=str(fabric.id),
        fabric_key_pem=fabric.public_key_pem,
        operator=OPERATOR,
        csr_pem=home.request_for(OPERATOR),
        cell_id=name,
    )


def _settle_in(fabric: Fabric, home: OrchestratorHome, url: str, told: Health) -> None:
    """The operator's first call closes the claim; what proves the orchestrator to other homes of the fabric is handed
    in each time, so that one of before there was that has it, too."""
    with home.client(OPERATOR, url) as client:
        _create_default(home, client)
        try:
            client.keep_voucher(voucher_of(fabric.sign, str(fabric.id), told.name, home.ca_pem))
        except GrafosError as error:
            if error.code != "not_found":  # its software is of before there was that
                raise


def _create_default(home: OrchestratorHome, client: OrchestratorClient) -> None:
    """The tenant `default` with the budget that new tenants get."""
    who = tenant_name(DEFAULT_TENANT)
    if home.is_granted(who) and home.ends_at(who) > time.time():
        client.tenants()
        return
    granted = client.create_tenant(TenantAsked(DEFAULT_TENANT, home.request_for(who)))
    home.keep_grant(who, granted.certificate_pem, granted.api_token)


def _another(url: str, record: OrchestratorRecord | None, error: GrafosError) -> GrafosError:
    ours = f"{record.name} at {record.url}" if record else "another one"
    return GrafosError(
        "claim_refused",
        "the orchestrator at that address is not the one that this fabric has",
        where=url,
        why=f"this fabric has {ours}; {error.what}",
        next="to leave that one for this: grafos fabric claim URL --replace --secret-file FILE",
    )
