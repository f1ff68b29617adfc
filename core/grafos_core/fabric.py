"""The fabric's home on an operator's machine: ``$XDG_DATA_HOME/grafos/<fabric>/``.

    fabric-key.pem    the key that everything of this fabric hangs on (0600)
    ledger.db         the one ledger: the operator's cap and the tenants' budgets, and all holds
    fabric.json       its name, id and date of making; written last: "there was a ledger"
    journal.db        the provisioning journal (written by the engines)
    provisioned       an empty file, made before the first cloud call ever: "there was a journal"
    shared            an empty file: the key was exported or imported, so another home may know more cells
    cells/<cell_id>/  pinned CA, and the credentials made for that cell
    orchestrator.json, orchestrator/  where the fabric's orchestrator answers; its pinned CA, and credentials for it
    runs/<run_id>/    runs brought home, with their receipts
    account/          an account at somebody else's fabric (see ``guest``)

From the one key come: its signature over slices and teardown receipts, secrets by HKDF (one-time claim secrets), and
the short signature in cloud tags by which a resource is known as ours. Losing it means: sweep can list, not delete.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from grafos_core import booking, trust
from grafos_core import ledger as ledgers
from grafos_core.booking import Ending
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.ids import FabricId, check_name
from grafos_core.ledger import Decide, Ledger
from grafos_core.ledger_place import CODEC, Books, LedgerTransaction, Place, Standing, kept_elsewhere
from grafos_core.money import from_cents
from grafos_core.paths import data_home, private_folder, write_private, write_private_once
from grafos_core.receipts import Signed, sign_record
from grafos_core.rowfile import RowFile

OPERATOR_ACCOUNT = "operator"
"""Cells are paid from this account, by the operator's cap."""
STARTING_CENTS = 2_000
"""What the operator's cap and a tenant's budget start with, as in the public design."""
KEY_NAME, LEDGER_NAME, ABOUT_NAME = "fabric-key.pem", "ledger.db", "fabric.json"
LEDGER_WAIT_S = 30.0
"""How long a command waits while another one holds the ledger; each holds it for milliseconds."""


def tenant_account(tenant: str) -> str:
    """Runs are paid from the tenant's account."""
    return f"tenant/{tenant}"


Elsewhere = Callable[["Fabric"], Books]
"""The way to a ledger that is not in the fabric's home; this room knows nobody who keeps one."""


