"""A machine enrols by its cloud's word only as the cell that it was made to be, once, with one key."""

from __future__ import annotations

import pytest
from clouds_word import ACCOUNTS, MACHINES, OTHER_REGION, REGIONS, CloudsWord
from desk import ORCHESTRATOR, RATE, Desk

from grafos_core.errors import GrafosError
from grafos_core.resources import Resources
from grafos_scheduler import events, messages, rows
from grafos_scheduler.attested import PROVIDERS, Enrolling, Roots, verify
from grafos_scheduler.enrolment_messages import ExpectedCell
from grafos_scheduler.expecting import roots_of

EVERY = pytest.mark.parametrize("provider", PROVIDERS)
TELLS_WHEN = pytest.mark.parametrize("provider", ["aws", "gcp"])


class Keyless(Desk):
    """A desk whose clouds sign; ``word`` are those of all expectations."""

    def __init__(self) -> None:
        super().__init__(ORCHESTRATOR)
        self.clock.advance(1_800_000_000.0 - self.now)
        self.word = CloudsWord(self.clock)
        for provider in PROVIDERS:
            self.tell(events.AttestationRootsSet(self.word.roots(provider), "op"))

    def expect(self, provider: str, cell_id: str = "cell-1", **asked: object) -> rows.Enrolment:
        given = {"account": ACCOUNTS[provider], "machine_id": MACHINES[provider], **asked}
        request = ExpectedCell(provider, cell_id, REGIONS[provider], RATE, **given)
        made = self.tell(events.BootstrapAsked(request, "op")).answer
        assert isinstance(made, rows.Enrolment)
        return made

    def name(self, expected: rows.Enrolment, machine_id: str) -> rows.Enrolment:
        made = self.tell(events.ExpectedMachineNamed(expected.token_id, machine_id)).answer
        assert isinstance(made, rows.Enrolment)
        return made

    def come(self, expected: rows.Enrolment, key: str = "", evidence: str = "", **changed: object) -> rows.Identity:
        """The machine comes with its cloud's word; ``changed`` is what is different about it."""
        key = key or f"key-of-{expected.cell_id}"
        evidence = evidence or self.word.evidence(expected.provider, expected.token_id, key, **changed)
        roots = roots_of(self.state, expected.provider)
        said = verify(evidence, roots, Enrolling(expected.token_id, key), self.now)
        identity = self.tell(events.EnrolmentAsked(expected.token_id, key, said)).answer
        assert isinstance(identity, rows.Identity)
        return identity


@pytest.fixture
def desk() -> Keyless:
    return Keyless()


def refused(action: object, *args: object, **kwargs: object) -> GrafosError:
    with pytest.raises(GrafosError) as caught:
        action(*args, **kwargs)  # type: ignore[operator]
    return caught.value


@EVERY
def test_the_machine_that_is_expected_becomes_the_cell(desk: Keyless, provider: str) -> None:
    expected = desk.expect(provider, expires_at=desk.now + 60)
    identity = desk.come(expected)
    assert (identity.cell_id, identity.provider, identity.machine_id) == ("cell-1", provider, MACHINES[provider])
    assert desk.state.terms["cell-1"] == rows.Terms("cell-1", RATE, desk.now + 60)
    desk.restart()
    assert desk.state.identities["cell-1"] == identity


@EVERY
def test_the_same_word_and_key_may_come_again_until_the_cell_has_registered(desk: Keyless, provider: str) -> None:
    expected = desk.expect(provider)
    evidence = desk.word.evidence(provider, expected.token_id, "a-key")
    assert desk.come(expected, "a-key", evidence) == desk.come(expected, "a-key", evidence)
    said = messages.CellRegistration("cell-1", provider, "elsewhere", "1", Resources(cpu_cores=1, mem_bytes=1))
    desk.tell(events.CellRegistered(said, "a-key"))
    assert refused(desk.come, expected, "a-key", evidence).code == "enrolment_refused"


