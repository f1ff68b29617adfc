"""The emulated Azure Resource Manager, as far as grafos uses it.

What it does not imitate is told in docs/reference/emulated-clouds.md.
"""
