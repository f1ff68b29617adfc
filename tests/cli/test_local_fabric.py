"""The inner loop on this machine: dev up, deploy run, artifacts, runs, dev down; and what stands in its way."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import (
    FOR_EVER,
    GOLDEN,
    HELLO,
    MODULE,
    TOO_MUCH_MEMORY,
    UNKNOWN_IMPORT,
    Person,
    ends_with,
    named,
    record_of,
    seen,
)

from grafos_cli.run_keys import RunKeys
from grafos_core.ids import sha256_of

Golden = Callable[[Path, str], None]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody whose local fabric is down again afterwards."""
    somebody = Person(tmp_path)
    yield somebody
    somebody("dev", "down")


def pids_of(person: Person) -> list[int]:
    return [daemon["pid"] for daemon in record_of(person)["daemons"]]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- up and down --------------------------------------------------------------------------------------------------


def test_the_first_use_makes_the_fabric_and_says_so_in_one_line(person: Person) -> None:
    answer = person("dev", "up")
    assert answer.code == 0
    assert re.fullmatch(
        r"made fabric 'default' \(fab-[0-9a-f]{12}\) in .*: cap 2,000 cents for cells, .*\n", answer.err
    )
    assert (person.fabric_home / "fabric-key.pem").stat().st_mode & 0o777 == 0o600


def test_up_makes_two_daemons_on_loopback_and_a_record(resident: Person) -> None:
    record = record_of(resident)
    assert record["schema_version"] == 1
    assert str(record["scheduler_url"]).startswith("https://127.0.0.1:")
    assert [daemon["name"] for daemon in record["daemons"]] == ["scheduler", "cell"]
    assert all(is_alive(pid) for pid in pids_of(resident))
    for name in ("certificate", "key", "token"):
        assert Path(str(record[f"tenant_{name}"])).stat().st_mode & 0o777 == 0o600
    dev = resident.project / ".grafos" / "dev"
    assert (dev / "trust" / "ca.pem").exists()
    assert (resident.project / ".grafos" / ".gitignore").read_text() == "*\n"
    assert not (dev / "claim-secret").exists()


def test_up_does_nothing_when_it_runs(resident: Person) -> None:
    before = record_of(resident)
    answer = resident("dev", "up", "--json")
    assert answer.document["how"] == "running"
    assert record_of(resident) == before


def test_down_ends_both_daemons_keeps_the_logs_and_brings_the_runs_home(person: Person) -> None:
    person.write_program(HELLO)
    person("dev", "up")
    person("deploy", "run")
    run_id, pids = person.only_run()["run_id"], pids_of(person)
    answer = person("dev", "down")
    assert answer.out == "The local fabric has ended; 1 run brought home.\n"
    assert not any(is_alive(pid) for pid in pids)
    dev = person.project / ".grafos" / "dev"
    assert "store_failed" not in (dev / "scheduler.log").read_text()
    assert not (dev / "dev.json").exists()
    assert person.only_run()["source"] == "home"
    verified = person("artifacts", run_id, "--verify", "--json")
    assert verified.document["response"] == {"hello": 1}
    assert {check["name"] for check in verified.document["verified"]} >= {"signature", "response", "output", "module"}


@pytest.mark.parametrize("how", ["running", "resumed"])
def test_after_an_interrupted_down_up_lets_it_run_again(person: Person, how: str) -> None:
    """A `dev down` closes admission first and then waits for what runs."""
    person.write_program(FOR_EVER, fuel=10**12, deadline_s=30)
    person("dev", "up")
    running = person.starts("deploy", "run")
    until(lambda: [run["state"] for run in person("runs", "ls", "--json").document["runs"]] == ["running"])
    down = person.starts("dev", "down")
    assert down.stderr
    assert "waiting up to" in down.stderr.readline()
    person.write_program(HELLO)
    assert person("deploy", "run").error_code == "draining"
    down.send_signal(signal.SIGINT)
    assert ends_with(down).code == 130
    running.kill()
    running.communicate()
    if how == "resumed":  # the daemons crash too
        for pid in pids_of(person):
            os.kill(pid, signal.SIGKILL)
    assert person("dev", "up", "--json").document["how"] == how
    assert person("deploy", "run").code == 0
    if how == "running":
        [endless] = [run for run in person("runs", "ls", "--json").document["runs"] if run["state"] == "running"]
        assert person("runs", "cancel", endless["run_id"]).code == 0


def test_a_new_fabric_has_new_keys(person: Person) -> None:
    cells, keys = set(), set()
    for _ in range(2):
        person("dev", "up")
        cells.add(record_of(person)["cell_id"])
        keys.add((person.project / ".grafos" / "dev" / "trust" / "ca.pem").read_text())
        person("dev", "down")
    assert (len(cells), len(keys)) == (2, 2)
    assert person("dev", "down").out == "No local fabric ran in this project.\n"


