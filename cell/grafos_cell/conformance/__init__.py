"""The conformance suite of the tasklet ABI: small modules as data, and the end that each must come to on every cell.

The cases stand beside each other by what they are about; ``suite`` runs them on anything that can run a module, and
``python -m grafos_cell.conformance`` prints the table. How to use it: ``docs/reference/conformance.md``.
"""
