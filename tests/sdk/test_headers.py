"""The headers for C and Zig: every call of the ABI with its type, and what programs do with them on a cell's calls."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from regions import OneRegion, run_on
from source_tree import ROOT

from grafos_cell import abi
from grafos_cell.module import check_module
from grafos_cli.languages import c, zig
from grafos_cli.manifest import load_program
from grafos_cli.scaffolding import HELPERS

pytestmark = pytest.mark.timeout(300)

MODULES = (abi.TASKLET_MODULE, abi.MEMORY_MODULE, abi.BLOCK_MODULE, abi.SERVICE_MODULE)

C_WITH_EVERY_CALL = """\
#include "grafos.h"

const char *run(struct grafos_buffer input) {
    char text[GRAFOS_REFERENCE_BYTES_MAX], block[GRAFOS_BLOCK_BYTES];
    uint64_t found = 0;
    int32_t length = grafos_read(input, 0, text, sizeof text);
    int32_t slot = length < 0 ? length : grafos_memory_attach(text, (size_t)length);
    if (slot < 0) return slot == GRAFOS_INVALID_ARGUMENT ? "no_region" : "not_attached";
    if (grafos_memory_fetch_add((uint32_t)slot, 8, 2, &found) < 0 || found != 0) return "fetch_add";
    if (grafos_memory_compare_exchange((uint32_t)slot, 8, 2, 7, &found) < 0 || found != 2) return "compare_exchange";
    if (grafos_memory_fetch_add((uint32_t)slot, 4, 1, &found) != GRAFOS_INVALID_ARGUMENT) return "crooked";
    if (grafos_memory_size((uint32_t)slot) != 64) return "size";
    if (grafos_memory_write((uint32_t)slot, 16, "hello", 5) < 0) return "write";
    if (grafos_memory_read((uint32_t)slot, 16, block, 5) < 0) return "read";
    if (grafos_memory_reference((uint32_t)slot, text, sizeof text) != length) return "reference";
    if (grafos_block_count(0) != GRAFOS_UNSUPPORTED) return "block_count";
    if (grafos_block_read(0, 0, block) != GRAFOS_UNSUPPORTED) return "block";
    if (grafos_block_write(0, 0, block) != GRAFOS_UNSUPPORTED) return "block";
    int32_t listener = grafos_listen(0, 8080, 1);
    if (listener != GRAFOS_UNSUPPORTED) {
        while (grafos_wait((uint32_t)listener) != GRAFOS_DRAINING) grafos_accept((uint32_t)listener);
        if (grafos_session_read(2, block, 1) > 0) grafos_session_write(2, block, 1);
        grafos_session_close(2);
    }
    if (grafos_clock_ns() == 0 || grafos_fuel_remaining() == 0) grafos_out_of_memory(1);
    grafos_log("all is well", 11);
    return grafos_write(block, 5) < 0 || grafos_respond("true", 4) < 0 ? "refused" : NULL;
}
"""
ZIG_WITH_EVERY_CALL = """\
const std = @import("std");
const grafos = @import("grafos.zig");

comptime {
    _ = grafos;
}

fn serve(block: *[grafos.block_bytes]u8) !void {
    const listener = try grafos.Listener.listen(8080, 1);
    while (true) {
        const session = listener.wait() catch |problem| switch (problem) {
            error.draining => return,
            else => return problem,
        } orelse try listener.accept();
        _ = try session.write(try session.read(block));
        try session.close();
    }
}

pub fn run(input: grafos.Buffer) !void {
    var text: [grafos.reference_bytes_max]u8 = undefined;
    const memory = grafos.Memory.attach(try input.read(0, &text)) catch |problem| switch (problem) {
        error.invalid_argument => return error.no_region,
        else => return error.not_attached,
    };
    if (try memory.fetchAdd(8, 2) != 0) return error.fetch_add;
    if (try memory.compareExchange(8, 2, 7) != 2) return error.compare_exchange;
    if (memory.fetchAdd(4, 1) != error.invalid_argument) return error.crooked;
    if (memory.len != 64) return error.size;
    var block: [grafos.block_bytes]u8 = undefined;
    try memory.write(16, "hello");
    try memory.read(16, block[0..5]);
    if (!std.mem.startsWith(u8, try memory.reference(&text), "{")) return error.reference;
    if (grafos.Blocks.at(0)) |blocks| {
        try blocks.read(0, &block);
        try blocks.write(0, &block);
    } else |problem| if (problem != error.unsupported) return error.block;
    serve(&block) catch |problem| if (problem != error.unsupported) return error.service;
    if (grafos.clockNs() == 0 or grafos.fuelRemaining() == 0) return grafos.outOfMemory(1);
    grafos.log("all is well");
    try grafos.write(block[0..5]);
    try grafos.respond("true");
}
"""
PROGRAMS = {"c": (c, C_WITH_EVERY_CALL), "zig": (zig, ZIG_WITH_EVERY_CALL)}


@pytest.fixture(params=PROGRAMS)
def module(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    language, source = PROGRAMS[request.param]
    name = f"src/every.{request.param}"
    (tmp_path / "src").mkdir()
    (tmp_path / name).write_text(source)
    shutil.copy(ROOT / "sdk" / HELPERS[request.param], tmp_path / "src")
    manifest = (
        f'[program]\nname = "p"\nlanguage = "{request.param}"\n\n[[tasklets]]\nname = "every"\nsource = "{name}"\n'
    )
    (tmp_path / "grafos.toml").write_text(manifest)
    program = load_program(tmp_path)
    return language.compile(program, program.tasklet(), language.find(tmp_path))


def test_a_header_has_every_call_and_does_what_it_says(module: bytes) -> None:
    facts = check_module(module)
    assert facts.findings == ()  # every name and type is the ABI's
    imported = {(one.module, one.name) for one in facts.imports}
    assert imported == {(name, call) for name in MODULES for call in abi.IMPORTS[name]}
    region = OneRegion(64)
    outcome = run_on(region, module, region.REFERENCE.encode())
    assert (outcome.code, outcome.text, outcome.response) == ("finished", "", b"true")
    assert (outcome.output, outcome.log) == (b"hello", "all is well")
    assert region.data[8:24] == (7).to_bytes(8, "little") + b"hello\0\0\0"
    assert run_on(region, module, b"{}").text == "no_region"