@pytest.mark.parametrize("victim", [0, 1])
def test_after_a_crash_up_goes_on_with_the_state(victim: int, person: Person) -> None:
    person.write_program(HELLO)
    person("dev", "up")
    person("deploy", "run")
    before, run_id = record_of(person), person.only_run()["run_id"]
    os.kill(pids_of(person)[victim], signal.SIGKILL)
    refused = person("deploy", "run")
    assert (refused.code, refused.error_code) == (6, "runtime_not_ready")
    assert "grafos dev up" in refused.err
    assert person("dev", "up", "--json").document["how"] == "resumed"
    assert record_of(person)["cell_id"] == before["cell_id"]
    assert person.only_run()["run_id"] == run_id
    assert person("deploy", "run").code == 0


def test_a_resuming_up_that_is_killed_loses_nothing_either(person: Person) -> None:
    person.write_program(HELLO)
    person("dev", "up")
    person("deploy", "run")
    run_id, before = person.only_run()["run_id"], pids_of(person)
    os.kill(before[0], signal.SIGKILL)
    resuming = person.starts("dev", "up")
    while pids_of(person) == before and resuming.poll() is None:
        pass
    resuming.kill()
    resuming.communicate()
    assert person("dev", "up").code == 0
    assert person.only_run()["run_id"] == run_id


def test_an_up_that_was_killed_before_it_wrote_anything_leaves_no_daemon_for_long(person: Person) -> None:
    person("dev", "up")
    pids = pids_of(person)
    (person.project / ".grafos" / "dev" / "dev.json").unlink()
    assert person("dev", "up", "--json").document["how"] == "started"
    assert not any(is_alive(pid) for pid in pids)


def test_no_daemon_gets_the_variables_of_a_cloud(person: Person) -> None:
    person("dev", "up", env={"AWS_SECRET_ACCESS_KEY": "canary-9f2c"})
    for pid in pids_of(person):
        assert b"canary-9f2c" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_down_after_a_crash_keeps_the_state_for_the_next_up(person: Person) -> None:
    person.write_program(HELLO)
    person("dev", "up")
    person("deploy", "run")
    for pid in pids_of(person):
        os.kill(pid, signal.SIGKILL)
    answer = person("dev", "down", "--json")
    assert answer.document["kept"] is True
    person("dev", "up")
    assert "1 run brought home" in person("dev", "down").out


LISTS = (("runs", "ls"), ("lease", "ls"), ("service", "ls"), ("admin", "list-tenants"), ("admin", "list-fenced-leases"))
LOOKED_FOR = (
    ("runs", "show", "run-000000-000000-aaaaaaaaaaaaaaaa"),
    ("lease", "rm", "0" * 32),
    ("service", "rm", "web"),
    ("admin", "unfence-lease", "0" * 32),
)


def test_what_a_crashed_fabric_knows_is_not_told_to_be_nothing(person: Person) -> None:
    for words in LISTS:
        assert person(*words).err.count("next:") == 0  # where none was started there is nothing to miss
    person("dev", "up")
    person.write_program(HELLO)
    person("deploy", "run")
    person("dev", "down")  # brings the run home
    person("dev", "up")
    os.kill(pids_of(person)[0], signal.SIGKILL)
    listed = person("runs", "ls", "--json")
    assert (listed.code, len(listed.document["runs"])) == (0, 1)
    [silent] = listed.document["silent"]
    assert (silent["scheduler"], silent["code"]) == ("local", "runtime_not_ready")
    for words in (*LISTS[1:], *LOOKED_FOR):
        answer = person(*words, "--json")
        assert (answer.code, answer.error_code) == (6, "runtime_not_ready"), words
        assert "local could not be asked: The local fabric has crashed" in answer.document["error"]["what"]
    assert re.search(r"^note: The local fabric has crashed: .*; next: grafos dev up", person("lease", "ls").err)


@pytest.mark.parametrize("content", ["{", '{"daemons": []}', "\udcff"])
def test_a_corrupt_record_is_told_and_down_clears_it(content: str, person: Person) -> None:
    person.write_program(HELLO)
    person("dev", "up")
    pids = pids_of(person)
    (person.project / ".grafos" / "dev" / "dev.json").write_text(content, errors="surrogateescape")
    for words in (("dev", "up"), ("deploy", "run")):
        answer = person(*words)
        assert (answer.code, answer.error_code) == (1, "dev_state_invalid")
        assert "grafos dev down" in answer.err
    assert person("dev", "down").code == 0
    assert not any(is_alive(pid) for pid in pids)
    assert person("dev", "up").code == 0


