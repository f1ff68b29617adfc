"""An emulator never reads anybody's AWS settings or credentials, and takes nothing that is not its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grafos_core.errors import GrafosError
from grafos_emulators import state
from grafos_emulators.emulator import EmulatedClouds, Settings

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's place")

PROGRAM = """
import sys
from pathlib import Path

home, state_dir = Path(sys.argv[1]), Path(sys.argv[2])
touched = []

def watch(event, arguments):
    if event == "open" and str(home) in str(arguments[0]):
        touched.append(str(arguments[0]))

sys.addaudithook(watch)
from grafos_emulators.emulator import EmulatedClouds, Settings
import urllib.request

with EmulatedClouds(state_dir, Settings(clouds=("aws",), boots=False)) as aws:
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


@pytest.mark.parametrize("name", ["machines", "consoles"])
def test_a_folder_that_no_emulator_made_is_not_emptied(tmp_path: Path, name: str) -> None:
    """Whoever names a project as the state directory may have a folder of that name in it."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "precious").touch()
    for _ in range(2):  # the refusal leaves nothing that would let a second try through
        with pytest.raises(GrafosError, match=name) as error:
            EmulatedClouds(tmp_path, Settings(clouds=("aws",)))
        assert error.value.code == "emulator_invalid"
    assert (tmp_path / name / "precious").exists()


def test_a_state_directory_that_was_there_before_is_made_private(tmp_path: Path) -> None:
    place = tmp_path / "emulator"
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    os.close(state.take(place))
    assert place.stat().st_mode & 0o777 == 0o700


def test_an_emulator_that_fails_to_start_gives_back_what_it_took(tmp_path: Path) -> None:
    os.close(state.take(tmp_path))
    (tmp_path / "consoles").symlink_to("nowhere")
    with pytest.raises(OSError, match="consoles"):
        EmulatedClouds(tmp_path, Settings(clouds=("aws",)))
    (tmp_path / "consoles").unlink()
    EmulatedClouds(tmp_path, Settings(clouds=("aws",))).close()


@needs_root
def test_a_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    with pytest.raises(GrafosError) as error:
        state.take(tmp_path)
    assert error.value.code == "emulator_invalid"
    assert "65534" in error.value.what


@needs_root
def test_whether_another_users_emulator_runs_is_told_in_words(tmp_path: Path) -> None:
    os.close(state.take(tmp_path))
    program = (
        "import os, sys; from pathlib import Path; from grafos_emulators import daemon; os.seteuid(65534)\n"
        "try: daemon.read(Path(sys.argv[1]))\n"
        "except daemon.GrafosError as problem: print(problem.code)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert ran.stdout.strip() == "emulator_invalid"


def test_the_settings_of_the_caller_are_as_they_were_after_moto_was_loaded(tmp_path: Path) -> None:
    program = (
        "import os; before = dict(os.environ)\n"
        "from pathlib import Path; from grafos_emulators.emulator import EmulatedClouds, Settings\n"
        f"with EmulatedClouds(Path({str(tmp_path / 'emulator')!r}), Settings(clouds=('aws',), boots=False)):\n"
        "    assert dict(os.environ) == before\n"
    )
    environment = {**os.environ, "AWS_PROFILE": "mine", "AWS_CONFIG_FILE": "/my/config"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=100)


@pytest.mark.parametrize("module", ["daemon", "emulator"])
def test_only_loading_an_emulator_loads_moto_and_the_sdk(module: str) -> None:
    """So that it happens once, where nobody's AWS settings can be found."""
    program = (
        f"import sys, grafos_emulators.{module}; print({{'moto', 'boto3', 'botocore', 'werkzeug'}} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert ran.stdout.strip() == "set()"
