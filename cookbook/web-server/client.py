"""Deploys the service from Python, and visits it: python client.py PROVIDER REPLICAS VISITS

Each visit is a session with an instance that the client chooses by a topology that it keeps for five seconds at most.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec

from grafos_cli.manifest import load_program
from grafos_cli.opening import open_home
from grafos_cli.reach import resolve
from grafos_cli.service_calls import specs_of
from grafos_core.errors import GrafosError
from grafos_scheduler.service_client import ResolvedEndpointCache, ServiceClient, ServiceResolver
from grafos_scheduler.service_messages import Policy, ServiceView
from grafos_scheduler.services_client import ServicesClient

HERE = Path(__file__).resolve().parent
NAME = "web"
LISTENING_WITHIN_S = 60.0
REQUEST = b"GET /where HTTP/1.1\r\nHost: web\r\n\r\n"


def deploy(services: ServicesClient, replicas: int) -> ServiceView:
    """The service once all its replicas listen. The spec is that of grafos.toml, but for their number."""
    [(spec, module)] = specs_of(load_program(HERE), NAME, replicas)
    services.put_blob(module)
    services.deploy_service(spec)
    ends_at = time.monotonic() + LISTENING_WITHIN_S
    while (view := services.service(NAME)).healthy < replicas and time.monotonic() < ends_at:
        time.sleep(0.2)
    return view


async def visit(client: ServiceClient) -> str:
    """One page; gives the instance that served it, as it says itself."""
    session = await client.open(NAME, Policy.ROUND_ROBIN)
    try:
        await session.write(REQUEST)
        page = b""
        while data := await session.read():
            page += data
    finally:
        await session.close()
    return str(msgspec.json.decode(page.partition(b"\r\n\r\n")[2])["instance_id"])


async def visit_often(services: ServicesClient, visits: int) -> Counter[str]:
    """How many pages each instance served."""

    async def look(name: str) -> ServiceView:
        return await asyncio.to_thread(services.service, name)

    client = ServiceClient(services.door, ServiceResolver(look, ResolvedEndpointCache(time.monotonic)))
    return Counter([await visit(client) for _ in range(visits)])


def main(provider: str, replicas: int, visits: int) -> None:
    fabric = open_home(lambda note: print(note, file=sys.stderr))
    with resolve(provider, fabric, HERE).services() as services:
        view = deploy(services, replicas)
        print(f"{view.healthy} of {replicas} listen, generation {view.generation}")
        for instance_id, pages in sorted(asyncio.run(visit_often(services, visits)).items()):
            print(f"{instance_id} served {pages}")


if __name__ == "__main__":
    if len(sys.argv) != 4 or not all(number.isdecimal() and int(number) for number in sys.argv[2:]):
        sys.exit((__doc__ or "").splitlines()[0])
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except GrafosError as error:
        sys.exit(f"error[{error.code}]: {error.what}")
