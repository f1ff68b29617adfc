"""Where the SDK may connect and as whom: a real token to Azure only, none at all to an emulator."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from azure.core.pipeline import PipelineContext, PipelineRequest
from azure.core.rest import HttpRequest

from grafos_connectors.azure.client import AzureCalls
from grafos_connectors.azure.endpoints import check_pairing, is_resource_manager, same_origin
from grafos_connectors.azure.ids import SCHEDULE_PREFIX, canonical, parse
from grafos_connectors.azure.shapes import DEADLINE_MAX_S
from grafos_connectors.azure.transport import OnlyThere
from grafos_connectors.contract import CloudError
from grafos_connectors.loopback import is_loopback
from grafos_connectors.registry import open_connector
from grafos_core.emulated import EMULATED_SUBSCRIPTION
from grafos_stacks.azure import SCHEDULE_AHEAD_S_MAX
from grafos_stacks.names import DEADLINE_NAME_PREFIX

REAL = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"  # of Azure's own documentation
LOOPBACK = "http://127.0.0.1:9"
AZURE = "https://management.azure.com"
EMULATED = {
    "GRAFOS_AZURE_ENDPOINT": LOOPBACK,
    "AZURE_SUBSCRIPTION_ID": EMULATED_SUBSCRIPTION,
    "AZURE_DEFAULTS_LOCATION": "eastus",
}


def refusal_of(**changes: str) -> CloudError:
    with pytest.raises(CloudError) as raised:
        AzureCalls(environment={**EMULATED, **changes}).get("/subscriptions")
    return raised.value


@pytest.mark.parametrize("url", ["http://127.0.0.1:4566", "http://127.8.9.10", "http://[::1]:80", "http://localhost:1"])
def test_loopback_is_known_by_its_literal_address(url: str) -> None:
    assert is_loopback(url)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://127.0.0.1.example.net", "http://localhost.evil", AZURE, "x"]
)
def test_nothing_else_is_loopback(url: str) -> None:
    assert not is_loopback(url)


@pytest.mark.parametrize("url", [AZURE, "https://eastus.management.azure.com/x", "https://management.azure.com:443/"])
def test_the_resource_manager_is_known_by_its_name_and_tls(url: str) -> None:
    assert is_resource_manager(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://management.azure.com",
        "https://management.azure.com.evil.net",
        "https://evilmanagement.azure.com",
        "https://management.azure.com@evil.net",
        "https://management.azure.com:8443",
        "https://management.usgovcloudapi.net",
    ],
)
def test_nothing_else_is_the_resource_manager(url: str) -> None:
    assert not is_resource_manager(url)


@pytest.mark.parametrize(
    ("endpoint", "subscription"),
    [
        (LOOPBACK, REAL),
        (AZURE, EMULATED_SUBSCRIPTION),
        (AZURE, EMULATED_SUBSCRIPTION.upper()),
        ("https://evil.example.net", REAL),
        ("http://management.azure.com", REAL),
    ],
)
def test_what_does_not_belong_together_is_refused_before_any_call(endpoint: str, subscription: str) -> None:
    with pytest.raises(CloudError) as raised:
        check_pairing(endpoint, subscription)
    assert raised.value.code == "credentials_mixed"
    mixed = refusal_of(GRAFOS_AZURE_ENDPOINT=endpoint, AZURE_SUBSCRIPTION_ID=subscription)
    assert mixed.code == "credentials_mixed"
    assert "grafos emulate" in mixed.next


def test_a_subscription_that_is_not_named_is_told_how_to() -> None:
    missing = refusal_of(AZURE_SUBSCRIPTION_ID="", GRAFOS_AZURE_ENDPOINT="")
    assert missing.code == "credentials_missing"
    assert "AZURE_SUBSCRIPTION_ID" in missing.next


def test_a_subscription_that_is_no_id_is_refused() -> None:
    assert refusal_of(AZURE_SUBSCRIPTION_ID="my subscription").code == "config_invalid"


def test_given_variables_without_a_secret_are_no_credentials_and_nothing_is_sent() -> None:
    missing = refusal_of(AZURE_SUBSCRIPTION_ID=REAL, GRAFOS_AZURE_ENDPOINT="")
    assert missing.code == "credentials_missing"
    assert "az login" in missing.next


def test_an_emulators_subscription_need_not_be_named() -> None:
    assert AzureCalls(environment={"GRAFOS_AZURE_ENDPOINT": LOOPBACK}).subscription == EMULATED_SUBSCRIPTION


def test_a_location_is_one_word_however_it_is_written() -> None:
    assert AzureCalls("East US", environment=EMULATED).region == "eastus"
    assert AzureCalls(environment={**EMULATED, "AZURE_DEFAULTS_LOCATION": "West Europe"}).region == "westeurope"


def test_the_connector_is_opened_by_its_name() -> None:
    connector = open_connector("azure", environment=EMULATED)
    assert connector.provider == "azure"
    assert set(connector.traits.once) == set(connector.traits.kinds)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:10/x", "http://127.0.0.2:9/x", "https://127.0.0.1:9/x", f"{AZURE}/x", "http://[::1]:9/x"]
)
def test_an_emulators_client_talks_to_that_one_address_only(url: str) -> None:
    guard = OnlyThere(LOOPBACK, emulated=True)
    guard.on_request(request_to(f"{LOOPBACK}/anything"))
    with pytest.raises(CloudError) as raised:
        guard.on_request(request_to(url))
    assert raised.value.code == "credentials_mixed"


def test_a_real_token_goes_to_the_resource_manager_and_its_regions_only() -> None:
    guard = OnlyThere(AZURE, emulated=False)
    for url in (f"{AZURE}/subscriptions", "https://westeurope.management.azure.com/subscriptions"):
        guard.on_request(request_to(url))
    for url in ("https://evil.example.net/", "http://management.azure.com/", LOOPBACK):
        with pytest.raises(CloudError):
            guard.on_request(request_to(f"{url}?secret=1"))


def request_to(url: str) -> PipelineRequest[HttpRequest]:
    return PipelineRequest(HttpRequest("GET", url), PipelineContext(None))


def test_two_ways_to_write_one_place_have_one_origin() -> None:
    assert same_origin("http://127.0.0.1:9/a", "http://127.0.0.1:9")
    assert not same_origin("http://127.0.0.1:99/a", "http://127.0.0.1:9")


# What is on the wire --------------------------------------------------------------------------------------------------


@pytest.fixture
def seen() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of a server that answers each question with an empty subscription, and the headers that it saw."""
    headers: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=serving.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_address[1]}", headers
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_an_emulator_sees_no_credential_though_the_process_has_one(
    seen: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, headers = seen
    for name, value in {**EMULATED, "GRAFOS_AZURE_ENDPOINT": endpoint, "AZURE_CLIENT_SECRET": "a-real-secret"}.items():
        monkeypatch.setenv(name, value)
    calls = AzureCalls()
    calls.get("/subscriptions/x")
    calls.read("resources", "resource_groups.get", "", "g")
    assert len(headers) == 2
    assert not any({"authorization", "cookie"} & set(each) for each in headers)
    assert all("grafos" in each["user-agent"] for each in headers)


def test_no_proxy_carries_loopbacks_traffic_elsewhere(
    seen: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, headers = seen
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, LOOPBACK)
    AzureCalls(environment={**EMULATED, "GRAFOS_AZURE_ENDPOINT": endpoint}).get("/subscriptions/x")
    assert len(headers) == 1


def test_each_request_is_watched_before_and_after(seen: tuple[str, list[dict[str, str]]]) -> None:
    endpoint, headers = seen
    told: list[str] = []
    calls = AzureCalls(environment={**EMULATED, "GRAFOS_AZURE_ENDPOINT": endpoint}, watch=told.append)
    calls.get("/subscriptions/x")
    calls.read("resources", "resource_groups.get", "", "g")
    calls.fetch(f"{endpoint}/blob", "a blob")
    assert told == ["before", "after"] * 3
    assert len(headers) == 3


class DeadError(BaseException):
    """The process ends here."""


def test_who_watches_can_end_it_before_anything_is_sent(seen: tuple[str, list[dict[str, str]]]) -> None:
    endpoint, headers = seen

    def die(_: str) -> None:
        raise DeadError

    calls = AzureCalls(environment={**EMULATED, "GRAFOS_AZURE_ENDPOINT": endpoint}, watch=die)
    with pytest.raises(DeadError):
        calls.get("/subscriptions/x")
    assert headers == []


def test_a_console_elsewhere_is_not_read_from_an_emulator() -> None:
    calls = AzureCalls(environment=EMULATED)
    with pytest.raises(CloudError) as raised:
        calls.fetch("http://127.0.0.2:9/blob?sig=s", "reading the console")
    assert raised.value.code == "cloud_invalid"
    assert "sig=" not in str(raised.value)


# Ids ------------------------------------------------------------------------------------------------------------------


def test_an_id_has_one_spelling() -> None:
    shouted = "/SUBSCRIPTIONS/S/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.NETWORK/VIRTUALNETWORKS/N/SUBNETS/M"
    assert canonical(shouted) == (
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/m"
    )
    assert canonical(canonical(shouted)) == canonical(shouted)
    assert canonical("") == canonical(None) == ""


@pytest.mark.parametrize(
    "id",
    [
        "x",
        "/",
        "/subscriptions/s",
        "/subscriptions/s/resourceGroups/",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks",
        "/subscriptions/s/resourceGroups/g/nothing/Microsoft.Network/virtualNetworks/n",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n?x=1",
        "/subscriptions/s/resourceGroups/../providers/Microsoft.Network/virtualNetworks/n",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/.",
        "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/a/b/c",
        "subscriptions/s/resourceGroups/g",
        "/subscriptions/s/resourceGroups/g%2F",
    ],
)
def test_what_is_no_id_is_refused(id: str) -> None:
    with pytest.raises(CloudError) as raised:
        parse(id)
    assert raised.value.code == "cloud_invalid"


# What others rely on --------------------------------------------------------------------------------------------------


def test_the_layouts_of_azure_fit_its_schedules() -> None:
    """A plan's deadline is at most as far away as a schedule can be, a whole minute's rounding included."""
    assert SCHEDULE_AHEAD_S_MAX + 60 <= DEADLINE_MAX_S
    assert DEADLINE_NAME_PREFIX == SCHEDULE_PREFIX


def test_opening_the_connector_imports_no_other_cloud_and_none_of_azures_services() -> None:
    program = (
        "import sys\n"
        "from grafos_connectors.registry import open_connector\n"
        f"open_connector('azure', environment={EMULATED!r})\n"
        "heavy = ('boto3', 'botocore', 'google', 'azure.mgmt.compute', 'azure.mgmt.network', 'azure.mgmt.resource')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
