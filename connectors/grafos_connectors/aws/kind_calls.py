"""The shape in which each subject offers the calls of its kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from grafos_connectors.aws.client import AwsCalls
from grafos_connectors.contract import CloudError, Desired, Found, Ref

SEPARATOR = "|"  # joins the parts of an id that EC2 has no word for


@dataclass(frozen=True)
class KindCalls:
    """``create`` and ``delete`` send one changing call each; ``create`` gives the id.

    ``find`` and ``observe`` are given by kinds that bear no tags and that no Describe call is about.
    """

    delete: Callable[[AwsCalls, Ref], None]
    create: Callable[[AwsCalls, Desired, str], str] | None = None
    find: Callable[[AwsCalls, Desired], Found | None] | None = None
    observe: Callable[[AwsCalls, Ref], Found | None] | None = None


def occupied(desired: Desired, refusal: CloudError, why: str) -> CloudError:
    """The conflict when the place that ``desired`` needs is taken by something else."""
    return CloudError(
        "cloud_conflict",
        f"The {desired.kind.value} {desired.name} cannot be made: {why}.",
        where=refusal.where,
        why=refusal.why,
        cloud_code=refusal.cloud_code,
        request_id=refusal.request_id,
    )


def not_shown_yet(desired: Desired, refusal: CloudError) -> CloudError:
    """EC2 says that it exists, and a read does not show it: the listing lag."""
    return CloudError(
        "cloud_not_found",
        f"The {desired.kind.value} {desired.name} exists but does not show up yet.",
        where=refusal.where,
        why=refusal.why,
        cloud_code=refusal.cloud_code,
        request_id=refusal.request_id,
    )
