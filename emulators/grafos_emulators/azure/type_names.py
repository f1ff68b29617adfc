"""The types of resources that the emulated subscription has, as ARM spells them."""

from __future__ import annotations

GROUP = "Microsoft.Resources/resourceGroups"
DISK = "Microsoft.Compute/disks"
VIRTUAL_MACHINE = "Microsoft.Compute/virtualMachines"
NETWORK_INTERFACE = "Microsoft.Network/networkInterfaces"
PUBLIC_ADDRESS = "Microsoft.Network/publicIPAddresses"
SECURITY_GROUP = "Microsoft.Network/networkSecurityGroups"
SECURITY_RULE = "Microsoft.Network/networkSecurityGroups/securityRules"
VIRTUAL_NETWORK = "Microsoft.Network/virtualNetworks"
SUBNET = "Microsoft.Network/virtualNetworks/subnets"
GALLERY = "Microsoft.Compute/galleries"
GALLERY_IMAGE = "Microsoft.Compute/galleries/images"
GALLERY_IMAGE_VERSION = "Microsoft.Compute/galleries/images/versions"
SCHEDULE = "Microsoft.DevTestLab/schedules"
