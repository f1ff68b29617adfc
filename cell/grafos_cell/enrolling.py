"""How a cell gets an identity at an orchestrator: a bootstrap token for one use, or the cloud's own word where somebody
expects this very machine, against a certificate for a key that never leaves this machine.

    trust/cell-key.pem   made first, and kept however often the rest is tried
    trust/ca.pem         the CA that was given beside the token: whoever answers must show a certificate of it
    trust/cell-token     what goes beside the certificate on every call
    trust/cell.pem       written last: when it is there, the cell has enrolled

A crash anywhere leaves files that the same call finishes, because the orchestrator answers the same token and key
again until the cell has registered. Nobody is trusted for coming first.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
from dataclasses import dataclass
from pathlib import Path

import msgspec

from grafos_cell import attesting
from grafos_cell.identity import CA_FILE, CERTIFICATE_FILE, KEY_FILE, TOKEN_FILE
from grafos_core import attestation, paths, trust
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_scheduler import orchestrator_client
from grafos_scheduler.enrolment_messages import Attestation, CellCredentials

ASK_S_MAX = 5.0
"""For each wait on the socket; the daemon cannot end while a question is under way."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.25, 15.0
"""Between two tries. Half of each pause is left to chance, so that many cells do not come in one wave."""
CLOCK_OFF_S_MAX = 60.0
"""How far this machine's clock may be from the orchestrator's: leases, tokens and ends are counted by both."""
BOOTSTRAP_AGAIN = "get a new token with: grafos cloud bootstrap-cell --provider {provider} --cell-id {cell_id}"

log = logging.getLogger("grafos.cell")


@dataclass(frozen=True)
class Bootstrap:
    """Where a cell may enrol, as whom, and the files with its bootstrap token (or the expectation in its place) and the
    orchestrator's CA."""

    orchestrator: str
    provider: str
    cell_id: str
    token_file: Path
    ca_file: Path

    @property
    def again(self) -> str:
        """The next step when the token is worth nothing."""
        return BOOTSTRAP_AGAIN.format(provider=self.provider, cell_id=self.cell_id)


async def enrol(trust_folder: Path, bootstrap: Bootstrap, clock: Clock, chance: random.Random) -> None:
    """Asks until the orchestrator has answered, or the token has lapsed; then the folder holds an identity.

    ``credentials_missing`` (no token or no CA to begin with), ``enrolment_expired``, ``enrolment_refused``,
    ``attestation_refused``, ``identity_not_pinned`` (somebody else answers there), ``answer_invalid``, or what keeps
    the files from being written.
    """
    token, ca_pem = _read(bootstrap)
    lapses_at, pause_s = lapse_of(token), PAUSE_FIRST_S
    while True:
        try:
            await asyncio.to_thread(_enrol_once, trust_folder, bootstrap, token, ca_pem, clock)
        except GrafosError as error:
            fault = _told(error, bootstrap)
        except OSError as error:
            raise _unwritable(trust_folder, error) from error
        else:
            log.info("enrolled as cell %s of provider %s", bootstrap.cell_id, bootstrap.provider)
            return
        if not fault.retryable:
            raise fault
        if clock.now() >= lapses_at:
            raise _lapsed(bootstrap, fault) from fault
        pause_s = min(2 * pause_s, PAUSE_MOST_S)
        log.warning("not enrolled yet: %s (%s); again within %.1f s", fault, fault.why, pause_s)
        await asyncio.sleep(pause_s * chance.uniform(0.5, 1.0))


def lapse_of(token: str) -> float:
    """When a bootstrap token, or an expectation, says that it lapses (Unix seconds); 0 if it says nothing. Only its
    issuer can tell whether that holds: here it bounds how long we ask."""
    if (expected := attestation.expectation_in(token)) is not None:
        return expected.lapses_at
    try:
        _, claims, _ = token.split(".")
        told = msgspec.json.decode(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)), type=dict[str, object])
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        return 0.0
    lapses_at = told.get("exp", 0)
    return float(lapses_at) if isinstance(lapses_at, int | float) else 0.0


def check(credentials: CellCredentials, ca_pem: str, key: trust.PrivateKey, cell_id: str, provider: str) -> None:
    """What came is for this cell and its key, and from the pinned CA; else ``identity_not_pinned``."""
    ends_at = trust.peer_of(trust.certificate_der(credentials.certificate_pem)).not_after
    peer = trust.check_issued_by(credentials.certificate_pem, ca_pem, at=ends_at)
    wanted = ("cell", provider, cell_id, trust.key_sha256(key.public_key()))
    if (peer.kind, peer.provider, peer.name, peer.key_sha256) != wanted:
        raise GrafosError("identity_not_pinned", f"the certificate that came is not for cell {cell_id} and its key")


