"""Idempotency tokens, as EC2 keeps them.

A call with a token that was used before with the same parameters changes nothing and gets the first call's answer,
also when both run at the same moment. With other parameters it is refused. A call that was refused leaves its token
free. Source: the EC2 developer guide on idempotency.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError
from grafos_emulators.http import Response

MAX_TOKEN_LENGTH = 64
WAIT_S = 60.0  # for the same call under way in another connection

Key = tuple[str, str, str]  # action, region, token


@dataclass
class _Use:
    parameters: frozenset[tuple[str, str]]
    done: threading.Event = field(default_factory=threading.Event)
    response: Response | None = None


class TokenBook:
    """The tokens of one account."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uses: dict[Key, _Use] = {}

    def once(self, call: AwsCall, act: Callable[[], Response], check: Callable[[Response], None]) -> Response:
        """``act``'s answer, from the first call with this token. ``check`` may refuse to give an old answer again."""
        if not call.token or call.dry_run:
            return act()
        if len(call.token) > MAX_TOKEN_LENGTH or not call.token.isascii():
            raise AwsRefusalError(
                "InvalidParameterValue", f"a client token has at most {MAX_TOKEN_LENGTH} ASCII characters"
            )
        key = call.action, call.region, call.token
        parameters = frozenset((name, str(value)) for name, value in call.parameters.items() if name != "ClientToken")
        while True:
            use, first = self._use(key, parameters)
            if first:
                return self._act(key, use, act)
            if use.parameters != parameters:
                raise AwsRefusalError(
                    "IdempotentParameterMismatch",
                    f"the client token {call.token} was used before, in a request with other parameters",
                )
            use.done.wait(WAIT_S)
            if use.response is not None:
                check(use.response)
                return use.response

    def _use(self, key: Key, parameters: frozenset[tuple[str, str]]) -> tuple[_Use, bool]:
        with self._lock:
            use = self._uses.get(key)
            if use is not None:
                return use, False
            use = self._uses[key] = _Use(parameters)
            return use, True

    def _act(self, key: Key, use: _Use, act: Callable[[], Response]) -> Response:
        try:
            response = act()
            if response.status < 400:
                use.response = response
            return response
        finally:
            if use.response is None:
                with self._lock:
                    del self._uses[key]
            use.done.set()