class Fabric:
    """An operator's key and ledger. Made by ``open_fabric``, which says what ``elsewhere`` is."""

    def __init__(self, home: Path, name: str, key: trust.PrivateKey, elsewhere: Elsewhere | None = None) -> None:
        self._elsewhere = elsewhere
        self.home = home
        self.name = name
        self._key = key
        self.id = fabric_id(key.public_key())

    @property
    def key(self) -> trust.PrivateKey:
        """What everything of this fabric hangs on."""
        return self._key

    @functools.cached_property
    def public_key_pem(self) -> str:
        """By which others verify what the fabric signed."""
        return trust.public_key_to_pem(self.key.public_key())

    def sign(self, record: msgspec.Struct) -> Signed:
        """A record of ``grafos_core.receipts`` with the fabric's signature."""
        return sign_record(record, self.key)

    def derive_secret(self, purpose: str) -> bytes:
        """32 bytes that only this fabric's key gives for ``purpose``; the same each time."""
        scalar = self.key.private_numbers().private_value.to_bytes(32, "big")
        return HKDF(hashes.SHA256(), 32, salt=b"grafos-fabric-1", info=purpose.encode()).derive(scalar)

    def tag_signature(self, *parts: str) -> str:
        """32 hex digits for a cloud tag: an HMAC over ``parts`` under a key derived from the fabric's."""
        message = b"".join(hashlib.sha256(part.encode()).digest() for part in parts)
        return hmac.new(self._tag_secret, message, hashlib.sha256).hexdigest()[:32]

    @functools.cached_property
    def _tag_secret(self) -> bytes:
        """Derived once: a listing may hold thousands of signatures to check."""
        return self.derive_secret("tags")

    def tag_signature_holds(self, signature: str, *parts: str) -> bool:
        """Whether this fabric's key made ``signature``, which may be any text at all, over ``parts``."""
        return hmac.compare_digest(self.tag_signature(*parts).encode(), signature.encode("utf-8", "replace"))

    @property
    def has_provisioned(self) -> bool:
        """Whether this key ever made a cloud call that creates; then a missing journal is a lost journal."""
        return (self.home / "provisioned").exists()

    def note_provisioned(self) -> None:
        """Called before the first creating call."""
        if not self.has_provisioned:
            write_private(self.home / "provisioned", b"")

    @property
    def is_shared(self) -> bool:
        """Whether its key was exported or imported: then this home need not know all that the fabric has."""
        return (self.home / "shared").exists()

    def note_shared(self) -> None:
        """Called before the key leaves this home, or when it came from another."""
        if not self.is_shared:
            write_private(self.home / "shared", b"")

    def cell_home(self, cell_id: str) -> Path:
        """Where the credentials and the pinned CA of a cell are kept."""
        return private_folder(self.home / "cells" / check_name("cell", cell_id))

    def cell_ids(self) -> list[str]:
        """The cells that this fabric has, or had, credentials for."""
        cells = self.home / "cells"
        return sorted(entry.name for entry in cells.iterdir()) if cells.is_dir() else []

    @property
    def runs_home(self) -> Path:
        """Where runs are kept that were brought home."""
        return private_folder(self.home / "runs")

    def book(self, decide: Decide) -> Ledger:
        """Books what ``decide`` gives for the ledger as it is, and gives the ledger as it is then, durable.

        ``decide`` may be run several times, on newer ledgers. What it raises comes through, and nothing was booked.
        Beside what ``ledger`` raises: ``scheduler_unreachable`` and the like when an orchestrator keeps the ledger.
        """
        with self.ledger() as local:
            if local.place.is_here:
                local.write(decide(local.ledger))
                return local.ledger
        return self._books(local.place).book(decide)

    def read_ledger(self) -> Ledger:
        """The ledger as it is, for reading. While it moves, nobody can book, and the home's own copy tells it."""
        with self.ledger() as local:
            if local.place.standing in (Standing.HERE, Standing.MOVING):
                for ending in local.waiting.values():
                    local.ledger.apply(booking.ended(local.ledger, ending))
                return local.ledger
        return self._books(local.place).read()

    def ledger_if_reached(self) -> Ledger | None:
        """The ledger as it is; None while the orchestrator that keeps it cannot be asked."""
        try:
            return self.read_ledger()
        except GrafosError:
            if self.ledger_place().is_here:
                raise
            return None

    def end(self, ending: Ending) -> str:
        """Books how holds end, so that what was made can be taken down also while nobody can reach the ledger.

        Then it is kept, durable, and booked before anything else is. Gives why it waits, "" if it does not.
        """
        with self.ledger() as local:
            if local.place.is_here:
                local.write(booking.ended(local.ledger, ending))
                return ""
        books = self._books(local.place)
        try:
            books.book(lambda ledger: booking.ended(ledger, ending))
        except GrafosError as error:
            with self.ledger() as local:
                if local.place.is_here:
                    local.write(booking.ended(local.ledger, ending))
                    return ""
                local.keep_waiting(ending)
            return error.what
        return ""

    def ledger_place(self) -> Place:
        """Where the ledger is kept."""
        with self.ledger() as local:
            return local.place

    def _books(self, place: Place) -> Books:
        if self._elsewhere is None:
            raise kept_elsewhere(place)
        return self._elsewhere(self)

    @contextlib.contextmanager
    def ledger(self) -> Iterator[LedgerTransaction]:
        """The ledger's file in this home, under an exclusive lock between all processes; what was written is durable
        when the block ends. ``book`` and ``read_ledger`` are for whoever wants the ledger wherever it is.

        An exception inside leaves the ledger as it was. ``fabric_invalid`` when it cannot be read or is missing,
        ``schema_newer``, and ``store_failed`` when the disk does not take it or another process does not let go of it.
        """
        had_one = self.about_file.exists()
        if had_one and (not self.ledger_file.exists() or self.ledger_file.stat().st_size == 0):
            raise _ledger_lost(self)
        file = RowFile(
            self.ledger_file,
            CODEC,
            noun="fabric's ledger",
            invalid_code="fabric_invalid",
            wait_s=LEDGER_WAIT_S,
        )
        with contextlib.closing(file), file.transaction():
            yield LedgerTransaction(file)

    @property
    def ledger_file(self) -> Path:
        """All the money of the fabric."""
        return self.home / LEDGER_NAME

    @property
    def about_file(self) -> Path:
        """Written last at the first use: from then on a missing ledger is a lost ledger."""
        return self.home / ABOUT_NAME


