"""Questions that a person may not be allowed to ask."""

from __future__ import annotations

UNANSWERED = frozenset({"cloud_denied", "cloud_not_found", "cloud_unknown", "cloud_invalid", "cloud_unreachable"})
"""What a question about limits, permissions or obstacles may end with; then nothing is known, and nothing is refused
for it."""
