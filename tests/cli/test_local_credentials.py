"""Who may use the local fabric, and whose receipts are believed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import HELLO, Person, record_of

from grafos_core import tokens, trust


@contextmanager
def spoilt(path: Path, content: str | bytes) -> Iterator[None]:
    """The file with another content, for a while."""
    before = path.read_bytes()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        yield
    finally:
        path.write_bytes(before)


def another_ca() -> str:
    return trust.make_ca(trust.new_key(), "somebody else", time.time())


def test_an_expired_token_is_refused(resident: Person) -> None:
    resident.write_program(HELLO)
    record = record_of(resident)
    certificate = Path(str(record["tenant_certificate"])).read_text()
    claims = tokens.ApiClaims(
        issuer=str(record["cell_id"]),
        kind="tenant",
        name="dev-tenant",
        key_sha256=trust.key_sha256(trust.certificate_key(certificate)),
        rights=("runs:write", "runs:read", "blobs:write", "blobs:read"),
        expires_at=time.time() - 1,
    )
    key = (resident.project / ".grafos" / "dev" / "trust" / "token-key").read_bytes()
    with spoilt(Path(str(record["tenant_token"])), tokens.mint_api_token(key, claims)):
        answer = resident("deploy", "run")
    assert (answer.code, answer.error_code) == (4, "token_expired")


def test_a_foreign_token_is_refused(resident: Person) -> None:
    resident.write_program(HELLO)
    foreign = (resident.project / ".grafos" / "dev" / "trust" / "cell-token").read_text()
    with spoilt(Path(str(record_of(resident)["tenant_token"])), foreign):
        answer = resident("deploy", "run")
    assert (answer.code, answer.error_code) == (4, "token_refused")


def test_a_server_of_another_ca_is_refused(resident: Person) -> None:
    resident.write_program(HELLO)
    with spoilt(resident.fabric_home / "cells" / str(record_of(resident)["cell_id"]) / "ca.pem", another_ca()):
        answer = resident("deploy", "run")
    assert (answer.code, answer.error_code) == (4, "certificate_refused")


def test_another_fabric_cannot_use_this_one(resident: Person, tmp_path: Path) -> None:
    resident.write_program(HELLO)
    answer = resident("deploy", "run", env={"XDG_DATA_HOME": str(tmp_path)})
    assert (answer.code, answer.error_code) == (4, "credentials_missing")


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> tuple[Person, str, Path]:
    """Somebody whose fabric is down and has one run at home: who, the run's id, and the home of its cell."""
    somebody = Person(tmp_path_factory.mktemp("keeper"))
    somebody.write_program(HELLO)
    somebody("dev", "up")
    run_id = somebody("deploy", "run", "--json").document["run_id"]
    somebody("dev", "down")
    return somebody, run_id, next((somebody.fabric_home / "cells").iterdir())


def test_a_receipt_of_a_cell_that_was_never_claimed_is_not_believed(keeper: tuple[Person, str, Path]) -> None:
    person, run_id, cell = keeper
    assert person("artifacts", run_id, "--verify").code == 0
    with spoilt(cell / "ca.pem", another_ca()):
        foreign = person("artifacts", run_id, "--verify")
        (cell / "ca.pem").unlink()
        unknown = person("artifacts", run_id, "--verify")
    assert (foreign.code, foreign.error_code) == (4, "identity_not_pinned")
    assert (unknown.code, unknown.error_code) == (4, "identity_not_pinned")


@pytest.mark.parametrize(
    ("field", "value"), [("response_json", '{"hello":2}'), ("output_b64", "AAAA")], ids=["response", "output"]
)
def test_an_altered_answer_is_not_believed(field: str, value: str, keeper: tuple[Person, str, Path]) -> None:
    person, run_id, _ = keeper
    path = person.fabric_home / "runs" / run_id / "artifacts.json"
    with spoilt(path, json.dumps({**json.loads(path.read_text()), field: value})):
        answer = person("artifacts", run_id, "--verify")
    assert (answer.code, answer.error_code) == (1, "receipt_invalid")


def test_an_altered_module_here_is_noticed(keeper: tuple[Person, str, Path]) -> None:
    person, run_id, _ = keeper
    [module] = (person.project / ".grafos" / "tasklets").glob("*.wasm")
    with spoilt(module, b"another"):
        answer = person("artifacts", run_id, "--verify")
    assert (answer.code, answer.error_code) == (1, "receipt_invalid")
