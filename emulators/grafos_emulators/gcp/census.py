"""What somebody made in the project and nobody has removed, whatever a list shows."""

from __future__ import annotations

from collections.abc import Iterator

from grafos_emulators.census import Thing
from grafos_emulators.gcp.instance_life import Instance
from grafos_emulators.gcp.project import Project, Resource, region_of

BILLED = frozenset({"disk", "address", "image"})  # as long as they exist; an instance, until it is TERMINATED


def things(project: Project) -> Iterator[Thing]:
    """All resources in the order of their paths. ``id`` is the path below the project; the tags are the labels and,
    where a kind has none, its description under that name.
    """
    for path in sorted(project.resources):
        resource = project.resources[path]
        described = {"description": resource.body["description"]} if resource.body.get("description") else {}
        yield Thing(
            provider="gcp",
            kind=resource.kind,
            id=path,
            region=region_of(resource.scope) or "global",
            state=_state(resource),
            billable=resource.kind in BILLED or (isinstance(resource, Instance) and resource.uses_quota),
            tags=resource.labels | described,
        )
    for name, bucket in sorted(project.buckets.items()):
        yield Thing("gcp", "bucket", f"b/{name}", bucket.region, "READY", False, dict(bucket.body.get("labels", {})))
        for key, each in sorted(bucket.objects.items()):
            tags = dict(each.body.get("metadata", {}))
            yield Thing("gcp", "object", f"b/{name}/o/{key}", bucket.region, "READY", True, tags)


def _state(resource: Resource) -> str:
    if isinstance(resource, Instance):
        return resource.status
    return "DELETING" if resource.leaving else "READY" if resource.ready else "CREATING"
