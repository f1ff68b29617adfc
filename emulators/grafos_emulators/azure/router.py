"""Which part of the emulated ARM answers a call."""

from __future__ import annotations

from grafos_emulators.azure import offers, permissions, subscription, tags
from grafos_emulators.azure.account import AzureAccount
from grafos_emulators.azure.calls import ArmCall, check_api_version, check_authorization
from grafos_emulators.azure.disks import Disks
from grafos_emulators.azure.errors import not_emulated
from grafos_emulators.azure.galleries import Galleries, GalleryImages, GalleryImageVersions
from grafos_emulators.azure.groups import Groups
from grafos_emulators.azure.interfaces import Interfaces
from grafos_emulators.azure.kind import Kind
from grafos_emulators.azure.listing import Listing
from grafos_emulators.azure.machines import Machines
from grafos_emulators.azure.operations import RESULT, STATUS
from grafos_emulators.azure.public_addresses import PublicAddresses
from grafos_emulators.azure.schedules import Schedules
from grafos_emulators.azure.security_groups import SecurityGroups, SecurityRules
from grafos_emulators.azure.verbs import Verbs, document
from grafos_emulators.azure.virtual_networks import Subnets, VirtualNetworks
from grafos_emulators.faults import Fault
from grafos_emulators.http import Response


class Router:
    """Every ARM call of one subscription. The caller holds the world's lock."""

    def __init__(self, account: AzureAccount) -> None:
        self._account = account
        self.machines = Machines(account)
        made: tuple[Kind, ...] = (
            VirtualNetworks(account),
            Subnets(account),
            SecurityGroups(account),
            SecurityRules(account),
            PublicAddresses(account),
            Interfaces(account),
            self.machines,
            Disks(account),
            Galleries(account),
            GalleryImages(account),
            GalleryImageVersions(account),
            Schedules(account, self.machines.deallocate),
        )
        self.kinds = {kind.type.lower(): kind for kind in made}
        self._verbs = Verbs(account, self.kinds)
        self.machines.remove = self._verbs.remove
        self._groups = Groups(account, self._verbs.remove)
        self._listing = Listing(account)

    def check(self, call: ArmCall) -> None:
        """What ARM looks at before any service: the token, the version, the subscription, what the caller may do."""
        check_authorization(call.request)
        check_api_version(call)
        subscription.check_subscription(self._account, call)
        if not self._is_poll(call):
            permissions.check(self._account, call)

    def answer(self, call: ArmCall, fault: Fault | None) -> Response:
        place, root = call.place, tuple(word.lower() for word in call.place.root)
        if place.namespace:
            return self._provider_call(call, fault)
        if root == ("providers",) or call.request.path.lower().rstrip("/").endswith("/providers"):
            return subscription.providers(self._account, call)
        if (place.group and not root) or root == ("resourcegroups",):
            return self._groups.answer(call, fault)
        if root == ("resources",) and call.method == "GET":
            return document(200, self._listing.answer(call))
        if root[:1] == (STATUS,) or root[:1] == (RESULT.lower(),):
            return self._account.operations.answer(root[-1], wants_result=root[0] == RESULT.lower())
        if call.method == "GET" and root == ("locations",):
            return document(200, subscription.locations(self._account))
        if call.method == "GET" and not root:
            shown = subscription.shown(self._account)
            return document(200, shown if place.subscription else {"value": [shown]})
        raise not_emulated(f"{call.method} {call.request.path}")

    def _provider_call(self, call: ArmCall, fault: Fault | None) -> Response:
        place = call.place
        namespace, words = place.namespace.lower(), tuple(word.lower() for word in place.rest)
        if self._is_poll(call):
            return self._account.operations.answer(words[-1], wants_result=words[2] == RESULT.lower())
        if namespace == "microsoft.authorization" and words == ("permissions",) and call.method == "GET":
            return document(200, permissions.listed(self._account))
        if namespace == "microsoft.resources" and words[:1] == ("tags",):
            return tags.answer(self._account, call)
        if not place.group and words[:1] in {(), ("register",), ("unregister",)}:
            return subscription.providers(self._account, call)
        subscription.check_registered(self._account, place.namespace)
        if words[:1] == ("locations",) and len(words) > 2 and call.method == "GET":
            return document(200, offers.below_location(self._account, call))
        if (namespace, *words) == ("microsoft.compute", "skus") and call.method == "GET":
            return document(200, offers.skus(self._account, call))
        return self._verbs.answer(call, fault)

    def _is_poll(self, call: ArmCall) -> bool:
        words = [word.lower() for word in (*call.place.root, *call.place.rest)]
        return call.method == "GET" and len(words) >= 2 and words[-2] in {STATUS, RESULT.lower()}
