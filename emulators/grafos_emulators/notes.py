"""Words that belong beside what an emulator tells."""

from __future__ import annotations

PRICE_NOTE = "fictional prices of an emulator, after public tables of 2026-11-21; nobody is billed by them"
