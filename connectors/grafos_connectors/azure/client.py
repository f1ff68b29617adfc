"""The only place that makes SDK clients: where they may connect, as whom, how long they wait and how often they try.

Reads may be tried three times. Changing calls are tried once: what to do after a failure is decided by whoever keeps
the journal, not by the SDK.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from azure.core import PipelineClient
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.core.rest import HttpRequest
from azure.mgmt.core import ARMPipelineClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

from grafos_connectors.azure import lro
from grafos_connectors.azure.endpoints import (
    EMULATED_RETAIL_PRICES,
    RESOURCE_MANAGER,
    RETAIL_PRICES,
    check_pairing,
    is_storage,
    same_origin,
)
from grafos_connectors.azure.errors import NEXT_STEPS, STATUSES, no_answer, refusal_in, refused, translated
from grafos_connectors.azure.transport import OnlyThere, Watch, policies, transport
from grafos_connectors.contract import CloudError
from grafos_connectors.likeness import did_you_mean
from grafos_connectors.loopback import is_loopback
from grafos_connectors.server_time import server_time
from grafos_core.clock import Clock, SystemClock
from grafos_core.emulated import EMULATED_SUBSCRIPTION

ENDPOINT_VARIABLE = "GRAFOS_AZURE_ENDPOINT"
SUBSCRIPTION_VARIABLE = "AZURE_SUBSCRIPTION_ID"
REGION_VARIABLE = "AZURE_DEFAULTS_LOCATION"
SUBSCRIPTION_PATTERN = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

RESOURCES_API = "2025-04-01"  # of subscriptions and locations; the SDK's package has no calls for them
POLL_PAUSE_S = 5.0  # between two questions about an operation, where ARM does not say; a machine takes half a minute
EMULATED_POLL_PAUSE_S = 0.1
REMEMBERED_S = 60.0  # what a location offers changes in days; a plan asks several times in a second
OUTCOME_WAIT_S = 120.0
READ_CREDENTIAL_TIMEOUT_S = 20  # `az account get-access-token` is a Python program that starts slowly
TOKEN_MAX_CHARACTERS = 60 * 1024  # of a continuation token: a handle holds 64 KiB, and more than the token

Answer = TypeVar("Answer")


class Begun(NamedTuple):
    """What a changing call was answered with. ``token`` resumes its long-running operation; it is empty without one.
    ``status`` is the HTTP number: 204 from a delete says that nothing was there."""

    token: str
    status: int


class AzureCalls:
    """Calls of one subscription, by the SDK's operation names; all errors are ``CloudError``. Thread-safe.

    ``environment`` stands in for the process's variables, and then nothing else is looked at: no signed-in user, no
    file, no metadata service. Without it credentials come from wherever the SDK finds them.
    """

    def __init__(
        self,
        region: str = "",
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._environment = None if environment is None else dict(environment)
        self._clock = clock or SystemClock()
        self._watch = watch
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._remembered: dict[tuple[str, ...], tuple[float, Any]] = {}
        self._turns: dict[tuple[str, ...], threading.Lock] = {}
        self._credential: Any = None
        variables = os.environ if environment is None else environment
        self.region = (region or variables.get(REGION_VARIABLE, "")).replace(" ", "").lower()
        self.endpoint = (variables.get(ENDPOINT_VARIABLE) or RESOURCE_MANAGER).rstrip("/")
        self.emulated = is_loopback(self.endpoint)
        self.subscription = self._given_subscription(variables).lower()
        self.pause_s = EMULATED_POLL_PAUSE_S if self.emulated else POLL_PAUSE_S
        check_pairing(self.endpoint, self.subscription)
        self._transport = transport(emulated=self.emulated)

    # What is asked ----------------------------------------------------------------------------------------------------

    def read(self, service: str, operation: str, region: str = "", /, *arguments: Any, **options: Any) -> Any:
        """One reading call, as plain data; ``operation`` as the SDK calls it ("virtual_machines.get")."""
        with translated(operation, region, changing=False):
            return _plain(attrgetter(operation)(self._client(service))(*arguments, **options))

    def pages(
        self, service: str, operation: str, region: str = "", /, *arguments: Any, **options: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """The pages of one reading call."""
        with translated(operation, region, changing=False):
            pages = attrgetter(operation)(self._client(service))(*arguments, **options).by_page()
        while True:
            with translated(operation, region, changing=False):
                page = next(pages, None)
                items = None if page is None else [_plain(item) for item in page]
            if items is None:
                return
            yield items

    def items(self, service: str, operation: str, region: str = "", /, *arguments: Any, **options: Any) -> list[Any]:
        """All pages of one reading call at once; for those that have few."""
        return [item for page in self.pages(service, operation, region, *arguments, **options) for item in page]

    def change(self, service: str, operation: str, region: str = "", /, *arguments: Any, **options: Any) -> Begun:
        """One changing call, sent at most once."""
        with translated(operation, region, changing=False):
            call = attrgetter(operation)(self._client(service))
        with translated(operation, region, changing=True):
            if ".begin_" not in operation:
                call(*arguments, **options)
                return Begun("", 200)
            poller = lro.OneQuestion(self.pause_s)
            begun = call(*arguments, polling=poller, **options)
            token = begun.continuation_token()
            return Begun(token if len(token) <= TOKEN_MAX_CHARACTERS else "", poller.initial_status)

    def outcome(self, service: str, operation: str, region: str = "", /, *arguments: Any, **options: Any) -> Any:
        """What a changing call came to, waited for: for the few that take seconds and may be repeated."""
        with translated(operation, region, changing=False):
            call = attrgetter(operation)(self._client(service))
        with translated(operation, region, changing=True):
            return _plain(call(*arguments, polling_interval=self.pause_s, **options).result(OUTCOME_WAIT_S))

    def step(self, token: str, region: str = "") -> lro.Step:
        """How the operation stands that a changing call began; asks once. Raises when the question was refused."""
        return lro.step(token, self._client("raw"), self.pause_s, region)

    def get(self, path: str, region: str = "", *, api_version: str = RESOURCES_API) -> tuple[Any, float]:
        """What ARM answers to a plain GET, and its clock then (Unix seconds, 0 if it did not say).

        For what the SDK has no calls for.
        """
        request = HttpRequest("GET", f"{self.endpoint}{path}", params={"api-version": api_version})
        response = self._send("raw", request, path, region)
        return _document(response, path, region), server_time(response.headers.get("Date", ""))

    def get_link(self, link: str, what: str, region: str = "") -> Any:
        """ARM's answer to a link that it gave itself: a next page."""
        return _document(self._send("raw", HttpRequest("GET", link), what, region), what, region)

    def fetch(self, url: str, what: str, region: str = "") -> Any:
        """An answer of another server than ARM, asked without any credential. ``what`` stands for the address in
        errors, since that may hold a signature."""
        if self.emulated and not same_origin(url, self.endpoint):
            raise CloudError("cloud_invalid", f"{what} is not on the emulator's own address.", where="azure")
        return self._send("anonymous", HttpRequest("GET", url), what, region)

    def put(self, url: str, headers: Mapping[str, str], content: bytes, what: str, region: str = "") -> None:
        """Bytes to an address that opens by the signature in it; no credential goes there. ``what`` stands for it."""
        if self.emulated and not same_origin(url, self.endpoint):
            raise CloudError("cloud_invalid", f"{what} is not on the emulator's own address.", where="azure")
        if not self.emulated and not is_storage(url):
            raise CloudError(
                "cloud_unknown", f"{what}: Azure told an address that is not its storage's.", where="azure"
            )
        self._send("anonymous", HttpRequest("PUT", url, headers=dict(headers), content=content), what, region)

    @property
    def retail_prices(self) -> str:
        """Where prices are asked for, without logging in."""
        return self.endpoint + EMULATED_RETAIL_PRICES if self.emulated else RETAIL_PRICES

    def remembered(self, key: tuple[str, ...], ask: Callable[[], Answer]) -> Answer:
        """The answer to a question that was asked a moment ago, or a new one. Threads with one question ask it once."""
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            until, answer = self._remembered.get(key, (0.0, None))
            if self._clock.monotonic() < until:
                told: Answer = answer
                return told
            asked = ask()
            self._remembered[key] = (self._clock.monotonic() + REMEMBERED_S, asked)
            return asked

    def check_region(self, region: str) -> None:
        """Raises ``cloud_invalid`` that names the nearest location when the subscription has none of that name."""
        known = self.locations()
        if region in known:
            return
        what = f"Azure has no location {region!r}." if region else "No Azure location is given."
        step = did_you_mean(region, known, f"Pass --region, or set {REGION_VARIABLE}.")
        raise CloudError("cloud_invalid", what, where="azure", next=step)

    def locations(self) -> tuple[str, ...]:
        """The names of all locations that the subscription may use."""
        told = self.remembered(("locations",), lambda: self.get(f"/subscriptions/{self.subscription}/locations")[0])
        return tuple(sorted(str(location["name"]) for location in told.get("value") or ()))

    def token_text(self) -> str:
        """The access token that calls bear; empty for an emulator."""
        if self.emulated:
            return ""
        with translated("asking for a token", changing=False, region=""):
            return str(self._credentials().get_token(RESOURCE_MANAGER + "/.default").token)

    # How a client is made ---------------------------------------------------------------------------------------------

    def _send(self, client: str, request: HttpRequest, what: str, region: str) -> Any:
        with translated(what, region, changing=False):
            response = self._client(client).send_request(request)
        if response.status_code >= min(STATUSES):
            refusal = refusal_in(response.text())
            raise refused(refusal, response.status_code, response.headers, what, region, changing=False)
        return response

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._new_client(service)
            return self._clients[service]

    def _new_client(self, service: str) -> Any:
        if service == "anonymous":
            chain = policies(authentication=None, guard=None, watch=self._watch)
            return PipelineClient("", policies=chain, transport=self._transport)
        guard = OnlyThere(self.endpoint, emulated=self.emulated)
        chain = policies(authentication=self._authentication(), guard=guard, watch=self._watch)
        if service == "raw":
            return ARMPipelineClient(self.endpoint, policies=chain, transport=self._transport)
        return _sdk_client(service)(
            credential=NO_CREDENTIAL,  # the chain holds what authenticates
            subscription_id=self.subscription,
            base_url=self.endpoint,
            credential_scopes=[],
            authentication_policy=SansIOHTTPPolicy(),
            policies=chain,
            transport=self._transport,
        )

    def _authentication(self) -> Any:
        """What puts the token on a request; nothing for an emulator, which is asked without any credential."""
        if self.emulated:
            return None
        return ARMChallengeAuthenticationPolicy(self._credentials(), RESOURCE_MANAGER + "/.default")

    def _credentials(self) -> Any:
        """The SDK's search for credentials; made when the first token is needed, and it sends nothing before that."""
        if self._credential is None:
            self._credential = _found_credential() if self._environment is None else _given(self._environment)
        return self._credential

    def _given_subscription(self, variables: Mapping[str, str]) -> str:
        given = variables.get(SUBSCRIPTION_VARIABLE, "")
        if given and not SUBSCRIPTION_PATTERN.fullmatch(given):
            raise CloudError(
                "config_invalid",
                f"{SUBSCRIPTION_VARIABLE} is no subscription's id: {given!r}.",
                where="azure",
                next="Use its UUID; `az account list` shows it.",
            )
        if not given and not self.emulated:
            raise CloudError(
                "credentials_missing",
                "No Azure subscription is named.",
                where="azure",
                next=f"Set {SUBSCRIPTION_VARIABLE}; `az account show --query id` tells yours. Or use `grafos emulate`.",
            )
        return given or EMULATED_SUBSCRIPTION