def test_two_at_once_make_one_fabric(person: Person) -> None:
    both = [person.starts("dev", "up", "--json") for _ in range(2)]
    hows = sorted(ends_with(process).document["how"] for process in both)
    assert hows == ["running", "started"]


def test_the_pool_of_the_cell_has_the_size_that_was_asked_for(person: Person) -> None:
    person.write_program(HELLO)
    person("dev", "up", "--mem-capacity", "64k")
    assert person("deploy", "run", "--mem", "64k").code == 0
    refused = person("deploy", "run", "--mem", "65537")
    assert (refused.code, refused.error_code) == (6, "placement_failed")


def test_another_pool_needs_another_fabric(resident: Person) -> None:
    assert resident("dev", "up", "--mem-capacity", "128k", "--json").document["how"] == "running"
    answer = resident("dev", "up", "--mem-capacity", "1m")
    assert (answer.code, answer.error_code) == (8, "dev_running")
    assert "128 KiB" in answer.err


@pytest.mark.parametrize("size", ["lots", "-1", "1.5m"])
def test_a_size_that_is_none_is_refused(size: str, resident: Person) -> None:
    answer = resident("dev", "up", f"--mem-capacity={size}")
    assert (answer.code, answer.error_code) == (2, "usage")


def test_without_a_local_fabric_the_next_step_is_to_start_one(person: Person, golden: Golden) -> None:
    person.write_program(HELLO)
    answer = person("deploy", "run")
    _, _, error = answer.err.partition("\n")  # the first line tells that the fabric was made
    golden(GOLDEN / "errors" / "no-local-fabric.txt", named(error, project=person.project))
    assert (answer.code, answer.error_code) == (6, "runtime_not_ready")


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_run_shows_where_it_ran_its_answer_and_its_price(resident: Person, golden: Golden) -> None:
    resident.write_program(HELLO)
    answer = resident("deploy", "run", "--provider", "local")
    assert answer.code == 0
    golden(GOLDEN / "run.txt", seen(answer.out))
    golden(GOLDEN / "run-progress.txt", seen(answer.err))


def test_a_run_in_json_has_its_answer_and_its_cost(resident: Person) -> None:
    resident.write_program(HELLO)
    answer = resident("deploy", "run", "--json")
    assert answer.err == ""
    document = answer.document
    assert document["state"] == "finished"
    assert document["response"] == {"hello": 1}
    assert document["run"]["cost"]["cents_per_run"] == 0.0
    assert document["run_id"] == resident.only_run()["run_id"]
    assert document["cell_id"] == record_of(resident)["cell_id"]


def test_artifacts_and_their_verification_look_as_reviewed(resident: Person, golden: Golden) -> None:
    resident.write_program(HELLO)
    run_id = resident("deploy", "run", "--json").document["run_id"]
    answer = resident("artifacts", run_id, "--verify")
    golden(GOLDEN / "artifacts-verified.txt", seen(answer.out))
    golden(GOLDEN / "runs-show.txt", seen(resident("runs", "show", run_id).out))


def test_artifacts_are_written_where_they_are_wanted(resident: Person) -> None:
    resident.write_program(HELLO)
    run_id = resident("deploy", "run", "--json").document["run_id"]
    resident("artifacts", run_id, "--download", "results")
    assert json.loads((resident.project / "results" / "response.json").read_text()) == {"hello": 1}
    assert {path.name for path in (resident.project / "results").iterdir()} == {
        "response.json",
        "output.b64",
        "log.txt",
        "receipt.json",
    }
    assert resident("artifacts", run_id, "--download").code == 0
    assert (resident.project / run_id / "output.b64").exists()
    assert resident("artifacts", run_id, "results").error_code == "usage"


@pytest.mark.parametrize(
    ("wat", "settings", "code", "exit_code"),
    [
        (FOR_EVER, {}, "fuel_exhausted", 6),
        (FOR_EVER, {"fuel": 10**12, "deadline_s": 0.3}, "deadline_exceeded", 10),
        (TOO_MUCH_MEMORY, {}, "memory_exceeded", 6),
        (UNKNOWN_IMPORT, {}, "module_invalid", 2),
        (MODULE.format(memory=1, run="unreachable"), {}, "trapped", 1),
        (MODULE.format(memory=1, run="i32.const 7"), {}, "program_error", 1),
    ],
    ids=["fuel", "deadline", "memory", "import", "trap", "program"],
)
def test_a_run_that_fails_is_a_typed_error(
    wat: str, settings: dict[str, object], code: str, exit_code: int, resident: Person
) -> None:
    resident.write_program(wat, **settings)
    answer = resident("deploy", "run")
    assert (answer.code, answer.error_code, answer.out) == (exit_code, code, "")
    assert re.search(r"where: run run-\S+ on cell local-", answer.err)
    failed = resident("deploy", "run", "--json")
    assert failed.document["error"]["context"]["run"]["state"] == "failed"


