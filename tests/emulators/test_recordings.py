"""The emulators answer in the form in which the clouds do, as far as anybody recorded one of them.

What `make live` recorded of a real account may be committed to tests/recordings/<cloud>/. Each such answer is held
against what the emulator of that cloud answers to the same operation: status, error code, headers that a client acts
by, names of fields and the sort of what is in them. Where nothing was recorded, a tour of the emulator is held against
itself, so that what compares is known to compare. No recording of a real cloud exists yet.

tests/recordings/<cloud>/gaps.json may name places that the emulator lacks, or has alone, each with a reason:
``{"compute.instances.get.200": {".shieldedInstanceConfig": "not imitated"}}``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contract_work import Place, Work
from live_operations import Asked, operation_of
from live_recordings import Recorder, Recording, differences, read_all, recording_of
from live_tap import recording

from grafos_connectors.contract import CloudError, Kind
from grafos_core.clock import VirtualClock
from grafos_emulators.emulator import EmulatedClouds, Settings

CLOUDS = ("aws", "azure", "gcp")
RECORDINGS = Path(__file__).parents[1] / "recordings"
GAPS = "gaps.json"


def place_in(cloud: str, clouds: EmulatedClouds, clock: VirtualClock) -> Place:
    if cloud == "aws":
        from aws_place import AwsPlace

        return AwsPlace(clouds, clock)
    if cloud == "azure":
        from azure_place import AzurePlace

        return AzurePlace(clouds, clock)
    from gcp_place import GcpPlace

    return GcpPlace(clouds, clock)


def tour(work: Work) -> None:
    """Everything that a connector asks of its cloud, and the usual refusals."""
    connector, region = work.connector, work.place.region
    connector.identity()
    connector.price(region, work.place.machine_type)
    connector.quotas(region, work.place.machine_type)
    connector.obstacles(region, work.place.machine_type)
    connector.missing_permissions(region)
    made = [work.make(kind) for kind in work.kinds.all_of(*work.kinds.shapes)]
    work.settle()
    work.listed_everywhere()
    for found in made:
        connector.observe(found.ref)
        if found.ref.kind in work.kinds.retagged:
            work.finish(connector.begin_update(found.ref, work.desired(found.ref.kind)))
        if found.ref.kind is Kind.MACHINE:
            connector.console(found.ref)
    for used, _ in work.kinds.used:
        ref = next(found.ref for found in made if found.ref.kind is used)
        work.why_not(lambda ref=ref: connector.begin_delete(ref))
    with work.place.with_room_for(0), pytest.raises((CloudError, AssertionError)):
        work.make(Kind.MACHINE, "grafos-one-too-many")
    for found in reversed([found for found in made if found.ref.kind not in work.kinds.parts]):
        work.finish(connector.begin_delete(found.ref))
        work.finish(connector.begin_delete(found.ref))


@pytest.fixture(scope="module", params=CLOUDS)
def toured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A cloud, and the folder of what its emulator answered on a tour."""
    folder, clock = tmp_path_factory.mktemp("tour"), VirtualClock()
    settings = Settings(clouds=(request.param,), boots=False)
    with EmulatedClouds(folder / "state", settings, clock=clock) as clouds, recording(Recorder(folder / "answers")):
        tour(Work(place_in(request.param, clouds, clock)))
    return request.param, folder / "answers"


def held_against(recorded: dict[str, Recording], answered: dict[str, Recording], gaps: dict[str, Any]) -> list[str]:
    return [line for name, one in recorded.items() for line in differences(one, answered.get(name), gaps.get(name, {}))]


def gaps_of(cloud: str) -> dict[str, Any]:
    file = RECORDINGS / cloud / GAPS
    return json.loads(file.read_text()) if file.exists() else {}  # type: ignore[no-any-return]


def test_the_emulator_answers_as_what_was_recorded(toured: tuple[str, Path]) -> None:
    cloud, folder = toured
    answered = read_all(folder)
    recorded = {name: one for name, one in read_all(RECORDINGS / cloud).items() if one.of == "cloud"}
    assert held_against(recorded or answered, answered, gaps_of(cloud)) == []


