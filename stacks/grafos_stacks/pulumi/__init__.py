"""Cells by Pulumi: our own resource provider, the classes that a program declares cells with, and the way to an engine.

Everything here is an extra (``grafos-stacks[pulumi]``): the direct engine knows nothing of it. The provider holds no
policy of its own; it makes and unmakes by the same steps, keys, tags and journal as the direct engine.
``docs/decisions/pulumi.md`` says why it is built so.
"""
