"""A service that gives every client its bytes back: what a service looks like that never waits for one client alone."""

from __future__ import annotations

from wasmtime import wat2wasm

from grafos_cell.conformance.wat import tasklet_text

SESSIONS = 1024
PORT = 8080
_CHUNK_BYTES = 4096
_PAGES = 66
"""The table of sessions in the first one, then a chunk for each."""

# A session's entry: its handle (0: free), where in its chunk the bytes begin that it has yet to get, and how many.
_TOP = f"""
(func $entry (param $h i32) (result i32) (local $at i32)
    (loop $next
        (if (i32.eq (i32.load (local.get $at)) (local.get $h)) (then (return (local.get $at))))
        (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 16))) (i32.const {16 * SESSIONS}))))
    (unreachable))
(func $chunk (param $e i32) (result i32)
    (i32.add (i32.const 65536) (i32.mul (local.get $e) (i32.const {_CHUNK_BYTES // 16}))))
(func $send (param $h i32) (param $e i32) (local $taken i32)
    (local.set $taken (call $svc_write (local.get $h)
        (i32.add (call $chunk (local.get $e)) (i32.load offset=4 (local.get $e)))
        (i32.load offset=8 (local.get $e))))
    (if (i32.lt_s (local.get $taken) (i32.const 0)) (then (return (call $drop (local.get $h) (local.get $e)))))
    (i32.store offset=4 (local.get $e) (i32.add (i32.load offset=4 (local.get $e)) (local.get $taken)))
    (i32.store offset=8 (local.get $e) (i32.sub (i32.load offset=8 (local.get $e)) (local.get $taken))))
(func $drop (param $h i32) (param $e i32)
    (drop (call $svc_close (local.get $h)))
    (i32.store (local.get $e) (i32.const 0)) (i32.store offset=8 (local.get $e) (i32.const 0)))
(func $take (param $h i32) (param $e i32) (local $n i32)
    (local.set $n (call $svc_read (local.get $h) (call $chunk (local.get $e)) (i32.const {_CHUNK_BYTES})))
    (if (i32.le_s (local.get $n) (i32.const 0)) (then (return (call $drop (local.get $h) (local.get $e)))))
    (i32.store offset=4 (local.get $e) (i32.const 0))
    (i32.store offset=8 (local.get $e) (local.get $n))
    ;; it has come
    (call $send (local.get $h) (local.get $e)))"""

_RUN = """
(if (i32.lt_s (call $svc_listen (i32.const 0) (i32.const {port}) (i32.const {sessions})) (i32.const 0))
    (then (return (i32.const 99))))
(loop $next
    (local.set $h (call $svc_wait (i32.const 1)))
    (if (i32.lt_s (local.get $h) (i32.const 0)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $h) (i32.const 1))
        (then
            (local.set $h (call $svc_accept (i32.const 1)))
            (i32.store (call $entry (i32.const 0)) (local.get $h))
            (br $next)))
    (local.set $e (call $entry (local.get $h)))
    (if (i32.load offset=8 (local.get $e))
        (then (call $send (local.get $h) (local.get $e)))
        (else (call $take (local.get $h) (local.get $e))))
    (br $next))
(unreachable)"""


CRASH = b"!"
"""With a piece that begins so, a service that crashes does."""
_CRASHES = f"""(if (i32.eq (i32.load8_u (call $chunk (local.get $e))) (i32.const {CRASH[0]})) (then (unreachable)))"""


def echo_text(sessions: int = SESSIONS, *, crashes: bool = False) -> str:
    """The service as text, for so many sessions at a time. ``crashes``: its clients can have it trap."""
    run = _RUN.format(port=PORT, sessions=sessions)
    top = _TOP.replace(";; it has come", _CRASHES if crashes else "")
    return tasklet_text(run, top=top, memory=str(_PAGES), run_locals="(local $h i32) (local $e i32)")


def echo_module(sessions: int = SESSIONS, *, crashes: bool = False) -> bytes:
    """As ``echo_text``, in the binary format."""
    return bytes(wat2wasm(echo_text(sessions, crashes=crashes)))
