"""A new lock: apt says which packages belong together, uv says which wheels, and every list is checked by signature.

Nothing is installed and nothing of the packages runs. apt works in a folder of its own, so the machine's own packages
and settings play no part in it, and another architecture is resolved as well as this one.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
import sys
import tempfile
import tomllib
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from grafos_cellimage import tools
from grafos_cellimage.lock import KERNEL, STUB, SYSTEM, TOOL, Archive, Lock, Package, Wheel
from grafos_cellimage.mirrors import MAIN, SECURITY
from grafos_cellimage.plan import ImagePlan
from grafos_cellimage.software import Software
from grafos_core.errors import GrafosError

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
STUB_PACKAGE, TOOL_PACKAGES = "systemd-boot-efi", ("systemd-ukify", "python3-pefile")
HASHED = re.compile(r"^'(\S+)' (\S+) (\d+) SHA256:(\w+)", re.MULTILINE)
"""How apt tells of a file that it would fetch: from where, its name, its size, its digest."""
APT_CONF = """
Dir "{folder}";
Dir::State "state";
Dir::State::status "{folder}/status";
Dir::Cache "cache";
Dir::Etc "etc";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "-";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
pkgCacheGen::ForceEssential ",";
Acquire::ForceHash "SHA256";
Acquire::Languages "none";
"""
"""Without the word on what is essential apt would count itself in."""


def resolve(plan: ImagePlan, software: Software, mirrors: Mapping[str, str]) -> Lock:
    """The newest packages of the plan's suite, and the wheels of the software's requirements for it.

    ``bake_failed`` with apt's or uv's own words, ``tool_missing``.
    """
    packages = resolve_packages(plan, mirrors)
    with tempfile.TemporaryDirectory(prefix="grafos-uv-") as scratch:
        return msgspec.structs.replace(packages, wheels=resolve_wheels(plan, software, Path(scratch)))


def resolve_packages(plan: ImagePlan, mirrors: Mapping[str, str], keyring: Path = KEYRING) -> Lock:
    """A lock of the newest packages of the plan's suite, without any wheel. ``keyring`` signs the mirrors' lists."""
    tools.check(("apt-get", "apt-cache", "dpkg-deb"))
    if not keyring.is_file():
        raise GrafosError(
            "tool_missing",
            "the keys of Debian's archive are not on this machine",
            where=str(keyring),
            next="apt-get install debian-archive-keyring",
        )
    with tempfile.TemporaryDirectory(prefix="grafos-apt-") as scratch:
        apt = Apt(Path(scratch), plan, mirrors, keyring)
        kernel = apt.kernel()
        packages = (
            *apt.needed(SYSTEM, ("?essential", *plan.packages, f"libpython{plan.python}-stdlib")),
            apt.one(KERNEL, kernel),
            apt.one(STUB, STUB_PACKAGE),
            *(apt.one(TOOL, name) for name in TOOL_PACKAGES),
        )
        archives = apt.archives()
    epoch_s = max(int(email.utils.parsedate_to_datetime(archive.date).timestamp()) for archive in archives)
    release = kernel.removeprefix("linux-image-")
    return Lock(plan.suite, plan.arch, plan.python, release, epoch_s, archives, packages, ())


class Apt:
    """apt in a folder of its own, which knows the plan's suite and nothing else."""

    def __init__(self, folder: Path, plan: ImagePlan, mirrors: Mapping[str, str], keyring: Path) -> None:
        self._folder, self._mirrors = folder, {name: url.rstrip("/") for name, url in mirrors.items()}
        for name in ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True)
        suites = ((MAIN, plan.suite), (MAIN, f"{plan.suite}-updates"), (SECURITY, f"{plan.suite}-security"))
        lines = [f"deb [signed-by={keyring}] {self._mirrors[mirror]} {suite} main\n" for mirror, suite in suites]
        (folder / "sources.list").write_text("".join(lines))
        (folder / "status").touch()
        (folder / "apt.conf").write_text(APT_CONF.format(folder=folder, arch=plan.arch))
        self._suites, self._kernel = suites, plan.machine.kernel
        self._run("apt-get", "update", "--error-on=any")

    def needed(self, role: str, names: tuple[str, ...]) -> tuple[Package, ...]:
        """These packages, or all that match these patterns, with everything that they need."""
        told = self._run("apt-get", "install", "--print-uris", "--yes", *names)
        found = [self._package(role, *match) for match in HASHED.findall(told)]
        return tuple(sorted(found, key=lambda package: package.name))

    def one(self, role: str, name: str) -> Package:
        """This package alone."""
        told = self._run("apt-get", "download", "--print-uris", name)
        match = HASHED.search(told)
        if match is None:
            raise tools.failed("apt-get", f"the archive has no {name}")
        return self._package(role, *match.groups())

    def kernel(self) -> str:
        """The package that the suite's kernel for clouds is at present."""
        told = self._run("apt-cache", "show", "--no-all-versions", self._kernel)
        match = re.search(r"^Depends: (linux-image-\S+)", told, re.MULTILINE)
        if match is None:
            raise tools.failed("apt-cache", f"{self._kernel} names no kernel")
        return match[1]

    def archives(self) -> tuple[Archive, ...]:
        """The signed lists that all of it was read from."""
        found = []
        for mirror, suite in self._suites:
            place = urllib.parse.urlsplit(f"{self._mirrors[mirror]}/dists/{suite}")
            name = f"{place.netloc}{place.path}".replace("/", "_")
            data = (self._folder / "state" / "lists" / f"{name}_InRelease").read_bytes()
            date = re.search(rb"^Date: (.*)$", data, re.MULTILINE)
            if date is None:
                raise tools.failed("apt-get", f"the list of {suite} has no date")
            found.append(Archive(mirror, suite, date[1].decode().strip(), hashlib.sha256(data).hexdigest()))
        return tuple(found)

    def _package(self, role: str, url: str, file: str, size: str, sha256: str) -> Package:
        name, version, _ = urllib.parse.unquote(file).removesuffix(".deb").split("_")
        for mirror, base in self._mirrors.items():
            if url.startswith(f"{base}/"):
                path = urllib.parse.unquote(url.removeprefix(f"{base}/"))
                return Package(name, version, role, mirror, path, int(size), sha256)
        raise tools.failed("apt-get", f"{name} comes from no mirror that was named")

    def _run(self, *command: str) -> str:
        return tools.run(command, environment={"APT_CONFIG": str(self._folder / "apt.conf")})


