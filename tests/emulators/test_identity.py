"""What a machine of an emulated cloud gets signed holds, as its cloud's real signature would."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arm_here import ArmHere
from gce_here import ZONE, Gce, GceHere

from grafos_core.attestation import binding
from grafos_core.clock import VirtualClock
from grafos_core.emulated import EMULATED_PROJECT, EMULATED_SUBSCRIPTION
from grafos_emulators.attesting import FOLDER
from grafos_emulators.emulator import EmulatedClouds
from grafos_scheduler.attested import Attested, Enrolling, Roots, roots, verify

ASKED = Enrolling("e" * 32, "a" * 64)
START = 1_800_000_000.0
IDENTITY = "latest/dynamic/instance-identity"
ROOM_OF_GOOGLE = "computeMetadata/v1/instance/service-accounts/default/identity"
OWN_ACCOUNT = [{"email": "default", "scopes": []}]


def shown(state_dir: Path, provider: str) -> dict[str, str]:
    """The roots that the emulator shows its owner."""
    pems: dict[str, str] = json.loads((state_dir / FOLDER / f"{provider}.json").read_bytes())
    return pems


def believed(state_dir: Path, provider: str, evidence: str, now: float) -> Attested:
    return verify(evidence, Roots(provider, "the emulator", "2027-01-15", shown(state_dir, provider)), ASKED, now)


def ask(endpoint: str, machine_id: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=10)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/imds/{machine_id}/{path}", headers=sent)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def ask_ec2(aws: EmulatedClouds, machine_id: str, path: str) -> tuple[int, str]:
    put = {"X_aws_ec2_metadata_token_ttl_seconds": "60"}
    _, token = ask(aws.endpoint, machine_id, "latest/api/token", "PUT", **put)
    return ask(aws.endpoint, machine_id, path, X_aws_ec2_metadata_token=token)


def test_an_ec2_machines_document_is_signed_by_its_region(
    aws: EmulatedClouds, launch: Callable[..., dict[str, Any]], clock: VirtualClock, tmp_path: Path
) -> None:
    instance = launch()
    machine_id = instance["InstanceId"]
    assert ask_ec2(aws, machine_id, IDENTITY)[1].split() == ["document", "rsa2048", "signature"]
    document = ask_ec2(aws, machine_id, f"{IDENTITY}/document")[1]
    said = believed(tmp_path / "emulator", "aws", ask_ec2(aws, machine_id, f"{IDENTITY}/rsa2048")[1], clock.now())
    assert (said.account, said.machine_id, said.region) == (aws.account_id, machine_id, "us-east-1")
    assert (said.zone, said.made_at) == (instance["Placement"]["AvailabilityZone"], int(clock.now()))
    assert json.loads(document)["instanceType"] == instance["InstanceType"]
    assert ask_ec2(aws, machine_id, f"{IDENTITY}/pkcs7")[0] == 404
    pem = tmp_path / "root.pem"
    pem.write_text(shown(tmp_path / "emulator", "aws")["us-east-1"])
    (tmp_path / "document").write_text(document)
    (tmp_path / "signature").write_bytes(base64.b64decode(ask_ec2(aws, machine_id, f"{IDENTITY}/signature")[1]))
    key = subprocess.run(["openssl", "x509", "-pubkey", "-noout", "-in", pem], capture_output=True, check=True)
    (tmp_path / "key").write_bytes(key.stdout)
    subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", "key", "-signature", "signature", "document"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )


def test_a_compute_engine_machine_gets_a_token_for_the_audience_that_it_names(tmp_path: Path) -> None:
    clock = VirtualClock(START)
    with GceHere(tmp_path, clock=clock, boots=False) as emulator:
        gce = Gce(emulator, clock)
        gce.network()
        gce.done(gce.launch("vm", serviceAccounts=OWN_ACCOUNT), 30.0)
        machine_id = gce("GET", f"zones/{ZONE}/instances/vm")[1]["id"]
        asked = f"{ROOM_OF_GOOGLE}?audience={binding('gcp', ASKED.expectation_id, ASKED.key_sha256)}&format=full"
        status, token = ask(emulator.endpoint, machine_id, asked, Metadata_Flavor="Google")
        assert status == 200
        said = believed(tmp_path, "gcp", token, clock.now())
        assert (said.account, said.machine_id, said.zone) == (EMULATED_PROJECT, machine_id, ZONE)
        assert START <= said.made_at <= clock.now()
        assert ask(emulator.endpoint, machine_id, ROOM_OF_GOOGLE, Metadata_Flavor="Google")[0] == 400
        assert ask(emulator.endpoint, machine_id, asked)[0] == 403


def test_a_compute_engine_machine_without_a_service_account_gets_none(tmp_path: Path) -> None:
    clock = VirtualClock(START)
    with GceHere(tmp_path, clock=clock, boots=False) as emulator:
        gce = Gce(emulator, clock)
        gce.network()
        gce.done(gce.launch(), 30.0)
        machine_id = gce("GET", f"zones/{ZONE}/instances/vm")[1]["id"]
        asked = f"{ROOM_OF_GOOGLE}?audience=any"
        assert ask(emulator.endpoint, machine_id, asked, Metadata_Flavor="Google")[0] == 404


def test_an_azure_machine_gets_a_document_with_its_nonce(tmp_path: Path) -> None:
    clock = VirtualClock(START)
    with ArmHere(tmp_path, clock=clock) as arm:
        machine_id = arm.make_machine()["properties"]["vmId"]
        nonce = binding("azure", ASKED.expectation_id, ASKED.key_sha256)
        path = f"/imds/{machine_id}/metadata/attested/document"
        told = arm.ask("GET", f"{path}?nonce={nonce}", version="2021-02-01", Metadata="true").body
        assert told["encoding"] == "pkcs7"
        said = believed(tmp_path, "azure", told["signature"], clock.now())
        assert (said.account, said.machine_id) == (EMULATED_SUBSCRIPTION, machine_id)
        assert arm.ask("GET", f"{path}?nonce=12345678901", version="2021-02-01", Metadata="true").status == 400
        assert arm.ask("GET", path, version="2021-02-01").status == 400


def test_the_roots_that_an_emulator_shows_are_such_as_an_operator_may_set(aws: EmulatedClouds, tmp_path: Path) -> None:
    roots.check("aws", shown(tmp_path / "emulator", "aws"))
    assert aws.endpoint
    assert (tmp_path / "emulator" / FOLDER / "aws.json").stat().st_mode & 0o777 == 0o600