def test_only_answers_of_real_clouds_are_committed() -> None:
    committed = [one for cloud in CLOUDS for one in read_all(RECORDINGS / cloud).values()]
    assert [one.name for one in committed if one.of != "cloud"] == []


def test_a_tour_asks_for_all_that_grafos_makes_and_deletes(toured: tuple[str, Path]) -> None:
    cloud, folder = toured
    operations = {one.operation for one in read_all(folder).values()}
    expected = {
        "aws": {"ec2.RunInstances", "ec2.TerminateInstances", "ec2.DescribeInstances", "sts.GetCallerIdentity"},
        "azure": {"virtualMachines.put", "virtualMachines.delete", "resources.list", "schedules.put"},
        "gcp": {"compute.instances.insert", "compute.instances.delete", "compute.operations.get"},
    }
    assert expected[cloud] <= operations
    assert any(one.code for one in read_all(folder).values())


def test_a_field_that_is_missing_new_or_of_another_sort_is_told(toured: tuple[str, Path]) -> None:
    answered = read_all(toured[1])
    checked = 0
    for one in answered.values():
        if not isinstance(one.body, dict) or not one.body:
            continue
        field = next(iter(one.body))
        without = replace(one, body={key: value for key, value in one.body.items() if key != field})
        other = replace(one, body={**one.body, field: {"unheard of": True}})
        assert any("is missing" in line for line in differences(one, without))
        assert any("is not in the recording" in line for line in differences(without, one))
        assert differences(one, other) != []
        assert differences(one, without, [f".{field}"]) == []
        checked += 1
    assert checked > 5


def test_an_answer_that_the_emulator_never_gave_is_told(toured: tuple[str, Path]) -> None:
    name, one = next(iter(read_all(toured[1]).items()))
    assert differences(one, None) == [f"{name}: the emulator was never seen to answer so"]


CANARIES = {
    "account": "111122223333",
    "arn": "arn:aws:iam::111122223333:user/canary-person",
    "project": "canary-project-417",
    "subscription": "5f6e7a8b-0000-4c4c-8d8d-cafecafecafe",
    "person": "canary.person@example.org",
    "machine": "i-0canary0canary00",
    "address": "203.0.113.77",
    "name": "canary-machine",
    "token": "ya29.canary-token",
    "user_data": "IyEvYmluL2NhbmFyeQ==",
    "console": "canary login: root",
    "key": "canary-label",
    "header": "https://management.azure.com/subscriptions/5f6e7a8b-0000-4c4c-8d8d-cafecafecafe/operations/1",
    "number": 417417417417,
}


def document_of_canaries() -> dict[str, Any]:
    """Each canary wherever it might stand: as a value, in a list, under a label, as a name, beside a code."""
    values = dict(CANARIES)
    return {
        **values,
        "list": [*values.values()],
        "labels": {values["key"]: values["name"]},
        "tags": {str(value): value for value in values.values()},
        "userAssignedIdentities": {values["header"]: {"clientId": values["subscription"]}},
        "items": {f"zones/{values['name']}": {"instances": [{"name": values["name"], "status": "RUNNING"}]}},
        "error": {"code": 404, "message": f"{values['name']} of {values['project']} was not found", "status": "FAILED"},
        "metadata": {"items": [{"key": values["key"], "value": values["user_data"]}]},
        "status": values["name"] + " 1",
        "reason": values["token"],
        "kind": values["subscription"],
    }


@pytest.mark.parametrize("form", ["json", "xml"])
def test_nothing_of_an_account_is_in_a_recording(tmp_path: Path, form: str) -> None:
    document = document_of_canaries()
    body = json.dumps(document).encode() if form == "json" else _xml(document).encode()
    headers = {
        "Location": CANARIES["header"],
        "Azure-AsyncOperation": CANARIES["header"],
        "Authorization": f"Bearer {CANARIES['token']}",
        "x-ms-canary": CANARIES["name"],
        "Content-Type": f"application/{form}; charset={CANARIES['name']}",
    }
    found = recording_of(Asked("gcp", "compute.instances.get", mutating=False), 404, headers, body, "cloud")
    assert found is not None
    Recorder(tmp_path).hear(found)
    (file,) = tmp_path.iterdir()
    kept = file.read_text() + file.name
    assert [name for name, canary in CANARIES.items() if str(canary) in kept] == []
    assert "canary" not in kept
    assert "FAILED" in kept
    assert "RUNNING" in kept


