"""Small programs in folders, and `grafos` run there with a compiler's cache that all tests of one run share."""

from __future__ import annotations

import os
from pathlib import Path

from command_line import Answer, grafos

WAT = """\
(module
  (memory (export "memory") 1)
  (func (export "_grafos_tasklet_init") (param i32 i32))
  (func (export "_grafos_tasklet_run") (param i32 i32) (result i32) i32.const 0)
  (func (export "_grafos_tasklet_finalize")))
"""
ZIG = """\
export fn _grafos_tasklet_init(handle: i32, length: i32) void {
    _ = .{ handle, length };
}
export fn _grafos_tasklet_run(handle: i32, length: i32) i32 {
    _ = handle;
    return length;
}
export fn _grafos_tasklet_finalize() void {}
"""
C = """\
#include "more.h"
__attribute__((export_name("_grafos_tasklet_init"))) void init(int handle, int length) {}
__attribute__((export_name("_grafos_tasklet_run"))) int run(int handle, int length) { return ANSWER; }
__attribute__((export_name("_grafos_tasklet_finalize"))) void finalize(void) {}
"""
SOURCES = {"wat": WAT, "zig": ZIG, "c": C}


def write_program(folder: Path, language: str, source: str = "", names: tuple[str, ...] = ("one",)) -> Path:
    """A program with a tasklet of each name, all with the same source."""
    (folder / "src").mkdir(parents=True)
    lines = ["[program]", 'name = "p"', f'language = "{language}"']
    for name in names:
        (folder / "src" / f"{name}.{language}").write_text(source or SOURCES[language])
        lines += ["[[tasklets]]", f'name = "{name}"', f'source = "src/{name}.{language}"']
    if language == "c":
        (folder / "src" / "more.h").write_text("#define ANSWER 0\n")
    (folder / "grafos.toml").write_text("\n".join(lines) + "\n")
    return folder


def shared_cache() -> dict[str, str]:
    """What can be made again is made once in a run of the tests: a compiler's cache, for one."""
    return {"XDG_CACHE_HOME": str(Path(os.environ["GRAFOS_TEST_REFUSALS"]).with_name("cache"))}


def grafos_in(folder: Path, *words: str) -> Answer:
    """Runs `grafos` in the folder."""
    return grafos(*words, cwd=folder, env=shared_cache())


def digests_of(folder: Path) -> dict[str, str]:
    """Builds the program, and gives each tasklet's digest."""
    answer = grafos_in(folder, "tasklet", "build", "--json")
    assert answer.code == 0, answer.out
    return {one["name"]: one["module_sha256"] for one in answer.document["tasklets"]}