def check_clock(certificate_pem: str, now: float) -> None:
    """``config_invalid``, to be tried again, if our clock is not that of whoever issued the certificate just now."""
    ahead_s = now - trust.issued_at(certificate_pem)
    if abs(ahead_s) > CLOCK_OFF_S_MAX:
        way = "ahead of" if ahead_s > 0 else "behind"
        raise GrafosError(
            "config_invalid",
            f"this machine's clock is {abs(ahead_s):.0f} s {way} the orchestrator's",
            where="the clock",
            why="leases and the cell's own end are counted by it",
            next="set the clock: timedatectl set-ntp true",
            retryable=True,
        )


def keep(trust_folder: Path, credentials: CellCredentials) -> None:
    """Writes token and certificate. The token first: it goes with the old certificate too, and ends with the new."""
    paths.write_private(trust_folder / TOKEN_FILE, credentials.api_token.encode())
    paths.write_private(trust_folder / CERTIFICATE_FILE, credentials.certificate_pem.encode())


def give_up(trust_folder: Path) -> None:
    """Removes an identity that nobody honours any more: a cell may enrol again only with a new key."""
    for name in (CERTIFICATE_FILE, TOKEN_FILE, KEY_FILE):
        (trust_folder / name).unlink(missing_ok=True)


def _enrol_once(trust_folder: Path, bootstrap: Bootstrap, token: str, ca_pem: str, clock: Clock) -> None:
    key = _own_key(paths.private_folder(trust_folder) / KEY_FILE)
    csr_pem = trust.make_csr(key, bootstrap.cell_id)
    word = _word(token, bootstrap.provider, trust.key_sha256(key.public_key()))
    credentials = orchestrator_client.enrol(
        bootstrap.orchestrator, ca_pem, "" if word else token, csr_pem, attestation=word, timeout_s=ASK_S_MAX
    )
    check(credentials, ca_pem, key, bootstrap.cell_id, bootstrap.provider)
    check_clock(credentials.certificate_pem, clock.now())
    paths.write_private(trust_folder / CA_FILE, ca_pem.encode())
    keep(trust_folder, credentials)


def _word(token: str, provider: str, key_sha256: str) -> Attestation | None:
    """The cloud's word for this key, if somebody expects this machine; a fresh one at each try, for they lapse."""
    expected = attestation.expectation_in(token)
    if expected is None:
        return None
    bound_to = attestation.binding(provider, expected.expectation_id, key_sha256)
    return Attestation(expected.expectation_id, attesting.evidence(provider, bound_to))


def _own_key(path: Path) -> trust.PrivateKey:
    """The cell's key, made once. One that is damaged has signed nothing that counts, and is made anew."""
    try:
        return trust.key_from_pem(path.read_bytes())
    except (OSError, ValueError):
        key = trust.new_key()
        paths.write_private(path, trust.key_to_pem(key))
        return key


def _read(bootstrap: Bootstrap) -> tuple[str, str]:
    try:
        token, ca_pem = bootstrap.token_file.read_text().strip(), bootstrap.ca_file.read_text()
        trust.certificate_der(ca_pem)
    except (OSError, ValueError, GrafosError) as error:
        raise GrafosError(
            "credentials_missing",
            "this cell has no identity, and no bootstrap token and CA to get one with",
            where=f"{bootstrap.token_file}, {bootstrap.ca_file}",
            why=str(error),
            next=bootstrap.again,
        ) from error
    return token, ca_pem


def _told(error: GrafosError, bootstrap: Bootstrap) -> GrafosError:
    """The error in words that help the owner of this machine."""
    if error.code == "certificate_refused":
        return _not_pinned(error, bootstrap)
    if error.code in ("enrolment_expired", "enrolment_refused", "attestation_refused"):
        error.where, error.next = bootstrap.orchestrator, error.next if error.retryable else bootstrap.again
    return error


def _not_pinned(error: GrafosError, bootstrap: Bootstrap) -> GrafosError:
    """Whoever answers has another CA, or our clock is off: the second may be mended while we ask on."""
    is_about_time = "not yet valid" in error.why or "expired" in error.why
    return GrafosError(
        "identity_not_pinned",
        "the server's certificate is not valid at the time that this machine's clock shows"
        if is_about_time
        else "whoever answers there is not the orchestrator whose CA this cell was given",
        where=bootstrap.orchestrator,
        why=error.why,
        next="set the clock: timedatectl set-ntp true" if is_about_time else "check the address and the CA file",
        retryable=is_about_time,
    )


def _lapsed(bootstrap: Bootstrap, fault: GrafosError) -> GrafosError:
    return GrafosError(
        "enrolment_expired",
        "the bootstrap token lapsed before the cell could enrol",
        where=bootstrap.orchestrator,
        why=f"{fault.what}: {fault.why}" if fault.why else fault.what,
        next=bootstrap.again,
    )


def _unwritable(trust_folder: Path, error: OSError) -> GrafosError:
    return GrafosError(
        "config_invalid", "the trust folder cannot be written to", where=str(trust_folder), why=str(error)
    )
