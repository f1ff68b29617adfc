"""Service Quotas: the two quotas of cores that the emulated EC2 heeds."""

from __future__ import annotations

import json
from typing import Any

from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.http import Response

STANDARD_VCPUS, SPOT_VCPUS = "L-1216C47A", "L-34B43A08"
NAMES = {  # AWS' own, by its codes
    STANDARD_VCPUS: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
    SPOT_VCPUS: "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests",
}


def answer(account: Account, call: AwsCall) -> Response:
    if call.action == "GetServiceQuota":
        code = str(call.parameters.get("QuotaCode"))
        if call.parameters.get("ServiceCode") != "ec2" or code not in NAMES:
            raise AwsRefusalError("NoSuchResourceException", f"the emulator knows only ec2's quotas {', '.join(NAMES)}")
        return _document({"Quota": _quota(account, call.region, code)}, call)
    if call.action == "ListServiceQuotas":
        ec2 = call.parameters.get("ServiceCode") == "ec2"
        return _document({"Quotas": [_quota(account, call.region, code) for code in NAMES] if ec2 else []}, call)
    raise not_emulated(f"servicequotas:{call.action}")


def _quota(account: Account, region: str, code: str) -> dict[str, Any]:
    limit = account.vcpu_limit if code == STANDARD_VCPUS else account.spot_vcpu_limit
    return {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{region}:{account.account_id}:ec2/{code}",
        "QuotaCode": code,
        "QuotaName": NAMES[code],
        "Value": float(limit),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def _document(document: dict[str, Any], call: AwsCall) -> Response:
    headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-requestid": call.request_id}
    return Response(200, json.dumps(document).encode(), headers)
