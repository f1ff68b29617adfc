"""What the imports of ``grafos_tasklet_v0`` do, and what a run leaves: sections 4.1, 4.2 and 5 of the ABI page."""

from __future__ import annotations

from grafos_cell import abi
from grafos_cell.conformance.case import Case, Expected
from grafos_cell.conformance.wat import call, dropped, tasklet_text, text_at

_PAGE = abi.PAGE_BYTES


def _answers(name: str, rule: str, code: str, answer: int, top: str = "", data: bytes = b"") -> Case:
    """The run hook returns what the call answered; answers below 0 are seen as program errors, and so is a count."""
    expected = Expected("program_error" if answer else "finished", returned=answer)
    return Case(name, rule, tasklet_text(code, top=top), expected, input=data)


def _read(name: str, values: tuple[int, int, int, int], answer: int) -> Case:
    return _answers(f"buffer-read-{name}", "4.2 buffer_read", call("buffer_read", *values), answer, data=b"input")


_IN_NO_MEMORY = call("output_write", 0, 0) + call("output_write", 0, 1)
_ALL_BUT_ONE_REFUSED = Expected("program_error", returned=abi.INVALID_ARGUMENT)

READ_CASES = (
    _read("shorter-than-asked", (2, 0, 0, 100), 5),
    _read("in-the-middle", (2, 3, 0, 100), 2),
    _read("nothing", (2, 0, 0, 0), 0),
    _read("at-the-end", (2, 5, 0, 100), 0),
    _read("behind-the-end", (2, 6, 0, 100), abi.INVALID_ARGUMENT),
    _read("offset-is-unsigned", (2, -1, 0, 1), abi.INVALID_ARGUMENT),
    _read("to-the-last-byte", (2, 0, _PAGE - 100, 100), 5),
    _read("over-the-last-byte", (2, 0, _PAGE - 99, 100), abi.INVALID_ARGUMENT),
    _read("range-wraps", (2, 0, -1, -1), abi.INVALID_ARGUMENT),
    _read("length-is-unsigned", (2, 0, 0, -1), abi.INVALID_ARGUMENT),
    Case("no-memory-at-all", "4.1", tasklet_text(f"{_IN_NO_MEMORY} i32.add", memory="0"), _ALL_BUT_ONE_REFUSED),
    _answers(
        "buffer-read-into-memory-that-grew",
        "4.2 buffer_read",
        f"(drop (memory.grow (i32.const 1))) {call('buffer_read', 2, 0, 2 * _PAGE - 5, 5)}",
        5,
        data=b"input",
    ),
    _answers(
        "a-refused-call-changes-nothing",
        "4.1",
        f"{dropped('buffer_read', 2, 0, _PAGE - 4, 5)} (i32.load (i32.const {_PAGE - 4}))",
        0,
        data=b"input",
    ),
    _answers("answer-a-count", "4.1 0 or more", call("buffer_read", 2, 0, 0, 5), 5, data=b"input"),
    _answers("answer-capacity-exceeded", "4.1 -4", call("log_write", 0, abi.LOG_ENTRY_BYTES_MAX + 1), -4),
    _answers("answer-invalid-argument", "4.1 -22", call("log_write", -1, 1), -22),
    _answers("handle-comes-before-range", "4.1", call("buffer_read", 9, 0, -1, -1), abi.INVALID_ARGUMENT),
    _answers("range-comes-before-limits", "4.1", call("output_write", 0, -1), abi.INVALID_ARGUMENT),
    _answers(
        "limits-come-before-fuel",
        "4.1",
        f"(memory.grow (i32.const 200)) drop {call('output_write', 0, abi.OUTPUT_BYTES_MAX + 1)}",
        abi.CAPACITY_EXCEEDED,
    ),
    Case(
        "fuel-comes-before-content",
        "4.1",
        tasklet_text(call("response_write", 0, 60_000)),
        Expected("fuel_exhausted", fuel_used=1000),
        fuel=1000,
    ),
    Case(
        "moving-bytes-costs-fuel",
        "4.1",
        tasklet_text(dropped("output_write", 0, 1000) + "(i32.const 0)"),
        Expected(fuel_used=1007),
    ),
    Case(
        "reading-costs-what-was-read",
        "4.1",
        tasklet_text(dropped("buffer_read", 2, 0, 0, 60_000) + "(i32.const 0)"),
        Expected(fuel_used=14),
        input=b"input",
    ),
)


