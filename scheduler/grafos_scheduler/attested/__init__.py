"""What a cloud says of one of its machines, verified offline against roots that are data.

Everything here is a function of bytes, roots and the time: nothing is asked of anybody. One module for each cloud,
each with one function ``check(evidence, roots, enrolling, now) -> Attested``, which raises ``attestation_refused``.
"""

from __future__ import annotations

from grafos_scheduler.attested.contract import Attested, Enrolling, refused
from grafos_scheduler.attested.roots import PROVIDERS, Roots, shipped

__all__ = ["PROVIDERS", "Attested", "Enrolling", "Roots", "check_known", "shipped", "verify"]


def check_known(roots: Roots) -> None:
    """Refuses where a cloud's word could not be verified at all."""
    if not roots.pems:
        raise refused(f"no roots of {roots.provider} are known here", why=roots.why_empty, next=roots.next_step)


def verify(evidence: str, roots: Roots, enrolling: Enrolling, now: float) -> Attested:
    """What the cloud of ``roots`` says of a machine that enrols."""
    check_known(roots)
    from grafos_scheduler.attested import aws, azure, gcp  # at the first use: most schedulers need none

    check = {"aws": aws.check, "azure": azure.check, "gcp": gcp.check}[roots.provider]
    return check(evidence, roots, enrolling, now)
