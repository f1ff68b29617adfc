"""Runs of a program that is given up end together."""

from __future__ import annotations

from msgspec.structs import replace

from grafos_cli.cancelling import cancel_all_and_wait
from grafos_scheduler.messages import Cost, RunView

RUN = RunView(
    "", "ada", "gcp", "gcp-1", "here", "whole", "one", "m", "i", "", "", "", 1.0, 0.0, 0, Cost(0, 0.0, 0, 0.0, "0")
)


class SlowToEnd:
    """Of a client what cancelling needs; its runs end while they are waited for. It writes down the order."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def cancel_run(self, run_id: str) -> RunView:
        self.asked.append(f"cancel {run_id}")
        return self._view(run_id, "running")

    def run(self, run_id: str, wait_s: float = 0.0) -> RunView:
        self.asked.append(f"wait {run_id}")
        return self._view(run_id, "cancelled")

    def _view(self, run_id: str, state: str) -> RunView:
        return replace(RUN, run_id=run_id, state=state)


def test_each_is_told_to_end_before_any_is_waited_for() -> None:
    client = SlowToEnd()
    ended = cancel_all_and_wait(client, ["a", "b"])  # type: ignore[arg-type]  # it needs of a client what stands there
    assert [run.state for run in ended] == ["cancelled"] * 2
    first_wait = client.asked.index("wait a")
    assert {"cancel a", "cancel b"} <= set(client.asked[:first_wait])
