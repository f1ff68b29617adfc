"""The machine of the fabric's orchestrator: what is asked for, and with which user data it is born.

It is a stack like a cell's: behind one open port, with a hold, tags and layers of its own, so that a list, a sweep, an
extension and a teardown know it. Its software is that of a published image, or comes through the port, as a standalone
cell's does.
"""

from __future__ import annotations

from grafos_connectors.contract import Kind
from grafos_core.errors import GrafosError
from grafos_core.fabric import Fabric
from grafos_scheduler.machine_messages import MachineOrders
from grafos_stacks.bootstrap import credentials, fill_in, serving_told
from grafos_stacks.creating import LateInputs, late_user_data
from grafos_stacks.direct import Engine, Hands
from grafos_stacks.layouts import layout_of
from grafos_stacks.names import claim_secret
from grafos_stacks.orchestrators import REACH_PATIENCE_S, OrchestratorHome
from grafos_stacks.plan import StackPlan
from grafos_stacks.progress import BEGUN, DONE, WAITING, Step
from grafos_stacks.records import OPERATOR
from grafos_stacks.spec import ORCHESTRATOR, ORCHESTRATOR_ID, CellSpec

STACK = ORCHESTRATOR_ID
"""A fabric has one orchestrator."""
TTL_S_DEFAULT = 12 * 3600
"""Longer than a cell lives by default (8 h), so that one which is made in the first hours ends before its orchestrator;
and less than the 23 h that an end on Azure may lie ahead."""
ANYWHERE = "0.0.0.0/0"
"""Cells dial in from addresses that nobody knows beforehand."""
AZURE_ADDRESS = "metadata/instance/network/interface/0/ipv4/ipAddress/0/privateIpAddress"
ASKS = {
    "gcp": ("computeMetadata/v1/instance/network-interfaces/0/ip", "Metadata-Flavor", "Google"),
    "azure": (f"{AZURE_ADDRESS}?api-version=2021-02-01&format=text", "Metadata", "true"),
}
"""What the machine asks its metadata service for the address to bind to: path, and the header that must come along.
The public one of a Standard kind does not show in Azure's."""
SUPERVISOR = "grafos_cell.orchestrating"
TOLD = ("fabric", "cell_id", "region", "healthy_after_s", "heartbeat_every_s", "expires_at", "ends_at_most")
"""What the supervisor is told, by the names of settings."""
TIMER_PATIENCE_S = 15.0
"""How long the supervisor gets to move its timer, which it looks at every second."""
ASK_EVERY_S = 0.2
HEALTHY_AFTER_S, HEARTBEAT_EVERY_S = 30.0, 5.0
"""The public design's time of steady heartbeats before a cell counts as healthy."""
EMULATED_HEALTHY_AFTER_S, EMULATED_HEARTBEAT_EVERY_S = 1.0, 0.5
"""Of a cloud on loopback, where half a minute tells nothing that a second does not."""


def orchestrator_spec(
    provider: str,
    region: str,
    *,
    zone: str = "",
    machine_type: str = "",
    ttl_s: int = TTL_S_DEFAULT,
    max_ttl_s: int = 0,
    port: int = 8443,
    cidr: str = ANYWHERE,
    disk_gib: int = 0,
    image: str = "",
) -> CellSpec:
    """What is asked for; ``cidr`` is the network from which operators and cells come."""
    return CellSpec(
        provider=provider,
        cell_id=STACK,
        region=region,
        operator_cidr=cidr,
        zone=zone,
        machine_type=machine_type,
        ttl_s=ttl_s,
        port=port,
        disk_gib=disk_gib,
        max_ttl_s=max_ttl_s,
        orchestrates=True,
        image=image,
    )


def user_data_of(hands: Hands, plan: StackPlan) -> LateInputs:
    """The machine's user data; its secret is the one of the claim."""
    return late_user_data(lambda attempt: render(hands.fabric, plan, attempt, addresses_of(hands, plan)))


def render(fabric: Fabric, plan: StackPlan, attempt: int, addresses: tuple[str, ...]) -> str:
    """The user data of one attempt. ``addresses`` are those by which the machine is dialled, as far as they are known
    before it is made; the others it learns from its metadata service."""
    emulated, timer_after_s = plan.facts.emulated, plan.timer_at - plan.expires_at
    beside: dict[str, object] = {
        "healthy_after_s": EMULATED_HEALTHY_AFTER_S if emulated else HEALTHY_AFTER_S,
        "heartbeat_every_s": EMULATED_HEARTBEAT_EVERY_S if emulated else HEARTBEAT_EVERY_S,
        "names": addresses,
    }
    if plan.facts.baked:
        return credentials(plan, serving_told(fabric, plan, attempt, **beside))
    settings: dict[str, object] = {
        "fabric": plan.fabric,
        "cell_id": plan.spec.cell_id,
        "provider": plan.spec.provider,
        "region": plan.spec.region,
        "port": plan.spec.port,
        "bundle_sha256": plan.facts.bundle.sha256,
        "bundle_bytes": plan.facts.bundle.size_bytes,
        "supervisor": SUPERVISOR,
        "told": TOLD,
        # The supervisor's own end is that of the machine's timer, which comes after the cloud's own deadline.
        "expires_at": plan.timer_at,
        "ends_at_most": plan.ends_at_most + timer_after_s,
        "claim_secret": claim_secret(fabric, plan.machine.key, attempt),
        **beside,
    }
    if plan.spec.provider in ASKS:
        settings["asks"] = ASKS[plan.spec.provider]
    return fill_in(settings, ORCHESTRATOR)


def addresses_of(hands: Hands, plan: StackPlan) -> tuple[str, ...]:
    """The numbers of the addresses that were reserved for it."""
    rows, engine = hands.journal.resources(plan.stack), Engine(hands)
    reserved = [rows[what.key].ref for what in plan.resources if what.kind is Kind.ADDRESS and what.key in rows]
    found = [engine.observe(ref) for ref in reserved if ref is not None]
    return tuple(one.attributes["public_ip"] for one in found if one.attributes.get("public_ip"))


def move_end(hands: Hands, plan: StackPlan) -> None:
    """Moves the machine's own timer to where the plan has it now. On Compute Engine it stands after the cloud's
    deadline from the start. ``cell_not_ready`` if its supervisor does not follow: then it ends when it would have."""
    if not layout_of(plan.spec.provider).moves_deadline:
        return
    began = hands.clock.monotonic()
    hands.progress(Step("extend machine", BEGUN, 0.0))
    with OrchestratorHome(hands.fabric).client(OPERATOR, patience_s=REACH_PATIENCE_S) as client:
        client.order_machine(MachineOrders(ends_at=float(plan.timer_at)))
        while client.machine().ends_at < plan.timer_at:
            if hands.clock.monotonic() - began > TIMER_PATIENCE_S:
                raise GrafosError(
                    "cell_not_ready",
                    "the timer of the orchestrator's machine did not move, so the machine ends when it would have",
                    why="its supervisor did not follow",
                    next="run the same command again; if it stays so: grafos fabric backup, and another machine",
                )
            hands.progress(Step("extend machine", WAITING, hands.clock.monotonic() - began))
            hands.sleep(ASK_EVERY_S)
    hands.progress(Step("extend machine", DONE, hands.clock.monotonic() - began))
