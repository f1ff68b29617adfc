"""Calls that EC2 says are done and that are not: what was made is not there, what was ended or deleted still is.

A launch is none of these: what EC2 launches and then has no room for is there and terminated, as ``mishaps`` does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.aws.makers import MAKES
from grafos_emulators.aws.visibility import collections
from grafos_emulators.faults import Effect

UNDONE = frozenset({"gateway", "nic", "route_table", "security_group", "subnet", "volume", "vpc"})
ORDERS = {  # what an order's answer says of each instance, and the state that it is said to be in
    "StartInstances": ("pending", 0),
    "StopInstances": ("stopping", 64),
    "TerminateInstances": ("shutting-down", 32),
}
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"


def is_hollow(call: AwsCall) -> bool:
    hollow = call.fault is not None and call.fault.effect is Effect.SAYS_DONE_AND_IS_NOT
    return hollow and call.mutating and call.action != "RunInstances"


def answer(backend: Any, call: AwsCall, act: Callable[[], tuple[int, str | bytes]]) -> tuple[int, str | bytes]:
    """Status and body. ``act`` carries the call out, where only that tells what its answer would be."""
    if call.action in ORDERS:
        return 200, _order(backend, call)
    if call.action not in MAKES:
        return 200, _document(call, "<return>true</return>")
    if MAKES[call.action] not in UNDONE:
        raise not_emulated(f"ec2:{call.action} that says done and is not")
    before = {name for collection in _made_in(backend) for name in collection}
    told = act()
    for collection in _made_in(backend):
        for name in [name for name in collection if name not in before]:
            del collection[name]
            backend.tags.pop(name, None)
    return told


def _made_in(backend: Any) -> Iterator[dict[str, Any]]:
    yield from collections(backend)
    yield backend.route_tables


def _order(backend: Any, call: AwsCall) -> str:
    name, code = ORDERS[call.action]
    ids = [str(value) for key, value in call.parameters.items() if key.startswith("InstanceId.")]
    unknown = [each for each in ids if each not in backend.reservation_of]
    if unknown:
        raise AwsRefusalError("InvalidInstanceID.NotFound", f"The instance ID '{unknown[0]}' does not exist")
    items = "".join(
        f"<item><instanceId>{each}</instanceId><currentState><code>{code}</code><name>{name}</name></currentState>"
        f"{_previous(backend.get_instance(each))}</item>"
        for each in ids
    )
    return _document(call, f"<instancesSet>{items}</instancesSet>")


def _previous(instance: Any) -> str:
    state = instance.instance_state
    return f"<previousState><code>{state.code}</code><name>{state.name}</name></previousState>"


def _document(call: AwsCall, inner: str) -> str:
    name = f"{call.action}Response"
    return f'<{name} xmlns="{_NAMESPACE}"><requestId>{call.request_id}</requestId>{inner}</{name}>'
