"""A machine that boots the image becomes a cell of a person's own orchestrator: what makes it one, what shows it."""

from __future__ import annotations

import shutil
import time

import looking_inside
from command_line import Person
from own_orchestrator import OwnOrchestrator
from source_tree import ROOT

from grafos_cellimage.booting import Machine
from grafos_core.virtual_machines import HOST

BOOT_S_MAX = 800.0
"""Nobody waits for so long: software emulation on a machine that is busy with other tests."""


ADDRESSES = {"udp port 68", "raw6 port 58"}
"""Where DHCP answers and routers of IPv6 announce themselves."""


def told_of(own: OwnOrchestrator, ada: Person, cell_id: str) -> dict[str, object]:
    """What makes a machine that cell of the person's own orchestrator. It is used once: a second boot without the state
    of the first would get nowhere."""
    token = ada.project / "token"
    words = ("--provider", "gcp", "--cell-id", cell_id, "--region", "here", "--token-file", str(token))
    assert ada("cloud", "bootstrap-cell", *words).code == 0
    return {
        "cell_id": cell_id,
        "provider": "gcp",
        "region": "here",
        "orchestrator": f"https://{HOST}:{own.bind.rpartition(':')[2]}",
        "ca_pem": token.with_name("orchestrator-ca.pem").read_text(),
        "bootstrap_token": token.read_text().strip(),
    }


def ready(own: OwnOrchestrator, cell_id: str, machine: Machine) -> None:
    """Waits until the cell of a machine that has just been switched on is ready. What an earlier one of it left says
    nothing: its link is new."""
    until = time.monotonic() + BOOT_S_MAX
    while "grafos: booted" not in machine.console or own.cell(cell_id).get("ready") is not True:
        assert machine.is_on, f"{machine.complaint()}\n{machine.console[-4000:]}"
        assert time.monotonic() < until, machine.console[-4000:]
        time.sleep(1.0)


def identifies(ada: Person, cell_id: str) -> None:
    """The identify tasklet runs there, and what it left is signed by that cell. A worker that does not start in time is
    asked again, as the code says: an emulated machine on a busy one takes its time."""
    twin, program = ROOT / "cookbook" / "multi-cloud-deploy" / "zig-twin", ada.project / "identify"
    shutil.copytree(twin, program, ignore=shutil.ignore_patterns(".grafos"))
    (program / "asked.json").write_text('{"provider": "gcp"}')
    assert ada("tasklet", "build", cwd=program).code == 0
    until = time.monotonic() + BOOT_S_MAX
    while True:
        run = ada("deploy", "run", "--provider", "gcp", "--input", "asked.json", "--json", cwd=program)
        if run.code == 0 or time.monotonic() > until:
            break
    assert run.code == 0, run.out + run.err
    [left] = ada("runs", "ls", "--json", cwd=program).document["runs"][:1]
    verified = ada("artifacts", left["run_id"], "--verify", "--json", cwd=program)
    assert verified.code == 0, verified.out + verified.err
    assert verified.document["response"]["ran_on"]["cell_id"] == cell_id


def holds_inside(machine: Machine) -> None:
    """What a look into the machine shows, while its workers wait for runs."""
    until = time.monotonic() + BOOT_S_MAX
    while not (seen := looking_inside.seen(machine.console)).get("workers"):
        assert time.monotonic() < until, machine.console[-4000:]
        time.sleep(0.5)
    assert [each for each in seen["listening"] if "tcp" in each] == [], "nobody can dial it"
    assert set(seen["listening"]) <= ADDRESSES, "beside what its card's addresses come by"
    assert seen["mounts"]["/"][0] in ("ramfs", "rootfs", "tmpfs"), "what is written to the root is gone with the power"
    kind, options = seen["mounts"]["/var/lib/private"]
    assert kind == "ext4"
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
    assert {tuple(worker) for worker in seen["workers"]} == {("2", "1", "0000000000000000")}, "filtered, without rights"
    ends = (seen["open"], seen["sealed"])
    assert ends == (looking_inside.REACHED, looking_inside.KILLED), "the metadata service is there, for no worker"
    assert seen["timers"] == [], "nothing here ends it yet"
