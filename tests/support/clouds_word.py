"""Clouds that sign for machines which are not there, with the emulated clouds' signers and time as an argument."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from grafos_core.attestation import binding
from grafos_core.clock import Clock
from grafos_emulators.attesting import AwsSigner, AzureSigner, GcpSigner
from grafos_scheduler.attested import Roots

ACCOUNTS = {"aws": "042000042042", "azure": "aaaaaaaa-0000-4000-8000-000000000001", "gcp": "a-project"}
MACHINES = {"aws": "i-0123456789abcdef0", "azure": "bbbbbbbb-0000-4000-8000-000000000002", "gcp": "4242000000000000001"}
REGIONS = {"aws": "eu-central-1", "azure": "westeurope", "gcp": "europe-west3"}
OTHER_REGION = "us-east-1"


class CloudsWord:
    """One cloud of each kind, all at ``clock``; another instance is another cloud with roots of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.aws = AwsSigner((REGIONS["aws"], OTHER_REGION), clock.now())
        self.azure = AzureSigner(clock)
        self.gcp = GcpSigner(clock)

    def roots(self, provider: str) -> Roots:
        pems: dict[str, str] = getattr(self, provider).roots
        return Roots(provider, "this test", "2026-11-21", pems)

    def evidence(self, provider: str, expectation_id: str, key_sha256: str, **changed: Any) -> str:
        """What a machine of this cloud gets for the enrolment and key; ``changed`` are fields of the document."""
        bound_to = changed.pop("bound_to", binding(provider, expectation_id, key_sha256))
        return str(getattr(self, f"_{provider}")(bound_to, changed))

    def _aws(self, _: str, changed: Mapping[str, Any]) -> str:
        document = self.aws_document(**changed)
        return self.aws.rsa2048(json.dumps(document).encode(), changed.get("signed_by", document["region"]))

    def aws_document(self, **changed: Any) -> dict[str, Any]:
        from datetime import UTC, datetime

        made_at = datetime.fromtimestamp(changed.get("made_at", self._clock.now()), UTC)
        return {
            "accountId": changed.get("account", ACCOUNTS["aws"]),
            "availabilityZone": f"{changed.get('region', REGIONS['aws'])}a",
            "instanceId": changed.get("machine_id", MACHINES["aws"]),
            "pendingTime": made_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": changed.get("region", REGIONS["aws"]),
            "version": "2017-09-30",
        }

    def _azure(self, nonce: str, changed: Mapping[str, Any]) -> str:
        document = {
            "nonce": nonce,
            "subscriptionId": changed.get("account", ACCOUNTS["azure"]),
            "timeStamp": self.azure.times(),
            "vmId": changed.get("machine_id", MACHINES["azure"]),
        }
        return self.azure.signature(document)

    def _gcp(self, audience: str, changed: Mapping[str, Any]) -> str:
        machine = {
            "instance_creation_timestamp": int(changed.get("made_at", self._clock.now())),
            "instance_id": changed.get("machine_id", MACHINES["gcp"]),
            "instance_name": "cell",
            "project_id": changed.get("account", ACCOUNTS["gcp"]),
            "project_number": 424242,
            "zone": f"{changed.get('region', REGIONS['gcp'])}-a",
        }
        return self.gcp.token(audience, "1042", {"google": {"compute_engine": machine}})
