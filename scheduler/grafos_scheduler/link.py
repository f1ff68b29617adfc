"""The scheduler's end of the cell link: frames over one TLS connection that the cell dialled.

The cell says ``Hello`` with its API token, and from then on each frame becomes an event of the scheduler. Frames are
decided in the order in which they came and persisted together. Whatever is wrong with a frame or with the peer ends
the link with a ``Goodbye`` that says why; the cell dials again and both sides compare what they have.

A link that says nothing for three heartbeats is closed, one whose certificate has run out is closed, and a cell that
does not read what it asked for is closed too, so that no buffer grows without bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import msgspec

from grafos_core import receipts, trust
from grafos_core.errors import GrafosError
from grafos_scheduler import enrolment, frames, framing
from grafos_scheduler.authorize import BEARER, CELL, Gate, authorize
from grafos_scheduler.blobs import BlobStore
from grafos_scheduler.credentials import Credentials
from grafos_scheduler.events import CellFaulted, CellSaid, LinkClosed, LinkOpened, RunReported
from grafos_scheduler.region_frames import RegionAnswer, RegionCall
from grafos_scheduler.region_relay import RegionRelay
from grafos_scheduler.service_events import InstanceReported, InstanceSaid
from grafos_scheduler.service_frames import (
    InstanceListening,
    InstanceLoad,
    ServiceUp,
    SessionCredit,
    SessionData,
    SessionEnd,
)
from grafos_scheduler.session_relay import SessionRelay
from grafos_scheduler.settings import Settings
from grafos_scheduler.shell import Shell

GATE = Gate(frozenset({CELL}), "cells:link")
HELLO_S_MAX = 10.0
"""From the connection to the end of ``Hello``."""
HELLO_BYTES_MAX = 1024 * 1024
"""What a peer may send before its hello is whole and holds: room for many thousands of ended runs in it."""
FRAMES_IN_WORK_MAX = 256
"""Frames of one link that wait for the disk; beyond this the link is not read."""
UNREAD_BYTES_MAX = 4 * framing.FRAME_BYTES_MAX
"""What a cell may leave unread before it is taken for dead."""
BLOBS_AT_ONCE_MAX = 4
FAREWELL_S_MAX = 5.0
"""For the goodbye, and what stands before it, to leave."""

log = logging.getLogger("grafos.link")

GARBAGE = frozenset({"limit_exceeded", "receipt_invalid", "request_invalid"})
"""What comes of bytes that no cell sends which works as it should."""
Heard = LinkOpened | RunReported | CellSaid | CellFaulted | InstanceSaid | InstanceReported
"""What a frame comes to for the scheduler's mind."""

_decoder = msgspec.msgpack.Decoder(frames.UpFrame)


class LinkServices:
    """What every link of one scheduler uses."""

    def __init__(self, settings: Settings, shell: Shell, credentials: Credentials, blobs: BlobStore) -> None:
        self.settings = settings
        self.shell = shell
        self.credentials = credentials
        self.blobs = blobs
        self.links: set[CellLink] = set()
        self.newest: dict[str, CellLink] = {}
        """Of each cell, once it has said hello."""
        self.sessions = SessionRelay(shell)
        self.regions = RegionRelay(shell)

    def accept(self, transport: asyncio.Transport, peer: trust.Peer) -> asyncio.Protocol:
        """The protocol of a connection that chose the link by ALPN."""
        link = CellLink(self, peer)
        link.connection_made(transport)
        return link

    def renew(self, cell_id: str, key_sha256: str, not_after: float) -> bool:
        """The cell has a newer certificate for its key, and with it proved that it has the key: so its link counts as
        long, and need not be broken to be dialled with it. Whether there is one."""
        link = self.newest.get(cell_id)
        return link is not None and link.renew(key_sha256, not_after)

    async def shut_down(self, within_s: float) -> None:
        """Says goodbye on every link: the scheduler is about to end. Returns once it is written that they ended, for
        the store takes nothing afterwards, or after ``within_s``."""
        links = list(self.links)
        for link in links:
            link.say_goodbye(GrafosError("interrupted", "the scheduler stops"))
        if links:
            await asyncio.wait([link.ended for link in links], timeout=within_s)


