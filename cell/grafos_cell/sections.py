"""Reads the sections of a WebAssembly module: bounded, without executing or compiling anything.

The reader believes nothing: every length is checked against what is left, every count against a limit, and code is not
looked into at all. What it cannot read is an ``UnreadableError`` with the rule that was broken; it raises nothing else.
Source: WebAssembly core specification, binary format (sections 5.2 to 5.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

from grafos_cell import abi

MAGIC = b"\0asm"
CORE_VERSION = b"\x01\0\0\0"

Kind = Literal["func", "table", "memory", "global", "tag"]
KINDS: tuple[Kind, ...] = ("func", "table", "memory", "global", "tag")

# Sections come in this order; a custom section (0) may stand anywhere. Tag (13) and data count (12) were added later.
_ORDER = {section: rank for rank, section in enumerate((1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11))}
_TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _EXPORT, _START, _TAG = 1, 2, 3, 4, 5, 7, 8, 13

_VALUE_TYPES = {0x7F: "i32", 0x7E: "i64", 0x7D: "f32", 0x7C: "f64", 0x70: "funcref"}
_REFUSED_TYPES = {
    0x7B: "SIMD (v128)",
    0x6F: "references other than funcref (externref)",
    0x69: "exceptions (exnref)",
    0x63: "typed function references",
    0x64: "typed function references",
}
_REFUSED_FORMS = {
    0x4E: "garbage collection (recursive types)",
    0x4F: "garbage collection (subtypes)",
    0x50: "garbage collection (subtypes)",
    0x5D: "stack switching (continuations)",
    0x5E: "garbage collection (arrays)",
    0x5F: "garbage collection (structs)",
}
_COUNT_MAX = 1_000_000
"""Functions of a module: eight megabytes hold no more, and a list of so many numbers is small."""


class UnreadableError(Exception):
    """The bytes break ``rule`` (as named on the ABI page), at ``offset``."""

    def __init__(self, rule: str, what: str, offset: int) -> None:
        super().__init__(what)
        self.rule = rule
        self.what = what
        self.offset = offset


@dataclass(frozen=True)
class FunctionType:
    """Parameters and results, by the names of their value types."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def signature(self) -> abi.Signature:
        """As the ABI's tables have it; a value type that they never use makes it equal to none of them."""
        params, results = self.params, self.results
        return abi.Signature(cast("tuple[abi.ValueType, ...]", params), cast("tuple[abi.ValueType, ...]", results))


@dataclass(frozen=True)
class Limits:
    """Of a memory in pages, of a table in elements. ``maximum`` None: none declared."""

    minimum: int
    maximum: int | None
    is_shared: bool = False
    is_64_bit: bool = False
    has_page_size: bool = False


@dataclass(frozen=True)
class Import:
    module: str
    name: str
    kind: Kind
    type_index: int = 0  # of a function


@dataclass(frozen=True)
class Export:
    name: str
    kind: Kind
    index: int


@dataclass
class Sections:
    """What was read, in the order of the binary."""

    types: list[FunctionType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)  # a type index each
    tables: list[Limits] = field(default_factory=list)
    memories: list[Limits] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    has_start: bool = False
    has_tags: bool = False

    def type_of_import(self, imported: Import) -> FunctionType | None:
        """The type of an imported function; None when its index points nowhere."""
        return self.types[imported.type_index] if imported.type_index < len(self.types) else None

    def type_of_function(self, index: int) -> FunctionType | None:
        """The type of a function by its index, imports first; None when the index points nowhere."""
        imported = [one for one in self.imports if one.kind == "func"]
        if index < len(imported):
            return self.type_of_import(imported[index])
        index -= len(imported)
        if index >= len(self.functions) or self.functions[index] >= len(self.types):
            return None
        return self.types[self.functions[index]]


class Reader:
    """A position in the bytes that never passes ``end``."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self.data = data
        self.position = position
        self.end = end

    def malformed(self, what: str) -> UnreadableError:
        return UnreadableError("malformed", what, self.position)

    def byte(self) -> int:
        if self.position >= self.end:
            raise self.malformed("the section ends too early")
        value = self.data[self.position]
        self.position += 1
        return value

    def unsigned(self, bits: int = 32) -> int:
        """An unsigned LEB128 number of at most ``bits`` bits."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if value >> bits:
                raise self.malformed(f"a number has more than {bits} bits")
            if byte < 0x80:
                return value
            shift += 7
            if shift >= bits:
                raise self.malformed("a number has too many bytes")

    def count(self, maximum: int, of: str) -> int:
        """How many things follow; each takes at least one byte, so a count that cannot be true is seen at once."""
        value = self.unsigned()
        if value > self.end - self.position:
            raise self.malformed(f"it says {value} {of}, more than there are bytes")
        if value > maximum:
            raise UnreadableError("too_many", f"{value} {of}, more than {maximum}", self.position)
        return value

    def take(self, length: int) -> bytes:
        if length > self.end - self.position:
            raise self.malformed("a length points behind the end")
        taken = self.data[self.position : self.position + length]
        self.position += length
        return taken

    def name(self) -> str:
        raw = self.take(self.unsigned())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.malformed("a name is not UTF-8") from None

    def refused(self, proposal: str) -> UnreadableError:
        return UnreadableError("proposal", proposal, self.position - 1)

    def value_type(self) -> str:
        byte = self.byte()
        if byte in _VALUE_TYPES:
            return _VALUE_TYPES[byte]
        if byte in _REFUSED_TYPES:
            raise self.refused(_REFUSED_TYPES[byte])
        if 0x68 <= byte <= 0x74:
            raise self.refused("garbage collection (reference types)")
        raise self.malformed(f"0x{byte:02x} is no value type")

    def limits(self) -> Limits:
        flags = self.byte()
        if flags > 0x0F:
            raise self.malformed(f"0x{flags:02x} are no limits")
        bits = 64 if flags & 4 else 32
        minimum = self.unsigned(bits)
        maximum = self.unsigned(bits) if flags & 1 else None
        if flags & 8:
            self.unsigned()
        return Limits(minimum, maximum, bool(flags & 2), bool(flags & 4), bool(flags & 8))

    def table(self) -> Limits:
        if self.position < self.end and self.data[self.position] == 0x40:
            self.byte()
            raise self.refused("typed function references (tables with initial values)")
        if self.value_type() != "funcref":
            raise self.malformed("a table holds something other than references")
        limits = self.limits()
        if limits.is_64_bit:
            raise self.refused("memory64 (64-bit tables)")
        return limits


