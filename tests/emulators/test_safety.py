"""An emulator never reads anybody's AWS settings or credentials."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path

home, state_dir = Path(sys.argv[1]), Path(sys.argv[2])
touched = []

def watch(event, arguments):
    if event == "open" and str(home) in str(arguments[0]):
        touched.append(str(arguments[0]))

sys.addaudithook(watch)
from grafos_emulators.emulator import EmulatedAws, Settings
import urllib.request

with EmulatedAws(state_dir, Settings(boots=False)) as aws:
    aws.world()
    key = "AWS4-HMAC-SHA256 Credential=AKIAGRAFOSEMULATED00/20261121/us-east-1/ec2/aws4_request, SignedHeaders=h"
    body = b"Action=DescribeRegions&Version=2016-11-15"
    form = "application/x-www-form-urlencoded"
    ask = urllib.request.Request(aws.endpoint, body, {"Authorization": key, "Content-Type": form})
    assert b"us-east-1" in urllib.request.urlopen(ask).read()
print(touched)
"""


def test_no_credentials_file_or_profile_of_the_caller_is_read(tmp_path: Path, home: Path) -> None:
    (home / ".aws").mkdir()
    for name in ("config", "credentials"):
        (home / ".aws" / name).write_text("[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n")
    import os

    environment = {**os.environ, "AWS_PROFILE": "a-profile-that-does-not-exist", "AWS_ACCESS_KEY_ID": "AKIAREAL"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home), str(tmp_path / "emulator")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")


def test_the_settings_of_the_caller_are_as_they_were_after_moto_was_loaded(tmp_path: Path) -> None:
    program = (
        "import os; before = dict(os.environ)\n"
        "from pathlib import Path; from grafos_emulators.emulator import EmulatedAws, Settings\n"
        f"EmulatedAws(Path({str(tmp_path / 'emulator')!r}), Settings(boots=False))\n"
        "assert dict(os.environ) == before\n"
    )
    import os

    environment = {**os.environ, "AWS_PROFILE": "mine", "AWS_CONFIG_FILE": "/my/config"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=100)


def test_the_package_and_its_daemon_module_load_neither_moto_nor_the_sdk() -> None:
    program = "import sys, grafos_emulators.daemon; print({'moto', 'boto3', 'botocore', 'werkzeug'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert ran.stdout.strip() == "set()"
