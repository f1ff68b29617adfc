"""The crates below sdk/: their own tests on this machine, and what their tasklets do as modules in a runtime."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from rust_programs import lay_out, module_of, sdk_program, session_folder
from source_tree import ROOT
from tasklets import context_of, run_tasklet

from grafos_cell.module import check_module, compile_check
from grafos_cell.run import RunOutcome
from grafos_cli.languages import rust
from grafos_cli.scaffolding import CRATES
from grafos_core.errors import GrafosError

pytestmark = [pytest.mark.needs("rust"), pytest.mark.timeout(600)]
"""A cold build of everything takes seconds here and minutes on a small busy machine."""


def cargo(*words: str, folder: Path, target: str = "sdk-target") -> subprocess.CompletedProcess[str]:
    toolchain = rust.find(folder)
    return subprocess.run(
        [*toolchain.command, *words],
        cwd=folder,
        env={
            **rust.base_environment(toolchain),
            "CARGO_TARGET_DIR": str(session_folder() / target),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_crates_own_tests_pass() -> None:
    """And the examples of their documentation: cargo is started once for all."""
    packages = [word for crate in ("sdk-tests", *CRATES) for word in ("--package", crate)]
    done = cargo("test", "--offline", "--locked", *packages, folder=sdk_program().folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert rust.read_counts(done.stdout)[0] > 70
    assert "warning" not in done.stderr
    with_examples = set(re.findall(r"^test vendor/([\w-]+)/src/\S+ - .* \.\.\. ok$", done.stdout, re.MULTILINE))
    assert with_examples == set(CRATES) - {"grafos-macros"}


def ran(tasklet: str, data: bytes | None = b"", **limits: object) -> RunOutcome:
    return run_tasklet(module_of(sdk_program(), tasklet), data, **{"fuel": 50_000_000, **limits})


def test_a_module_passes_the_static_check_and_imports_what_it_uses() -> None:
    module = module_of(sdk_program(), "echo")
    facts = check_module(module)
    assert facts.findings == ()
    assert {one.module for one in facts.imports} == {"grafos_tasklet_v0"}
    compile_check(module)


def test_the_whole_input_comes_in_and_output_log_and_response_go_out() -> None:
    outcome = ran("echo", b"\x00\xffabc", fuel=500_000)
    assert (outcome.code, outcome.response, outcome.output) == ("finished", b"5", b"\x00\xffabc")
    assert outcome.log == "read 5 bytes"


def test_the_context_is_the_cells() -> None:
    module = module_of(sdk_program(), "place")
    outcome = run_tasklet(module, b"")
    assert outcome.response == context_of(module).to_json()


def test_a_tasklet_without_a_parameter_copies_no_input() -> None:
    large = ran("last-byte", bytes(5_000_000) + b"z")
    assert large.output == b"z"
    assert large.fuel_used - ran("last-byte", b"z").fuel_used < 100


def test_a_failure_is_a_program_error_with_its_text() -> None:
    outcome = ran("never-empty")
    assert (outcome.code, outcome.text, outcome.returned) == ("program_error", "empty_append", 1)


def test_a_panic_traps_and_its_reason_is_in_the_log() -> None:
    outcome = ran("panics", b"short")
    assert outcome.code == "trapped"
    assert "index out of bounds: the len is 5 but the index is 1000" in outcome.log
    assert re.search(r"panicked at src/lib\.rs:\d+", outcome.log)


def test_memory_that_is_refused_is_memory_exceeded() -> None:
    outcome = ran("hungry", memory_bytes=16 * 1024 * 1024)
    assert outcome.code == "memory_exceeded"
    assert "2 blocks" in outcome.log


def test_clock_and_fuel_are_those_of_the_run() -> None:
    assert ran("times").response == b"[true,true]"


def test_a_run_without_leases_has_no_memory() -> None:
    outcome = ran("leased", b"x")
    assert (outcome.code, outcome.text) == ("program_error", "unsupported")


def test_a_response_that_is_no_json_is_refused_by_the_cell() -> None:
    assert ran("no-json").code == "response_invalid"


BAD_TASKLETS = {
    "fn one() {}": "a tasklet gives an `Output`, or a `Result` of one: add `-> Output`",
    "fn one(input: &str) -> Output { todo() }": "a tasklet's input is `&[u8]`",
    "fn one(input: &mut [u8]) -> Output { todo() }": "a tasklet's input is `&[u8]`",
    "fn one(input: Vec<u8>) -> Output { todo() }": "a tasklet's input is `&[u8]`",
    "fn one(a: &[u8], b: &[u8]) -> Output { todo() }": "a tasklet takes its input and nothing else",
    "fn one<T>(input: &[u8]) -> Output { todo() }": "a tasklet cannot be generic",
    "async fn one(input: &[u8]) -> Output { todo() }": "a tasklet cannot be `async`",
    "unsafe fn one(input: &[u8]) -> Output { todo() }": "a tasklet cannot be `unsafe`",
    'extern "C" fn one(input: &[u8]) -> Output { todo() }': "a tasklet is a Rust function, without `extern`",
    "const fn one() -> Output { todo() }": "a tasklet cannot be `const`",
    "struct One;": "only a function can be a tasklet",
    "fn one(input: &[u8]) -> u32 { 1 }": "a tasklet cannot give `u32`",
    "fn one(input: &[u8]) -> Result<Vec<u8>, u8> { todo() }": "a tasklet cannot give `Result<Vec<u8>, u8>`",
}
BAD_DERIVES = {
    "enum One { A }": "ToJson can be derived for a struct with named fields; for anything else",
    "struct One(u8);": "ToJson can be derived for a struct with named fields",
    "struct One<T> { a: T }": "and without parameters",
    "struct One { a: fn() -> std::io::Error }": "is not satisfied",
}


def test_a_wrong_signature_is_told_where_it_stands_and_what_to_write(tmp_path: Path) -> None:
    """All mistakes in one crate, each in a module of its own, so that the compiler is started once."""
    samples = [f"#[grafos_std::tasklet] {code}" for code in BAD_TASKLETS]
    samples.append("#[grafos_std::tasklet(fuel = 3)] fn one() -> Output { todo() }")
    samples += [f"#[derive(grafos_std::ToJson)] {code}" for code in BAD_DERIVES]
    wanted = [*BAD_TASKLETS.values(), "#[tasklet] takes no arguments", *BAD_DERIVES.values()]
    lines = [f"mod m{index} {{ use super::*; {code} }}" for index, code in enumerate(samples)]
    head = "#![allow(unused)]\nuse grafos_std::Output;\nfn todo<T>() -> T { loop {} }\n"
    program = lay_out(tmp_path / "p", head + "\n".join(lines) + "\n")
    done = cargo("check", "--offline", "--message-format", "json", folder=program.folder, target="bad-target")
    errors: dict[int, str] = {}
    for line in done.stdout.splitlines():
        message = json.loads(line).get("message") or {}
        for span in message.get("spans", []):
            if message["level"] == "error" and span["is_primary"]:
                outermost = span
                while outermost.get("expansion"):
                    outermost = outermost["expansion"]["span"]
                errors[outermost["line_start"]] = errors.get(outermost["line_start"], "") + message["message"]
    first = head.count("\n") + 1
    missing = {
        code: errors.get(first + index, "no error")
        for index, (code, text) in enumerate(zip(samples, wanted, strict=True))
        if text not in errors.get(first + index, "")
    }
    assert missing == {}


def test_a_mistake_in_the_head_is_the_only_error(tmp_path: Path) -> None:
    """The function stays known, so that nothing else fails because of it."""
    source = "#[grafos_std::tasklet]\nfn one(input: &str) -> grafos_std::Output { grafos_std::Output::empty() }\n"
    program = lay_out(tmp_path / "p", source + 'pub fn two() { one(""); }\n')
    with pytest.raises(GrafosError) as caught:
        module_of(program)
    assert caught.value.code == "build_failed"
    assert caught.value.why.count("error:") == 2  # the mistake, and cargo's last word
    assert "src/lib.rs:2" in caught.value.why


@pytest.mark.needs("serde")
def test_with_the_feature_output_takes_what_serde_can_serialize(tmp_path: Path) -> None:
    """A program outside of this repository: its lock file names the registry that its crates come from."""
    source = """\