def open_fabric(
    clock: Clock,
    name: str = "default",
    announce: Callable[[str], object] = str,
    elsewhere: Elsewhere | None = None,
) -> Fabric:
    """The fabric of that name; made at first use, which ``announce`` is told in one line.

    ``elsewhere`` is the way to its ledger once that is kept elsewhere; without, it is then ``ledger_elsewhere``.

    Two processes that come first at once make one fabric. ``fabric_invalid`` when the key cannot be read.
    """
    home = fabric_home(name)
    key_file = home / KEY_NAME
    made = False
    if not key_file.exists():
        if known_id(home):
            raise _key_lost(home)
        private_folder(home)
        made = write_private_once(key_file, trust.key_to_pem(trust.new_key()))
    fabric = Fabric(home, name, _read_key(key_file), elsewhere)
    if not fabric.about_file.exists():
        _complete(fabric, clock)
    if made:
        announce(
            f"made fabric {name!r} ({fabric.id}) in {home}: cap {STARTING_CENTS:,} cents for cells, "
            f"{STARTING_CENTS:,} cents for runs"
        )
    return fabric


def fabric_home(name: str = "default") -> Path:
    """Where the fabric of that name keeps everything, whether or not it is there."""
    return data_home() / check_name("fabric", name)


def known_id(home: Path) -> str:
    """The id of the fabric that the home belongs to, told also when its key is missing; "" if none was ever here."""
    try:
        return str(json.loads((home / ABOUT_NAME).read_bytes())["id"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GrafosError(
            "fabric_invalid",
            "what the fabric is cannot be read",
            where=str(home / ABOUT_NAME),
            why=str(error) or type(error).__name__,
            next="restore the file from a backup",
        ) from error


def export_key(fabric: Fabric, file: Path) -> None:
    """Writes the fabric's key to ``file`` (0600), which must not be there yet: ``config_invalid``, ``store_failed``.

    Whoever has the key can tear down all that the fabric has, and sign as the fabric.
    """
    fabric.note_shared()
    try:
        written = write_private_once(file, trust.key_to_pem(fabric.key))
    except OSError as error:
        raise GrafosError(
            "store_failed", "the key could not be written", where=str(file), why=str(error), next="name another file"
        ) from error
    if not written:
        raise GrafosError("config_invalid", "there is such a file already", where=str(file), next="name another one")


def import_key(clock: Clock, file: Path, name: str = "default") -> Fabric:
    """The fabric of that name under the key in ``file``: made, or given back the key that it had lost.

    ``fabric_mismatch`` when the key, or the ledger, of another fabric is there; nothing of it is touched.
    """
    key = _read_key(file, next_step="export it again where the fabric is")
    home, wanted = fabric_home(name), fabric_id(key.public_key())
    there = known_id(home)
    if (home / KEY_NAME).exists():
        there = fabric_id(_read_key(home / KEY_NAME).public_key())
    ledger = home / LEDGER_NAME
    if there != wanted and (there or ledger.exists()):
        raise GrafosError(
            "fabric_mismatch",
            f"the key is that of {wanted}, and here is {there or 'the ledger of a fabric that nobody knows'}",
            where=str(home),
            next="import it under another user, or move that folder away first; its cells need it to be torn down",
        )
    private_folder(home)
    write_private_once(home / KEY_NAME, trust.key_to_pem(key))
    fabric = open_fabric(clock, name)
    fabric.note_shared()
    return fabric


def fabric_id(key: trust.PublicKey) -> FabricId:
    """Named by its key, so that nobody else's fabric has the same id."""
    return FabricId(f"fab-{trust.key_sha256(key)[:12]}")


def _complete(fabric: Fabric, clock: Clock) -> None:
    """What a first use makes beside the key; repeated when a crash came between."""
    with fabric.ledger() as transaction:
        for account in (OPERATOR_ACCOUNT, tenant_account("default")):
            if account not in transaction.ledger.accounts:
                cap = from_cents(STARTING_CENTS)
                transaction.write(ledgers.open_account(transaction.ledger, account, cap))
    about = {"schema_version": 1, "name": fabric.name, "id": fabric.id, "made_at": clock.now()}
    write_private(fabric.about_file, json.dumps(about, indent=1).encode())


def _read_key(path: Path, next_step: str = "") -> trust.PrivateKey:
    try:
        return trust.key_from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        raise GrafosError(
            "fabric_invalid",
            "the fabric's key cannot be read",
            where=str(path),
            why=str(error),
            next=next_step or "restore the file from a backup; without it grafos can tear down nothing of this fabric",
        ) from error


def _key_lost(home: Path) -> GrafosError:
    return GrafosError(
        "fabric_invalid",
        f"the key of {known_id(home)} is missing",
        where=str(home / KEY_NAME),
        why="without it nothing of the fabric can be proved its own, so a sweep only lists",
        next="grafos fabric key import FILE, with a file that was exported",
    )


def _ledger_lost(fabric: Fabric) -> GrafosError:
    return GrafosError(
        "fabric_invalid",
        "the fabric's ledger is missing or empty, and with it what is held and spent",
        where=str(fabric.ledger_file),
        next=f"restore it from a backup, or remove {fabric.about_file} to begin a new one: whole caps, nothing held",
    )