def _xml(document: Any, name: str = "DescribeResponse") -> str:
    if isinstance(document, dict):
        plain = {key if key.isidentifier() else "field": value for key, value in document.items()}
        return f"<{name}>{''.join(_xml(value, key) for key, value in plain.items())}</{name}>"
    if isinstance(document, list):
        return f"<{name}>{''.join(_xml(value, 'item') for value in document)}</{name}>"
    return f"<{name}>{document}</{name}>"


def test_what_is_neither_json_nor_xml_is_not_recorded() -> None:
    asked = Asked("azure", "virtualMachines.get", mutating=False)
    assert recording_of(asked, 200, {}, b"canary login: root", "cloud") is None
    assert recording_of(asked, 200, {"Content-Encoding": "gzip"}, b"no gzip", "cloud") is None


GCE, ARM = "https://compute.googleapis.com/compute/v1/projects/p", "https://management.azure.com/subscriptions/s"
HERE = "http://127.0.0.1:1"
VM = "/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/m"


@pytest.mark.parametrize(
    ("method", "url", "service", "body", "named"),
    [
        ("POST", "https://ec2.eu-west-1.amazonaws.com/", "ec2", "Action=RunInstances&V=1", "ec2.RunInstances"),
        ("POST", f"{HERE}/", "sts", b"Action=GetCallerIdentity", "sts.GetCallerIdentity"),
        ("POST", "https://ec2.evil.example/", "ec2", "Action=RunInstances", ""),
        ("GET", f"{GCE}/zones/z/instances/i", "", None, "compute.instances.get"),
        (
            "POST",
            f"{HERE}/compute/v1/projects/p/zones/z/instances/i/setLabels",
            "",
            "{}",
            "compute.instances.setLabels",
        ),
        ("GET", f"{GCE}/aggregated/disks", "", None, "compute.disks.aggregatedList"),
        ("GET", f"{GCE}/global/images/family/debian", "", None, "compute.images.getFromFamily"),
        ("GET", f"{HERE}/gcp/serviceusage/v1/projects/p/services/s", "", None, "serviceusage.services.get"),
        ("PUT", ARM + VM, "", "{}", "virtualMachines.put"),
        ("POST", f"{ARM}{VM}/deallocate", "", "{}", "deallocate.post"),
        ("GET", f"{HERE}/subscriptions/s/resourceGroups/g", "", None, "resourceGroups.get"),
        ("GET", f"{ARM}/providers/Microsoft.Compute/locations/l/operations/o", "", None, "operations.get"),
        ("GET", "https://prices.azure.com/api/retail/prices?x=1", "", None, "retail.prices.list"),
        ("POST", "https://login.microsoftonline.com/tenant/oauth2/v2.0/token", "", "grant", ""),
        ("POST", "https://oauth2.googleapis.com/token", "", "grant", ""),
        ("GET", "http://169.254.169.254/latest/meta-data/iam/", "", None, ""),
        ("GET", "https://account.blob.core.windows.net/boot/serial.log", "", None, ""),
        ("GET", f"{HERE}/_grafos/journal", "", None, ""),
    ],
)
def test_a_request_is_called_the_same_at_the_cloud_and_at_its_emulator(
    method: str, url: str, service: str, body: bytes | str | None, named: str
) -> None:
    """And what is about credentials has no name, so that it is never heard."""
    signed = {"Authorization": f"AWS4-HMAC-SHA256 Credential=AKIAX/20261121/r/{service}/aws4_request, S=h"}
    asked = operation_of(method, url, signed if service else {}, body)
    assert (asked.operation if asked else "") == named
