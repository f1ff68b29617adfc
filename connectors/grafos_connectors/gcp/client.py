"""The only place that makes SDK clients: where they may connect, as whom, how long they wait and how often they try.

Reads are tried three times. Changing calls are tried once: what to do after a failure is decided by whoever keeps the
journal, not by the SDK. Of the SDK only the ``*_unary`` methods change anything: its other ones give an operation that
polls itself, at the real cloud, whatever endpoint its client was given.

Requests and answers are the JSON documents that Google's reference describes, as plain dicts.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from google.api_core import exceptions as api
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from google.protobuf import json_format
from google.protobuf.message import Message

from grafos_connectors.contract import CloudError
from grafos_connectors.gcp.endpoints import (
    PROJECT_VARIABLE,
    REAL_COMPUTE,
    UNIVERSE,
    check_real_project,
    check_region,
    endpoint_in,
    project_in,
    region_in,
)
from grafos_connectors.gcp.errors import no_operation, translated
from grafos_connectors.gcp.login import find_login
from grafos_connectors.gcp.sdk import client_class, message_class
from grafos_connectors.gcp.wire import READ_TIMEOUT_S, NobodysCredentials, Watch, Wire, read_retry

LEAST_ERROR = 400  # of HTTP's statuses
PAGE_SIZE = 500  # the most that Compute Engine gives at once
# The SDK's messages of request bodies, by the field of the request that holds them.
BODIES = {
    "address_resource": "Address",
    "firewall_resource": "Firewall",
    "global_set_labels_request_resource": "GlobalSetLabelsRequest",
    "image_resource": "Image",
    "instance_resource": "Instance",
    "instances_set_labels_request_resource": "InstancesSetLabelsRequest",
    "network_resource": "Network",
    "subnetwork_resource": "Subnetwork",
    "zone_set_labels_request_resource": "ZoneSetLabelsRequest",
}


class GcpCalls:
    """Calls of one project; all errors are ``CloudError``. Thread-safe.

    ``environment`` stands in for the process's variables, and then nothing else is looked at: no file but the key that
    it names, no metadata service. Without it project and credentials come from wherever the SDK finds them. ``watch``
    hears "before" and "after" around each HTTP request.
    """

    def __init__(
        self, region: str = "", *, environment: Mapping[str, str] | None = None, watch: Watch | None = None
    ) -> None:
        variables = os.environ if environment is None else environment
        self._environment = None if environment is None else dict(environment)
        self.endpoint = endpoint_in(variables)
        self._project = project_in(variables, self.endpoint)
        self.emulated = bool(self.endpoint)
        self.region = region or region_in(variables)
        check_region(self.region)
        self._wire = Wire(self.endpoint, watch)
        weakref.finalize(self, self._wire.close)  # the sessions stand in cycles, whose sockets nobody would close
        self._lock = threading.RLock()
        self._credentials: Credentials | None = None
        self._clients: dict[str, Any] = {}
        self._plain: AuthorizedSession | None = None

    @property
    def project(self) -> str:
        """The project that is worked in. Raises ``credentials_missing`` when nothing names one."""
        if not self._project:
            self._login()
        return self._project

    @property
    def server_time(self) -> float:
        """The cloud's clock in the last answer that this thread got; 0 when it did not tell."""
        return self._wire.server_time

    @property
    def principal(self) -> str:
        """Who the credentials are, as far as they say themselves; asks nobody."""
        login = self._login()
        named = (getattr(login, name, "") for name in ("service_account_email", "signer_email", "account"))
        fallback = "emulated" if self.emulated else "a person's login"
        return next((str(name) for name in named if name), fallback)

    def read(self, client: str, method: str, /, **fields: Any) -> dict[str, Any]:
        """One reading call, or one page of a list; ``method`` as the SDK's client calls it."""
        where = _where(fields, self.region)
        with translated(f"{client}.{method}", where, changing=False):
            call = getattr(self._client(client), method)
            answer = call(request=self._fields(fields), retry=read_retry(), timeout=READ_TIMEOUT_S)
            if not hasattr(answer, "pages"):
                return _document(answer)
            return _document(next(iter(answer.pages)))  # the first page is there already, further ones we ask for

    def pages(self, client: str, method: str, /, **fields: Any) -> Iterator[dict[str, Any]]:
        """The pages of one list."""
        fields = {**fields, "max_results": PAGE_SIZE}
        while True:
            page = self.read(client, method, **fields)
            yield page
            if not page.get("nextPageToken"):
                return
            fields["page_token"] = page["nextPageToken"]

    def change(self, client: str, method: str, /, **fields: Any) -> dict[str, Any]:
        """One changing call, sent at most once; gives the operation that it began."""
        where = _where(fields, self.region)
        with translated(f"{client}.{method}", where, changing=False):
            call = getattr(self._client(client), f"{method}_unary")
            request = self._fields(fields)
        with translated(f"{client}.{method}", where, changing=True):
            began = _document(call(request=request, retry=None, timeout=READ_TIMEOUT_S))
        if not began.get("selfLink"):
            raise no_operation(f"{client}.{method}", where)
        return began

    def ask(self, service: str, path: str, query: Mapping[str, Any] = {}, body: Mapping[str, Any] | None = None) -> Any:
        """A question to another of Google's services ("cloudbilling"), by plain HTTPS; gives its JSON."""
        host = f"{self.endpoint}/gcp/{service}" if self.emulated else f"https://{service}.{UNIVERSE}"

        def once() -> Any:
            method = "GET" if body is None else "POST"
            response = self._session().request(method, f"{host}/{path}", params=query, json=body)
            if not response.ok:
                raise api.from_http_response(response)
            return response.json()

        with translated(f"{service} {path.partition('/')[2]}", "gcp", changing=False):
            return read_retry()(once)()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accepted: tuple[int, ...] = (),
        changing: bool = True,
    ) -> Any:
        """One request to Cloud Storage, by its path or by the address of an upload; gives the response. What changes
        nothing may be tried three times."""
        address = path if path.startswith(("http:", "https:")) else f"{self._storage}/{path}"

        def once() -> Any:
            response = self._session().request(
                method, address, params=query, json=body, data=data, headers=headers, allow_redirects=False
            )
            if response.status_code >= LEAST_ERROR and response.status_code not in accepted:
                raise api.from_http_response(response)
            return response

        with translated(f"storage {method}", "gcp", changing=changing):
            return once() if changing else read_retry()(once)()

    @property
    def _storage(self) -> str:
        return f"{self.endpoint}/gcp/storage" if self.emulated else f"https://storage.{UNIVERSE}"

    def check_storage_address(self, address: str) -> None:
        """Raises ``cloud_unknown`` for an address to which no credential of ours may go."""
        if not address.startswith(f"{self._storage}/"):
            raise CloudError("cloud_unknown", "Google Cloud told no address for the upload.", where="gcp", why=address)

    # How a client is made --------------------------------------------------------------------------------------------

    def _fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request, with bodies as the SDK's messages and with the project unless they name one."""
        filled = {"project": self.project, **fields}
        return {name: _message(BODIES[name], value) if name in BODIES else value for name, value in filled.items()}

    def _client(self, name: str) -> Any:
        with self._lock:  # the SDK's clients may be shared by threads
            if name not in self._clients:
                self._clients[name] = self._new_client(name)
            return self._clients[name]

    def _new_client(self, name: str) -> Any:
        made = client_class(name)(
            credentials=self._login(),
            client_options={"api_endpoint": self.endpoint or REAL_COMPUTE, "universe_domain": UNIVERSE},
        )
        self._wire.carry(made.transport._session)  # noqa: SLF001  the SDK has no public way to its HTTP
        return made

    def _session(self) -> AuthorizedSession:
        with self._lock:
            if self._plain is None:
                login = self._login()
                if hasattr(login, "with_quota_project") and not getattr(login, "quota_project_id", None):
                    login = login.with_quota_project(self.project)  # a person's login has none of its own to count on
                self._plain = AuthorizedSession(login)
                self._wire.carry(self._plain)
            return self._plain

    def _login(self) -> Credentials:
        """The credentials, or ``credentials_missing``; those that the SDK found it also renews by itself."""
        with self._lock:
            if self._credentials is None:
                self._credentials = self._found_login()
            return self._credentials

    def _found_login(self) -> Credentials:
        if self.emulated:
            return NobodysCredentials()  # type: ignore[no-untyped-call]  # its base class has no types
        with translated("the look for credentials", "gcp", changing=False):
            found, project = find_login(self._environment)
        self._project = self._project or check_real_project(project)
        if not self._project:
            raise CloudError(
                "credentials_missing",
                "No Google Cloud project is named.",
                where="gcp",
                next=f"Set {PROJECT_VARIABLE}.",
            )
        return found


def _message(name: str, document: Mapping[str, Any]) -> Any:
    made = message_class(name)()
    json_format.ParseDict(document, type(made).pb(made))
    return made


def _document(message: Any) -> dict[str, Any]:
    """An answer as the JSON that came over the wire: 64-bit numbers are text in it."""
    plain: Message = type(message).pb(message)
    document: dict[str, Any] = json_format.MessageToDict(plain)
    return document


def _where(fields: Mapping[str, Any], region: str) -> str:
    return f"gcp {fields.get('zone') or fields.get('region') or region}"
