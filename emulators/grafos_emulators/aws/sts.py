"""The caller's identity, all that grafos asks of STS."""

from __future__ import annotations

from grafos_emulators.aws.account import Account
from grafos_emulators.aws.calls import AwsCall
from grafos_emulators.aws.errors import not_emulated, xml
from grafos_emulators.http import Response

USER_ID = "AIDAGRAFOSEMULATED00"
USER_NAME = "emulated-by-grafos"


def answer(account: Account, call: AwsCall) -> Response:
    if call.action != "GetCallerIdentity":
        raise not_emulated(f"sts:{call.action}")
    arn = f"arn:aws:iam::{account.account_id}:user/{USER_NAME}"
    return xml(
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>'
        f"<Arn>{arn}</Arn><UserId>{USER_ID}</UserId><Account>{account.account_id}</Account></GetCallerIdentityResult>"
        f"<ResponseMetadata><RequestId>{call.request_id}</RequestId></ResponseMetadata></GetCallerIdentityResponse>",
        call.request_id,
    )
