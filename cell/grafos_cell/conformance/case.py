"""A case of the suite, what is expected of it, and what was seen: records, and the comparison of the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from wasmtime import wat2wasm

from grafos_cell import abi
from grafos_cell.run import FINISHED, BlockLease, LeaseAnswer, LeaseCall, LeaseDesk, MemoryLease, RunOutcome, RunSpec
from grafos_core.ids import sha256_of

SHOWN_LENGTH_MAX = 60
"""Characters of bytes or of a text in the table."""
Bytes = bytes | Callable[[RunSpec], bytes]


class Expected(msgspec.Struct, frozen=True):
    """An end, and as much of what it leaves as the ABI fixes; None: it is not looked at.

    ``text`` is a part of the end's text. ``response`` and ``output`` may depend on what the run was given.
    """

    code: str = FINISHED
    text: str = ""
    hook: str = ""
    returned: int | None = None
    response: Bytes | None = None
    output: Bytes | None = None
    log: str | None = None
    is_log_cut: bool | None = None
    fuel_used: int | None = None
    memory_bytes: int | None = None


class Case(msgspec.Struct, frozen=True):
    """One module, one run of it, and its end.

    ``rule`` is the section of ``docs/reference/tasklet-abi.md`` and, where the section has several, the rule's name in
    it. ``source`` is WAT, or the bytes, or makes either. ``desk_status`` is what the holder of the run's leases says.
    """

    name: str
    rule: str
    source: str | bytes | Callable[[], str | bytes]
    expected: Expected = Expected()
    input: bytes | None = b""
    fuel: int = abi.FUEL_DEFAULT
    memory_bytes: int = abi.MEMORY_BYTES_DEFAULT
    deadline_s: float = abi.DEADLINE_S_DEFAULT
    memory_leases: tuple[MemoryLease, ...] = ()
    block_leases: tuple[BlockLease, ...] = ()
    desk_status: int = abi.OK

    def __repr__(self) -> str:
        return f"Case({self.name!r}, {self.rule!r})"  # some hold megabytes

    @property
    def section(self) -> str:
        return self.rule.partition(" ")[0]

    def module(self) -> bytes:
        made = self.source() if callable(self.source) else self.source
        return bytes(wat2wasm(made)) if isinstance(made, str) else made

    def spec(self, module: bytes) -> RunSpec:
        """What the run is given, where whoever runs it does not say where it runs."""
        context = abi.RunContext(
            "local", "local-7d2x0c", "here", "run-0a1b2c-3d4e5f-aaaaaaaaaaaaaaaa", self.name, sha256_of(module)
        )
        limits = self.fuel, self.memory_bytes, self.deadline_s
        return RunSpec(context, self.input, *limits, self.memory_leases, self.block_leases)

    def desk(self) -> LeaseDesk:
        """Holds the run's blocks, all zero, and says ``desk_status`` of its leases."""
        blocks: dict[tuple[int, int], bytes] = {}

        def answer(call: LeaseCall) -> LeaseAnswer:
            if self.desk_status != abi.OK:
                return LeaseAnswer(self.desk_status)
            place = call.slot, call.lba
            if call.operation == "block_write":
                blocks[place] = call.data
            return LeaseAnswer(abi.OK, 60.0, blocks.get(place, bytes(abi.BLOCK_BYTES)))

        return answer


class Row(NamedTuple):
    """A line of the table. ``seen`` says no more than ``expected`` does, and whatever is not as expected."""

    name: str
    rule: str
    expected: str
    seen: str
    is_as_expected: bool


def judge(case: Case, spec: RunSpec, outcome: RunOutcome, fields: Sequence[str] = Expected.__struct_fields__) -> Row:
    """Compares what was seen with what is expected of the case, in these fields."""
    wanted, seen, is_right = [], [], True
    for field in fields:
        value = getattr(case.expected, field)
        if callable(value):
            value = value(spec)
        found = getattr(outcome, field)
        if value is None or value == "":
            continue
        is_same = value in found if field == "text" else value == found
        is_right = is_right and is_same
        wanted.append(_shown(field, value))
        seen.append(_shown(field, value if field == "text" and is_same else found))
    return Row(case.name, case.rule, ", ".join(wanted), ", ".join(seen), is_right)


def _shown(field: str, value: object) -> str:
    if field == "code":
        return str(value)
    if isinstance(value, bytes) and len(value) > SHOWN_LENGTH_MAX:
        return f"{field} of {len(value)} bytes {sha256_of(value)[:12]}"
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    text = text.encode("unicode_escape").decode()
    return f"{field} {text if len(text) <= SHOWN_LENGTH_MAX else f'{text[:SHOWN_LENGTH_MAX]}…'}"
