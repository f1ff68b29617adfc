"""The link of a cell as a scheduler's shell and relays need it, and what was sent over it."""

from __future__ import annotations

from grafos_scheduler import frames


class HeardLink:
    def __init__(self) -> None:
        self.frames: list[frames.DownFrame] = []

    def send(self, frame: frames.DownFrame) -> None:
        self.frames.append(frame)

    def close(self) -> None: ...
