"""Where the console is."""

from __future__ import annotations

BELOW = "/admin/"
"""Everything below is the console's; the REST API is below ``/api/``."""
STATS, STREAM, SIGN_IN, SIGN_OUT = "/admin/stats", "/admin/stats/stream", "/admin/sign-in", "/admin/sign-out"
