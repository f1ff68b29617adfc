"""Orders: what a person signs of the run that she asks for.

Here the order is made from a request, by her client; held against it, by the scheduler (``order_check``), it is made
from the request once more, so both go by the same fields.
"""

from __future__ import annotations

from grafos_core.receipts import RunOrder
from grafos_scheduler.messages import RunRequest


def order_of(fabric: str, scheduler: str, tenant: str, asked: RunRequest, signed_at: float) -> RunOrder:
    """What there is to sign for this request."""
    return RunOrder(
        fabric=fabric,
        scheduler=scheduler,
        tenant=tenant,
        run_key=asked.run_key,
        provider=asked.provider,
        cell_id=asked.cell_id,
        program=asked.program,
        tasklet=asked.tasklet,
        module_sha256=asked.module_sha256,
        input_sha256=asked.input_sha256,
        fuel=asked.fuel,
        memory_bytes=asked.memory_bytes,
        lease_mem_bytes=asked.lease_mem_bytes,
        lease_block_bytes=asked.lease_block_bytes,
        lease_gpu_count=asked.lease_gpu_count,
        lease_nic_count=asked.lease_nic_count,
        deadline_s=asked.deadline_s,
        tier=asked.tier.value,
        max_micro_cents=asked.max_micro_cents,
        signed_at=signed_at,
        reservation=asked.reservation,
    )
