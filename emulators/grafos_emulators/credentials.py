"""The dummy credentials of every emulated AWS, in this one place.

They open nothing: an emulator refuses every other key, so that a real one is never used against it, and whoever
talks to a real endpoint can refuse every key that begins with ``EMULATED_ACCESS_KEY_PREFIX``.
"""

from __future__ import annotations

from grafos_core.emulated import EMULATED_ACCESS_KEY_PREFIX

ACCESS_KEY_ID = EMULATED_ACCESS_KEY_PREFIX + "00"  # 20 characters, as each AWS access key has
SECRET_ACCESS_KEY = "not-a-secret-it-opens-an-emulator-only00"  # noqa: S105  dummy, 40 characters as AWS's
DEFAULT_REGION = "us-east-1"


def client_environment(endpoint: str) -> dict[str, str]:
    """The variables that send an AWS SDK to ``endpoint`` (``http://127.0.0.1:PORT``) and to nowhere else."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_DEFAULT_REGION": DEFAULT_REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": DEFAULT_REGION,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    }
