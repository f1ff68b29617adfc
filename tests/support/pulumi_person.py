"""A person at a terminal: one command of Pulumi's engine in a process that can be killed. `up` or `destroy`."""

from __future__ import annotations

import sys
from pathlib import Path

from parts_program import REGION, parts_only
from pulumi_ground import fabric

from grafos_core.errors import GrafosError
from grafos_stacks.pulumi.engine import EngineStack, Workplace


def main() -> None:
    verb, project, count = sys.argv[1:]
    settings = {"provider": "aws", "region": REGION, "count": count}
    stack = EngineStack(Workplace(fabric(), Path(project)), "dev", settings, parts_only)
    try:
        stack.up() if verb == "up" else stack.destroy()
    except GrafosError as error:
        sys.exit(f"{error.what}\n{error.why}")
    except KeyboardInterrupt:
        sys.exit(130)


main()
