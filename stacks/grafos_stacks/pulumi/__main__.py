"""``pulumi-resource-grafos``: the program that Pulumi's engine starts.

Its first line on standard output is the port where it serves; all else goes to standard error. It ends at once on
SIGINT, which is how an engine lets a provider go, and as soon as its standard input ends, which is how it learns that
the engine is dead: whatever it had begun is in the journal, and nothing is finished behind anybody's back.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

THREADS_MAX = 300
"""More than any engine runs side by side, so that the word to stop never waits behind what is to stop."""
MESSAGE_BYTES_MAX = 64 * 2**20
PASSPHRASES = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_ACCESS_TOKEN")
"""Of the engine's environment; a provider's own children have no use for them."""
LEFT_OUT = ("pulumi", "pulumi.runtime")
"""Packages of Pulumi's library of which a provider needs only the messages inside. What they import by themselves, the
programming side and the whole Automation API, is more than half of the time until a provider answers."""


def main() -> None:
    """Serves until the engine is done with us."""
    for name in PASSPHRASES:
        os.environ.pop(name, None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_with_the_engine, daemon=True).start()
    server = new_server()
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.wait_for_termination()


def new_server() -> grpc.Server:
    """The provider, ready to be started, in a process that is to do nothing else: it leaves half a library out."""
    for name in LEFT_OUT:
        spec = importlib.util.find_spec(name)
        assert spec is not None, "the extra is installed"
        sys.modules[name] = importlib.util.module_from_spec(spec)  # never executed; what is inside is found through it
    from concurrent.futures import ThreadPoolExecutor
    from importlib.metadata import version

    import grpc
    from pulumi.runtime.proto import provider_pb2_grpc

    from grafos_stacks.pulumi.bench import Bench
    from grafos_stacks.pulumi.provider import Provider

    sizes = ("grpc.max_receive_message_length", "grpc.max_send_message_length")
    threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="call")
    server = grpc.server(threads, options=[(name, MESSAGE_BYTES_MAX) for name in sizes])
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(Bench(), version("grafos-stacks"), _log), server)
    return server


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
