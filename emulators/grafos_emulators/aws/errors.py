"""Refusals of the emulated AWS, in the shapes of its protocols.

A refusal is raised as ``AwsRefusalError`` and rendered once, at the front. EC2 speaks its own XML, the older query
services (STS) another, the JSON services (Pricing, Service Quotas) a third; S3 a fourth, needed only to refuse it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from xml.sax.saxutils import escape

from grafos_emulators.http import Response

_CODE = re.compile(rb"<Code>([^<]*)</Code>")


class AwsRefusalError(Exception):
    """A refusal with AWS' ``code`` and HTTP ``status``; ``headers`` are added to the answer's own."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.headers: Mapping[str, str] = {}


def not_emulated(what: str) -> AwsRefusalError:
    """For what AWS can do and the emulator cannot: never a half answer. 501 is a status that no SDK tries again."""
    return AwsRefusalError("NotEmulated", f"the emulated AWS of grafos does not imitate {what}", 501)


def render(refusal: AwsRefusalError, service: str, request_id: str, *, json_protocol: bool) -> Response:
    """The refusal as ``service``'s clients read it."""
    response = _rendered(refusal, service, request_id, json_protocol=json_protocol)
    return replace(response, headers={**response.headers, **refusal.headers})


def _rendered(refusal: AwsRefusalError, service: str, request_id: str, *, json_protocol: bool) -> Response:
    if json_protocol:
        body = json.dumps({"__type": refusal.code, "message": refusal.message}).encode()
        headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-errortype": refusal.code}
        return Response(refusal.status, body, {**headers, "x-amzn-requestid": request_id})
    error = f"<Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message>"
    kind = "Sender" if refusal.status < 500 else "Receiver"
    if service == "ec2":
        text = f"<Response><Errors><Error>{error}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    elif service == "s3":
        text = f"<Error>{error}<RequestId>{request_id}</RequestId></Error>"
    else:
        text = (
            f"<ErrorResponse><Error><Type>{kind}</Type>{error}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    return xml(text, request_id, status=refusal.status)


def xml(text: str, request_id: str, *, status: int = 200) -> Response:
    """An XML answer."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(status, body, {"content-type": "text/xml;charset=UTF-8", "x-amzn-requestid": request_id})


def code_in(response: Response) -> str:
    """The error code in an answer of EC2, ``ok`` for a success."""
    if response.status < 400:
        return "ok"
    found = _CODE.search(response.body)
    return found[1].decode() if found else f"HTTP{response.status}"
