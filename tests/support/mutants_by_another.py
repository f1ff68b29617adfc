"""More mistakes, by somebody who did not write the simulator: in the form of ``mutants``, and beside those.

Who made them read the rules of money, leases and regions, and not what the ghost looks at; so they say how much of what
a programmer gets wrong it sees.
"""

from __future__ import annotations

from mutants import CELL, CORE, SCHEDULER, Mutant

BY_SOMEBODY_ELSE = (
    Mutant(
        "a hold that grows is not counted as held",
        "money",
        f"{CORE}ledger.py",
        "held_micro_cents=account.held_micro_cents + more)))\n",
        "held_micro_cents=account.held_micro_cents)))\n",
    ),
    Mutant(
        "a run of which nobody heard costs its deadline",
        "money",
        f"{SCHEDULER}outcomes.py",
        'f"the leases ran out, and cell {run.cell_id} reported no end")',
        'f"the leases ran out, and cell {run.cell_id} reported no end", lease_seconds=run.request.deadline_s)',
    ),
    Mutant(
        "a renewal holds money for the time from now on alone",
        "money",
        f"{SCHEDULER}region_admission.py",
        "    worst_case = cost(region, expires_at - region.since)\n",
        "    worst_case = cost(region, expires_at - draft.now)\n",
    ),
    Mutant(
        "the period before costs nothing when an instance is renewed",
        "money",
        f"{SCHEDULER}service_money.py",
        "    settled = settle(draft, instance, draft.now)\n",
        "    settled = settle(draft, instance, instance.billed_from)\n",
    ),
    Mutant(
        "an instance without a receipt is billed to the moment in which it was given up",
        "money",
        f"{SCHEDULER}service_instances.py",
        "receipt.ended_at) if receipt is not None else instance.billed_from\n",
        "receipt.ended_at) if receipt is not None else draft.now\n",
    ),
    Mutant(
        "a cell that starts anew bills the time in which it was away",
        "money",
        f"{CELL}broker.py",
        "broker_runs.end(draft, run, lost, ended_at=run.started_at)",
        "broker_runs.end(draft, run, lost, ended_at=draft.now)",
    ),
    Mutant(
        "a cell that starts anew bills its instances for the time in which it was away",
        "money",
        f"{CELL}broker_instances.py",
        'InstanceOver(instance.instance_id, "cell_lost", what), instance.started_at)',
        'InstanceOver(instance.instance_id, "cell_lost", what), draft.now)',
    ),
    Mutant(
        "a reservation is settled while a run on a free cell goes on under it",
        "money",
        f"{SCHEDULER}reservations.py",
        "    return any(held.account == account.name and held.state == ledger.OPEN for held in of.holds.values())\n",
        "    return False\n",
    ),
    Mutant(
        "the port of a lease that is torn down or fenced is given away",
        "fence",
        f"{CELL}broker_leases.py",
        "(LISTENER, frame.amount) and lease.state != CLOSED:\n",
        "(LISTENER, frame.amount) and lease.state == BOUND:\n",
    ),
    Mutant(
        "a worker that cannot be stopped fences one lease of its run alone",
        "fence",
        f"{CELL}broker_leases.py",
        "    for lease_id in user.lease_ids:\n        _closed(draft, draft.leases[lease_id], gone=False)\n",
        "    _closed(draft, draft.leases[lease.lease_id], gone=False)\n",
    ),
    Mutant(
        "leased blocks are taken for gone with the daemon",
        "fence",
        f"{SCHEDULER}leases.py",
        "    if lease.kind not in KINDS_ON_DISK:\n        _gone",
        "    if lease.kind:\n        _gone",
    ),
    Mutant(
        "a token from before the daemon's last start opens its lease",
        "fence",
        f"{CELL}broker_tokens.py",
        "    if claims.boot_epoch != state.epoch:\n",
        "    if claims.boot_epoch > state.epoch:\n",
    ),
    Mutant(
        "an instance that may have begun is ended without its cell's word",
        "fence",
        f"{SCHEDULER}service_instances.py",
        "    if instance.state == PLANNED:\n        end(draft, instance, code, what)\n",
        "    if instance.state in (PLANNED, STARTING):\n        end(draft, instance, code, what)\n",
    ),
    Mutant(
        "each new link of a cell counts as a restart of its instances",
        "fence",
        f"{SCHEDULER}service_outcomes.py",
        "        elif restarted:\n",
        "        elif restarted or instance.state == ACTIVE:\n",
    ),
    Mutant(
        "an end that comes before the word of the start is noted and dropped",
        "acknowledgement",
        f"{SCHEDULER}outcomes.py",
        "run.state in (PLACED, RUNNING):\n        state, code",
        "run.state == RUNNING:\n        state, code",
    ),
    Mutant(
        "a run that has ended begins anew when it is told again",
        "acknowledgement",
        f"{CELL}broker_runs.py",
        "    if known is not None:\n        draft.report(",
        "    if known is not None and known.state == GOING:\n        draft.report(",
    ),
    Mutant(
        "a cell does not say which ends of runs it keeps",
        "acknowledgement",
        f"{CELL}holdings.py",
        "        return tuple(sorted(runs + instances))\n",
        "        return tuple(sorted(instances))\n",
    ),
    Mutant(
        "a cell does not say which ends of instances it keeps",
        "acknowledgement",
        f"{CELL}holdings.py",
        "        return tuple(sorted(runs + instances))\n",
        "        return tuple(sorted(runs))\n",
    ),
    Mutant(
        "the longer life of a region is told and not kept",
        "acknowledgement",
        f"{SCHEDULER}region_admission.py",
        "    region = replace(region, expires_at=expires_at)\n    draft.put_region(region)\n",
        "    region = replace(region, expires_at=expires_at)\n",
    ),
    Mutant(
        "that a service was scaled is told and not kept",
        "acknowledgement",
        f"{SCHEDULER}services.py",
        "        service = replace(service, spec=spec)\n        service_instances.put_service(draft, service)\n"
        "        service_shortages.forget(draft, service)\n        draft.note(AuditKind.SERVICE_SCALED, service.name, "
        "tenant=service.tenant, replicas=event.replica_count)\n    _drain_surplus(draft, service)\n"
        "    return draft.service(service.key) or service\n",
        "        service = replace(service, spec=spec)\n"
        "        service_shortages.forget(draft, service)\n        draft.note(AuditKind.SERVICE_SCALED, service.name, "
        "tenant=service.tenant, replicas=event.replica_count)\n    _drain_surplus(draft, service)\n"
        "    return service\n",
    ),
    Mutant(
        "that a reservation was closed is told and not kept",
        "acknowledgement",
        f"{SCHEDULER}reservations.py",
        "    if now != known:\n",
        "    if now.settled_at:\n",
    ),
)
