"""The emulated AWS: EC2 as grafos uses it, the caller's identity and rights, prices, two quotas, and instance metadata.

It is moto (which knows the shapes of EC2's requests and answers, and the ordinary resources) in our process, with
everything corrected that a provisioner can trip over: idempotency tokens, the states of an instance with their times,
what may not be deleted while in use, checks at launch, consoles, prices, and machines that really run.

**What it does not imitate.** Stated here once, so that a test that passes is not read as more than it is.

* *Isolation.* A machine is a tree of processes with the rights of whoever runs the emulator. Where the kernel has
  Landlock, they execute nothing of the host's but Python and a shell, write only in the machine's own directory and
  signal nobody else; they can read what their user can, and use the network. Where it has not, the console says so,
  and only ``PATH`` leads away from the host. User data runs only on the emulator's own stock image.
* *The network.* Security groups, routes and gateways are stored and checked for dependencies, never enforced. A
  machine's public and private address are one loopback address, outside its subnet's range; names do not resolve.
* *Instance metadata* is plain HTTP on the emulator's port, told to every process of the emulator's owner. Version 1 is
  never answered, also where ``HttpTokens`` is optional. Hop limits mean nothing. There are no credentials, no identity
  document and no spot notices in it.
* *Images.* One stock image for each region, of the host's architecture and with the host's Python, under the owner and
  the name pattern of Debian's own. It has no content. Images cannot be registered, copied or made.
* *A machine's system.* ``systemd-run``, ``systemctl``, ``shutdown`` and ``poweroff`` know what ``boot.orders`` lists.
  Of cloud-init only this is imitated: user data that begins with ``#!`` runs once, at the first boot. Its clock is the
  host's, also where the emulator's clock is stepped.
* *Launching.* Launch templates, spot, fleets, reboots, elastic addresses on machines and anything that moto lacks are
  refused with ``NotEmulated``. There is endless capacity. Every listing shows each change at once. Nothing is
  throttled. Of the quotas only the vCPUs of standard instances exist, on demand and spot.
* *Volumes* have a size and a life, and no bytes. Encryption is a flag.
* *Prices* are fictional: plausible figures, not AWS's bill. Only on-demand Linux machines, gp3 volumes and public
  addresses have one.
* *Signatures* are not verified: the one known access key is enough, every other key is refused.
* *Tokens* are remembered until the emulator stops, for all actions that take one. AWS compares parameters but for the
  zone; here all of them.
"""
