"""The static check of a module against ``tasklet-profile-v0``: nothing is run, nothing is compiled.

``check_module`` tells what a module is and everything that is wrong with it. ``grafos validate`` shows that; the cell
calls the same function again before it runs anything. ``compile_check`` adds what only the compiler can see.
The rules are those of ``docs/reference/tasklet-abi.md``, section 9.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter

import msgspec

from grafos_cell import abi
from grafos_cell.sections import FunctionType, Import, Kind, Sections, UnreadableError, read_sections
from grafos_core.errors import GrafosError

TYPE_TEXT_MAX = 200
"""Characters of a function's type."""
FINDINGS_MAX = 50
"""A person reads the first few; a hostile module gets no longer report than this."""


class Finding(msgspec.Struct, frozen=True):
    """One broken rule. ``code`` is the error code with which the module is refused because of it."""

    rule: str
    what: str
    next: str = ""
    code: str = "module_invalid"


class ImportFact(msgspec.Struct, frozen=True):
    """``type`` is that of a function in the text format, empty for other kinds."""

    module: str
    name: str
    kind: Kind
    type: str = ""


class ExportFact(msgspec.Struct, frozen=True):
    """As ``ImportFact``."""

    name: str
    kind: Kind
    type: str = ""


class ModuleFacts(msgspec.Struct, frozen=True):
    """What a module is. Sizes in bytes; a ``memory_max_bytes`` of None means that the module declares none."""

    sha256: str
    size_bytes: int
    imports: tuple[ImportFact, ...] = ()
    exports: tuple[ExportFact, ...] = ()
    memory_min_bytes: int = 0
    memory_max_bytes: int | None = None
    findings: tuple[Finding, ...] = ()

    def refuse_if_found(self) -> None:
        """Raises the first finding as ``module_invalid`` or ``memory_exceeded``; the others are in its context."""
        if not self.findings:
            return
        first, others = self.findings[0], len(self.findings) - 1
        raise GrafosError(
            first.code,
            first.what + (f" (and {others} more)" if others else ""),
            where=f"module {self.sha256[:12]}",
            next=first.next,
            context={"findings": [msgspec.to_builtins(finding) for finding in self.findings]},
        )


def check_module(data: bytes, memory_limit_bytes: int = abi.MEMORY_BYTES_DEFAULT) -> ModuleFacts:
    """The facts about the bytes, with a finding for each broken rule. Raises nothing, whatever the bytes are."""
    facts = ModuleFacts(hashlib.sha256(data).hexdigest(), len(data))
    if len(data) > abi.MODULE_BYTES_MAX:
        what = f"the module has {len(data)} bytes, more than {abi.MODULE_BYTES_MAX}"
        return _with(facts, [Finding("too_large", what, "build it for size, and keep data out of the module")])
    try:
        sections = read_sections(data)
    except UnreadableError as unreadable:
        return _with(facts, [_finding_of(unreadable)])
    facts = msgspec.structs.replace(
        facts,
        imports=tuple(_import_fact(sections, one) for one in sections.imports),
        exports=tuple(
            ExportFact(
                one.name, one.kind, _type_text(sections.type_of_function(one.index)) if one.kind == "func" else ""
            )
            for one in sections.exports
        ),
        memory_min_bytes=sections.memories[0].minimum * abi.PAGE_BYTES if sections.memories else 0,
        memory_max_bytes=_maximum_bytes(sections),
    )
    findings = [
        *_check_exports(sections),
        *_check_imports(sections),
        *_check_memory(sections, memory_limit_bytes),
        *_check_tables(sections),
    ]
    if sections.has_start:
        findings.append(Finding("start", "the module has a start function", f"do that work in {abi.INIT_EXPORT}"))
    if sections.has_tags:
        findings.append(_refused_proposal("exceptions"))
    return _with(facts, findings)


def compile_check(data: bytes) -> None:
    """Compiles the bytes as the cell's workers do and keeps nothing; ``module_invalid`` with the compiler's words."""
    from grafos_cell.engine import Engine

    Engine().compile(data)


