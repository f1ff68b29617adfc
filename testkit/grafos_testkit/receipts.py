"""Receipts of simulated cells: with a signature that is the same each time, as ECDSA's is not."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from grafos_core.receipts import InstanceReceipt, RunReceipt, Signed

INSTANCE, RUN = "instance", "run"


def sign_receipt(receipt: RunReceipt | InstanceReceipt) -> Signed:
    """The receipt under the key that its cell has in a simulation."""
    kind = RUN if isinstance(receipt, RunReceipt) else INSTANCE
    body = msgspec.json.encode(receipt, order="sorted")
    return Signed(kind, body, hmac.new(receipt.cell_id.encode(), body, hashlib.sha256).digest())


def open_receipt(signed: Signed) -> RunReceipt:
    """What the receipt of a run says; a forged one is an ``AssertionError``."""
    receipt = msgspec.json.decode(signed.body, type=RunReceipt)
    assert sign_receipt(receipt) == signed
    return receipt


def open_instance_receipt(signed: Signed) -> InstanceReceipt:
    """As ``open_receipt``, of an instance of a service."""
    receipt = msgspec.json.decode(signed.body, type=InstanceReceipt)
    assert sign_receipt(receipt) == signed
    return receipt
