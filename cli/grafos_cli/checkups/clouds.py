"""The clouds: who we are there, whether the clock agrees, what the limits leave, what is not allowed.

Each cloud is asked by a process of its own, all at once: their SDKs take seconds of processor time to import, and one
that hangs must not keep the others. A cloud that nobody has set up is not asked at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from grafos_cli.checkups.findings import Finding, Status
from grafos_cli.leaving import leave
from grafos_connectors.contract import Connector, Identity, Quota
from grafos_connectors.registry import PROVIDERS, open_connector
from grafos_core.errors import GrafosError

SKEW_WARN_S, SKEW_FAIL_S = 60.0, 240.0
"""AWS refuses a request whose time is five minutes off, and a signed token of ours lives as long."""
NEARLY_FULL = 0.9
PATIENT_S = 30.0
"""What a cloud that did not answer in time is given when it is asked again, at least."""
NEEDED = ("machine_cores", "machines", "networks", "subnets", "addresses", "disk_gib")
"""Limits that every cell counts to: nothing can be made where one of them is zero."""

# What says that somebody set the cloud up: variables, or files below the home folder.
SIGNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "aws": (
        ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (".aws/credentials", ".aws/config"),
    ),
    "azure": (
        ("GRAFOS_AZURE_ENDPOINT", "AZURE_SUBSCRIPTION_ID", "AZURE_CLIENT_ID"),
        (".azure/azureProfile.json",),
    ),
    "gcp": (
        ("GRAFOS_GCP_ENDPOINT", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
        (".config/gcloud/application_default_credentials.json",),
    ),
}


def is_set_up(provider: str, environment: Mapping[str, str], home: Path) -> bool:
    """Whether anything hints at credentials for the cloud; reading nothing of them."""
    variables, files = SIGNS[provider]
    return any(environment.get(name) for name in variables) or any((home / file).exists() for file in files)


def check_clouds(regions: Mapping[str, str], within_s: float) -> Iterator[Finding]:
    """Every cloud that is set up. ``regions`` has the region to look at by provider, where one is known; what a cloud
    has not answered after ``within_s`` seconds is a finding."""
    until = time.monotonic() + within_s
    asked = {
        provider: _asking(provider, regions.get(provider, ""))
        for provider in PROVIDERS
        if is_set_up(provider, os.environ, Path.home())
    }
    for provider in PROVIDERS:
        if provider in asked:
            yield from _answer(provider, asked[provider], until, within_s)
        else:
            yield Finding(provider, "account", Status.NONE, "not set up: no credentials of it are in sight")


def _asking(provider: str, region: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "grafos_cli.checkups.clouds", provider, region]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _answer(provider: str, process: subprocess.Popen[bytes], until: float, within_s: float) -> list[Finding]:
    """What it said in time, one finding in a line, and that there is more to come if there is."""
    try:
        out, _ = process.communicate(timeout=max(0.0, until - time.monotonic()))
        what = f"its check ended with code {process.returncode}" if process.returncode else ""
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        what = f"no answer within {within_s:g} s"
    findings = [msgspec.json.decode(line, type=Finding) for line in out.splitlines(keepends=True) if line[-1:] == b"\n"]
    if what:
        name = "answers" if findings else "account"
        patient = f"grafos doctor --within {max(PATIENT_S, 2 * within_s):g}s; look at the network"
        findings.append(Finding(provider, name, Status.FAIL, what, patient))
    return findings


# --- in the process of one cloud --------------------------------------------------------------------------------


def look_at(provider: str, region: str) -> Iterator[Finding]:
    """All findings about one cloud; what one question cannot answer does not keep the others."""
    try:
        connector = open_connector(provider, region)
        before = time.time()
        identity = connector.identity()
        middle = (before + time.time()) / 2
    except GrafosError as error:
        yield Finding(provider, "account", Status.FAIL, f"{error.code}: {error.what}", error.next)
        return
    kind = " (emulated)" if identity.emulated else ""
    yield Finding(provider, "account", Status.OK, f"{identity.principal} in {identity.account}{kind}")
    yield _skew(provider, identity, middle)
    if not region:
        what = "no region was named, so limits and permissions were not asked for"
        yield Finding(provider, "region", Status.NONE, what, "grafos doctor --region NAME")
        return
    yield from _limits(connector, region)
    yield from _permissions(connector, region)


def _skew(provider: str, identity: Identity, now: float) -> Finding:
    if not identity.server_time:
        return Finding(provider, "clock", Status.NONE, "the cloud did not say what time it has")
    ahead_s = now - identity.server_time
    what = f"our clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the cloud's"
    if abs(ahead_s) < SKEW_WARN_S:
        return Finding(provider, "clock", Status.OK, what)
    status = Status.FAIL if abs(ahead_s) >= SKEW_FAIL_S else Status.WARN
    return Finding(provider, "clock", status, what, "set this machine's clock: timedatectl set-ntp true")


def _limits(connector: Connector, region: str) -> list[Finding]:
    try:
        quotas = connector.quotas(region)
    except GrafosError as error:
        return [Finding(connector.provider, "quota", Status.FAIL, f"{error.code}: {error.what}", error.next)]
    return limits_told(connector.provider, region, quotas)


def limits_told(provider: str, region: str, quotas: Iterable[Quota]) -> list[Finding]:
    """What the limits leave: those that are nearly reached each in a line, else those that are in use. What nobody was
    granted, such as a family of GPU machines, is no fault until somebody wants it."""
    known = [quota for quota in quotas if quota.limit is not None]
    without = [quota.name for quota in known if quota.limit == 0 and quota.name not in NEEDED]
    found = [_short(provider, region, quota) for quota in known if quota.name not in without and _is_nearly_full(quota)]
    if not found:
        used = [f"{quota.name} {quota.used}/{quota.limit}" for quota in known if quota.used]
        rest = len(known) - len(used) - len(without)
        told = ", ".join([*used, *([f"{rest} {'more' if used else 'limits'}, not in use"] if rest else [])])
        found.append(Finding(provider, "quota", Status.OK, told or "the cloud tells no limits"))
    if without:
        what = f"nothing is granted of {', '.join(without)} in {region}"
        found.append(
            Finding(provider, "quota of zero", Status.NONE, what, "ask the cloud for a limit if you want some")
        )
    return found


def _short(provider: str, region: str, quota: Quota) -> Finding:
    return Finding(
        provider,
        "quota",
        Status.WARN if quota.limit and quota.used is not None and quota.used < quota.limit else Status.FAIL,
        f"{quota.name}: {quota.used} of {quota.limit} {quota.unit} used in {region}",
        "end what is not needed, or ask the cloud for a higher limit",
    )


def _is_nearly_full(quota: Quota) -> bool:
    if not quota.limit:
        return True
    return quota.used is not None and quota.used >= NEARLY_FULL * quota.limit


def _permissions(connector: Connector, region: str) -> list[Finding]:
    try:
        missing = connector.missing_permissions(region)
    except GrafosError as error:
        return [Finding(connector.provider, "permissions", Status.FAIL, f"{error.code}: {error.what}", error.next)]
    if not missing:
        return [Finding(connector.provider, "permissions", Status.OK, "none is known to be missing")]
    what = f"not allowed: {', '.join(missing)}"
    return [Finding(connector.provider, "permissions", Status.FAIL, what, connector.policy_fragment(missing))]


def main(provider: str, region: str) -> None:
    """Says each finding as soon as it is there."""
    for finding in look_at(provider, region):
        sys.stdout.buffer.write(msgspec.json.encode(finding) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
    leave(0)
