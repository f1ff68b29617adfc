"""`grafos doctor`: each thing that can be wrong here is one line with its next step."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import HELLO, Answer, Person

from grafos_cli.checkups.clouds import is_set_up, limits_told
from grafos_cli.checkups.fabric import consistency
from grafos_connectors.contract import Quota
from grafos_core import ledger as ledgers
from grafos_core.ledger import Ledger
from grafos_stacks.journal import StackRow, StackState
from grafos_stacks.records import CellRecord

NOW = 1_800_000_000.0
STATES = ("ok", "none", "fixed", "warn", "fail")


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    somebody = Person(tmp_path)
    yield somebody
    somebody("dev", "down")
    somebody("emulate", "down")


def findings(answer: Answer) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["area"], one["name"]): one for one in answer.document["findings"]}


def the(answer: Answer, area: str, name: str) -> tuple[str, str, str]:
    one = findings(answer)[area, name]
    return one["status"], one["what"], one["next"]


def test_on_a_fresh_machine_nothing_is_wrong_and_nothing_is_made(person: Person) -> None:
    answer = person("doctor", "--json")
    assert answer.code == 0
    assert answer.document["counts"]["fail"] == 0
    assert the(answer, "fabric", "key")[0] == "none"
    assert [findings(answer)[cloud, "account"]["status"] for cloud in ("aws", "azure", "gcp")] == ["none"] * 3
    assert not (person.home / "data").exists()


def test_each_line_begins_with_its_state_so_that_grep_finds_it(person: Person) -> None:
    lines = person("doctor").out.splitlines()
    assert all(line.split()[0] in (*STATES, "next:") for line in lines)


def test_a_program_is_told_its_compiler_or_how_to_get_one(person: Person) -> None:
    assert the(person("doctor", "--json"), "program", "compiler")[0] == "none"
    person.write_program(HELLO)
    state, what, _ = the(person("doctor", "--json"), "program", "compiler")
    assert state == "ok"
    assert what.endswith("builds one")
    (person.project / "src" / "one.rs").touch()
    manifest = person.project / "grafos.toml"
    manifest.write_text(manifest.read_text().replace('"wat"', '"rust"').replace("one.wat", "one.rs"))
    (person.project / "rust-toolchain.toml").write_text('[toolchain]\nchannel = "1.90"\n')
    answer = person("doctor", "--json", env={"PATH": str(person.home), "RUSTUP_HOME": str(person.home)})
    assert answer.code == 1
    state, what, cure = the(answer, "program", "compiler")
    assert (state, what.partition(":")[0]) == ("fail", "tool_missing")
    assert "rustup" in cure
    manifest.write_text("no TOML")
    assert the(person("doctor", "--json"), "program", "compiler")[1].startswith("manifest_invalid")


def test_a_local_fabric_that_runs_is_asked_as_any_command_asks(person: Person) -> None:
    person("dev", "up")
    answer = person("doctor", "--json")
    assert answer.code == 0
    assert the(answer, "local fabric", "readiness")[0] == "ok"
    assert the(answer, "fabric", "ledger")[1] == "0¢ held of a cap of $20.00 for cells"


def test_a_daemon_that_died_is_named_with_its_log(person: Person) -> None:
    person("dev", "up")
    pids = {one["name"]: one["pid"] for one in person("dev", "up", "--json").document["local_fabric"]["daemons"]}
    os.kill(pids["cell"], signal.SIGKILL)
    answer = person("doctor", "--json")
    assert answer.code == 1
    state, what, next_step = the(answer, "local fabric", "cell")
    assert (state, next_step) == ("fail", "grafos dev up  (it goes on with the state that is on disk)")
    assert what.startswith(f"process {pids['cell']} ended; its log is ")


def test_files_that_others_may_read_are_closed_when_asked(person: Person) -> None:
    person("fabric", "show")
    key = person.fabric_home / "fabric-key.pem"
    key.chmod(0o644)
    answer = person("doctor", "--json")
    assert (answer.code, the(answer, "fabric", "modes")[0]) == (1, "fail")
    assert key.stat().st_mode & 0o777 == 0o644
    answer = person("doctor", "--fix", "--json")
    assert (answer.code, the(answer, "fabric", "modes")[0]) == (0, "fixed")
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_damaged_ledger_is_told_and_the_rest_is_looked_at_all_the_same(person: Person) -> None:
    person("fabric", "show")
    (person.fabric_home / "ledger.db").write_bytes(b"no database" * 100)
    answer = person("doctor", "--json")
    assert answer.code == 1
    assert findings(answer)["fabric", "fabric"]["what"].startswith("fabric_invalid: ")
    assert the(answer, "machine", "python")[0] == "ok"


def test_a_journal_that_cannot_be_read_is_set_aside_when_asked_and_nothing_of_it_is_lost(person: Person) -> None:
    person("fabric", "show")
    home = Path(person.env["XDG_DATA_HOME"]) / "grafos" / "default"
    (home / "provisioned").touch()
    (home / "journal.db").write_bytes(b"no database" * 1000)
    state, what, next_step = the(person("doctor", "--json"), "fabric", "journal")
    assert (state, what.startswith("journal_invalid: "), "doctor --fix" in next_step) == ("fail", True, True)
    fixed = person("doctor", "--fix", "--json")
    assert the(fixed, "fabric", "journal")[0] == "fixed"
    assert "grafos cloud recover" in the(fixed, "fabric", "journal")[2]
    (aside,) = home.glob("unreadable-*-journal.db")
    assert aside.read_bytes() == b"no database" * 1000
    assert not (home / "journal.db").exists()


def test_a_lost_journal_is_told(person: Person) -> None:
    person("fabric", "show")
    (person.fabric_home / "provisioned").touch(0o600)
    state, _, next_step = the(person("doctor", "--json"), "fabric", "journal")
    assert (state, next_step) == ("fail", "grafos cloud recover")


def test_a_clock_that_was_set_back_is_told(person: Person) -> None:
    person("fabric", "show")
    later = (person.fabric_home / "fabric.json").stat().st_mtime + 7200
    os.utime(person.fabric_home / "fabric.json", (later, later))
    state, what, _ = the(person("doctor", "--json"), "machine", "clock")
    assert state == "fail"
    assert "set back" in what


def test_what_a_killed_emulator_left_is_cleared_when_asked(person: Person) -> None:
    pid = person("emulate", "up", "--json").document["emulator"]["pid"]
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        pass
    assert the(person("doctor", "--json"), "emulator", "daemon")[0] == "warn"
    assert the(person("doctor", "--fix", "--json"), "emulator", "daemon")[0] == "fixed"
    assert the(person("doctor", "--json"), "emulator", "daemon")[0] == "none"


def test_an_emulated_cloud_is_asked_who_we_are_and_what_is_left(person: Person) -> None:
    person("emulate", "up")
    everything = person("emulate", "env", "--json").document["environment"]
    env = {name: value for name, value in everything.items() if name.startswith("AWS_")}
    answer = person("doctor", "--json", "--within", "60s", env=env)
    assert answer.code == 0, answer.document
    assert "(emulated)" in the(answer, "aws", "account")[1]
    assert the(answer, "aws", "quota")[0] == "ok"
    assert the(answer, "aws", "permissions")[0] == "ok"
    assert the(answer, "aws", "clock")[0] == "ok"


def test_a_region_is_asked_about_at_the_cloud_that_names_it_so(person: Person) -> None:
    person("emulate", "up")
    everything = person("emulate", "env", "--json").document["environment"]
    env = {name: value for name, value in everything.items() if "GOOGLE" not in name and "GCP" not in name}
    answer = person("doctor", "--json", "--within", "90s", "--region", "eu-west-1", env=env)
    assert answer.code == 0, answer.document
    assert [the(answer, cloud, "quota")[0] for cloud in ("aws", "azure")] == ["ok", "ok"]
    nowhere = person("doctor", "--region", "Mars 1", env=env)
    assert (nowhere.code, nowhere.error_code) == (2, "config_invalid")


def test_a_clock_that_differs_from_the_clouds_is_told(person: Person) -> None:
    person("emulate", "up", "--clock", "stepped")
    everything = person("emulate", "env", "--json").document["environment"]
    env = {name: value for name, value in everything.items() if name.startswith("AWS_")}
    for step, state in (("120s", "warn"), ("5m", "fail")):
        person("emulate", "advance", step)
        seen, what, _ = the(person("doctor", "--json", "--within", "60s", env=env), "aws", "clock")
        assert seen == state
        assert "behind the cloud's" in what


def test_a_cloud_that_hangs_is_a_finding_and_holds_nobody_up(person: Person) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = {
            "AWS_ACCESS_KEY_ID": "AKIAGRAFOSEMULATED00",
            "AWS_SECRET_ACCESS_KEY": "x" * 40,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
        }
        state, what, _ = the(person("doctor", "--json", "--within", "2s", env=env), "aws", "account")
    assert (state, what) == ("fail", "no answer within 2 s")


def test_credentials_that_are_refused_are_told_in_the_clouds_class(person: Person) -> None:
    env = {"AWS_ACCESS_KEY_ID": "AKIAGRAFOSEMULATED00", "AWS_SECRET_ACCESS_KEY": "x" * 40, "AWS_REGION": "us-east-1"}
    state, what, next_step = the(person("doctor", "--json", env=env), "aws", "account")
    assert state == "fail"
    assert what.startswith("credentials_mixed: ")
    assert next_step


@pytest.mark.parametrize(
    ("provider", "environment", "expected"),
    [
        ("aws", {"AWS_PROFILE": "me"}, True),
        ("aws", {"AWS_REGION": "us-east-1"}, False),
        ("gcp", {"GOOGLE_APPLICATION_CREDENTIALS": "/k.json"}, True),
        ("azure", {"AZURE_SUBSCRIPTION_ID": "1"}, True),
        ("azure", {}, False),
    ],
)
def test_a_cloud_is_asked_only_if_something_hints_at_it(
    tmp_path: Path, provider: str, environment: dict[str, str], expected: object
) -> None:
    assert is_set_up(provider, environment, tmp_path) is expected


def test_a_clouds_own_files_hint_at_it_too(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").touch()
    assert is_set_up("aws", {}, tmp_path)


def test_of_limits_only_what_is_nearly_reached_or_every_cell_needs_is_a_fault() -> None:
    family = Quota("machine_cores Big GPU Family", "cores", 0, 0)
    free = [Quota("machine_cores", "cores", 640, None), Quota("networks", "networks", 15, 0)]
    said = [(one.status.value, one.what) for one in limits_told("azure", "eastus", [*free, family])]
    assert said == [
        ("ok", "2 limits, not in use"),
        ("none", "nothing is granted of machine_cores Big GPU Family in eastus"),
    ]
    in_use = [Quota("machines", "machines", 10, 2), Quota("addresses", "addresses", 4, 0)]
    assert [one.what for one in limits_told("gcp", "r", in_use)] == ["machines 2/10, 1 more, not in use"]
    for limit, used, state in ((10, 9, "warn"), (10, 10, "fail"), (0, 0, "fail"), (0, None, "fail")):
        (finding,) = limits_told("aws", "r", [Quota("machine_cores", "cores", limit, used)])
        assert finding.status.value == state


# --- do journal, records and ledger tell one story? ----------------------------------------------------------------


def row(state: StackState, plan: Any, *, changed_at: float = NOW) -> StackRow:
    return StackRow("one", "aws", "us-east-1", "1", state, NOW - 9999, changed_at, plan=plan)


def record(**more: Any) -> CellRecord:
    return CellRecord("one", "fab", "aws", "us-east-1", "https://x", 1, NOW, NOW, **more)


def held(stack: str) -> Ledger:
    ledger = Ledger()
    ledger.apply(ledgers.open_account(ledger, "operator", 10**9))
    ledger.apply(ledgers.hold(ledger, f"cell/{stack}/1/{int(NOW)}", "operator", 5_000_000, "a cell"))
    return ledger


@pytest.fixture
def plan() -> Any:
    from grafos_stacks.plan import StackPlan

    return StackPlan("fab", "one", "net", None, None, NOW, int(NOW) + 60, (), None, 1.0)  # type: ignore[arg-type]


def told(*facts: Any) -> list[str]:
    return [finding.what for finding in consistency(*facts, NOW)]


def test_agreement_is_told_in_one_line(plan: Any) -> None:
    assert told([row(StackState.MADE, plan)], [record()], held("one")) == ["journal, records and ledger agree"]


def test_an_unfinished_provision_or_teardown_that_nobody_works_on_is_told(plan: Any) -> None:
    for state, verb in ((StackState.MAKING, "provision"), (StackState.UNMAKING, "teardown")):
        begun = row(state, plan, changed_at=NOW - 1800)
        (what,) = told([begun], [], Ledger())
        assert f"one: a {verb} was begun 30 min ago" in what
        assert [one.what for one in consistency([begun], [], Ledger(), NOW, {"one"})] == [
            "journal, records and ledger agree"
        ]


def test_a_cell_that_ran_out_and_a_record_and_a_hold_that_nobody_knows_are_told(plan: Any) -> None:
    import msgspec

    over = msgspec.structs.replace(plan, expires_at=int(NOW) - 1)
    assert told([row(StackState.MADE, over)], [], Ledger()) == [
        "one ran out; what is left of it has not been proved gone"
    ]
    assert told([], [record()], Ledger()) == ["one has a record, and the journal does not know it"]
    assert told([], [record(gone_at=NOW)], Ledger()) == ["journal, records and ledger agree"]
    assert told([], [], held("two")) == ["5.00¢ are held for two, which the journal does not know"]
