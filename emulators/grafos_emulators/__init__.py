"""Small clouds on loopback whose machines boot, for the demo and the tests.

``EmulatedClouds`` (``grafos_emulators.emulator``) serves one in the calling process; ``grafos_emulators.daemon`` keeps
one running for a person. What the emulated AWS does not imitate stands at the top of ``grafos_emulators.aws``.
Nothing heavy is imported here: moto is loaded when the first emulated cloud starts.
"""
