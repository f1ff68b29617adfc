from __future__ import annotations

import subprocess
import sys

import pytest

from grafos_core.errors import CODES, GrafosError
from grafos_scheduler.settings import Settings, read_settings

GOOD = {
    "mode": "cell",
    "auth-mode": "mtls+token",
    "bind": "127.0.0.1:7443",
    "state": "/var/lib/grafos",
    "trust": "/var/lib/grafos/trust",
    "fabric": "fab-0123456789ab",
    "cell-id": "cell-1",
    "provider": "local",
}


def read(**changes: str | None) -> Settings:
    given = {**GOOD, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return read_settings([text for name, value in given.items() if value is not None for text in (f"--{name}", value)])


def code_of(**changes: str | None) -> str:
    with pytest.raises(GrafosError) as caught:
        read(**changes)
    return caught.value.code


def test_a_whole_command_line_is_read() -> None:
    seconds = {"healthy_after_s": "0", "heartbeat_every_s": "0.5", "service_lease_s": "3"}
    settings = read(region="eu-west-1", name="198.51.100.7", **seconds)
    assert (settings.address, settings.port, settings.names) == ("127.0.0.1", 7443, ("198.51.100.7",))
    assert (settings.region, settings.healthy_after_s, settings.heartbeat_every_s) == ("eu-west-1", 0.0, 0.5)
    assert settings.service_lease_s == 3.0


def test_an_orchestrator_has_a_name_and_no_cell_and_the_three_clouds_unless_told_others() -> None:
    plain = read(mode="orchestrator", cell_id=None, provider=None)
    assert (plain.scheduler_id, plain.providers) == ("orchestrator", ("aws", "azure", "gcp"))
    told = read(mode="orchestrator", cell_id=None, scheduler_id="west", provider="local")
    assert (told.scheduler_id, told.providers, told.is_orchestrator) == ("west", ("local",), True)


def test_a_database_is_shown_without_its_password() -> None:
    settings = read(
        database="postgresql://grafos:hush%2Fhush@db.example:5432/grafos?sslmode=verify-full&sslpassword=mum"
    )
    assert str(settings.database) == "postgresql://grafos@db.example:5432/grafos"
    assert not {"hush", "mum"} & set(repr(settings).replace("/", " ").split())
    assert settings.database is not None
    assert settings.database.text.endswith("verify-full&sslpassword=mum")
    said = settings.database.without_secrets("no such option: hush%2Fhush, hush/hush, mum")
    assert said == "no such option: ***, ***, ***"


@pytest.mark.parametrize(
    "url",
    [
        *("mysql://u:hush@h/d", "u:hush@h/d", "", "postgresql://u:hush@[h/d"),
        *(f"postgresql://u:hush{sign}hush@h/d" for sign in "/?#@"),
    ],
)
def test_what_is_no_database_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(GrafosError) as caught:
        read(database=url)
    assert caught.value.code == "config_invalid"
    assert "hush" not in str(caught.value.to_wire())


@pytest.mark.parametrize("url", ["http://10.0.0.4:1", "https://10.0.0.4", "https://10.0.0.4:1/path", "https://h:x"])
def test_a_replica_is_reached_at_an_address_and_a_port(url: str) -> None:
    assert code_of(reached_at=url) == "config_invalid"
    assert read(reached_at="https://10.0.0.4:8443").reached_at == "https://10.0.0.4:8443"


def test_an_ipv6_address_is_one_too() -> None:
    assert (read(bind="[::1]:0").address, read(bind="[::1]:0").port) == ("::1", 0)


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:7443", "[::]:7443", ":7443", "localhost:7443", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"]
)
def test_it_binds_to_one_named_address_and_never_to_all(bind: str) -> None:
    assert code_of(bind=bind) == "config_invalid"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mode": "orchestrator"}, "usage"),
        ({"scheduler-id": "other"}, "usage"),
        ({"cell-id": None}, "usage"),
        ({"provider": None}, "usage"),
        ({"mode": "orchestrator", "cell-id": None, "scheduler-id": "Not A Name"}, "name_invalid"),
        ({"mode": "both"}, "usage"),
        ({"auth-mode": "none"}, "usage"),
        ({"state": None}, "usage"),
        ({"fabric": "Not A Name"}, "name_invalid"),
        ({"cell-id": "-"}, "name_invalid"),
        ({"name": "example.com"}, "config_invalid"),
        ({"heartbeat-every-s": "0"}, "config_invalid"),
        ({"heartbeat-every-s": "nan"}, "config_invalid"),
        ({"healthy-after-s": "-1"}, "config_invalid"),
        ({"service-lease-s": "1"}, "config_invalid"),
        ({"service-lease-s": "301"}, "config_invalid"),
        ({"shoe-size": "42"}, "usage"),
    ],
    ids=str,
)
def test_what_it_cannot_do_it_says_before_it_does_anything(changes: dict[str, str | None], code: str) -> None:
    assert code_of(**changes) == code


def test_the_program_says_so_in_one_shape_and_with_the_codes_exit_code() -> None:
    for module in ("grafos_scheduler", "grafos_cell"):
        ended = subprocess.run([sys.executable, "-m", module, "--what"], capture_output=True, text=True, check=False)
        assert ended.returncode == CODES["usage"].exit_code
        assert ended.stderr.startswith("error[usage]: ")
        assert "  next: " in ended.stderr
        assert "Traceback" not in ended.stderr


WITHOUT_DRIVER = """
import sys
from grafos_scheduler import process
from grafos_scheduler.settings import read_settings
assert "asyncpg" not in sys.modules
sys.modules["asyncpg"] = None  # as if it were not installed
try:
    process.open_keeper(read_settings(sys.argv[1:]), "")
except process.GrafosError as error:
    print(error.last_words())
"""


def test_the_driver_of_a_database_is_looked_for_only_when_there_is_one() -> None:
    given = {**GOOD, "database": "postgresql://grafos:hush@127.0.0.1:1/nowhere"}
    words = [text for name, value in given.items() for text in (f"--{name}", value)]
    done = subprocess.run([sys.executable, "-c", WITHOUT_DRIVER, *words], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("error[tool_missing]")
    assert "pip install 'grafos-scheduler[postgresql]'" in done.stdout
