"""The arrows between rooms, as docs/architecture.md draws them, hold in every import of the code."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from source_tree import ROOT, Import, Module, imports_of, modules, rooms, settings

# Who may import whom; a room that is not named may be imported by nobody.
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "scheduler": {"core"},
    "connectors": {"core"},
    "emulators": {"core"},
    "cell": {"core", "scheduler"},
    "cellimage": {"core"},
    "stacks": {"core", "connectors", "scheduler"},
    "cli": {"core", "scheduler", "cell", "cellimage", "connectors", "stacks", "emulators"},
    "testkit": {"core", "scheduler", "cell"},
}

# From outside, all rooms but the CLI see the scheduler as a peer sees it: its wire and its client.
SCHEDULER_FRONT = (
    "grafos_scheduler.messages",
    "grafos_scheduler.frames",
    "grafos_scheduler.framing",
    "grafos_scheduler.claiming_client",
    "grafos_scheduler.client",
    "grafos_scheduler.account_client",
    "grafos_scheduler.account_messages",
    "grafos_scheduler.audit_messages",
    "grafos_scheduler.enrolment_messages",
    "grafos_scheduler.ledger_messages",
    "grafos_scheduler.machine_messages",
    "grafos_scheduler.orchestrator_client",
    "grafos_scheduler.regaining_client",
    "grafos_scheduler.regaining_messages",
    "grafos_scheduler.region_frames",
    "grafos_scheduler.service_frames",
    "grafos_scheduler.tenant_messages",
    "grafos_scheduler.wire",
)
SEES_ONLY_THE_FRONT = ("cell", "stacks")

# What costs too much to import before a command needs it (`grafos --help` stays under 0.12 s of CPU).
HEAVY = {
    "asyncio", "boto3", "botocore", "cryptography", "flask", "httptools", "moto", "rich", "sqlite3", "uvicorn",
    "uvloop", "wasmtime", "werkzeug",
}  # fmt: skip

# Cloud SDKs, and the one folder each of them may be seen in.
SDKS = {"boto3": "grafos_connectors.aws", "botocore": "grafos_connectors.aws"}

# Imports whose distribution is promised by another one that the room declares.
COMES_WITH = {"botocore": "boto3"}


def own_imports(room: str) -> list[Import]:
    return [found for module in modules() if module.room == room for found in imports_of(module)]


def room_of(target: str) -> str | None:
    top = target.partition(".")[0]
    return top.removeprefix("grafos_") if top.startswith("grafos_") else None


def bare_name(requirement: str) -> str:
    """The distribution that a requirement line asks for."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match[0].lower().replace("_", "-")


def declared(room: str) -> dict[str, set[str]]:
    """Distributions that the room's pyproject asks for; each extra under its name, the rest under ""."""
    project = settings(ROOT / room / "pyproject.toml")["project"]
    wanted = {"": {bare_name(line) for line in project["dependencies"]}}
    for extra, lines in project.get("optional-dependencies", {}).items():
        wanted[extra] = {bare_name(line) for line in lines}
    return wanted


def in_folder(module: Module, package: str) -> bool:
    return module.name == package or module.name.startswith(f"{package}.")


def test_every_room_has_its_arrows_drawn() -> None:
    assert set(ARROWS) == set(rooms())


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_the_rooms_it_may(room: str) -> None:
    allowed = ARROWS[room] | {room}
    stray = [str(found) for found in own_imports(room) if (room_of(found.target) or room) not in allowed]
    assert stray == []


