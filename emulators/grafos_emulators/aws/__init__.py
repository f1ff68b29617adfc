"""The emulated AWS: EC2 as grafos uses it, the caller's identity and rights, prices, quotas, and instance metadata.

It is moto (which knows the shapes of EC2's requests and answers, and the ordinary resources) in our process, with
everything corrected that a provisioner can trip over. What there is, and what it does not imitate, stands in
``docs/reference/emulated-clouds.md``.
"""
