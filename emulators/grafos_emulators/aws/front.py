"""The front of the emulated AWS: every request comes in here, and goes to the service that its signature names."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from grafos_emulators.aws import calls, pricing, quotas, sts
from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError, code_in, not_emulated, render
from grafos_emulators.aws.metadata import PREFIX, MetadataService
from grafos_emulators.http import DropConnectionError, Request, Response
from grafos_emulators.journal import Call, Journal

if TYPE_CHECKING:
    from grafos_emulators.aws.ec2 import Ec2
    from grafos_emulators.aws.ec2_backend import RegionBackend

LOAD_LIMIT_S = 30.0  # loading takes a second or two; an SDK's own patience is 60
BEFORE, AFTER_EFFECT = "before", "after-effect"


class Hook(Protocol):
    """Told of each mutating call, ``before`` it is done and ``after-effect``, when only the answer is missing.

    It may raise ``DropConnectionError``: the connection breaks without an answer, in the first phase without effect.
    """

    def __call__(self, phase: str, action: str, parameters: Mapping[str, Any]) -> None: ...


class AwsFront:
    """One account's API and metadata service. ``hook`` may be set and cleared at any time."""

    def __init__(self, account: Account, journal: Journal) -> None:
        self._account = account
        self._journal = journal
        self._metadata = MetadataService(account, account.world.clock)
        self._ec2: Ec2 | None = None
        self._loaded = threading.Event()
        self.hook: Hook | None = None
        self._services: dict[str, Callable[[AwsCall], Response]] = {
            "ec2": self._ask_ec2,
            "sts": lambda call: sts.answer(account, call),
            "pricing": pricing.answer,
            "servicequotas": lambda call: quotas.answer(account, call),
        }

    @property
    def regions(self) -> dict[str, RegionBackend]:
        """The regions of EC2 used so far."""
        return self._ec2.regions if self._ec2 else {}

    def load(self) -> None:
        """Makes EC2 ready to answer; calls that came earlier wait for it."""
        self._ec2 = _load_ec2(self._account)
        self._loaded.set()

    def close(self) -> None:
        if self._ec2 is not None:
            self._ec2.close()

    def answer(self, request: Request) -> Response:
        self._account.world.catch_up()
        if request.path.startswith(PREFIX):
            return self._metadata.answer(request)
        call = calls.read(request)
        try:
            response = self._answered(call)
        except AwsRefusalError as refusal:
            return self._refused(call, refusal)
        except DropConnectionError:
            self._note(call, 0, "dropped")
            raise
        except Exception as bug:  # noqa: BLE001  whatever it is, the client gets an answer and the journal a line
            what = f"the emulator failed: {type(bug).__name__}: {bug}"
            return self._refused(call, AwsRefusalError("InternalError", what, 500))
        self._note(call, response.status, code_in(response))
        return response

    def _answered(self, call: AwsCall) -> Response:
        calls.check_access_key(call.request)
        service = self._services.get(call.service)
        if service is None:
            raise not_emulated(f"the service {call.service}")
        hook = self.hook if call.mutating else None
        if hook is not None:
            hook(BEFORE, call.action, call.parameters)
        response = service(call)
        if hook is not None:
            hook(AFTER_EFFECT, call.action, call.parameters)
        return response

    def _ask_ec2(self, call: AwsCall) -> Response:
        if not self._loaded.wait(LOAD_LIMIT_S) or self._ec2 is None:
            raise AwsRefusalError("Unavailable", "the emulated EC2 is not loaded yet", 503)
        return self._ec2.answer(call)

    def _refused(self, call: AwsCall, refusal: AwsRefusalError) -> Response:
        self._note(call, refusal.status, refusal.code)
        return render(refusal, call.service, call.request_id, json_protocol=call.json_protocol)

    def _note(self, call: AwsCall, status: int, result: str) -> None:
        self._journal.add(
            Call(
                at=self._account.world.clock.now(),
                service=call.service,
                action=call.action,
                region=call.region,
                token=call.token,
                mutating=call.mutating,
                dry_run=call.dry_run,
                status=status,
                result=result,
                request_id=call.request_id,
            )
        )


_loading = threading.Lock()


def _load_ec2(account: Account) -> Ec2:
    """Moto is imported with the first account; it takes a second, and reads AWS settings if there are any."""
    with _loading, _without_aws_settings():
        from grafos_emulators.aws.ec2 import Ec2

        return Ec2(account)


@contextlib.contextmanager
def _without_aws_settings() -> Iterator[None]:
    """While moto is imported, nobody's AWS profile, settings or credentials can be found."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "BOTO_"))}
    for name in kept:
        del os.environ[name]
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    try:
        yield
    finally:
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            del os.environ[name]
        os.environ.update(kept)
