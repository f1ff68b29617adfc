"""A look into a booted machine: a unit that whoever has its firmware adds to it, and nothing in the image knows of.

What it sees it says on the console, again and again, each time as one line of JSON. systemd takes such units from its
credentials; user data cannot bring any.
"""

from __future__ import annotations

import base64
import json
from typing import Any

MARK = "inside: "
REACHED, KILLED = 0, -31
"""How an attempt at the metadata service ends; the kernel kills with SIGSYS who asks for a socket and may have none."""
PROGRAM = r"""
import json, os, pathlib, re, socket, subprocess, sys, time

sys.path.insert(0, "/usr/lib/grafos/software")
LISTENS = "0A"
METADATA = ("169.254.169.254", 80)


def sockets(kind):
    rows = [line.split() for line in pathlib.Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    wanted = [row for row in rows if row[3] == LISTENS or not kind.startswith("tcp")]
    return [f"{kind} port {int(row[1].rpartition(':')[2], 16)}" for row in wanted]


def mounts():
    rows = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    return {row[1]: [row[2], row[3]] for row in rows if row[1] in ("/", "/var/lib/private")}


def workers():
    found = []
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes()
            status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
        except OSError:
            continue
        if b"grafos_cell.worker" in words:
            found.append([status[name].strip() for name in ("Seccomp", "NoNewPrivs", "CapEff")])
    return found


def tries(sealed):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if sealed:
            from grafos_cell import confinement
            confinement.confine()
            if confinement.seal():
                os._exit(3)
        with socket.socket() as way:
            way.settimeout(5.0)
            os._exit(way.connect_ex(METADATA) and 2)
    except OSError:
        os._exit(1)
    os._exit(4)


def timers():
    command = ["systemctl", "list-timers", "--all", "--no-legend", "--no-pager"]
    return re.findall(r"grafos-\S+\.timer", subprocess.run(command, capture_output=True, text=True).stdout)


while True:
    listening = [each for kind in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6") for each in sockets(kind)]
    seen = {"listening": listening, "mounts": mounts(), "workers": workers(), "timers": timers()}
    seen["open"], seen["sealed"] = tries(False), tries(True)
    print("inside: " + json.dumps(seen), flush=True)
    time.sleep(3)
"""
UNIT = """[Unit]
Description=a look inside

[Service]
ExecStart=/usr/bin/python3 -I -S -c "import base64; exec(base64.b64decode('{program}'))"
StandardOutput=journal+console
StandardError=journal+console
"""


def credentials(program: str = PROGRAM) -> dict[str, str]:
    """What makes a machine run the program, beside all else that it does."""
    unit = UNIT.format(program=base64.b64encode(program.encode()).decode())
    return {
        "systemd.extra-unit.look.service": unit,
        "systemd.unit-dropin.multi-user.target": "[Unit]\nWants=look.service\n",
    }


def seen(console: str) -> dict[str, Any]:
    """What was seen last; empty if nothing was yet."""
    lines = [line.partition(MARK)[2] for line in console.splitlines() if MARK in line and line.rstrip().endswith("}")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found
