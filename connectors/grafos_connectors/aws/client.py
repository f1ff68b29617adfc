"""The only place that makes SDK clients: where they may connect, as whom, how long they wait and how often they try.

Reads may be tried three times by the SDK. Changing calls are tried once: what to do after a failure is decided by
whoever keeps the journal, not by the SDK.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.loaders import Loader, create_loader
from botocore.session import Session

from grafos_connectors.aws.endpoints import check_pairing, mixed
from grafos_connectors.aws.errors import NEXT_STEPS, translated
from grafos_connectors.contract import CloudError
from grafos_connectors.likeness import did_you_mean
from grafos_connectors.loopback import is_loopback

CONNECT_TIMEOUT_S = 5  # AWS's front ends accept in well under a second; more is a dead network
READ_TIMEOUT_S = 20  # RunInstances answers within a few seconds; a read's three attempts end within two minutes
READ_ATTEMPTS = 3
CHANGE_ATTEMPTS = 1
PARTITION = "aws"  # the others have accounts, images and price lists of their own
CONNECTIONS = 64  # one for each machine of the largest parallel provision
PAGE_SIZE = 100  # results per page: the most that DescribeInstanceTypes and the price list allow, others 1000

# From where an emulator's credentials may come: plain values only. The other places that the SDK knows would ask a real
# service, or the network, before anyone could see what they hold.
PLAIN_SOURCES = ("env", "shared-credentials-file", "config-file")

# Session variables of the SDK (name in a file, environment variables, default, conversion) that see no profile.
NO_FILES: Any = {
    "profile": (None, [], None, None),
    "config_file": (None, [], os.devnull, None),
    "credentials_file": (None, [], os.devnull, None),
}


def _names_a_host(said: str) -> bool:
    try:
        return bool(urlsplit(said).hostname)
    except ValueError:  # brackets that do not close
        return False


def _no_url(said: str) -> CloudError:
    return CloudError("config_invalid", f"The AWS endpoint {said!r} is no URL.", where="aws")


@functools.cache
def _models(data_path: str | None) -> Loader:
    """The SDK's descriptions of services, read once in a process: EC2's alone takes a fifth of a second."""
    return create_loader(data_path)


class AwsCalls:
    """Calls of one account, by the SDK's operation names; all errors are ``CloudError``. Thread-safe.

    ``environment`` stands in for the process's ``AWS_*`` variables, and then nothing else is looked at: no file, no
    metadata service. Without it credentials, region and endpoints come from wherever the SDK finds them.
    """

    def __init__(self, region: str = "", *, environment: Mapping[str, str] | None = None) -> None:
        self._environment = None if environment is None else dict(environment)
        self._lock = threading.Lock()
        self._session = Session() if environment is None else Session(session_vars=NO_FILES)
        self._asking = threading.Lock()
        self._remembered: dict[str, tuple[str, ...]] = {}
        self._clients: dict[tuple[str, str, int], Any] = {}
        with translated("reading AWS's settings", region, changing=False):
            self._session.register_component("data_loader", _models(self._session.get_config_variable("data_path")))
            partitions = self._session.get_component("data_loader").load_data("partitions")["partitions"]
            self.region = region or self._default_region()
        self._dns_suffixes = sorted(
            {partition["outputs"][name] for partition in partitions for name in ("dnsSuffix", "dualStackDnsSuffix")}
        )
        regions = {partition["id"]: partition["regions"] for partition in partitions}
        self.known_regions = tuple(sorted(name for name in regions.pop(PARTITION) if not name.endswith("-global")))
        self._foreign_regions = frozenset(name for names in regions.values() for name in names)
        self.check_region(self.region)
        self.emulated = is_loopback(self._endpoint("ec2"))
        if is_loopback(self._endpoint("sts")) != self.emulated:  # STS may be asked with real keys for temporary ones
            raise mixed(self._endpoint("sts"), "one of EC2 and STS is an emulator and the other is not")

    def read(self, service: str, operation: str, region: str = "", /, **parameters: Any) -> dict[str, Any]:
        """One reading call; ``operation`` as the SDK's method is called."""
        region = region or self.region
        with translated(operation, region, changing=False):
            answer: dict[str, Any] = getattr(self._client(service, region, READ_ATTEMPTS), operation)(**parameters)
            return answer

    def pages(self, service: str, operation: str, region: str = "", /, **parameters: Any) -> Iterator[dict[str, Any]]:
        """The pages of one reading call."""
        region = region or self.region
        with translated(operation, region, changing=False):
            client = self._client(service, region, READ_ATTEMPTS)
            paginator = client.get_paginator(operation)
            pages = iter(paginator.paginate(**parameters, PaginationConfig={"PageSize": PAGE_SIZE}))
        while True:
            with translated(operation, region, changing=False):
                page = next(pages, None)
            if page is None:
                return
            yield page

    def remembered(self, key: str, ask: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        """The answer to a question that is asked once in a connector's life; other askers wait for it."""
        with self._asking:
            if key not in self._remembered:
                self._remembered[key] = ask()
            return self._remembered[key]

    def change(self, operation: str, region: str = "", /, **parameters: Any) -> dict[str, Any]:
        """One changing call of EC2, sent at most once."""
        return self.send("ec2", operation, region or self.region, **parameters)

    def send(
        self, service: str, operation: str, region: str, /, *, attempts: int = CHANGE_ATTEMPTS, **parameters: Any
    ) -> dict[str, Any]:
        """One changing call, sent at most once; more often only where repeating it is harmless."""
        with translated(operation, region, changing=False):
            client = self._client(service, region, attempts)
        with translated(operation, region, changing=True):
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
            return answer

    def check_region(self, region: str) -> None:
        """Raises ``cloud_invalid`` that names the nearest region when AWS has none of that name.

        ``unsupported`` for one of China, of GovCloud or of another partition with accounts of its own.
        """
        if region in self.known_regions:
            return
        if region in self._foreign_regions:
            raise CloudError(
                "unsupported",
                f"This version of grafos cannot use the AWS region {region}.",
                where="aws",
                why="its partition has accounts, images and price lists of its own",
                next="Use a region of AWS's commercial partition, as us-east-1 or eu-central-1.",
            )
        what = f"AWS has no region {region!r}." if region else "No AWS region is given."
        step = did_you_mean(region, self.known_regions, "Pass --region, or set AWS_REGION.")
        raise CloudError("cloud_invalid", what, where="aws", next=step)

    # How a client is made --------------------------------------------------------------------------------------------

    def _client(self, service: str, region: str, attempts: int) -> Any:
        slot = (service, region, attempts)
        with self._lock:  # the SDK's clients may be shared by threads, its session may not
            if slot not in self._clients:
                self._clients[slot] = self._new_client(service, region, attempts)
            return self._clients[slot]

    def _new_client(self, service: str, region: str, attempts: int) -> Any:
        self.check_region(region)
        endpoint = self._endpoint(service, region)
        keys = self._credentials(endpoint)
        check_pairing(endpoint, keys.access_key, self._dns_suffixes)
        static = is_loopback(endpoint) or self._environment is not None
        return self._session.create_client(
            service,
            region_name=region,
            endpoint_url=endpoint,
            # Credentials that the SDK found by itself it also renews by itself.
            aws_access_key_id=keys.access_key if static else None,
            aws_secret_access_key=keys.secret_key if static else None,
            aws_session_token=keys.token if static else None,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"total_max_attempts": attempts, "mode": "standard"},
                max_pool_connections=CONNECTIONS,
                tcp_keepalive=True,
                user_agent_extra="grafos",
                proxies={} if is_loopback(endpoint) else None,  # a proxy would carry loopback's traffic elsewhere
            ),
        )

    def _endpoint(self, service: str, region: str = "") -> str:
        """Where a service's requests go, by settings alone: nothing is signed and nothing sent."""
        region = region or self.region
        configured = self._configured_endpoint(service)
        if configured:
            if not _names_a_host(configured):
                raise _no_url(configured)
            return configured
        config = Config(signature_version=UNSIGNED)
        if self._environment is not None:
            config = config.merge(Config(ignore_configured_endpoint_urls=True))  # type: ignore[call-arg]  # not in the stubs
        with translated(f"finding the endpoint of {service}", region, changing=False):
            try:
                probe = self._session.create_client(service, region_name=region, config=config)
            except ValueError as error:  # what a profile gives as endpoint
                raise _no_url(str(error)) from error
        return str(probe.meta.endpoint_url)

    def _configured_endpoint(self, service: str) -> str:
        """What environment variables say, by the SDK's own rules; a profile's endpoints only the SDK itself knows."""
        variables = os.environ if self._environment is None else self._environment
        if variables.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return ""
        own = variables.get("AWS_ENDPOINT_URL_" + service.upper().replace("-", "_"))
        return own or variables.get("AWS_ENDPOINT_URL") or ""

    def _credentials(self, endpoint: str) -> Any:
        """Keys for the endpoint, or ``credentials_missing``."""
        if self._environment is not None:
            keys = self._given_credentials(self._environment)
        elif is_loopback(endpoint):
            keys = self._plain_credentials()
        else:
            keys = self._session.get_credentials()
        if keys is None:
            raise CloudError(
                "credentials_missing",
                "No AWS credentials were found.",
                where="aws",
                next=NEXT_STEPS["credentials_missing"],
            )
        return keys.get_frozen_credentials()

    def _given_credentials(self, environment: Mapping[str, str]) -> Credentials | None:
        access_key, secret_key = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
        if not access_key or not secret_key:
            return None
        return Credentials(access_key, secret_key, environment.get("AWS_SESSION_TOKEN"))

    def _plain_credentials(self) -> Any:
        resolver = self._session.get_component("credential_provider")
        found = (resolver.get_provider(source).load() for source in PLAIN_SOURCES)
        return next((keys for keys in found if keys is not None), None)

    def _default_region(self) -> str:
        if self._environment is not None:
            return self._environment.get("AWS_REGION") or self._environment.get("AWS_DEFAULT_REGION") or ""
        return os.environ.get("AWS_REGION") or str(self._session.get_config_variable("region") or "")
