"""Small modules of the profile as text: a frame with the four exports, and what is put into it."""

from __future__ import annotations

from collections.abc import Mapping

from wasmtime import wat2wasm

from grafos_cell import abi

MEMORY = '(memory (export "memory") 1)'
INIT = '(func (export "_grafos_tasklet_init") (param i32 i32))'
RUN = '(func (export "_grafos_tasklet_run") (param i32 i32) (result i32) (i32.const 0))'
FINALIZE = '(func (export "_grafos_tasklet_finalize"))'


def import_lines(modules: Mapping[str, Mapping[str, abi.Signature]] = abi.IMPORTS) -> str:
    """An import of every function of these modules, each under its own name."""
    return "\n".join(
        f'(import "{module}" "{name}" {str(signature).replace("(func", f"(func ${name}", 1)})'
        for module, functions in modules.items()
        for name, signature in functions.items()
    )


ALL_IMPORTS = import_lines()


def tasklet_text(
    run: str = "i32.const 0",
    *,
    init: str = "",
    finalize: str = "",
    top: str = "",
    memory: str = "1",
    imports: str | None = None,
    run_locals: str = "",
) -> str:
    """A module of the profile whose hooks have these bodies; ``$handle`` and ``$length`` are their parameters.

    Without ``imports`` it imports every function that there is.
    """
    return f"""(module
        {ALL_IMPORTS if imports is None else imports}
        (memory (export "memory") {memory})
        {top}
        (func (export "_grafos_tasklet_init") (param $handle i32) (param $length i32) {init})
        (func (export "_grafos_tasklet_run") (param $handle i32) (param $length i32) (result i32) {run_locals} {run})
        (func (export "_grafos_tasklet_finalize") {finalize}))"""


def tasklet(run: str = "i32.const 0", **parts: str) -> bytes:
    """As ``tasklet_text``, in the binary format."""
    return bytes(wat2wasm(tasklet_text(run, **parts)))


def bare_text(fields: str = "", *, memory: str = MEMORY, init: str = INIT, run: str = RUN, last: str = FINALIZE) -> str:
    """A module that imports nothing, whose parts can be left out and replaced."""
    return f"(module {fields} {memory} {init} {run} {last})"


def text_at(offset: int, text: str | bytes) -> str:
    """A data segment with these bytes at this offset."""
    raw = text.encode() if isinstance(text, str) else text
    escaped = "".join(rf"\{byte:02x}" for byte in raw)
    return f'(data (i32.const {offset}) "{escaped}")'


def constants(*values: int) -> str:
    """These numbers as arguments of a call."""
    return " ".join(f"(i32.const {value})" for value in values)


def call(name: str, *values: int) -> str:
    """A call of an import that takes numbers of 32 bits; its answer is left on the stack."""
    return f"(call ${name} {constants(*values)})"


def dropped(name: str, *values: int) -> str:
    """As ``call``, without the answer."""
    return f"(drop {call(name, *values)})"
