"""One instance of a service at the daemon, from its module to its end: its process, and the way from the link to it.

Each byte that goes in or out is let through only while the listener lease lives by the cell's own clock, so an instance
that is fenced serves nothing, however late its process ends.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import msgspec

from grafos_cell import abi
from grafos_cell.broker_events import InstanceOver
from grafos_cell.broker_instances import FENCED
from grafos_cell.fetching import Fetcher
from grafos_cell.holdings import BOUND, BrokerState
from grafos_cell.pool import WorkerPool
from grafos_cell.run import LeaseAnswer, LeaseCall, RunSpec, check_spec
from grafos_cell.run_leases import RunLeases
from grafos_cell.service_messages import Listen, Serve, ToInstance
from grafos_cell.service_process import ServiceProcess
from grafos_cell.service_sessions import ProtocolError, Sessions, ToClient
from grafos_cell.worker_messages import Done
from grafos_cell.worker_process import CodeRefusedError, PoolLimits, WorkerLostError, is_sound, worker_command
from grafos_core.clock import Clock
from grafos_core.errors import GrafosError
from grafos_core.resources import LISTENER
from grafos_scheduler import frames
from grafos_scheduler.service_frames import (
    SESSION_WINDOW_BYTES,
    InstanceListening,
    InstanceLoad,
    SessionCredit,
    SessionData,
    SessionEnd,
    SessionOpen,
    StartInstance,
)

log = logging.getLogger("grafos.cell")

FromClient = SessionOpen | SessionData | SessionEnd | SessionCredit
TEXT_CHARACTERS_MAX = 4096
"""Of an end's text, as its frame has it."""
LINK_LOST = "scheduler_unreachable"
"""How sessions end whose link ended: bytes may have been lost with it."""


