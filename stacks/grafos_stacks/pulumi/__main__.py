"""``pulumi-resource-grafos``: the program that Pulumi's engine starts.

Its first line on standard output is the port where it serves; all else goes to standard error. It ends at once on
SIGINT, which is how an engine lets a provider go, and as soon as its standard input ends, which is how it learns that
the engine is dead: whatever it had begun is in the journal, and nothing is finished behind anybody's back.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from grafos_stacks.pulumi.bench import Bench
from grafos_stacks.pulumi.provider import Provider

THREADS_MAX = 300
"""More than any engine runs side by side, so that the word to stop never waits behind what is to stop."""
MESSAGE_BYTES_MAX = 64 * 2**20
PASSPHRASES = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_ACCESS_TOKEN")
"""Of the engine's environment; a provider's own children have no use for them."""


def main() -> None:
    """Serves until the engine is done with us."""
    for name in PASSPHRASES:
        os.environ.pop(name, None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    server = grpc.server(
        ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="call"),
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ],
    )
    provider = Provider(Bench(), version("grafos-stacks"), _log)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_with_the_engine, daemon=True).start()
    server.wait_for_termination()


def _end_with_the_engine() -> None:
    """Nobody writes to our standard input; that it ends means that who held the other end is gone."""
    while os.read(0, 4096):
        pass
    _end()


def _end(*_: object) -> None:
    sys.stderr.flush()
    os._exit(0)  # a thread that still waits for a cloud would hold up any gentler end


def _log(line: str) -> None:
    sys.stderr.write(f"grafos: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
