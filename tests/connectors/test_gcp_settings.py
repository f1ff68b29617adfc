"""Where requests go and as whom: an emulator gets no login, the real cloud no dummy, nothing leaves by surprise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from contract_work import Work
from gcp_place import GcpPlace, gcp_place
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1

from grafos_connectors.contract import CloudError, Kind
from grafos_connectors.gcp.client import BODIES, GcpCalls
from grafos_connectors.gcp.connector import GcpConnector
from grafos_connectors.gcp.endpoints import check_region, endpoint_in
from grafos_connectors.gcp.images import IMAGE_SHAPES
from grafos_connectors.gcp.shapes import GCP_SHAPES
from grafos_connectors.gcp.wire import Wire
from grafos_connectors.registry import open_connector
from grafos_core.emulated import EMULATED_PROJECT

LOOPBACK = "http://127.0.0.1:9"
EMULATED = {"GRAFOS_GCP_ENDPOINT": LOOPBACK, "GOOGLE_CLOUD_PROJECT": EMULATED_PROJECT}
REGION = "us-central1"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[GcpPlace]:
    with gcp_place(tmp_path) as place:
        yield place


def refusal_of(region: str = REGION, **environment: str) -> CloudError:
    with pytest.raises(CloudError) as raised:
        GcpCalls(region, environment=environment).read("projects", "get")
    return raised.value


# Endpoints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://127.0.0.1:4566", "http://127.8.9.10", "http://[::1]:80", "http://localhost:1"])
def test_an_emulator_is_on_loopback(url: str) -> None:
    assert endpoint_in({"GRAFOS_GCP_ENDPOINT": f"{url}/"}) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1",
        "http://localhost.example.net",
        "https://compute.googleapis.com",
        "127.0.0.1:9",
        "ftp://127.0.0.1",
        "http://[::1",
        "x",
    ],
)
def test_an_endpoint_elsewhere_is_refused(url: str) -> None:
    assert refusal_of(GRAFOS_GCP_ENDPOINT=url).code == "credentials_mixed"


def test_an_emulator_works_in_the_emulated_project_only() -> None:
    error = refusal_of(GRAFOS_GCP_ENDPOINT=LOOPBACK, GOOGLE_CLOUD_PROJECT="my-project")
    assert error.code == "credentials_mixed"
    assert "grafos emulate" in error.next


def test_the_emulated_project_is_not_looked_for_in_the_real_cloud() -> None:
    assert refusal_of(GOOGLE_CLOUD_PROJECT=EMULATED_PROJECT).code == "credentials_mixed"


def test_an_emulator_alone_is_enough() -> None:
    assert GcpCalls(REGION, environment={"GRAFOS_GCP_ENDPOINT": LOOPBACK}).project == EMULATED_PROJECT


def test_the_region_may_come_from_the_settings() -> None:
    assert GcpCalls(environment={**EMULATED, "CLOUDSDK_COMPUTE_REGION": "europe-west4"}).region == "europe-west4"


@pytest.mark.parametrize(
    ("region", "step"),
    [
        ("", "CLOUDSDK_COMPUTE_REGION"),
        ("us-central1-a", "'us-central1'"),
        ("us-east-1", "'us-east1'"),
        ("eu-west-1a", "'eu-west1'"),
        ("eastus", "--region"),
    ],
)
def test_what_cannot_be_a_region_says_what_could(region: str, step: str) -> None:
    with pytest.raises(CloudError) as raised:
        check_region(region)
    assert raised.value.code == "cloud_invalid"
    assert step in raised.value.next


# Credentials ---------------------------------------------------------------------------------------------------------


def test_given_variables_shut_out_what_the_process_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "a-real-key.json"))
    error = refusal_of(GOOGLE_CLOUD_PROJECT="my-project")
    assert error.code == "credentials_missing"
    assert "gcloud auth" in error.next


@pytest.mark.parametrize("content", [None, "", "{}", "no json", '{"type": "service_account"}'])
def test_a_key_that_cannot_be_used_says_so(tmp_path: Path, content: str | None) -> None:
    key = tmp_path / "key.json"
    if content is not None:
        key.write_text(content)
    error = refusal_of(GOOGLE_CLOUD_PROJECT="my-project", GOOGLE_APPLICATION_CREDENTIALS=str(key))
    assert error.code == "credentials_missing"


def test_credentials_without_a_project_ask_for_one(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    login = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "t"}
    key.write_text(json.dumps(login))
    error = refusal_of(GOOGLE_APPLICATION_CREDENTIALS=str(key))
    assert error.code == "credentials_missing"
    assert "GOOGLE_CLOUD_PROJECT" in error.next


def test_where_the_process_has_no_login_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """The SDK looks for a metadata service at the end, which a test must not reach."""
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(home))
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GRAFOS_GCP_ENDPOINT", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    with pytest.raises(CloudError) as raised:
        GcpConnector(REGION).identity()
    assert raised.value.code == "credentials_missing"


def test_another_universe_is_refused_before_a_token_is_sent(tmp_path: Path) -> None:
    """The sovereign clouds have accounts, images and prices of their own."""
    key = tmp_path / "key.json"
    login = {"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "t"}
    key.write_text(json.dumps({**login, "universe_domain": "apis.sovereign.example"}))
    error = refusal_of(GOOGLE_APPLICATION_CREDENTIALS=str(key), GOOGLE_CLOUD_PROJECT="my-project")
    assert error.code == "unsupported"


def test_an_emulator_gets_no_login_even_when_the_process_has_one(
    place: GcpPlace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The emulator refuses every request that carries one."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "a-real-key.json"))
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name, value in place.clouds.environment().items():
        monkeypatch.setenv(name, value)
    connector = open_connector("gcp", REGION)
    assert connector.identity().account == EMULATED_PROJECT
    assert connector.missing_permissions(REGION) == ()


def test_a_proxy_does_not_carry_what_is_for_loopback(place: GcpPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:3128")
    assert place.open().identity().account == EMULATED_PROJECT


# The wire ------------------------------------------------------------------------------------------------------------


def test_the_sdks_own_poller_would_leave_loopback_and_is_refused() -> None:
    """Its clients build a poller of operations without their endpoint: google-cloud-compute, all versions until now."""
    client = compute_v1.InstancesClient(
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": LOOPBACK, "universe_domain": "googleapis.com"},
    )
    poller = client.transport._zone_operations_client
    assert "compute.googleapis.com" in poller.transport._host
    wire = Wire(LOOPBACK)
    wire.carry(poller.transport._session)
    with pytest.raises(requests.exceptions.InvalidURL):
        poller.get(project="p", zone="z", operation="o", retry=None)


@pytest.mark.parametrize(
    "url", ["https://compute.googleapis.com/", f"{LOOPBACK}9/", "http://127.0.0.1/", "http://127.0.0.1:9@192.0.2.1/"]
)
def test_a_request_to_any_other_place_than_the_emulator_is_not_sent(url: str) -> None:
    session = requests.Session()
    wire = Wire(LOOPBACK)
    wire.carry(session)
    with pytest.raises(requests.exceptions.InvalidURL):
        session.get(url)
    wire.close()


def test_each_request_is_watched_before_and_after(place: GcpPlace) -> None:
    """Tests let a process die in each of these moments."""
    moments: list[str] = []
    connector = GcpConnector(REGION, environment=place.clouds.environment(), watch=moments.append)
    connector.identity()
    connector.missing_permissions(REGION)
    assert moments == ["before", "after"] * 2
    assert len(place.asked()) == 2


def test_whoever_watches_may_end_it_all(place: GcpPlace) -> None:
    class DeadError(BaseException):
        """The process is gone."""

    def die(phase: str) -> None:
        if phase == "after":
            raise DeadError

    work = Work(place)
    connector = GcpConnector(REGION, environment=place.clouds.environment(), watch=die)
    with pytest.raises(DeadError):
        connector.begin_create(work.desired(Kind.NETWORK), "token")
    assert place.changes() == ["networks.insert"]


def test_every_message_that_is_named_exists() -> None:
    for message in BODIES.values():
        assert hasattr(compute_v1, message)


# How light it is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unwanted", ["google.cloud.compute_v1", "botocore", "boto3", "azure.mgmt.compute"])
def test_opening_the_connector_imports_neither_the_heavy_sdk_nor_another_clouds(unwanted: str) -> None:
    """The SDK's import takes two seconds; what only asks for help, or is refused before any call, does without."""
    program = (
        "import sys; from grafos_connectors.registry import open_connector;"
        f"open_connector('gcp', {REGION!r}, environment={EMULATED!r});"
        f"sys.exit({unwanted!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_call_imports_the_client_that_it_needs_and_the_rest_is_there_for_who_asks() -> None:
    program = (
        "import sys; from grafos_connectors.gcp.sdk import client_class, message_class;"
        "made = client_class('global_operations'), message_class('Instance');"
        "services = 'google.cloud.compute_v1.services.';"
        "assert [name for name in sys.modules if name.startswith(services) and name.count('.') == 4]"
        " == [services + 'global_operations'], 'more than one client was imported';"
        "from google.cloud import compute_v1;"
        "assert made == (compute_v1.GlobalOperationsClient, compute_v1.Instance);"
        "assert compute_v1.AcceleratorTypesClient and compute_v1.__version__"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_registry_gives_the_connector(place: GcpPlace) -> None:
    connector: Any = place.open()
    assert (connector.provider, connector.region) == ("gcp", REGION)
    assert set(connector.traits.kinds) == set(connector.traits.once) == set(GCP_SHAPES) | set(IMAGE_SHAPES)