def test_an_input_file_stands_in_for_the_one_of_the_manifest(resident: Person) -> None:
    resident.write_program(HELLO)
    (resident.project / "a.bin").write_bytes(b"abc")
    run = resident("deploy", "run", "--input", "a.bin", "--json").document["run"]
    assert run["input_sha256"] == sha256_of(b"abc")
    assert resident("deploy", "run", "--input", "none.bin").error_code == "usage"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("runs", "show", "run-000000-000000-aaaaaaaaaaaaaaaa"), "run_unknown"),
        (("runs", "show", "nonsense"), "run_unknown"),
        (("artifacts", "../../etc"), "run_unknown"),
        (("deploy", "run", "--cell-id", "local-nobody"), "cell_unknown"),
        (("deploy", "run", "--provider", "gcp"), "runtime_not_ready"),
        (("deploy", "run", "--provider", "aws"), "runtime_not_ready"),
        (("deploy", "run", "--tasklet", "two"), "usage"),
        (("deploy", "run", "--mem", "some"), "usage"),
    ],
)
def test_what_does_not_exist_is_told(words: tuple[str, ...], code: str, resident: Person) -> None:
    resident.write_program(HELLO)
    assert resident(*words).error_code == code


def test_a_page_of_runs_has_as_many_as_were_asked_for(resident: Person) -> None:
    resident.write_program(HELLO)
    for _ in range(2):
        resident("deploy", "run")
    assert len(resident("runs", "ls", "--limit", "1", "--json").document["runs"]) == 1
    newest, older = resident("runs", "ls", "--limit", "2", "--json").document["runs"]
    assert newest["created_at"] > older["created_at"]
    assert resident("runs", "ls", "--limit", "0").error_code == "usage"


def test_the_fabric_shows_its_money_and_its_cells(resident: Person) -> None:
    document = resident("fabric", "show", "--json").document
    assert document["fabric"]["home"] == str(resident.fabric_home)
    accounts = {account["name"]: account["cap_micro_cents"] for account in document["accounts"]}
    assert accounts == {"operator": 2_000_000_000, "tenant/default": 2_000_000_000}
    assert [cell["cell_id"] for cell in document["cells"]] == [record_of(resident)["cell_id"]]
    assert "operator" in resident("fabric", "show").out


def test_a_lost_answer_asked_again_is_the_same_run(resident: Person) -> None:
    """The key is on disk before the first asking; here the second one finds a key whose run was never seen to end."""
    resident.write_program(HELLO)
    first = resident("deploy", "run", "--json").document["run"]
    module = (resident.project / ".grafos" / "tasklets" / f"{first['module_sha256']}.wasm").read_bytes()
    asked: dict[str, object] = {
        "cell_id": first["cell_id"],
        "program": "one",
        "tasklet": "one",
        "module_sha256": sha256_of(module),
        "input_sha256": "",
        "fuel": 500_000,
        "memory_bytes": 32 * 1024 * 1024,
        "lease_mem_bytes": 0,
        "lease_block_bytes": 0,
        "deadline_s": 30.0,
    }
    keys = RunKeys(resident.project)
    pending = keys.key_for(asked, "ab" * 16)
    again = resident("deploy", "run", "--json").document["run_id"]
    assert again != first["run_id"]
    assert keys.key_for(asked, pending.run_key) == keys.key_for(asked, "cd" * 16)
    keys.done(asked, "another run's key, asked for meanwhile")
    assert keys.key_for(asked, "ef" * 16).run_key == pending.run_key
    assert resident("deploy", "run", "--json").document["run_id"] == again


def test_ctrl_c_during_a_run_says_that_it_goes_on_and_where_to_look(resident: Person) -> None:
    resident.write_program(FOR_EVER, fuel=10**12, deadline_s=5)
    before = {run["run_id"] for run in resident("runs", "ls", "--json").document["runs"]}
    process = resident.starts("deploy", "run")
    deadline = time.monotonic() + 20
    while {run["run_id"] for run in resident("runs", "ls", "--json").document["runs"]} == before:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    answer = ends_with(process)
    assert (answer.code, answer.error_code) == (130, "interrupted")
    assert re.search(r"next:  grafos runs show run-\S+", answer.err)
