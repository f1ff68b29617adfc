"""People whom the operator of an orchestrator invites, by the command line."""

from __future__ import annotations

from command_line import Answer, Person
from own_orchestrator import OwnOrchestrator


def invited(orchestrator: OwnOrchestrator, name: str, *more: str) -> str:
    """An invitation to the tenant `acme`, as it is handed over."""
    answer = orchestrator.person("admin", "invite", "--tenant", "acme", "--name", name, *more)
    assert answer.code == 0, answer.err
    return answer.out


def signed_in(orchestrator: OwnOrchestrator, person: Person, name: str) -> Person:
    """The person, as one of `acme`."""
    file = person.home / "invitation.txt"
    file.write_text(invited(orchestrator, name))
    answer = person("account", "login", str(file))
    assert answer.code == 0, answer.err
    return person


def with_acme(person: Person) -> OwnOrchestrator:
    """The person's orchestrator, with one cell and the tenant `acme`."""
    begun = OwnOrchestrator(person)
    claimed = person("fabric", "claim", begun.url)
    assert claimed.code == 0, claimed.err
    begun.start_agent(begun.bootstrap("gcp", "gcp-1"))
    assert person("admin", "create-tenant", "--tenant", "acme").code == 0
    return begun


def refused(answer: Answer, exit_code: int, code: str, *words: str) -> None:
    """Holds that it was refused so, in one error, with these words in it."""
    assert (answer.code, answer.error_code) == (exit_code, code), answer.err
    assert all(word in answer.err for word in words), answer.err
    assert "Traceback" not in answer.err
