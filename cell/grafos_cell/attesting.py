"""What this machine's cloud signs of it, for one enrolment with one key: asked of its metadata service, of nobody else.

Nothing here is believed or read: whoever verifies it is at the other end. Sources: "Instance identity documents" (EC2
user guide), "Verify VM identity" (Compute Engine), "Attested data" (Azure Instance Metadata Service).
"""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlencode

from grafos_core.errors import GrafosError

TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 64 * 1024
"""The largest, Azure's with its chain of certificates, has some six thousand."""
LINK_LOCAL = "http://169.254.169.254/"
ENDPOINT, ENDPOINT_AWS = "GRAFOS_METADATA_ENDPOINT", "AWS_EC2_METADATA_SERVICE_ENDPOINT"
AZURE_VERSION = "2021-02-01"
NOT_NOW = (408, 410, 429)
"""Statuses after which a metadata service is asked again; those of a fault in it, too."""


def evidence(provider: str, bound_to: str) -> str:
    """The cloud's word for this machine, with ``bound_to`` in it where there is room for it.

    ``attestation_refused``: to be tried again when the service did not answer, for good when the machine has no such
    identity.
    """
    if provider not in _ASKED:
        raise GrafosError("unsupported", f"machines of {provider[:40]!r} have no signed identity that is known here")
    try:
        return _ASKED[provider](bound_to).strip()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(500).decode("utf-8", "replace").strip()
        again = error.code in NOT_NOW or error.code >= 500
        raise _unsigned(f"HTTP {error.code}: {text}", retryable=again) from error
    except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
        raise _unsigned(str(error), retryable=True) from error


def _of_aws(_: str) -> str:
    base = os.environ.get(ENDPOINT_AWS, LINK_LOCAL).rstrip("/") + "/latest"
    session = _ask(f"{base}/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, "PUT")
    return _ask(f"{base}/dynamic/instance-identity/rsa2048", {"X-aws-ec2-metadata-token": session})


def _of_gcp(audience: str) -> str:
    query = urlencode({"audience": audience, "format": "full"})
    place = "computeMetadata/v1/instance/service-accounts/default/identity"
    return _ask(f"{_base()}/{place}?{query}", {"Metadata-Flavor": "Google"})


def _of_azure(nonce: str) -> str:
    query = urlencode({"api-version": AZURE_VERSION, "nonce": nonce})
    told = json.loads(_ask(f"{_base()}/metadata/attested/document?{query}", {"Metadata": "true"}))
    return str(told["signature"])


_ASKED = {"aws": _of_aws, "azure": _of_azure, "gcp": _of_gcp}


def _base() -> str:
    return os.environ.get(ENDPOINT, LINK_LOCAL).rstrip("/")


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str:
    """No proxy: one would ask the metadata service of its own machine."""
    request = urllib.request.Request(url, method=method, headers=dict(headers))  # noqa: S310  that service is http
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=TIMEOUT_S) as answer:
        return str(answer.read(ANSWER_BYTES_MAX), "utf-8")


def _unsigned(why: str, *, retryable: bool) -> GrafosError:
    return GrafosError(
        "attestation_refused",
        "the metadata service does not sign who this machine is",
        where="the metadata service",
        why=why,
        next="on Google Cloud the machine needs a service account; else enrol it with a bootstrap token",
        retryable=retryable,
    )
