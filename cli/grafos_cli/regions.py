"""The region that a person's own settings name for a cloud, where each cloud's own tools look for it."""

from __future__ import annotations

import os

REGION_VARIABLES: dict[str, tuple[str, ...]] = {
    "aws": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "azure": ("AZURE_DEFAULTS_LOCATION",),
    "gcp": ("CLOUDSDK_COMPUTE_REGION",),
}


def region_at_hand(provider: str) -> str:
    """The region that the environment names, or nothing."""
    names = REGION_VARIABLES.get(provider, ())
    return next((os.environ[name] for name in names if os.environ.get(name)), "")
