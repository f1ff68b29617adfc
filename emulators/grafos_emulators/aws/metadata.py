"""The instance metadata service, version 2, one base path for each instance: ``/imds/<instance-id>/latest/…``.

On a real machine it is http://169.254.169.254/latest/. The base path takes its place through the SDKs' own setting
``AWS_EC2_METADATA_SERVICE_ENDPOINT``. Source: the EC2 user guide, "Use the Instance Metadata Service" and
"Instance identity documents"; the signature with DSA and SHA-1 (``pkcs7``) is not imitated.
"""

from __future__ import annotations

import json
import secrets
import threading
from dataclasses import dataclass

from grafos_core.clock import Clock
from grafos_emulators import imds
from grafos_emulators.attesting import AwsSigner
from grafos_emulators.aws.account import Account, InstanceView
from grafos_emulators.http import Request, Response

MAX_TOKEN_TTL_S = 21_600  # six hours, EC2's limit
MAX_TOKENS = 10_000  # the oldest are forgotten
IDENTITY = "latest/dynamic/instance-identity/"
_TTL = "x-aws-ec2-metadata-token-ttl-seconds"
_TOKEN = "x-aws-ec2-metadata-token"  # noqa: S105  the header's name
_TEXT = {"content-type": "text/plain"}


@dataclass(frozen=True)
class _Session:
    instance_id: str
    ends_at: float


class MetadataService:
    """The metadata of all instances of one account."""

    def __init__(self, account: Account, clock: Clock, signer: AwsSigner) -> None:
        self._account = account
        self._signer = signer
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    def answer(self, request: Request) -> Response:
        instance_id, path = imds.asked_of(request)
        with self._account.world.lock:
            instance = self._account.instances.get(instance_id)
            if instance is None or not instance.answers:
                return Response(404 if instance is None else 403)
            if path.strip("/") == "latest/api/token":
                return self._begin_session(request, instance_id)
            if request.method not in {"GET", "HEAD"}:
                return Response(405)
            if not self._knows(request.headers.get(_TOKEN, ""), instance_id):
                return Response(401)
            tree = {f"latest/meta-data/{name}": value for name, value in instance.values.items()}
            return _found(path, tree | self._identity(path, instance), instance.user_data)

    def _begin_session(self, request: Request, instance_id: str) -> Response:
        if request.method != "PUT":
            return Response(405)
        if "x-forwarded-for" in request.headers:
            return Response(403)  # EC2 gives no token through a proxy
        ttl = request.headers.get(_TTL, "")
        if not ttl.isdecimal() or not 1 <= int(ttl) <= MAX_TOKEN_TTL_S:
            return Response(400)
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[token] = _Session(instance_id, self._clock.monotonic() + int(ttl))
            while len(self._sessions) > MAX_TOKENS:
                del self._sessions[next(iter(self._sessions))]
        return Response(200, token.encode(), {**_TEXT, _TTL: ttl})

    def _identity(self, path: str, instance: InstanceView) -> dict[str, str]:
        """The identity document with what holds it; signed only when it is asked for by name."""
        document = json.dumps(instance.identity, indent=2)
        tree = {IDENTITY + name: "" for name in ("document", "rsa2048", "signature")}
        tree[f"{IDENTITY}document"] = document
        match path.strip("/").removeprefix(IDENTITY):
            case "rsa2048":
                tree[f"{IDENTITY}rsa2048"] = self._signer.rsa2048(document.encode(), instance.identity["region"])
            case "signature":
                tree[f"{IDENTITY}signature"] = self._signer.signature(document.encode())
        return tree

    def _knows(self, token: str, instance_id: str) -> bool:
        with self._lock:
            session = self._sessions.get(token)
        return session is not None and session.instance_id == instance_id and self._clock.monotonic() < session.ends_at


def _found(path: str, tree: dict[str, str], user_data: bytes) -> Response:
    """A value, or the names below a path, as EC2 lists them: a slash marks what has more below it."""
    place = path.strip("/")
    if place == "latest/user-data":
        return Response(200, user_data, {"content-type": "application/octet-stream"}) if user_data else Response(404)
    if place in tree:
        return Response(200, tree[place].encode(), _TEXT)
    below = {name.removeprefix(f"{place}/") for name in [*tree, "latest/user-data"] if name.startswith(f"{place}/")}
    if not below:
        return Response(404)
    names = sorted({first + slash for first, slash, _ in (name.partition("/") for name in below)})
    return Response(200, "\n".join(names).encode(), _TEXT)
