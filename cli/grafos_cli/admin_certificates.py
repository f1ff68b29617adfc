"""`grafos admin init-ca`, `issue-cert` and `issue-server-cert`: keys and certificates made by hand, asking nobody.

A scheduler makes all of them by itself in its trust folder. They are for whoever wants a CA of another life, or a
certificate for further addresses, before it first starts: it takes what it finds there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grafos_cli.taught import taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.terminal import Terminal
    from grafos_core.trust import PrivateKey

DAY_S = 86400
DAYS_MAX = 36500
CA_DAYS, LEAF_DAYS = 3650, 90
"""As long as what a scheduler makes itself."""
INIT_CA = taught(
    examples=("grafos admin init-ca --out ./ca", "grafos admin init-ca --out ./orchestrator/trust --days 3650"),
    next="grafos admin issue-server-cert --ca ./ca --address 203.0.113.7 --out ./server",
)
ISSUE_CERT = taught(
    examples=(
        "grafos admin issue-cert --ca ./ca --tenant acme --out ./acme",
        "grafos admin issue-cert --ca ./ca --tenant acme --out ./acme --days 30",
    ),
    next="grafos admin create-tenant --tenant acme",
)
ISSUE_SERVER_CERT = taught(
    examples=(
        "grafos admin issue-server-cert --ca ./ca --address 203.0.113.7 --out ./server",
        "grafos admin issue-server-cert --ca ./ca --address 203.0.113.7 --address 10.0.0.7 --out ./server --days 30",
    ),
    next="grafos fabric init",
)

OutFolder = Annotated[str, typer.Option("--out", metavar="DIR", help="where to; made if missing, nothing is replaced")]
CaFolder = Annotated[str, typer.Option("--ca", metavar="DIR", help="the folder with ca.pem and ca-key.pem")]
LeafDays = Annotated[int, typer.Option(metavar="N", min=1, max=DAYS_MAX, help="how long it is valid")]


def init_ca(
    ctx: typer.Context,
    out: OutFolder,
    days: Annotated[int, typer.Option(metavar="N", min=1, max=DAYS_MAX, help="how long it is valid")] = CA_DAYS,
) -> None:
    """Makes a CA: an ECDSA P-256 key and a certificate that it signed itself, `ca-key.pem` and `ca.pem`."""
    from grafos_core import trust

    key = trust.new_key()
    made = trust.make_ca(key, f"grafos CA of {_fabric_id(terminal_of(ctx))}", time.time(), days * DAY_S)
    _write(Path(out), {"ca-key.pem": trust.key_to_pem(key), "ca.pem": made.encode()}, days, terminal_of(ctx))


def issue_cert(
    ctx: typer.Context,
    ca: CaFolder,
    tenant: Annotated[str, typer.Option(metavar="NAME", help="the tenant that it stands for")],
    out: OutFolder,
    days: LeafDays = LEAF_DAYS,
) -> None:
    """Issues the client certificate of a tenant: `tenant-NAME-key.pem` and `tenant-NAME-cert.pem`.

    A scheduler wants an API token beside it, and counts a tenant's keys: create-tenant sees to both.
    """
    from grafos_core.ids import check_name

    name = f"tenant-{check_name('tenant', tenant)}"
    _issue(terminal_of(ctx), Path(ca), Path(out), ("tenant", tenant), (f"{name}-key.pem", f"{name}-cert.pem"), days)


def issue_server_cert(
    ctx: typer.Context,
    ca: CaFolder,
    address: Annotated[list[str], typer.Option(metavar="IP", help="an address that clients dial; repeatable")],
    out: OutFolder,
    name: Annotated[str, typer.Option(metavar="NAME", help="the scheduler's name")] = "orchestrator",
    days: LeafDays = LEAF_DAYS,
) -> None:
    """Issues the server certificate of a scheduler or an orchestrator: `server-key.pem` and `server.pem`."""
    import ipaddress

    from grafos_core.errors import GrafosError
    from grafos_core.ids import check_name

    try:
        addresses = tuple(str(ipaddress.ip_address(one)) for one in address)
    except ValueError as error:
        raise GrafosError("usage", str(error), where="--address", next="name IP addresses: 203.0.113.7") from error
    who = ("scheduler", check_name("scheduler", name))
    _issue(terminal_of(ctx), Path(ca), Path(out), who, ("server-key.pem", "server.pem"), days, addresses)


def _issue(
    terminal: Terminal,
    ca: Path,
    out: Path,
    who: tuple[str, str],
    names: tuple[str, str],
    days: int,
    addresses: tuple[str, ...] = (),
) -> None:
    from grafos_core import trust

    ca_pem, ca_key = _read_ca(ca)
    key = trust.new_key()
    uri = trust.spiffe_id(_fabric_id(terminal), *who)
    csr_pem = trust.make_csr(key, who[1])
    made = trust.sign_csr(ca_pem, ca_key, csr_pem, uri, time.time(), days * DAY_S, addresses)
    _write(out, {names[0]: trust.key_to_pem(key), names[1]: made.encode()}, days, terminal)


def _read_ca(folder: Path) -> tuple[str, PrivateKey]:
    """Certificate and key of the CA; ``config_invalid`` unless they belong to each other."""
    from grafos_core import trust
    from grafos_core.errors import GrafosError

    try:
        ca_pem, key = (folder / "ca.pem").read_text(), trust.key_from_pem((folder / "ca-key.pem").read_bytes())
        if trust.key_sha256(trust.certificate_key(ca_pem)) != trust.key_sha256(key.public_key()):
            raise ValueError("the key is not that of the certificate")
    except (OSError, ValueError, GrafosError) as error:
        raise GrafosError(
            "config_invalid",
            "There is no CA that can be used",
            where=str(folder),
            why=str(error),
            next="make one: grafos admin init-ca --out DIR",
        ) from error
    return ca_pem, key


def _write(folder: Path, files: dict[str, bytes], days: int, terminal: Terminal) -> None:
    """Writes the files (0600); ``folder_taken`` if one of them is there, for a key that is replaced is lost."""
    from grafos_core.errors import GrafosError
    from grafos_core.paths import private_folder, write_private

    taken = [name for name in files if (folder / name).exists()]
    if taken:
        raise GrafosError(
            "folder_taken", f"There is a {taken[0]} already", where=str(folder), next="name another folder: --out DIR"
        )
    try:
        private_folder(folder.absolute())
        for name, data in files.items():
            write_private(folder / name, data)
    except OSError as error:
        why = error.strerror or str(error)
        raise GrafosError("config_invalid", "The files cannot be written", where=str(folder), why=why) from error
    written = [str(folder / name) for name in files]
    terminal.emit({"files": written, "days": days}, "".join(f"wrote {file}\n" for file in written))


def _fabric_id(terminal: Terminal) -> str:
    from grafos_cli.fabric import open_default

    return str(open_default(terminal).id)
