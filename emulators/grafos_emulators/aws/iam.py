"""What the caller may do: all but the actions that the account denies, and IAM's own answer to that question."""

from __future__ import annotations

from fnmatch import fnmatchcase
from html import escape

from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import not_emulated, xml
from grafos_emulators.aws.faulted import denied
from grafos_emulators.http import Response

NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
ALLOWED, DENIED = "allowed", "implicitDeny"


def check_allowed(account: Account, call: AwsCall) -> None:
    """Refuses an action that is denied."""
    if is_denied(account, f"{call.service}:{call.action}"):
        raise denied(call)


def is_denied(account: Account, action: str) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in account.denied)


def answer(account: Account, call: AwsCall) -> Response:
    if call.action != "SimulatePrincipalPolicy":
        raise not_emulated(f"iam:{call.action}")
    asked = [str(value) for name, value in call.parameters.items() if name.startswith("ActionNames.member.")]
    results = "".join(
        f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>*</EvalResourceName>"
        f"<EvalDecision>{DENIED if is_denied(account, action) else ALLOWED}</EvalDecision></member>"
        for action in asked
    )
    return xml(
        f'<SimulatePrincipalPolicyResponse xmlns="{NAMESPACE}"><SimulatePrincipalPolicyResult>'
        f"<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>"
        f"</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>{call.request_id}</RequestId></ResponseMetadata>"
        "</SimulatePrincipalPolicyResponse>",
        call.request_id,
    )
