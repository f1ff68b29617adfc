"""The seam between ARM's verbs and one kind of resource.

``verbs`` does what all kinds have in common: groups, preconditions, tags, states and operations. A ``Kind`` says what
is special: what a request must hold, what is filled in, what hangs on what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall
from grafos_emulators.azure.errors import ArmError
from grafos_emulators.azure.operations import Operation
from grafos_emulators.azure.store import Resource
from grafos_emulators.faults import Fault


@dataclass(frozen=True)
class Ask:
    """A PUT: what is asked for, where it is to be, and what is there already."""

    call: ArmCall
    body: dict[str, Any]
    location: str
    old: Resource | None


class Kind:
    """One type of resource. All methods are called with the world's lock held.

    ``model`` is the SDK's model of it (``network.VirtualNetwork``). ``created`` and ``updated`` are the status numbers
    that the SDK accepts for a PUT.
    """

    type: ClassVar[str]
    model: ClassVar[str]
    created: ClassVar[int] = 201
    updated: ClassVar[int] = 200
    has_provisioning_state: ClassVar[bool] = True
    is_billable: ClassVar[bool] = False

    def __init__(self, account: AzureAccount) -> None:
        self.account = account

    def location_of(self, call: ArmCall, body: dict[str, Any]) -> str:  # noqa: ARG002  parts take their parent's
        """Where the resource is to live."""
        return normal_location(str(body.get("location", "")))

    def accept(self, ask: Ask) -> dict[str, Any]:
        """What is kept of a request, with what the service fills in; refuses what the service would."""
        raise AssertionError(f"{self.type} takes no PUT of {ask.call.place.id}")

    def begin_make(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:  # noqa: ARG002
        """Lets the creation take its time; a kind with machines behind it does more."""
        self.account.operations.after(operation, self.account.quick_s, lambda: self.settle(resource, operation))

    def begin_change(self, resource: Resource, operation: Operation, fault: Fault | None) -> None:  # noqa: ARG002
        """Lets a PUT of what exists take its time."""
        self.account.operations.after(operation, self.account.quick_s, lambda: self.settle(resource, operation))

    def begin_failed_make(self, resource: Resource) -> None:
        """The creation will fail by its operation; what is left behind all the same is made here."""

    def settle(self, resource: Resource, operation: Operation) -> None:
        """The operation is done: the resource is what it was asked to be."""
        if resource.operation == operation.id:
            resource.state, resource.operation = "Succeeded", ""

    def begin_remove(self, resource: Resource, done: Callable[[], None]) -> None:  # noqa: ARG002
        """Lets the deletion take its time, then calls ``done``."""
        clock = self.account.world.clock
        self.account.world.at(clock.monotonic() + self.account.quick_s, done)

    def view(self, resource: Resource) -> dict[str, Any]:
        """What a GET tells, beside id, name, type, location and tags."""
        return dict(resource.body)

    def expanded(self, resource: Resource) -> dict[str, Any]:
        """What a GET with ``$expand=instanceView`` tells."""
        return self.view(resource)

    def status(self, resource: Resource) -> dict[str, Any]:  # noqa: ARG002
        """What a list with ``statusOnly=true`` tells; empty for a kind that knows none."""
        return {}

    def check_unused(self, resource: Resource) -> None:
        """Refuses the deletion of what others need."""

    def removed(self, resource: Resource) -> None:
        """The resource is gone from the store: what it held is let go."""

    def patch(self, resource: Resource, body: dict[str, Any]) -> None:  # noqa: ARG002
        """Takes over what a PATCH holds beside tags; most kinds take nothing else."""
        for name in set(body) - {"tags"}:
            raise ArmError(
                400,
                "InvalidRequestContent",
                "The request content was invalid and could not be deserialized: "
                f"'Could not find member '{name}' on object of type 'TagsObject'. Path '{name}''.",
                target=name,
            )

    def action(
        self,
        resource: Resource,  # noqa: ARG002  a kind without actions knows none
        call: ArmCall,  # noqa: ARG002
        fault: Fault | None,  # noqa: ARG002
    ) -> Operation | dict[str, Any] | None:
        """Carries out a POST or reads a sub-document; None for one that this kind does not know."""
        return None

    def shown_state(self, resource: Resource) -> str:
        """The state in the census."""
        return resource.state

    def bills(self, resource: Resource) -> bool:  # noqa: ARG002  machines look at theirs
        """Whether it costs by existing as it is now."""
        return self.is_billable


def normal_location(location: str) -> str:
    """``East US`` and ``eastus`` are the same place."""
    return location.replace(" ", "").lower()
