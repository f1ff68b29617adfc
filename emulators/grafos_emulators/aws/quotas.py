"""Service Quotas: the one quota that a cell counts against."""

from __future__ import annotations

import json
from typing import Any

from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import AwsRefusalError, not_emulated
from grafos_emulators.http import Response

STANDARD_VCPUS = "L-1216C47A"  # AWS' code for "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances"


def answer(account: Account, call: AwsCall) -> Response:
    if call.action == "GetServiceQuota":
        if (call.parameters.get("ServiceCode"), call.parameters.get("QuotaCode")) != ("ec2", STANDARD_VCPUS):
            raise AwsRefusalError("NoSuchResourceException", "the emulator knows the quota ec2 L-1216C47A only")
        return _document({"Quota": _quota(account, call.region)}, call)
    if call.action == "ListServiceQuotas":
        ec2 = call.parameters.get("ServiceCode") == "ec2"
        return _document({"Quotas": [_quota(account, call.region)] if ec2 else []}, call)
    raise not_emulated(f"servicequotas:{call.action}")


def _quota(account: Account, region: str) -> dict[str, Any]:
    return {
        "ServiceCode": "ec2",
        "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)",
        "QuotaArn": f"arn:aws:servicequotas:{region}:{account.account_id}:ec2/{STANDARD_VCPUS}",
        "QuotaCode": STANDARD_VCPUS,
        "QuotaName": "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        "Value": float(account.vcpu_limit),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def _document(document: dict[str, Any], call: AwsCall) -> Response:
    headers = {"content-type": "application/x-amz-json-1.1", "x-amzn-requestid": call.request_id}
    return Response(200, json.dumps(document).encode(), headers)
