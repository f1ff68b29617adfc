"""Requests made from the published OpenAPI document, sent to a real scheduler, and what every answer must be.

Each request is drawn: right by the schema or wrong by it, with names and hashes of things that exist in some of the
places where one is asked for, since a name drawn at random only ever finds nothing.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from standalone import Identity, Standalone

from grafos_core.errors import CODES
from grafos_scheduler.messages import CODE_HEADER

NOBODY = "nobody"
CAPACITY = frozenset({"no_eligible_provider_cells", "placement_failed", "runtime_not_ready", "draining"})
"""What may be answered with 503: there is no room at the moment. No other status from 500 on is ever right."""
KNOWN_IN = 0.7
"""How often a place for a name gets one that exists."""
ANSWERED_WITHIN_S = 20.0
WAIT_S_MAX = 0.05
"""Of a long poll that is drawn."""
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


class Who(NamedTuple):
    """A caller: the kind that the document names, and what it shows."""

    kind: str
    identity: Identity | None


class Fuzzer:
    """Fuzzes one scheduler as each of some callers. ``known`` gives values by the name of a parameter or field."""

    def __init__(self, at: Standalone, mode: str, callers: list[Who], known: Mapping[str, Callable[[], Any]]) -> None:
        self._at, self._mode, self._known = at, mode, known
        ca_file = at.folder / "fuzz-ca.pem"
        ca_file.write_text(at.ca_pem)
        self._how = {"verify": str(ca_file), "timeout": ANSWERED_WITHIN_S}
        self._sessions = {who.kind: self._session(who) for who in callers}
        self._document = self._read_document(callers[0].kind)
        self._chance = random.Random(0)
        self.seen: Counter[tuple[str, str]] = Counter()
        self.findings: dict[str, str] = {}

    def fuzz(self, first_seed: int, until: float, each: int) -> None:
        """In rounds, each with a seed of its own, until the time (monotonic) is over; at least one.

        A round has ``each`` requests of one kind.
        """
        schema = schemathesis.openapi.from_dict(self._document)
        operations = [found.ok() for found in schema.get_all_operations()]
        strategies = [one.as_strategy(generation_mode=mode) for one in operations for mode in MODES]
        for number in itertools.count(first_seed):
            self._chance = random.Random(number)
            self._chance.shuffle(strategies)
            for strategy in strategies:
                if number > first_seed and time.monotonic() > until:
                    return
                self._fuzz(strategy, number, each)

    def _fuzz(self, strategy: Any, number: int, each: int) -> None:
        @seed(number)
        @settings(
            max_examples=each,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def send(case: Case) -> None:
            self._make_known(case)
            for kind in self._sessions:
                self._send(case, kind)

        try:
            send()
        except Exception as error:  # e.g. nothing wrong can be drawn where anything is right
            if "Unsatisfiable" not in type(error).__name__ and "Unsatisfiable" not in str(error):
                raise

    def _send(self, case: Case, kind: str) -> None:
        label = f"{case.operation.method.upper()} {case.operation.path}"
        try:
            answer = case.call(base_url=self._at.url, session=self._sessions[kind], **self._how)
        except requests.exceptions.InvalidURL:
            return
        except requests.exceptions.RequestException as error:
            self.findings[f"{label} as {kind}: no answer"] = repr(error)
            return
        self.seen[kind, str(answer.status_code)[0]] += 1
        for wrong in self._wrong(case, kind, answer):
            asked = f"{case.path_parameters} {case.query} {str(case.body)[:300]}"
            self.findings.setdefault(f"{label} as {kind}: {wrong}", f"{answer.content[:400]!r} for {asked}")

    def _make_known(self, case: Case) -> None:
        """Puts names of what exists in places where one is asked for."""
        for place in (case.path_parameters, case.query, case.body):
            if isinstance(place, dict):
                for name in list(place):
                    if name in self._known and self._chance.random() < KNOWN_IN:
                        place[name] = self._known[name]()
        if isinstance(case.query, dict) and isinstance(case.query.get("wait_s"), int | float):
            case.query["wait_s"] = min(case.query["wait_s"], WAIT_S_MAX)

    def _wrong(self, case: Case, kind: str, answer: Any) -> Iterator[str]:
        status = answer.status_code
        definition = case.operation.definition.raw
        is_ours = definition.get("x-only-mode", self._mode) == self._mode
        kinds = definition.get("x-identity-kinds")
        if status == 200:
            if kinds is not None and kind not in kinds:
                yield "let in"
            if not is_ours:
                yield "answered in the wrong mode"
        else:
            yield from _wrong_error(answer, has_body=case.operation.method != "head")
        if case.operation.method != "head":
            try:
                case.validate_response(answer, checks=[response_schema_conformance, content_type_conformance])
            except BaseExceptionGroup as group:
                yield f"body: {str(group.exceptions[0]).splitlines()[0]}"
            except AssertionError as error:
                yield f"body: {str(error).splitlines()[0]}"

    def _session(self, who: Who) -> requests.Session:
        session = requests.Session()
        session.trust_env = False
        if who.identity is not None:
            session.cert = (str(who.identity.certificate), str(who.identity.key))
            session.headers["authorization"] = f"Bearer {who.identity.token}"
        return session

    def _read_document(self, kind: str) -> dict[str, Any]:
        answer = self._sessions[kind].get(f"{self._at.url}/openapi.json", **self._how)
        document: dict[str, Any] = answer.json()
        return document


def _wrong_error(answer: Any, *, has_body: bool) -> Iterator[str]:
    """An error is one of the table, with its status, and says what to do next."""
    status, code = answer.status_code, answer.headers.get(CODE_HEADER, [""])[0]
    if code not in CODES:
        yield f"status {status} with the code {code!r}"
        return
    if status != CODES[code].http_status:
        yield f"{code} with status {status}"
    if status >= 500 and code not in CAPACITY:
        yield f"{code} with status {status}"
    if has_body:
        told = answer.json()
        if told["code"] != code or not told["what"]:
            yield f"{code} is not what the body says"
        if not told["next"]:
            yield f"{code} does not say what to do next ({told['what'][:60]})"