def _response(name: str, text: str | bytes, expected: Expected, rule: str = "5 JSON") -> Case:
    raw = text.encode() if isinstance(text, str) else text
    source = tasklet_text(dropped("response_write", 0, len(raw)) + "(i32.const 0)", top=text_at(0, raw))
    return Case(f"json-{name}", rule, source, expected)


_REFUSED = Expected("response_invalid", response=b"")
_LEVELS, _DIGITS = abi.RESPONSE_DEPTH_MAX, abi.RESPONSE_DIGITS_MAX
_KEPT = ' {"a" : [1, 2.50, "\\u00e9é"], "a": null}\n'
_FILL = f"""(memory.fill (i32.const 0) (i32.const 32) (i32.const {abi.RESPONSE_BYTES_MAX}))
    (i32.store8 (i32.const 0) (i32.const 49))"""

RESPONSE_CASES = (
    _response("kept-byte-for-byte", _KEPT, Expected(response=_KEPT.encode()), "4.2 response_write"),
    _response("deepest", "[" * _LEVELS + "]" * _LEVELS, Expected()),
    _response("too-deep", "[" * (_LEVELS + 1) + "]" * (_LEVELS + 1), _REFUSED),
    _response("deep-attack", "[" * 60_000, _REFUSED),
    _response("longest-number", "1" * _DIGITS, Expected()),
    _response("number-too-long", "1" * (_DIGITS + 1), _REFUSED),
    _response("number-too-large", "1e309", _REFUSED),
    _response("half-a-pair", '"\\ud800"', _REFUSED),
    _response("byte-order-mark", b"\xef\xbb\xbf1", _REFUSED),
    _response("not-utf-8", b'"\xff"', _REFUSED),
    _response("nan", "NaN", _REFUSED),
    _response("two-values", "1 2", _REFUSED),
    _response("empty", "", _REFUSED),
    Case(
        "response-replaced",
        "4.2 response_write",
        tasklet_text(dropped("response_write", 0, 2) + call("response_write", 2, 2), top=text_at(0, "1122")),
        Expected(response=b"22"),
    ),
    Case("response-none", "5 response.json", tasklet_text(), Expected(response=b"null")),
    Case(
        "response-none-after-a-program-error",
        "5 response.json",
        tasklet_text("(i32.const 1)"),
        Expected("program_error", response=b""),
    ),
    Case(
        "response-at-its-limit",
        "10 response",
        tasklet_text(_FILL + call("response_write", 0, abi.RESPONSE_BYTES_MAX), memory="17"),
        Expected(response=b"1" + b" " * (abi.RESPONSE_BYTES_MAX - 1)),
        fuel=10**7,
    ),
    Case(
        "response-over-its-limit",
        "5",
        tasklet_text(_FILL + dropped("response_write", 0, abi.RESPONSE_BYTES_MAX + 1) + "(i32.const 0)", memory="17"),
        Expected("output_too_large", response=b""),
        fuel=10**7,
    ),
    Case(
        "response-made-good",
        "5",
        tasklet_text(dropped("response_write", 0, 1) + call("response_write", 1, 1), top=text_at(0, "{7")),
        Expected(response=b"7"),
    ),
    Case(
        "response-refused-keeps-the-earlier-one",
        "5",
        tasklet_text(dropped("response_write", 1, 1) + call("response_write", 0, 1), top=text_at(0, "{7")),
        Expected("program_error", returned=abi.INVALID_ARGUMENT, response=b"7"),
    ),
)

