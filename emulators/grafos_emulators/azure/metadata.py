"""The instance metadata service, one base path for each machine: ``/imds/<vmId>/metadata/…``.

On a real machine it is http://169.254.169.254/metadata/. A request needs the header ``Metadata: true``, an api-version
and no ``X-Forwarded-For``. Source: "Azure Instance Metadata Service" and "Scheduled Events for Linux VMs".
"""

from __future__ import annotations

import json
from typing import Any

from grafos_emulators import imds
from grafos_emulators.attesting import AzureSigner
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.interfaces import mac_address, public_address_of
from grafos_emulators.azure.machines import Machines
from grafos_emulators.azure.quotas import is_spot
from grafos_emulators.azure.references import sub_id
from grafos_emulators.azure.store import Resource
from grafos_emulators.http import Request, Response

_JSON, _TEXT = {"content-type": "application/json; charset=utf-8"}, {"content-type": "text/plain"}
NONCE_DIGITS_MAX = 10
_VERSIONS = ("2019-06-01", "2020-07-01", "2020-09-01", "2021-02-01", "2021-12-13", "2023-07-01", "2025-04-07")


class MetadataService:
    """The metadata of all machines of one subscription; it takes the world's lock itself."""

    def __init__(self, account: AzureAccount, machines: Machines, signer: AzureSigner) -> None:
        self._account, self._machines, self._signer = account, machines, signer

    def answer(self, request: Request) -> Response:
        vm_id, path = imds.asked_of(request)
        with self._account.world.lock:
            machine = self._account.launched.get(vm_id)
            if machine is None:
                return Response(404)
            return self._told(request, machine, path.strip("/"))

    def _told(self, request: Request, machine: Resource, path: str) -> Response:
        if request.headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in request.headers:
            return _refused(400, "Bad request. Required metadata header not specified")
        query = dict(part.partition("=")[::2] for part in request.query.split("&"))
        if query.get("api-version", "") not in _VERSIONS:
            refusal = {
                "error": "Bad request. api-version was not specified in the request, or is not known",
                "newest-versions": list(reversed(_VERSIONS[-3:])),
            }
            return Response(400, json.dumps(refusal).encode(), _JSON)
        words = path.split("/")
        if words[:2] == ["metadata", "scheduledevents"]:
            return self._events(request, machine)
        if request.method != "GET":
            return _refused(405, "Method not allowed")
        if words == ["metadata", "attested", "document"]:
            return self._attested(machine, query.get("nonce", ""))
        if words[:2] != ["metadata", "instance"]:
            return _refused(404, f"{path} is not emulated: there is no managed identity here")
        found = _below(self._document(machine), words[2:])
        if found is None:
            return _refused(404, "Not found")
        if isinstance(found, dict | list):
            return Response(200, json.dumps(found).encode(), _JSON)
        as_text = query.get("format") == "text"
        return Response(
            200, str(found).encode() if as_text else json.dumps(found).encode(), _TEXT if as_text else _JSON
        )

    def _attested(self, machine: Resource, nonce: str) -> Response:
        """The document that the service signs; without a nonce it says when that was."""
        if nonce and not (nonce.isdecimal() and len(nonce) <= NONCE_DIGITS_MAX):
            return _refused(400, f"nonce must be at most {NONCE_DIGITS_MAX} digits")
        times, compute = self._signer.times(), self._compute(machine)
        document = {
            "licenseType": "",
            "nonce": nonce or times["createdOn"],
            "plan": {"name": "", "product": "", "publisher": ""},
            "sku": compute["sku"],
            "subscriptionId": compute["subscriptionId"],
            "timeStamp": times,
            "vmId": compute["vmId"],
        }
        told = {"encoding": "pkcs7", "signature": self._signer.signature(document)}
        return Response(200, json.dumps(told).encode(), _JSON)

    def _events(self, request: Request, machine: Resource) -> Response:
        """POST approves events early on Azure; here an approved event comes when it would have come."""
        events = self._machines.mishaps.events(machine)
        return Response(200, b"" if request.method == "POST" else json.dumps(events).encode(), _JSON)

    def _document(self, machine: Resource) -> dict[str, Any]:
        return {"compute": self._compute(machine), "network": {"interface": self._interfaces(machine)}}

    def _compute(self, machine: Resource) -> dict[str, Any]:
        properties = machine.properties
        image = {"offer": "", "publisher": "", "sku": "", **properties["storageProfile"]["imageReference"]}
        profile = properties.get("osProfile") or {"adminUsername": "", "computerName": ""}
        disk = properties["storageProfile"]["osDisk"]
        return {
            "azEnvironment": "AzurePublicCloud",
            "location": machine.location,
            "name": machine.name,
            "offer": image["offer"],
            "osProfile": {"adminUsername": profile["adminUsername"], "computerName": profile["computerName"]},
            "osType": "Linux",
            "priority": "Spot" if is_spot(machine) else "",
            "evictionPolicy": properties.get("evictionPolicy", ""),
            "provider": "Microsoft.Compute",
            "publisher": image["publisher"],
            "resourceGroupName": machine.place.group,
            "resourceId": machine.id,
            "sku": image["sku"],
            "storageProfile": {"osDisk": {"name": disk["name"], "diskSizeGB": str(disk["diskSizeGB"])}},
            "subscriptionId": machine.place.subscription,
            "tags": ";".join(f"{name}:{value}" for name, value in machine.tags.items()),
            "tagsList": [{"name": name, "value": value} for name, value in machine.tags.items()],
            "userData": properties.get("userData", ""),
            "version": image["exactVersion"],
            "vmId": machine.runtime["vm_id"],
            "vmSize": properties["hardwareProfile"]["vmSize"],
            "zone": (machine.body.get("zones") or [""])[0],
        }

    def _interfaces(self, machine: Resource) -> list[dict[str, Any]]:
        told = []
        for each in machine.properties["networkProfile"]["networkInterfaces"]:
            nic = self._account.store.get(sub_id(each))
            if nic is None:
                continue
            public = public_address_of(self._machines, nic)
            address = {
                "privateIpAddress": nic.runtime.get("address", ""),
                "publicIpAddress": public.properties.get("ipAddress", "") if public else "",
            }
            subnets = [self._subnet(nic)]
            told.append(
                {
                    "ipv4": {"ipAddress": [address], "subnet": subnets},
                    "ipv6": {"ipAddress": []},
                    "macAddress": mac_address(nic).replace("-", ""),
                }
            )
        return told

    def _subnet(self, nic: Resource) -> dict[str, str]:
        subnet = self._account.store.get(sub_id(nic.properties["ipConfigurations"][0]["properties"]["subnet"]))
        address, _, prefix = str(subnet.properties["addressPrefix"] if subnet else "").partition("/")
        return {"address": address, "prefix": prefix}


def _below(document: Any, words: list[str]) -> Any:
    for word in filter(None, words):
        if isinstance(document, dict):
            document = document.get(word)
        elif isinstance(document, list) and word.isdecimal() and int(word) < len(document):
            document = document[int(word)]
        else:
            return None
    return document


def _refused(status: int, why: str) -> Response:
    return Response(status, json.dumps({"error": why}).encode(), _JSON)