use std::collections::HashMap;

use grafos_std::{Failure, Json, Output, ToJson};

#[grafos_std::tasklet]
pub fn one(input: &[u8]) -> Result<Output, Failure> {
    let question: HashMap<String, f64> = serde_json::from_slice(input)?;
    let more = Json::parse(b"[-1,2,2.5,null,true,{\\"a\\":\\"b\\"}]")?;
    Ok(Output::json((question, "text", more)))
}

/// Derived without serde, beside values of serde's.
#[derive(ToJson)]
struct Own { number: u32 }

#[grafos_std::tasklet]
pub fn two() -> Output { Output::json(Own { number: 7 }) }
"""
    program = lay_out(tmp_path / "p", source, "one", "two")
    (program.folder / "Cargo.lock").unlink()
    cargo_toml = program.folder / "Cargo.toml"
    more = '", features = ["serde"] }\nserde_json = "1"\n'
    cargo_toml.write_text(cargo_toml.read_text().replace('grafos-std" }\n', "grafos-std" + more))
    outcome = run_tasklet(module_of(program, "one"), b'{"x": 0.5}')
    assert outcome.response == b'[{"x":0.5},"text",[-1,2,2.5,null,true,{"a":"b"}]]'
    wrong = run_tasklet(module_of(program, "one"), b"{")
    assert (wrong.code, wrong.text) == ("program_error", "EOF while parsing an object at line 1 column 1")
    assert run_tasklet(module_of(program, "two"), b"").response == b'{"number":7}'


def test_the_sdk_asks_for_no_crate_of_others_unless_told_to() -> None:
    lock = (ROOT / "tests" / "sdk" / "crate" / "Cargo.lock").read_text()
    assert re.findall(r'^name = "(.*)"$', lock, re.MULTILINE) == [*CRATES, "sdk-tests"]
