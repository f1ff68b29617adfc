"""Service Quotas: the quotas of cores that the emulated EC2 heeds, by family of machine types and by market.

Codes and names are AWS' own: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-quotas.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.http import Response


@dataclass(frozen=True)
class CoreQuota:
    """One limit on the cores that machines of the types in ``family`` may have at once, on one market."""

    code: str
    name: str
    family: re.Pattern[str]
    spot: bool
    gpu: bool = False


_STANDARD, _G, _P = re.compile(r"(?:[acdhimrtz]|im|is)\d"), re.compile(r"(?:g|gr|vt)\d"), re.compile(r"p\d")
QUOTAS = (
    CoreQuota("L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", _STANDARD, spot=False),
    CoreQuota("L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", _STANDARD, spot=True),
    CoreQuota("L-DB2E81BA", "Running On-Demand G and VT instances", _G, spot=False, gpu=True),
    CoreQuota("L-3819A6DF", "All G and VT Spot Instance Requests", _G, spot=True, gpu=True),
    CoreQuota("L-417A185B", "Running On-Demand P instances", _P, spot=False, gpu=True),
)


def quota_for(instance_type: str, *, spot: bool) -> CoreQuota | None:
    """The quota that a machine counts against; None for families that have none here."""
    found = (quota for quota in QUOTAS if quota.spot == spot and quota.family.match(instance_type))
    return next(found, None)


def limit_of(account: Account, quota: CoreQuota) -> int:
    """How many cores."""
    if quota.gpu:
        return account.gpu_vcpu_limit
    return account.spot_vcpu_limit if quota.spot else account.vcpu_limit


def answer(account: Account, call: AwsCall) -> Response:
    of_ec2 = call.parameters.get("ServiceCode") == "ec2"
    if call.action == "GetServiceQuota":
        code = str(call.parameters.get("QuotaCode"))
        found = next((quota for quota in QUOTAS if of_ec2 and quota.code == code), None)
        if found is None:
            known = ", ".join(quota.code for quota in QUOTAS)
            raise AwsRefusalError("NoSuchResourceException", f"the emulator knows only ec2's quotas {known}")
        return _document({"Quota": _quota(account, call.region, found)}, call)
    if call.action == "ListServiceQuotas":
        shown = [_quota(account, call.region, quota) for quota in QUOTAS if of_ec2]
        return _document({"Quotas": shown}, call)
    raise not_emulated(f"servicequotas:{call.action}")


def _quota(account: Account, region: str, quota: CoreQuota) -> dict[str, Any]:
    return {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{region}:{account.account_id}:ec2/{quota.code}",
        "QuotaCode": quota.code,
        "QuotaName": quota.name,
        "Value": float(limit_of(account, quota)),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def _document(document: dict[str, Any], call: AwsCall) -> Response:
    headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-requestid": call.request_id}
    return Response(200, json.dumps(document).encode(), headers)
