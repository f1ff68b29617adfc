"""Compiled modules that outlive the daemon: private, authenticated, bounded.

To load compiled code is to run it, so nothing is loaded but what this cell's own compiler made. Each entry bears a MAC
under a key that is this cell's alone, over its bytes and over what it is for: the module, the library, the engine's
configuration and the processor. Whatever is older, foreign, damaged, or may be written by others is as good as absent
and is compiled again. What a worker that a guest broke out of could do, and what not: ``docs/decisions/call-layer.md``.

A cache and nothing more, so nothing is synced but the key.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
from pathlib import Path

import msgspec

from grafos_cell import engine_config
from grafos_cell.worker_messages import CODE_BYTES_MAX, ModuleCode
from grafos_core import paths

CACHE_BYTES_MAX = 512 * 1024 * 1024
"""Of compiled code, ten times the size of what it was compiled from: hundreds of common modules."""
KEY_BYTES = 32
MAC_BYTES = 32
ENTRY_BYTES_MAX = CODE_BYTES_MAX + 64 * 1024
OTHERS = 0o077
"""The bits of a mode that let others in."""

_decode = msgspec.msgpack.Decoder(ModuleCode).decode


class CodeCache:
    """The cache in ``folder``; ``digest`` is what code must have been compiled for, this engine on this machine.

    Where no folder or no key can be kept, nothing is kept beyond this start, and that is all.
    """

    def __init__(self, folder: Path, bytes_max: int = CACHE_BYTES_MAX, digest: str | None = None) -> None:
        self._folder = folder
        with contextlib.suppress(OSError):
            paths.private_folder(folder)
        self._bytes_max = bytes_max
        self._digest = digest or engine_config.digest()
        self._key = self._own_key()

    def get(self, sha256: str) -> ModuleCode | None:
        """The module's code, or None. Reads and checks all of it, so a thread may be the place for it."""
        path = self._path(sha256)
        entry = self._read_own(path, ENTRY_BYTES_MAX)
        if entry is None:
            return None
        mac, body = entry[:MAC_BYTES], memoryview(entry)[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(sha256, body)):
            self.forget(sha256)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        try:
            return _decode(body)
        except msgspec.MsgspecError:  # what was kept had another shape once
            self.forget(sha256)
            return None

    def put(self, code: ModuleCode) -> None:
        """Keeps the code, and lets go of what was used longest ago. A disk that refuses it is no harm."""
        body = msgspec.msgpack.encode(code)
        path = self._path(code.facts.sha256)
        draft = self._folder / f".{path.name}.{os.getpid()}"
        try:
            if not self._is_folder_own():
                return
            self._make_room(MAC_BYTES + len(body))
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(self._mac(code.facts.sha256, body))
                file.write(body)
            draft.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def forget(self, sha256: str) -> None:
        """Lets go of an entry."""
        with contextlib.suppress(OSError):  # on a disk that refuses, it stays what it is: of no use
            self._path(sha256).unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return self._folder / f"{sha256}.{self._digest[:16]}"

    def _mac(self, sha256: str, body: bytes | memoryview) -> bytes:
        mac = hmac.new(self._key, f"{self._digest}:{sha256}:".encode(), hashlib.sha256)
        mac.update(body)
        return mac.digest()

    def _own_key(self) -> bytes:
        """The key, made at first use, and made anew when the one that is there is not ours alone."""
        path = self._folder / "key"
        key = self._read_own(path, KEY_BYTES)
        if key is None or len(key) != KEY_BYTES:
            key = os.urandom(KEY_BYTES)
            with contextlib.suppress(OSError):
                if self._is_folder_own():
                    paths.write_private(path, key)
        return key

    def _read_own(self, path: Path, size_max: int) -> bytes | None:
        """The bytes of a file of ours that nobody else may read or write, in a folder of which the same is true."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                facts = os.fstat(handle)
                is_ours = stat.S_ISREG(facts.st_mode) and _is_own(facts) and self._is_folder_own()
                return file.read() if is_ours and facts.st_size <= size_max else None
        except OSError:
            return None

    def _is_folder_own(self) -> bool:
        facts = self._folder.lstat()
        return stat.S_ISDIR(facts.st_mode) and _is_own(facts)

    def _make_room(self, wanted_bytes: int) -> None:
        """Of all there is, also what another version of the engine left."""
        kept = [(file.lstat(), file) for file in self._folder.iterdir() if file.name != "key"]
        excess = sum(facts.st_size for facts, _ in kept) + wanted_bytes - self._bytes_max
        for facts, file in sorted(kept, key=lambda entry: entry[0].st_mtime):
            if excess <= 0:
                return
            file.unlink(missing_ok=True)
            excess -= facts.st_size


def _is_own(facts: os.stat_result) -> bool:
    return facts.st_uid == os.geteuid() and not facts.st_mode & OTHERS