@EVERY
def test_a_replayed_word_is_worth_nothing_to_another_key(desk: Keyless, provider: str) -> None:
    """AWS's document names no key: there the first use closes it, and elsewhere the document itself does."""
    expected = desk.expect(provider)
    evidence = desk.word.evidence(provider, expected.token_id, "a-key")
    desk.come(expected, "a-key", evidence)
    told = refused(desk.come, expected, "a-thiefs-key", evidence)
    assert told.code == ("enrolment_refused" if provider == "aws" else "attestation_refused")
    fresh = refused(desk.come, expected, "a-thiefs-key")
    assert fresh.code == "enrolment_refused", "a machine that asks again, with another key"


@EVERY
@pytest.mark.parametrize(("changed", "why"), [({"account": "other"}, "account"), ({"machine_id": "other"}, "machine")])
def test_another_account_or_a_cloned_machine_is_not_the_one(
    desk: Keyless, provider: str, changed: dict[str, str], why: str
) -> None:
    expected = desk.expect(provider)
    told = refused(desk.come, expected, **changed)
    assert (told.code, told.retryable) == ("attestation_refused", False)
    assert why in told.why
    desk.come(expected)  # a forged try uses nothing up


@TELLS_WHEN
def test_a_machine_of_another_region_is_not_the_one(desk: Keyless, provider: str) -> None:
    assert "region" in refused(desk.come, desk.expect(provider), region=OTHER_REGION).why


@TELLS_WHEN
def test_a_machine_that_was_there_before_is_not_one_that_was_planned(desk: Keyless, provider: str) -> None:
    expected = desk.expect(provider)
    assert "before it was expected" in refused(desk.come, expected, made_at=desk.now - 3600).why


@EVERY
def test_nobody_enrols_before_it_is_known_which_machine_it_will_be(desk: Keyless, provider: str) -> None:
    expected = desk.expect(provider, machine_id="")
    told = refused(desk.come, expected)
    assert (told.code, told.retryable) == ("attestation_refused", True)
    desk.name(expected, MACHINES[provider])
    desk.name(expected, MACHINES[provider])
    assert refused(desk.name, expected, "another").code == "enrolment_refused"
    desk.come(expected)


@EVERY
def test_an_expectation_lapses(desk: Keyless, provider: str) -> None:
    expected = desk.expect(provider, valid_s=30.0)
    desk.clock.advance(30)
    assert refused(desk.come, expected).code == "enrolment_expired"
    assert refused(desk.name, expected, MACHINES[provider]).code == "enrolment_expired"


def test_one_machine_is_not_two_cells(desk: Keyless) -> None:
    desk.come(desk.expect("aws"))
    second = desk.expect("aws", "cell-2")
    assert "is cell cell-1" in refused(desk.come, second).what
    desk.tell(events.CellRevokeAsked("cell-1", 0.0, "it is another now"))
    desk.tell(events.Tick())
    desk.come(second)


def test_a_token_and_a_word_do_not_stand_for_each_other(desk: Keyless) -> None:
    expected, token = desk.expect("aws"), desk.mint("cell-2")
    assert refused(desk.enrol, expected).code == "enrolment_refused"
    said = verify(
        desk.word.evidence("aws", token.token_id, "key"),
        roots_of(desk.state, "aws"),
        Enrolling(token.token_id, "key"),
        desk.now,
    )
    assert refused(desk.tell, events.EnrolmentAsked(token.token_id, "key", said)).code == "enrolment_refused"
    assert refused(desk.name, token, "i-1").code == "not_found"


def test_roots_that_were_set_take_the_place_of_those_before_and_survive(desk: Keyless) -> None:
    other = CloudsWord(desk.clock)
    expected = desk.expect("gcp")
    desk.tell(events.AttestationRootsSet(other.roots("gcp"), "op"))
    assert refused(desk.come, expected).code == "attestation_refused"
    desk.restart()
    assert roots_of(desk.state, "gcp") == other.roots("gcp")
    assert refused(desk.tell, events.AttestationRootsSet(Roots("gcp", "s", "d", {}), "op")).code == "request_invalid"