_HALF = dropped("output_write", 0, abi.OUTPUT_BYTES_MAX // 16)

OUTPUT_CASES = (
    Case(
        "output-is-appended",
        "4.2 output_write",
        tasklet_text(dropped("output_write", 0, 3) + call("output_write", 1, 2), top=text_at(0, b"\x00\xff\x01")),
        Expected(output=b"\x00\xff\x01\xff\x01"),
    ),
    Case(
        "output-after-a-program-error",
        "5 output.b64",
        tasklet_text(dropped("output_write", 0, 2) + "(i32.const 1)", top=text_at(0, "ab")),
        Expected("program_error", output=b"ab"),
    ),
    Case(
        "output-after-a-trap",
        "5 output.b64",
        tasklet_text(dropped("output_write", 0, 2) + "unreachable"),
        Expected("trapped", output=b""),
    ),
    Case(
        "output-at-its-limit",
        "10 output",
        tasklet_text(_HALF * 16 + "(i32.const 0)", memory="9"),
        Expected(output=bytes(abi.OUTPUT_BYTES_MAX)),
        fuel=10**7,
    ),
    Case(
        "output-one-byte-over",
        "5",
        tasklet_text(_HALF * 16 + dropped("output_write", 0, 1) + "(i32.const 0)", memory="9"),
        Expected("output_too_large", output=b""),
        fuel=10**7,
    ),
)

_FAIL_LONG = "(memory.fill (i32.const 0) (i32.const 120) (i32.const 5000))"

TEXT_CASES = (
    Case(
        "log-entries-are-lines",
        "4.2 log_write",
        tasklet_text(
            dropped("log_write", 0, 3) + dropped("log_write", 3, 3) + "(i32.const 0)", top=text_at(0, "onetwo")
        ),
        Expected(log="one\ntwo", is_log_cut=False),
    ),
    Case(
        "log-stays-after-a-trap",
        "5 log",
        tasklet_text(dropped("log_write", 0, 3) + "unreachable", top=text_at(0, "one")),
        Expected("trapped", log="one"),
    ),
    Case(
        "log-cannot-drive-a-terminal",
        "4.2",
        tasklet_text(dropped("log_write", 0, 9) + "(i32.const 0)", top=text_at(0, b"a\tb\nc\x1b[2\xff")),
        Expected(log="a\tb\nc\ufffd[2\ufffd"),
    ),
    Case(
        "fail-the-last-text-counts",
        "4.2 fail",
        tasklet_text(dropped("fail", 3, 4) + dropped("fail", 0, 3) + "(i32.const 1)", top=text_at(0, "a\nb----")),
        Expected("program_error", "a b"),
    ),
    Case(
        "fail-without-a-failure",
        "4.2 fail",
        tasklet_text(call("fail", 0, 4), top=text_at(0, "oops")),
        Expected(returned=0),
    ),
    Case(
        "fail-text-is-cut",
        "10 text of a program error",
        tasklet_text(_FAIL_LONG + dropped("fail", 0, 5000) + "(i32.const 1)"),
        Expected("program_error", "x" * abi.FAIL_TEXT_BYTES_MAX),
    ),
    Case(
        "clock-never-stands-still",
        "4.2 clock_ns",
        tasklet_text("(i32.wrap_i64 (i64.sub (call $clock_ns) (call $clock_ns)))"),
        Expected("program_error", returned=-1),
    ),
    Case(
        "clock-shows-the-fuel-used",
        "4.2 clock_ns",
        tasklet_text("(i64.store (i32.const 0) (call $clock_ns)) (call $output_write (i32.const 0) (i32.const 8))"),
        Expected(output=(4).to_bytes(8, "little")),
    ),
    Case(
        "fuel-remaining",
        "4.2 fuel_remaining",
        tasklet_text("(i32.wrap_i64 (call $fuel_remaining))"),
        Expected("program_error", returned=997),
        fuel=1000,
    ),
    Case(
        "out-of-memory-and-yet-done",
        "4.2 out_of_memory",
        tasklet_text("(call $out_of_memory (i64.const 1))"),
        Expected(returned=0),
    ),
)

CALL_CASES = (*READ_CASES, *RESPONSE_CASES, *OUTPUT_CASES, *TEXT_CASES)