class CellLink(asyncio.Protocol):
    """One connection of one cell."""

    def __init__(self, services: LinkServices, peer: trust.Peer) -> None:
        self._services = services
        self._shell = services.shell
        self._peer = peer
        self._reader = framing.FrameReader()
        self._link_id = 0
        self._is_over = False
        self._unproved_bytes = 0
        self._in_work: dict[asyncio.Task[None], int] = {}
        self._frames_in_work = 0
        self._outgoing: list[bytes] = []
        self._blobs_at_once = asyncio.Semaphore(BLOBS_AT_ONCE_MAX)
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is gone and the scheduler knows."""
        self._transport: asyncio.Transport
        self._silence: asyncio.TimerHandle
        self._certificate_end: asyncio.TimerHandle

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport; uvloop's has another base class
        self._services.links.add(self)
        self._silence = asyncio.get_running_loop().call_later(HELLO_S_MAX, self._is_silent)
        self._certificate_end = self._expect_its_end()

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        heard: list[Heard] = []
        wrong: GrafosError | None = None
        try:
            if not self._link_id:
                self._count_unproved(len(data))
            was_heard = False
            for body in self._reader.feed(data):
                self._take(_decoder.decode(body), heard)
                was_heard = True
            if was_heard:
                self._expect_more()
        except GrafosError as error:
            wrong = error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            wrong = GrafosError("request_invalid", "a frame has no documented shape", why=str(error))
        if heard:
            self._work(self._handle(heard), len(heard))
        if wrong is not None:
            if self._link_id and wrong.code in GARBAGE:
                what = f"it sent what no cell sends: {wrong.what}"
                self._work(self._handle([CellFaulted(self._peer.name, self._link_id, wrong.code, what)]))
            self.say_goodbye(wrong)

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            log.info("the link of cell %s broke: %s", self._peer.name, exc)
        self._is_over = True
        self._has_room.set()
        self._silence.cancel()
        self._certificate_end.cancel()
        self._services.links.discard(self)
        if self._services.newest.get(self._peer.name) is self:
            del self._services.newest[self._peer.name]
        if self._link_id:
            self._services.regions.link_lost(self._peer.name, self, self._link_id)
            self._shell.drop_link(self._peer.name, self._link_id)
            self._services.sessions.link_lost(self._peer.name, self._link_id)
            self._work(self._closed())
        else:
            self.ended.set_result(None)

    def pause_writing(self) -> None:
        self._has_room.clear()

    def resume_writing(self) -> None:
        self._has_room.set()

    def renew(self, key_sha256: str, not_after: float) -> bool:
        """As ``LinkServices.renew``, for this link."""
        if self._is_over or self._peer.key_sha256 != key_sha256:
            return False
        self._peer = msgspec.structs.replace(self._peer, not_after=not_after)
        self._certificate_end.cancel()
        self._certificate_end = self._expect_its_end()
        return True

    # --- what the shell calls ---

    def send(self, frame: frames.DownFrame) -> None:
        """Queues a frame; a cell that leaves too much unread loses its link."""
        if self._is_over or self._transport.is_closing():
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(framing.encode_frame(frame))
        if isinstance(frame, frames.Goodbye):
            self._end()

    def close(self) -> None:
        """Ends the link because another has taken its place."""
        self.say_goodbye(GrafosError("cell_lost", "another link of this cell took the place of this one"))

    def say_goodbye(self, error: GrafosError) -> None:
        """Tells the cell why, and ends the link."""
        if not self._is_over:
            log.info("goodbye to cell %s: %s", self._peer.name, error)
            self.send(frames.Goodbye(error.code, error.what))

    def _end(self) -> None:
        """Closes the link once the goodbye is sent."""
        self._flush()
        self._is_over = True
        if self._link_id:  # a peer that is gone keeps the connection for some seconds more, and nobody waits for that
            self._shell.drop_link(self._peer.name, self._link_id)
            self._services.regions.link_lost(self._peer.name, self, self._link_id)
            self._services.sessions.link_lost(self._peer.name, self._link_id)
        self._transport.close()
        # Closing waits until everything is sent, and a peer that is gone never takes it.
        asyncio.get_running_loop().call_later(FAREWELL_S_MAX, self._transport.abort)

    def _flush(self) -> None:
        """Writes what was queued, in one piece: one sync of the disk often settles many frames at once."""
        if not self._outgoing:
            return
        self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()
        if self._transport.get_write_buffer_size() > UNREAD_BYTES_MAX:
            log.warning("cell %s does not read what is sent to it", self._peer.name)
            self._transport.abort()

    # --- frames ---

    def _take(self, frame: frames.UpFrame, heard: list[Heard]) -> None:
        """Begins work on a frame, or notes in ``heard`` what is to be decided."""
        if self._is_over:
            return
        now = self._shell.clock.now()
        if self._peer.not_after <= now:
            raise _ran_out()
        if (self._link_id == 0) != isinstance(frame, frames.Hello):
            raise GrafosError("request_invalid", "a link begins with one hello")
        if isinstance(frame, frames.Hello):
            self._check_hello(frame, now)
            self._link_id = self._shell.add_link(self._peer.name, self)
            self._services.newest[self._peer.name] = self
            heard.append(LinkOpened(self._link_id, frame, self._peer.key_sha256))
        elif isinstance(frame, frames.BlobWanted):
            self._work(self._send_blob(frame.sha256))
        elif isinstance(frame, RegionCall):
            self._work(self._services.regions.call(self._peer.name, self, frame))
        elif isinstance(frame, RegionAnswer):
            self._services.regions.answered(self._peer.name, frame)
        elif isinstance(frame, frames.RunEnded):
            receipt = self._open_receipt(frame)
            heard.append(RunReported(self._peer.name, self._link_id, frame, receipt))
        elif isinstance(frame, ServiceUp):
            self._take_of_service(frame, heard)
        else:
            heard.append(CellSaid(self._peer.name, self._link_id, frame))

    def _take_of_service(self, frame: ServiceUp, heard: list[Heard]) -> None:
        """A session's frame is passed on at once; what is said of an instance is to be decided."""
        if isinstance(frame, SessionData | SessionEnd | SessionCredit):
            self._services.sessions.from_cell(self._peer.name, frame)
        elif isinstance(frame, InstanceListening | InstanceLoad):
            heard.append(InstanceSaid(self._peer.name, self._link_id, frame))
        else:
            of_instance = receipts.open_signed_by_cell(
                frame.receipt, receipts.InstanceReceipt, self._services.credentials.ca_pem, at_field="ended_at"
            )
            heard.append(InstanceReported(self._peer.name, self._link_id, frame, of_instance))

    def _check_hello(self, hello: frames.Hello, now: float) -> None:
        authorize(
            GATE,
            self._peer,
            BEARER + hello.api_token,
            fabric=self._services.settings.fabric,
            token_key=self._services.credentials.token_key,
            now=now,
        )
        enrolment.check_key(self._shell.state, self._peer.name, self._peer.key_sha256)
        if hello.cell_id != self._peer.name:
            raise GrafosError(
                "certificate_refused", f"the certificate is for cell {self._peer.name}, not for {hello.cell_id}"
            )

    def _open_receipt(self, ended: frames.RunEnded) -> receipts.RunReceipt:
        """The receipt, signed by a certificate that our CA issued for this very cell."""
        return receipts.open_signed_by_cell(
            ended.receipt, receipts.RunReceipt, self._services.credentials.ca_pem, at_field="ended_at"
        )

    async def _handle(self, heard: list[Heard]) -> None:
        """Tasks begin in the order in which they were made, and decide before they first wait: so the order holds."""
        try:
            outcomes = await self._shell.handle_all(heard)
        except GrafosError as error:
            self.say_goodbye(error)
            return
        for outcome in outcomes:
            if isinstance(outcome, GrafosError):
                self.say_goodbye(outcome)

    async def _closed(self) -> None:
        try:
            await self._shell.handle(LinkClosed(self._peer.name, self._link_id))
        except GrafosError as error:
            log.info("link of cell %s closed: %s", self._peer.name, error)
        finally:
            self.ended.set_result(None)

    async def _send_blob(self, sha256: str) -> None:
        """A cell gets what a run or an instance needs that is under way on it, and nothing else."""
        tenant = self._tenant_of(sha256)
        async with self._blobs_at_once:
            try:
                if tenant is None:
                    raise GrafosError("blob_missing", "no run and no instance on this cell needs the blob")
                # Blobs are large and can wait: a cell with a slow way here is not one that does not read.
                await self._has_room.wait()
                data = await self._services.blobs.get(tenant, sha256)
            except GrafosError as error:
                log.warning("cell %s wants blob %s: %s", self._peer.name, sha256, error)
                self.send(frames.BlobData(sha256, found=False))
            else:
                self.send(frames.BlobData(sha256, found=True, data=data))

    def _tenant_of(self, sha256: str) -> str | None:
        for run in self._shell.state.runs_at(self._peer.name):
            if sha256 in (run.request.module_sha256, run.request.input_sha256):
                return run.tenant
        for instance in self._shell.state.instances_at(self._peer.name):
            if sha256 == instance.spec.module_hash:
                return instance.tenant
        return None

    # --- bounds ---

    def _count_unproved(self, size: int) -> None:
        """Any certificate of our CA gets this far, and a frame may be much larger than a hello ever is."""
        self._unproved_bytes += size
        if self._unproved_bytes > HELLO_BYTES_MAX:
            raise GrafosError("limit_exceeded", f"a hello has at most {HELLO_BYTES_MAX} bytes")

    def _work(self, work: Coroutine[Any, Any, None], frame_count: int = 1) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._in_work[task] = frame_count
        self._count_in_work(frame_count)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._count_in_work(-self._in_work.pop(task))
        if not task.cancelled() and (bug := task.exception()) is not None:
            log.error("a frame of cell %s was not handled", self._peer.name, exc_info=bug)
            self.say_goodbye(GrafosError("internal", "the scheduler could not handle a frame"))

    def _count_in_work(self, more: int) -> None:
        was_full = self._frames_in_work >= FRAMES_IN_WORK_MAX
        self._frames_in_work += more
        is_full = self._frames_in_work >= FRAMES_IN_WORK_MAX
        if is_full != was_full and not self._is_over:
            (self._transport.pause_reading if is_full else self._transport.resume_reading)()

    def _expect_more(self) -> None:
        silence_max_s = self._shell.state.settings.silence_max_s
        self._silence.cancel()
        self._silence = asyncio.get_running_loop().call_later(silence_max_s, self._is_silent)

    def _expect_its_end(self) -> asyncio.TimerHandle:
        left_s = self._peer.not_after - self._shell.clock.now()
        return asyncio.get_running_loop().call_later(max(0.0, left_s), self._has_run_out)

    def _has_run_out(self) -> None:
        self.say_goodbye(_ran_out())

    def _is_silent(self) -> None:
        self.say_goodbye(GrafosError("cell_lost", "nothing was heard for too long"))


def _ran_out() -> GrafosError:
    return GrafosError("certificate_refused", "the cell's certificate ran out")
