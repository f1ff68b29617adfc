"""What a request to the emulated AWS asks for, and who asks."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from grafos_emulators.aws import ebs
from grafos_emulators.aws.errors import AwsRefusalError
from grafos_emulators.credentials import ACCESS_KEY_ID
from grafos_emulators.faults import Fault
from grafos_emulators.http import Request

MAX_PARAMETERS = 5000  # a form with more is no call of any SDK
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 +Credential=([^/, ]+)/[0-9]{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")
_REST_XML = frozenset({"s3", "cloudfront", "route53"})
_READS = ("Describe", "Get", "List", "Search", "Simulate")


@dataclass(frozen=True)
class AwsCall:
    """One call of one action.

    ``parameters`` are the form's fields as sent (``InstanceId.1``), or the JSON document's. ``token`` is the client's
    idempotency token, or empty. ``fault`` is what befalls the call.
    """

    service: str
    action: str
    region: str
    parameters: Mapping[str, Any]
    request: Request
    json_protocol: bool = False
    fault: Fault | None = None
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def token(self) -> str:
        return str(self.parameters.get("ClientToken", ""))

    @property
    def dry_run(self) -> bool:
        return str(self.parameters.get("DryRun", "")).lower() == "true"

    @property
    def mutating(self) -> bool:
        """Whether the call may change something."""
        return not self.dry_run and not self.action.startswith(_READS)


def read(request: Request) -> AwsCall:
    """The call in a request. Who asks is judged later, by ``check_access_key``: a refusal needs the call's protocol."""
    found = _CREDENTIAL.match(request.headers.get("authorization", ""))
    region, service = (found[2], found[3]) if found else ("", "ec2")
    target = request.headers.get("x-amz-target", "")
    if target:
        return AwsCall(service, target.rpartition(".")[2], region, _json(request.body), request, json_protocol=True)
    if service == "ebs":
        action, named = ebs.routed(request)
        body = _json(request.body) if action == "StartSnapshot" else {}
        given = {**body, **_form(request), **named}
        return AwsCall(service, action, region, given, request, json_protocol=True)
    form = _form(request)
    rest_json = "Action" not in form and service not in _REST_XML
    return AwsCall(service, form.get("Action", ""), region, form, request, json_protocol=rest_json)


def check_access_key(request: Request) -> None:
    """Refuses every key but the emulators' own: a real one must never be used here, not even by mistake."""
    found = _CREDENTIAL.match(request.headers.get("authorization", ""))
    if found is None:
        raise AwsRefusalError("AuthFailure", "the request is not signed with AWS4-HMAC-SHA256", 401)
    if found[1] != ACCESS_KEY_ID:
        raise AwsRefusalError(
            "AuthFailure",
            "AWS was not able to validate the provided access credentials (an emulator knows its own only)",
            401,
        )


def _form(request: Request) -> dict[str, str]:
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS))
    try:
        text = request.body.decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS))
    except ValueError:
        return {}


def _json(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
