"""From a machine that the cloud calls running to one that says itself that it has booted.

A registered cell's machine has no port at which anybody could ask it, so it is believed by the one line that its
bootstrap writes to the console, which the cloud hands out to who owns the machine.
"""

from __future__ import annotations

from grafos_connectors.contract import CloudError, Found, State
from grafos_core.errors import GrafosError
from grafos_stacks.bootstrap import Booted, booted_in
from grafos_stacks.direct import Hands
from grafos_stacks.progress import BEGUN, DONE, WAITING, Step

CONSOLE_LINES = 40
BOOT_PATIENCE_S = 300.0
"""From a running machine to its line: booting, the operating system's own first-start work, and the cloud's delay in
handing out the console, which may be a minute."""
ASK_EVERY_S, ASK_EVERY_S_MAX = 0.05, 5.0


def wait_booted(hands: Hands, cell_id: str, machine: Found) -> Booted:
    """Waits until the machine has said that it booted and set its timer.

    ``cell_not_ready`` with the console's tail when it does not say so in time or could set no timer, ``cell_gone`` when
    it ended meanwhile.
    """
    began, pause_s = hands.clock.monotonic(), ASK_EVERY_S
    hands.progress(Step("boot", BEGUN, 0.0))
    while True:
        console = _console(hands, machine)
        booted = booted_in(console, cell_id)
        elapsed_s = hands.clock.monotonic() - began
        if booted is not None:
            if not booted.timer_at:
                raise _not_ready("the machine has booted, but could not set its own timer", machine, console)
            hands.progress(Step("boot", DONE, elapsed_s, f"{booted.machine} in {booted.place}"))
            return booted
        check_runs(hands, machine, console)
        if elapsed_s > BOOT_PATIENCE_S:
            raise _not_ready("the machine runs, but does not say that it booted", machine, console)
        hands.progress(Step("boot", WAITING, elapsed_s))
        hands.sleep(pause_s)
        pause_s = min(2 * pause_s, ASK_EVERY_S_MAX)


def console_tail(hands: Hands, machine: Found) -> str:
    """What the machine last wrote; ``cell_gone`` when it has ended."""
    text = _console(hands, machine)
    check_runs(hands, machine, text)
    return last_lines(text)


def check_runs(hands: Hands, machine: Found, console: str) -> None:
    """``cell_gone`` when the machine has ended. A cloud that does not answer leaves it open."""
    try:
        seen = hands.connector.observe(machine.ref)
    except CloudError:
        return  # a diagnosis that cannot be had must not hide what it was wanted for
    if seen.state in (State.GONE, State.FAILED, State.DELETING, State.STOPPED):
        raise GrafosError(
            "cell_gone",
            f"the machine {machine.ref.id} ended before it became a cell",
            where=machine.ref.region,
            why=seen.attributes.get("reason", "") or last_lines(console),
            next="run the same command again for a new machine, or tear down what is left",
        )


def last_lines(console: str) -> str:
    """The end of a console, as much as an error should show."""
    return "\n".join(console.splitlines()[-CONSOLE_LINES:])


def _console(hands: Hands, machine: Found) -> str:
    """What the machine wrote, or why that cannot be read."""
    try:
        return hands.connector.console(machine.ref)
    except CloudError as refusal:
        return f"(it cannot be read: {refusal.code}: {refusal.what})"


def _not_ready(what: str, machine: Found, console: str) -> GrafosError:
    return GrafosError(
        "cell_not_ready",
        what,
        where=f"{machine.ref.region} {machine.ref.id}",
        why=f"its console ends: {last_lines(console)}" if console.strip() else "its console is empty so far",
        next="run the same command again: it goes on; or tear the cell down",
    )
