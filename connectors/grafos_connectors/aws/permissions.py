"""What the credentials must allow, what they do not, and the policy that would."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grafos_connectors.contract import CloudError
from grafos_connectors.unanswered import UNANSWERED

if TYPE_CHECKING:
    from grafos_connectors.aws.client import AwsCalls  # the SDK comes with it, and others read the tables here

ACTIONS = (
    "ebs:CompleteSnapshot",
    "ebs:PutSnapshotBlock",
    "ebs:StartSnapshot",
    "ec2:AllocateAddress",
    "ec2:AssociateAddress",
    "ec2:AttachInternetGateway",
    "ec2:AuthorizeSecurityGroupIngress",
    "ec2:CreateInternetGateway",
    "ec2:CreateRoute",
    "ec2:CreateSecurityGroup",
    "ec2:CreateSubnet",
    "ec2:CreateTags",
    "ec2:CreateVpc",
    "ec2:DeleteInternetGateway",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteRoute",
    "ec2:DeleteSecurityGroup",
    "ec2:DeleteSnapshot",
    "ec2:DeleteSubnet",
    "ec2:DeleteVolume",
    "ec2:DeleteVpc",
    "ec2:DeregisterImage",
    "ec2:DescribeAddresses",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeInternetGateways",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRegions",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroupRules",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSnapshots",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
    "ec2:DescribeVolumes",
    "ec2:DescribeVpcs",
    "ec2:DetachInternetGateway",
    "ec2:DisassociateAddress",
    "ec2:GetConsoleOutput",
    "ec2:RegisterImage",
    "ec2:ReleaseAddress",
    "ec2:RevokeSecurityGroupIngress",
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "pricing:GetProducts",
    "servicequotas:GetServiceQuota",
)
"""All that this folder ever calls, but for the question about permissions itself; a test holds it to the calls."""
HELPFUL = ("ec2:DescribeSpotPriceHistory", "pricing:GetProducts", "servicequotas:GetServiceQuota")
"""Those that it can do without: prices may be read by somebody else, and a limit may stay unknown."""
PUBLISHING = (
    "ebs:CompleteSnapshot",
    "ebs:PutSnapshotBlock",
    "ebs:StartSnapshot",
    "ec2:DeleteSnapshot",
    "ec2:DeregisterImage",
    "ec2:RegisterImage",
)
"""Those that only who publishes an image needs."""
LASTING_ADDRESS = ("ec2:AllocateAddress", "ec2:AssociateAddress", "ec2:DisassociateAddress")
"""Those that only a machine needs whose address outlives it: an orchestrator's."""
NEEDED = tuple(action for action in ACTIONS if action not in {*HELPFUL, *PUBLISHING, *LASTING_ADDRESS})
SIMULATED_AT_ONCE = 100  # SimulatePrincipalPolicy takes that many actions
ASSUMED_ROLE = re.compile(r"arn:([^:]+):sts::(\d+):assumed-role/([^/]+)/.*")
ROLE_ARN = r"arn:\1:iam::\2:role/\3"


def missing(calls: AwsCalls, actions: Sequence[str]) -> tuple[str, ...]:
    """By IAM's own simulation; nothing is known to be missing for the account's root, or if one may not ask.

    IAM is asked about all resources ("*"): a policy that allows an action on some of them counts as lacking it.
    """
    assert len(actions) <= SIMULATED_AT_ONCE, "one question is enough for all that grafos does"
    who = calls.read("sts", "get_caller_identity")["Arn"]
    if who.endswith(":root"):
        return ()
    try:
        answers = list(
            calls.pages(
                "iam",
                "simulate_principal_policy",
                PolicySourceArn=ASSUMED_ROLE.sub(ROLE_ARN, who),
                ActionNames=list(actions),
            )
        )
    except CloudError as error:
        if error.code in UNANSWERED:
            return ()
        raise
    return denied_actions(answers)


def denied_actions(answers: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The actions that a simulation's pages do not allow."""
    results = (result for answer in answers for result in answer["EvaluationResults"])
    return tuple(result["EvalActionName"] for result in results if result["EvalDecision"] != "allowed")


def fragment(actions: Sequence[str]) -> str:
    """The statement of an IAM policy that allows them."""
    statement = {"Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)