class Instance:
    """``serve`` is its whole life; the other methods are for whoever hears the link and lets time pass."""

    def __init__(
        self,
        start: StartInstance,
        state: BrokerState,
        leases: RunLeases,
        clock: Clock,
        send: Callable[[frames.UpFrame], None],
    ) -> None:
        self.start = start
        self.leases = leases
        self.stop_code = ""
        self._state = state
        self._clock = clock
        self._send = send
        self._process: ServiceProcess | None = None
        self._sessions = Sessions(start, clock.monotonic(), self._to_guest, self._to_client, self._is_behind)
        self._listener = next(lease for lease in start.leases if state.leases[lease].kind == LISTENER)

    # --- its life ---------------------------------------------------------------------------------------------------

    async def serve(self, pool: WorkerPool, fetcher: Fetcher) -> InstanceOver:
        """Starts the process and stays with it until it ends. Cancelled, it kills the process and is done."""
        try:
            self.leases.create_blocks()
            job = self._serve()
            code = await pool.code_of(await fetcher.fetch(self.start.module_sha256), self.start.module_sha256)
            process = await ServiceProcess.start(worker_command(), PoolLimits().start_s)
        except GrafosError as error:
            return self.over(error.code, error.what)
        except (WorkerLostError, OSError) as lost:
            return self.over("worker_lost", f"no process could be started: {lost}")
        try:
            self._sessions.has_begun(self._clock.monotonic())
            await process.begin(code, job, PoolLimits())
            self._process = process
            log.info("instance %s has process %d", self.start.instance_id, process.pid)
            return await self._stay_with(process)
        except CodeRefusedError as refused:
            return self.over("internal", f"the cell could not load the module that it compiled: {refused}")
        except WorkerLostError as lost:
            return self.over("worker_lost", f"the instance's process ended: {lost}")
        except ProtocolError as wrong:
            return self.over("worker_lost", f"the instance's process was ended: {wrong}")
        finally:
            self._process = None
            self._sessions.close(self.stop_code or "worker_lost")
            await process.end()

    async def _stay_with(self, process: ServiceProcess) -> InstanceOver:
        while not isinstance(message := await process.hear(), Done):
            if isinstance(message, LeaseCall):
                await process.answer(self.leases.answer(message))
            elif isinstance(message, Listen):
                await process.answer(self._listen(message))
            else:
                self._sessions.guest_said(message, self._clock.monotonic())
        outcome = message.outcome
        if not is_sound(outcome, self._sessions.fuel_given):
            raise ProtocolError("it told of an end that cannot be")
        if outcome.is_finished:
            self._sessions.end_in_order()
        else:
            self._sessions.close(outcome.code)
        return self.over(outcome.code, outcome.text, outcome.fuel_used, outcome.log)

    def _listen(self, message: Listen) -> LeaseAnswer:
        status = self.leases.listen_status(self._listener)
        if status == abi.OK:
            self._sessions.listens(message.max_sessions)
            self.tell()
        return LeaseAnswer(status)

    def _serve(self) -> Serve:
        start = self.start
        about = abi.ServiceContext(
            start.service, start.listener_port, start.max_sessions, start.instance_id, start.generation
        )
        context = abi.RunContext(
            provider=start.provider,
            cell_id=self._state.settings.cell_id,
            region=start.region,
            run_id=start.instance_id,
            tasklet=start.service,
            module_sha256=start.module_sha256,
            service=about,
        )
        spec = RunSpec(
            context=context,
            input=None,
            fuel=start.fuel_per_session,
            memory_bytes=start.memory_bytes,
            deadline_s=math.inf,
            memory_leases=self.leases.memory,
            block_leases=self.leases.blocks,
        )
        check_spec(msgspec.structs.replace(spec, deadline_s=abi.DEADLINE_S_MAX))  # it has none, and all other bounds
        return Serve(spec, start.listener_port, start.max_sessions, start.fuel_per_session, SESSION_WINDOW_BYTES)

    def over(self, code: str, what: str = "", fuel_used: int | None = None, log: str = "") -> InstanceOver:
        used = self._sessions.fuel_used if fuel_used is None else fuel_used
        instance_id = self.start.instance_id
        return InstanceOver(instance_id, code, what[:TEXT_CHARACTERS_MAX], used, self._sessions.served, log)

    # --- for whoever hears the link ---------------------------------------------------------------------------------

    def told(self, frame: FromClient) -> None:
        """A client's doing."""
        if not self._is_held():
            self._sessions.end_all(FENCED)
            if isinstance(frame, SessionOpen):
                self._send(SessionEnd(frame.session_id, FENCED))
            return
        now = self._clock.monotonic()
        match frame:
            case SessionOpen():
                self._sessions.begin(frame.session_id, now)
            case SessionData():
                self._sessions.client_sent(frame.session_id, frame.data, now)
            case SessionEnd():
                self._sessions.client_ended(frame.session_id, frame.code, now)
            case SessionCredit():
                self._sessions.client_took(frame.session_id, frame.n_bytes, now)

    def has(self, session_id: str) -> bool:
        return self._sessions.has(session_id)

    def tell(self) -> None:
        """Says that the instance listens, if it does."""
        if self._sessions.is_listening:
            self._send(InstanceListening(self.start.instance_id, self.start.generation))

    def tell_load(self) -> None:
        if self._sessions.is_listening:
            self._send(InstanceLoad(self.start.instance_id, self._sessions.open, self._sessions.fuel_used))

    def drain(self) -> None:
        self._sessions.drain()

    def stop(self, code: str) -> None:
        """Ends all sessions; whoever has the task of ``serve`` cancels it. The first code counts."""
        self.stop_code = self.stop_code or code
        self._sessions.close(self.stop_code)

    def unlinked(self) -> None:
        """Ends all sessions, since the link to their clients has ended."""
        self._sessions.end_all(LINK_LOST)

    def tick(self) -> str:
        """Lets time pass; the code with which the instance is to be ended, if it is."""
        if not self._is_held():
            self._sessions.end_all(FENCED)
            return FENCED
        return self._sessions.tick(self._clock.monotonic())

    # --- inside -----------------------------------------------------------------------------------------------------

    def _is_held(self) -> bool:
        """Whether the listener lease lives, by the cell's own clock, at this very moment."""
        lease = self._state.leases.get(self._listener)
        return (
            lease is not None
            and lease.state == BOUND
            and not lease.is_revoked
            and lease.run_id == self.start.instance_id
            and lease.expires_at > self._clock.now()
        )

    def _to_guest(self, message: ToInstance) -> None:
        if self._process is not None:
            self._process.say(message)

    def _is_behind(self) -> bool:
        return self._process is not None and self._process.is_behind

    def _to_client(self, frame: ToClient) -> None:
        if self._is_held():
            self._send(frame)
        elif isinstance(frame, SessionEnd):
            self._send(SessionEnd(frame.session_id, FENCED))