@pytest.mark.parametrize("room", rooms())
def test_a_room_declares_the_rooms_it_may_import_and_no_other(room: str) -> None:
    ours = {name.removeprefix("grafos-") for name in declared(room)[""] if name.startswith("grafos-")}
    assert ours == ARROWS[room]


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_what_it_declares(room: str) -> None:
    """An extra's packages may be imported only in the folder that bears the extra's name."""
    provider_of = packages_distributions()
    wanted = declared(room)
    undeclared = []
    for found in own_imports(room):
        top = found.target.split(".")[0]
        if top in sys.stdlib_module_names or room_of(top) or found.for_types_only:
            continue
        names = {bare_name(name) for name in provider_of.get(top, [top])} | {COMES_WITH.get(top, top)}
        extras = [extra for extra in wanted if extra and in_folder(found.module, f"grafos_{room}.{extra}")]
        if not names & wanted[""].union(*(wanted[extra] for extra in extras)):
            undeclared.append(str(found))
    assert undeclared == []


@pytest.mark.parametrize("room", SEES_ONLY_THE_FRONT)
def test_the_scheduler_is_seen_only_through_its_wire_and_its_client(room: str) -> None:
    inside = [
        str(found)
        for found in own_imports(room)
        if room_of(found.target) == "scheduler"
        and not any(f"{found.target}.".startswith(f"{front}.") for front in SCHEDULER_FRONT)
    ]
    assert inside == []


def test_a_room_keeps_its_private_names_to_itself() -> None:
    reaching = [
        str(found)
        for room in rooms()
        for found in own_imports(room)
        if room_of(found.target) not in (None, room) and re.search(r"\._(?!_)", found.target)
    ]
    assert reaching == []


@pytest.mark.parametrize(("sdk", "folder"), SDKS.items())
def test_a_cloud_sdk_is_seen_in_its_own_folder_only(sdk: str, folder: str) -> None:
    seen = [
        str(found)
        for room in rooms()
        for found in own_imports(room)
        if found.target.split(".")[0] == sdk and not in_folder(found.module, folder)
    ]
    assert seen == []


@pytest.mark.parametrize("entrance", ["grafos_cli.main"])
def test_the_command_line_starts_without_anything_heavy(entrance: str) -> None:
    script = f"import sys, {entrance}; print(*sorted(sys.modules), sep='\\n')"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in child.stdout.splitlines()}
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("room", rooms())
def test_a_room_without_a_command_asked_of_it_is_light(room: str) -> None:
    """Importing a room is how its words are reached; its engines wait until they are used."""
    script = f"import sys, grafos_{room}; print(*sorted(sys.modules), sep='\\n')"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in child.stdout.splitlines()}
    assert loaded & HEAVY == set()


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pins = (re.match(r"([a-z0-9-]+)==([^ ;\\]+)", line) for line in lines)
    return {pin[1]: pin[2] for pin in pins if pin}


def test_a_cell_carries_no_cloud_sdk_and_no_command_line() -> None:
    """The cell's lock is also the lock of the software that a bare machine receives."""
    barred = {"asyncpg", "boto3", "botocore", "flask", "moto", "rich", "typer", "uv", "ziglang"}
    assert locked("cell").keys() & barred == set()


def test_what_is_tested_is_what_a_cell_runs() -> None:
    tested = locked("dev")
    for name in ("cell", "cli"):
        assert locked(name).items() <= tested.items(), f"requirements/{name}.txt: run `make locks`"


@pytest.mark.parametrize("room", rooms())
def test_the_locks_hold_all_that_a_room_declares(room: str) -> None:
    """A bare machine receives no extra."""
    needed, *extras = declared(room).values()
    for name in ("dev", "cli", *(["cell"] if room in ("core", "scheduler", "cell") else [])):
        wanted = needed.union(*(extras if name != "cell" else []))
        theirs = {one for one in wanted if not one.startswith("grafos-")}
        assert theirs <= locked(name).keys(), f"requirements/{name}.txt: run `make locks`"


def test_the_workspace_and_the_set_up_know_the_same_rooms() -> None:
    for script in ("lock.py", "set_up.py"):
        text = (ROOT / "tools" / script).read_text()
        match = re.search(r"^ROOMS = \(([^)]*)\)", text, re.MULTILINE)
        assert match
        assert tuple(re.findall(r'"([a-z]+)"', match[1])) == rooms()
