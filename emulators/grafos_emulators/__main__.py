"""``python -m grafos_emulators up|env|status|down --state-dir DIR``: emulated clouds on loopback."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafos_core.errors import GrafosError
from grafos_emulators import clocks, daemon
from grafos_emulators.clouds import BOOTS, CLOUDS, PROCESSES, clouds_of


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m grafos_emulators", description="Emulated clouds on loopback.")
    parser.add_argument("verb", choices=["up", "env", "status", "down", "serve"])
    parser.add_argument("--state-dir", type=Path, required=True, help="where it keeps its machines and its state")
    parser.add_argument("--clock", default=clocks.REAL, help=clocks.FORMS)
    parser.add_argument("--clouds", default=",".join(CLOUDS), help="which, as in aws,gcp")
    parser.add_argument("--boot", default=PROCESSES, choices=BOOTS, help="what runs a published image")
    parser.add_argument("--ready", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    try:
        if asked.verb == "serve":
            return _serve(asked)
        return _told(asked.verb, asked.state_dir, asked.clock, clouds_of(asked.clouds), asked.boot)
    except ValueError as problem:
        parser.error(str(problem))
    except GrafosError as problem:
        print(problem.last_words(), file=sys.stderr)
        return problem.exit_code


def _told(verb: str, state_dir: Path, clock: str, clouds: tuple[str, ...], boot: str) -> int:
    if verb == "down":
        print("stopped" if daemon.stop(state_dir) else "no emulated cloud ran")
        return 0
    info = daemon.start(state_dir, clock, clouds, boot) if verb == "up" else daemon.read(state_dir)
    if info is None:
        raise GrafosError("emulator_not_running", "no emulated cloud runs", where=str(state_dir))
    if verb == "env":
        for name, value in sorted(info.environment.items()):
            print(f"export {name}={value}")
        return 0
    print(f"emulated {', '.join(info.clouds)} at {info.endpoint}, process {info.pid}")
    print(f"prices: {info.price_note}")
    return 0


def _serve(asked: argparse.Namespace) -> int:
    # The one command that loads the emulator itself.
    from grafos_emulators.serve import detach, serve

    if asked.ready is not None:
        detach()
    serve(asked.state_dir, asked.ready, asked.clock, clouds_of(asked.clouds), asked.boot)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
