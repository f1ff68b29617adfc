"""The Pulumi stacks that grafos itself drives for a fabric, told without anything of Pulumi's: from folders alone.

<fabric>/pulumi/home/         Pulumi's home: its plugins and logs
engine/               its command line, if it was installed for grafos
passphrase            what the state's secrets are sealed with
state/                the file backend, unless another is named
work/<stack>/         of each stack: a project file of our own, its settings, and where its state is kept

The project bears a name that no program of a person's has, so that nobody else's stack is taken for one of these.
"""

from __future__ import annotations

from pathlib import Path

from grafos_core.fabric import Fabric
from grafos_stacks.journal import Journal, StackState
from grafos_stacks.owners import OWN_PROJECT, PULUMI, pulumi_owner

PROJECT = OWN_PROJECT
BACKEND_FILE = "backend"
"""In a stack's folder: the URL where its state is kept."""


def pulumi_home(fabric: Fabric) -> Path:
    """Everything of Pulumi's; it need not exist."""
    return fabric.home / "pulumi"


def stacks_at_hand(fabric: Fabric) -> tuple[str, ...]:
    """The stacks that were made from here and not ended, by name."""
    return tuple(sorted(file.parent.name for file in (pulumi_home(fabric) / "work").glob(f"*/{BACKEND_FILE}")))


def stack_of(fabric: Fabric, engine: str) -> str:
    """The stack at hand that an owner of cells names; "" for the direct engine and for any other's stack."""
    project, _, name = engine.removeprefix(f"{PULUMI}:").partition("/")
    return name if engine != project and project == PROJECT and name in stacks_at_hand(fabric) else ""


def cells_of(journal: Journal, stack: str) -> tuple[str, ...]:
    """The cells of a stack at hand that live, as the journal knows them."""
    owner = pulumi_owner(PROJECT, stack)
    return tuple(row.stack for row in journal.stacks() if row.engine == owner and row.state is not StackState.GONE)
