"""Which images the cells must be of that runs, regions and instances of services are given to.

A baked image bears a digest of its contents, which its cell tells as it registers. An operator may demand a set of
them: whoever tells of another, or of none, as on a stock machine, keeps what runs there and is given nothing new.

It is the cell's own word. It finds the cell that was left on an old image, or made from a wrong one; it proves nothing
of a machine in foreign hands, which can say what it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafos_core.audit_chain import AuditKind
from grafos_scheduler import rows
from grafos_scheduler.image_messages import IMAGE_DEMAND, THE_DEMAND, ImageDemandRow, ImageDemandView, ImagesDemanded

if TYPE_CHECKING:
    from grafos_scheduler.draft import Draft
    from grafos_scheduler.state import State

SHOWN_DIGITS = 12


def veto(state: State, cell: rows.Cell) -> str:
    """Why the cell gets no runs; empty where none are demanded, or its image is among them."""
    demand = state.image_demands.get(THE_DEMAND)
    if demand is None or cell.image_sha256 in demand.digests:
        return ""
    told = f"image {cell.image_sha256[:SHOWN_DIGITS]}" if cell.image_sha256 else "no image"
    return f"attestation: it tells of {told}, which is not among those that are demanded"


def demanded(draft: Draft, event: ImagesDemanded) -> ImageDemandView:
    """Sets what is demanded, in place of what was before; nothing lifts it. Asked again it changes nothing."""
    known, digests = draft.state.image_demands.get(THE_DEMAND), tuple(sorted(set(event.digests)))
    if digests == (known.digests if known else ()):
        return view(draft.state, known)
    row = ImageDemandRow(digests, event.operator, draft.now) if digests else None
    if row is not None:
        draft.put(IMAGE_DEMAND, THE_DEMAND, row)
    else:
        draft.remove(IMAGE_DEMAND, THE_DEMAND)
    listed = {f"image_{number}": digest for number, digest in enumerate(digests, 1)}
    draft.note(AuditKind.IMAGES_DEMANDED, THE_DEMAND, images=len(digests), **listed)
    return view(draft.state, row)


def view(state: State, demand: ImageDemandRow | None) -> ImageDemandView:
    """A demand with the cells that do not meet it, as of this state."""
    if demand is None:
        return ImageDemandView()
    others = sorted(cell.cell_id for cell in state.cells.values() if cell.image_sha256 not in demand.digests)
    return ImageDemandView(demand.digests, demand.set_by, demand.set_at, tuple(others))
