"""What every call of every emulated cloud passes through: time, hook, faults, journal."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from grafos_emulators.faults import Effect, ErrorClass, Fault, FaultPlan, carried
from grafos_emulators.http import DropConnectionError, Response
from grafos_emulators.journal import Call, Journal
from grafos_emulators.world import World

BEFORE, AFTER_EFFECT = "before", "after-effect"
LONGEST_DELAY_S = 120.0


@dataclass(frozen=True)
class CloudCall:
    """One call, in words that all clouds share. ``fields`` is what fault rules may match (``machine_type``, ``name``);
    ``token`` is the caller's idempotency token; ``mutating``: the call may change something (a dry run may not).
    ``begins``, ``launches`` and ``spot`` say what of the fault plan it can carry out, see ``faults.carried``."""

    provider: str
    service: str
    operation: str
    region: str
    mutating: bool
    request_id: str
    zone: str = ""
    token: str = ""
    dry_run: bool = False
    begins: bool = True
    launches: bool = False
    spot: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)


class Hook(Protocol):
    """Told of each mutating call, ``before`` it is done and ``after-effect``, when only the answer is missing.

    It may raise ``DropConnectionError``: the connection breaks without an answer, in the first phase without effect.
    """

    def __call__(self, phase: str, action: str, parameters: Mapping[str, Any]) -> None: ...


Act = Callable[[Fault | None], Response]
"""Carries the call out, with the fault that it must carry out itself."""
Refuse = Callable[[Fault], Response]
"""Says an error of a class in the cloud's own words."""
CodeOf = Callable[[Response], str]


def status_code(response: Response) -> str:
    """What the journal says of an answer whose body nobody reads."""
    return "ok" if response.status < 400 else f"HTTP{response.status}"


class Gate:
    """``hook`` may be set and cleared at any time. Nothing here holds the world's lock while a call is carried out."""

    def __init__(self, world: World, journal: Journal, faults: FaultPlan) -> None:
        self.world = world
        self.faults = faults
        self.hook: Hook | None = None
        self._journal = journal

    def pass_through(self, call: CloudCall, act: Act, refuse: Refuse, code_of: CodeOf = status_code) -> Response:
        """The answer to a call; ``DropConnectionError`` when there is none. It stands in the journal in every case."""
        self.world.catch_up()
        try:
            response = self._passed(call, act, refuse)
        except DropConnectionError:
            self._note(call, 0, "dropped")
            raise
        except Exception as bug:  # noqa: BLE001  whatever it is, the client gets an answer and the journal a line
            traceback.print_exception(bug, file=sys.stderr)
            response = refuse(Fault(Effect.REFUSE, ErrorClass.INTERNAL))
        self._note(call, response.status, code_of(response))
        return response

    def _passed(self, call: CloudCall, act: Act, refuse: Refuse) -> Response:
        hook = self.hook if call.mutating else None
        if hook is not None:
            hook(BEFORE, call.operation, call.fields)
        can = carried(mutating=call.mutating, begins=call.begins, launches=call.launches, spot=call.spot)
        fault = self.faults.draw(call.provider, call.operation, call.fields, can)
        match fault.effect if fault is not None else None:
            case Effect.REFUSE:
                assert fault is not None
                return refuse(fault)
            case Effect.LOST_REQUEST:
                raise DropConnectionError
            case Effect.DELAY:
                assert fault is not None
                time.sleep(min(fault.after_s, LONGEST_DELAY_S))
            case _:
                pass
        response = act(fault)
        if hook is not None:
            hook(AFTER_EFFECT, call.operation, call.fields)
        if fault is not None and fault.effect is Effect.LOST_ANSWER:
            raise DropConnectionError
        return response

    def _note(self, call: CloudCall, status: int, result: str) -> None:
        self._journal.add(
            Call(
                at=self.world.clock.now(),
                provider=call.provider,
                service=call.service,
                action=call.operation,
                region=call.region,
                token=call.token,
                mutating=call.mutating,
                dry_run=call.dry_run,
                status=status,
                result=result,
                request_id=call.request_id,
            )
        )