def _with(facts: ModuleFacts, findings: list[Finding]) -> ModuleFacts:
    return msgspec.structs.replace(facts, findings=tuple(findings[:FINDINGS_MAX]))


def _finding_of(unreadable: UnreadableError) -> Finding:
    if unreadable.rule == "proposal":
        return _refused_proposal(unreadable.what)
    nexts = {
        "not_wasm": "build the tasklet with `grafos tasklet build`",
        "component": "build a core module, without wrapping it as a component",
    }
    what = unreadable.what
    if unreadable.rule == "malformed":
        what = f"the module does not parse at byte {unreadable.offset}: {what}"
    return Finding(unreadable.rule, what, nexts.get(unreadable.rule, ""))


def _refused_proposal(proposal: str) -> Finding:
    what = f"the module uses {proposal}, which {abi.PROFILE} does not allow"
    return Finding("proposal", what, "switch the feature off in the compiler")


def _maximum_bytes(sections: Sections) -> int | None:
    maximum = sections.memories[0].maximum if sections.memories else None
    return None if maximum is None else maximum * abi.PAGE_BYTES


def _type_text(function: FunctionType | None) -> str:
    """The type in the text format; of one that nobody would write, the beginning."""
    text = str(function.signature()) if function else "(func of an unknown type)"
    return text if len(text) <= TYPE_TEXT_MAX else text[: TYPE_TEXT_MAX - 3] + "..."


def _import_fact(sections: Sections, imported: Import) -> ImportFact:
    text = _type_text(sections.type_of_import(imported)) if imported.kind == "func" else ""
    return ImportFact(imported.module, imported.name, imported.kind, text)


def _shown(name: str) -> str:
    """A name that a stranger chose, fit to stand in a line: quoted, without control characters, not long."""
    return repr(name if len(name) <= 60 else name[:57] + "...")


# --- exports --------------------------------------------------------------------------------------------------------


def _check_exports(sections: Sections) -> list[Finding]:
    exports = {one.name: one for one in sections.exports}
    findings = []
    memory = exports.get(abi.MEMORY_EXPORT)
    if memory is None:
        findings.append(_missing_export(abi.MEMORY_EXPORT, list(exports)))
    elif memory.kind != "memory":
        findings.append(Finding("export_type", f"the export {abi.MEMORY_EXPORT!r} is a {memory.kind}, not the memory"))
    for name, signature in abi.HOOKS.items():
        export = exports.get(name)
        if export is None:
            findings.append(_missing_export(name, list(exports)))
        elif export.kind != "func":
            findings.append(Finding("export_type", f"the export {name} is a {export.kind}, not a function"))
        else:
            found = sections.type_of_function(export.index)
            if found is None or found.signature() != signature:
                what = f"the export {name} is {_type_text(found)}, not {signature}"
                findings.append(Finding("export_type", what))
    return findings + _doubled_exports(sections)


def _doubled_exports(sections: Sections) -> list[Finding]:
    """The compiler would refuse them, too, and repeat a stranger's name as it is."""
    times = Counter(one.name for one in sections.exports)
    doubled = [name for name, count in times.items() if count > 1]
    return [Finding("export_doubled", f"two exports are called {_shown(name)}") for name in doubled[:FINDINGS_MAX]]


def _missing_export(name: str, there: list[str]) -> Finding:
    near = _nearest(name, there)
    what = f"the export {name!r} is missing"
    return Finding("export_missing", what, f"is {_shown(near)} meant to be it?" if near else "")


def _nearest(name: str, known: list[str]) -> str:
    # Long names cost the comparison its time squared; no name of ours is near to one of theirs.
    candidates = [one for one in known if len(one) <= 100]
    matches = difflib.get_close_matches(name[:100], candidates, n=1, cutoff=0.6)
    return matches[0] if matches else ""


# --- imports --------------------------------------------------------------------------------------------------------