def resolve_wheels(plan: ImagePlan, software: Software, scratch: Path) -> tuple[Wheel, ...]:
    """The one file of each package that the plan's machine and Python would take."""
    lock, site = scratch / "pylock.toml", scratch / "site"
    target = ("--python-version", plan.python, "--python-platform", software.platform, "--only-binary", ":all:")
    uv = (sys.executable, "-m", "uv", "--quiet", "--no-progress", "pip", "compile", "--generate-hashes")
    tools.run((*uv, *target, software.requirements, "-o", lock), environment={"UV_SYSTEM_CERTS": "true"})
    software.install(software.requirements, site, software.platform, plan.python)
    return tuple(_chosen(entry, site) for entry in tomllib.loads(lock.read_text())["packages"])


def _chosen(entry: Mapping[str, Any], site: Path) -> Wheel:
    """The wheel of a package that was installed, known by the tags that it left there."""
    name, version = str(entry["name"]), str(entry["version"])
    (about,) = site.glob(f"{name.replace('-', '_')}-{version}.dist-info/WHEEL")
    tags = set(re.findall(r"^Tag: (\S+)", about.read_text(), re.MULTILINE))
    for wheel in entry.get("wheels", ()):  # as the standard of lock files has it
        file = wheel.get("name") or urllib.parse.unquote(wheel["url"].rpartition("/")[2])
        if tags_of(file) == tags:
            return Wheel(name, version, file, wheel["hashes"]["sha256"])
    raise tools.failed("uv", f"no wheel of {name} {version} has the tags {', '.join(sorted(tags))}")


def tags_of(file: str) -> set[str]:
    """What a wheel's name promises: ``a-1-cp311-abi3-x.y.whl`` gives ``cp311-abi3-x`` and ``cp311-abi3-y``."""
    pythons, abis, platforms = file.removesuffix(".whl").split("-")[-3:]
    return {f"{p}-{a}-{m}" for p in pythons.split(".") for a in abis.split(".") for m in platforms.split(".")}