class _NoCredential:
    """Stands where the SDK's clients demand a credential; the chain of policies holds the one that is used."""

    def get_token(self, *scopes: str, **options: Any) -> Any:
        raise AssertionError(f"no client asks for a token by itself: {scopes}, {sorted(options)}")


NO_CREDENTIAL = _NoCredential()


def _sdk_client(service: str) -> Any:
    """The SDK's class for a service; each package is imported when the first call needs it."""
    if service == "compute":
        from azure.mgmt.compute import ComputeManagementClient

        return ComputeManagementClient
    if service == "network":
        from azure.mgmt.network import NetworkManagementClient

        return NetworkManagementClient
    from azure.mgmt.resource.resources import ResourceManagementClient

    return ResourceManagementClient


def _found_credential() -> Any:
    from azure.identity import DefaultAzureCredential

    return DefaultAzureCredential(process_timeout=READ_CREDENTIAL_TIMEOUT_S)


def _given(environment: Mapping[str, str]) -> Any:
    """A service principal's secret, the one credential that variables alone can hold."""
    from azure.identity import ClientSecretCredential

    names = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
    tenant, client, secret = (environment.get(name, "") for name in names)
    if not (tenant and client and secret):
        raise CloudError(
            "credentials_missing",
            "No Azure credentials were given.",
            where="azure",
            next=NEXT_STEPS["credentials_missing"],
        )
    return ClientSecretCredential(tenant, client, secret)


def _plain(answer: Any) -> Any:
    """What the SDK answered as plain data, by the names on the wire."""
    if isinstance(answer, list):
        return [_plain(item) for item in answer]
    return answer.as_dict() if hasattr(answer, "as_dict") else answer


def _document(response: Any, what: str, region: str) -> dict[str, Any]:
    """The object in an answer's body."""
    with translated(what, region, changing=False):
        document = response.json()
    if not isinstance(document, dict):
        raise no_answer(what, region)
    return document
