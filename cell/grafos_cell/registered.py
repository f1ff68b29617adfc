"""``grafos-cell-agent``: the daemon of a registered cell, which enrols at an orchestrator and dials out to it.

Nobody dials it. It gets its identity with a bootstrap token, once, keeps it fresh, and leases out what the machine has.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from grafos_cell.settings import Settings, add_ending, read_ending, read_size
from grafos_core.errors import GrafosError
from grafos_core.ids import check_name
from grafos_core.program import CommandLine, run_program
from grafos_core.resources import Resources

TOKEN_FILE, CA_FILE = "bootstrap-token", "orchestrator-ca.pem"
"""In the trust folder, unless flags name others."""
EXAMPLE = (
    "example: grafos-cell-agent --orchestrator https://203.0.113.7:8443 --provider gcp --cell-id gcp-1 "
    "--trust ./trust --state ./state --bootstrap-token-file ./token --ca-file ./orchestrator-ca.pem"
)

log = logging.getLogger("grafos.cell")


def main() -> None:
    """Exit code 0 after SIGTERM or at the cell's end, else that of the error."""
    run_program(start)


def start(arguments: Sequence[str]) -> None:
    given = _parser().parse_args(arguments)
    settings = read_settings(given)
    if given.print_unit:
        print(_unit(given, [word for word in arguments if word != "--print-unit"]), end="")  # noqa: T201  asked for
    else:
        _serve(given, settings)


def read_settings(given: argparse.Namespace) -> Settings:
    """The daemon's settings; an amount of 0 stands for what the machine has. ``config_invalid``, ``name_invalid``."""
    check_name("cell", given.cell_id)
    check_name("provider", given.provider)
    return Settings(
        scheduler=given.orchestrator,
        trust=given.trust,
        state=given.state,
        total=Resources(
            mem_bytes=read_size(given.mem_capacity), block_bytes=read_size(given.block_capacity, "--block-capacity")
        ),
        region=given.region,
        ready_fd=given.ready_fd,
        **read_ending(given),
    )


def _serve(given: argparse.Namespace, settings: Settings) -> None:
    """Serves to the cell's end. An identity that nobody honours any more is removed, so that it is not tried again and
    again; where there is a bootstrap token, another one is got with that."""
    # Imported only now: a wrong flag is told at once, and reading flags costs nothing.
    import random

    from grafos_cell import membership
    from grafos_cell.daemon import run
    from grafos_cell.enrolling import Bootstrap
    from grafos_core.clock import SystemClock

    token_file, ca_file = _files(given)
    bootstrap = Bootstrap(given.orchestrator, given.provider, given.cell_id, token_file, ca_file)
    member = membership.Registered(settings, bootstrap, SystemClock(), random.SystemRandom())
    while True:
        try:
            return run(settings, member)
        except GrafosError as error:
            if error.code not in membership.NOBODY_HONOURS:
                raise
            error.next = bootstrap.again
            if not member.give_up():
                raise
            log.warning("%s; enrolling anew with the bootstrap token that is there", error)


def _files(given: argparse.Namespace) -> tuple[Path, Path]:
    trust: Path = given.trust
    return given.bootstrap_token_file or trust / TOKEN_FILE, given.ca_file or trust / CA_FILE


def _unit(given: argparse.Namespace, arguments: Sequence[str]) -> str:
    """The unit that runs the agent with these arguments. In a unit a path must not depend on where it is run."""
    from grafos_cell.service import unit

    token_file, ca_file = _files(given)
    paths = {str(path): str(path.absolute()) for path in (given.trust, given.state, token_file, ca_file)}
    words = [paths.get(word, word) for word in arguments]
    writable = [given.trust.absolute(), given.state.absolute(), token_file.absolute().parent]
    return unit(given.cell_id, [sys.executable, "-m", "grafos_cell.registered", *words], writable)


def _parser() -> CommandLine:
    parser = CommandLine(
        prog="grafos-cell-agent",
        description="The daemon of a cell that registers at an orchestrator.",
        epilog=EXAMPLE,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--orchestrator", required=True, metavar="URL", help="https://ADDR:PORT")
    add("--provider", required=True, metavar="NAME", help="whose machine this is")
    add("--cell-id", required=True, metavar="ID", help="the name that the bootstrap token is for")
    add("--region", default="", metavar="NAME", help="where this machine is")
    add("--trust", required=True, type=Path, metavar="DIR", help="the cell's key and certificate, made if missing")
    add("--state", required=True, type=Path, metavar="DIR", help="durable state, made if missing")
    add("--bootstrap-token-file", type=Path, metavar="FILE", help="removed once used (DIR/bootstrap-token in --trust)")
    add("--ca-file", type=Path, metavar="FILE", help="the orchestrator's CA (DIR/orchestrator-ca.pem in --trust)")
    add("--mem-capacity", default="0", metavar="SIZE", help="leasable memory, like 16m (0: half of the machine's)")
    add("--block-capacity", default="0", metavar="SIZE", help="leasable blocks, like 1g (0: half of the disk's room)")
    add("--print-unit", action="store_true", help="print a unit for systemd that runs this very command, and end")
    add_ending(parser)
    return parser


if __name__ == "__main__":
    main()