def _check_imports(sections: Sections) -> list[Finding]:
    findings: list[Finding] = []
    first: dict[tuple[str, str], Import] = {}
    for imported in sections.imports:
        if len(findings) >= FINDINGS_MAX:
            break
        before = first.setdefault((imported.module, imported.name), imported)
        finding = _check_import(sections, imported) or _check_same(sections, before, imported)
        if finding is not None and finding not in findings:
            findings.append(finding)
    return findings


def _check_import(sections: Sections, imported: Import) -> Finding | None:
    label = f"{_shown(imported.module)}.{_shown(imported.name)}"
    if imported.kind != "func":
        return Finding("import_kind", f"the module imports a {imported.kind}, {label}", "import functions only")
    names = abi.IMPORTS.get(imported.module)
    if names is None:
        return _unknown_module(imported, label)
    found = sections.type_of_import(imported)
    signature = found.signature() if found else None
    if imported.module == abi.GPU_MODULE:
        if signature is not None and abi.gpu_signature_allowed(signature):
            return None
        what = f"the import {label} is {_type_text(found)}; a GPU call takes numbers and returns one integer"
        return Finding("import_type", what)
    if imported.name not in names:
        near = _nearest(imported.name, list(names))
        what = f"the import {label} is unknown"
        return Finding(
            "import_unknown",
            what,
            f"did you mean {near}?" if near else f"{imported.module} has {', '.join(names)}",
        )
    if signature != names[imported.name]:
        what = f"the import {label} is {_type_text(found)}, not {names[imported.name]}"
        return Finding("import_type", what)
    return None


def _check_same(sections: Sections, before: Import, imported: Import) -> Finding | None:
    """A function has one type, however often it is imported."""
    types = [sections.type_of_import(one) for one in (before, imported)]
    if types[0] == types[1]:
        return None
    label = f"{_shown(imported.module)}.{_shown(imported.name)}"
    return Finding("import_type", f"the import {label} is {_type_text(types[0])} and also {_type_text(types[1])}")


def _unknown_module(imported: Import, label: str) -> Finding:
    what = f"the import {label} is of a module that no cell provides"
    if imported.module.startswith("wasi"):
        return Finding("import_unknown", what, "there is no WASI: build for wasm32-unknown-unknown or -freestanding")
    near = _nearest(imported.module, list(abi.IMPORTS))
    return Finding(
        "import_unknown", what, f"did you mean {near}?" if near else f"the modules are {', '.join(abi.IMPORTS)}"
    )


# --- memory and tables ----------------------------------------------------------------------------------------------


def _check_memory(sections: Sections, limit_bytes: int) -> list[Finding]:
    if any(one.kind == "memory" for one in sections.imports):
        return []  # already a finding; what follows would only repeat it
    if len(sections.memories) != 1:
        return [Finding("memory_count", f"the module has {len(sections.memories)} memories, not exactly one")]
    memory = sections.memories[0]
    kinds = {
        "64-bit": memory.is_64_bit,
        "shared": memory.is_shared,
        "of custom page size": memory.has_page_size,
    }
    wrong = [kind for kind, is_so in kinds.items() if is_so]
    if wrong:
        return [Finding("memory_kind", f"the memory is {' and '.join(wrong)}")]
    minimum = memory.minimum * abi.PAGE_BYTES
    if minimum > limit_bytes:
        what = f"the module wants {minimum} bytes of memory to begin with, its limit is {limit_bytes}"
        return [Finding("memory_minimum", what, "raise memory_bytes in grafos.toml", "memory_exceeded")]
    return []


def _check_tables(sections: Sections) -> list[Finding]:
    if len(sections.tables) > abi.TABLES_MAX:
        return [Finding("table_limit", f"the module has {len(sections.tables)} tables, more than {abi.TABLES_MAX}")]
    largest = max((table.minimum for table in sections.tables), default=0)
    if largest > abi.TABLE_ELEMENTS_MAX:
        what = f"a table wants {largest} elements to begin with, more than {abi.TABLE_ELEMENTS_MAX}"
        return [Finding("table_limit", what)]
    return []
