"""The emulated Google Cloud: Compute Engine as its discovery document describes it, and what a provisioner asks beside.

``front`` takes the requests, ``routing`` and ``schema`` know the discovery document, ``project`` holds what was made.
Each kind of resource has a module of its own (``networks``, ``instances``, ``disks``, …).
"""