def read_sections(data: bytes) -> Sections:
    """The sections of a core module that matter to the ABI; ``UnreadableError`` for anything else."""
    if data[:4] != MAGIC:
        raise UnreadableError("not_wasm", "the bytes do not begin as WebAssembly does", 0)
    if data[4:8] != CORE_VERSION:
        if len(data) >= 8 and data[6:8] == b"\x01\0":
            raise UnreadableError("component", "a component of the component model, not a core module", 4)
        raise UnreadableError("not_wasm", f"version {data[4:8].hex() or 'missing'}, not 1", 4)
    sections = Sections()
    outer = Reader(data, 8, len(data))
    last_rank = -1
    while outer.position < outer.end:
        section = outer.byte()
        length = outer.unsigned()
        if length > outer.end - outer.position:
            raise outer.malformed(f"section {section} is longer than the module")
        inner = Reader(data, outer.position, outer.position + length)
        if section == 0:
            inner.name()
        else:
            last_rank = _next_rank(section, last_rank, outer)
            _read_section(section, inner, sections)
        outer.position = inner.end
    return sections


def _next_rank(section: int, last_rank: int, reader: Reader) -> int:
    rank = _ORDER.get(section)
    if rank is None:
        raise reader.malformed(f"there is no section {section}")
    if rank <= last_rank:
        raise reader.malformed(f"section {section} is doubled or out of order")
    return rank


def _read_section(section: int, reader: Reader, sections: Sections) -> None:
    if section == _TYPE:
        sections.types = [_function_type(reader) for _ in range(reader.count(abi.TYPES_MAX, "types"))]
    elif section == _IMPORT:
        sections.imports = [_import(reader) for _ in range(reader.count(abi.IMPORTS_MAX, "imports"))]
    elif section == _FUNCTION:
        sections.functions = [reader.unsigned() for _ in range(reader.count(_COUNT_MAX, "functions"))]
    elif section == _TABLE:
        sections.tables = [reader.table() for _ in range(reader.count(_COUNT_MAX, "tables"))]
    elif section == _MEMORY:
        sections.memories = [reader.limits() for _ in range(reader.count(_COUNT_MAX, "memories"))]
    elif section == _EXPORT:
        sections.exports = [_export(reader) for _ in range(reader.count(abi.EXPORTS_MAX, "exports"))]
    elif section == _START:
        sections.has_start = True
        reader.unsigned()
    elif section == _TAG:
        sections.has_tags = True
        return
    else:
        return  # globals, elements, code and data: the compiler's business
    if reader.position != reader.end:
        raise reader.malformed(f"section {section} has bytes left over")


def _function_type(reader: Reader) -> FunctionType:
    form = reader.byte()
    if form in _REFUSED_FORMS:
        raise reader.refused(_REFUSED_FORMS[form])
    if form != 0x60:
        raise reader.malformed(f"0x{form:02x} is no type")
    params = tuple(reader.value_type() for _ in range(reader.count(1000, "parameters")))
    results = tuple(reader.value_type() for _ in range(reader.count(1000, "results")))
    return FunctionType(params, results)


def _kind(reader: Reader) -> Kind:
    byte = reader.byte()
    if byte >= len(KINDS):
        raise reader.malformed(f"0x{byte:02x} is no kind of import or export")
    return KINDS[byte]


def _import(reader: Reader) -> Import:
    module, name, kind = reader.name(), reader.name(), _kind(reader)
    type_index = 0
    if kind == "func":
        type_index = reader.unsigned()
    elif kind == "table":
        reader.table()
    elif kind == "memory":
        reader.limits()
    elif kind == "global":
        reader.value_type()
        reader.byte()
    else:
        reader.byte()
        reader.unsigned()
    return Import(module, name, kind, type_index)


def _export(reader: Reader) -> Export:
    return Export(reader.name(), _kind(reader), reader.unsigned())
