"""What the contract's records keep and what they do not show."""

from __future__ import annotations

from grafos_connectors.contract import CloudError, Desired, Kind

SECRET = "#!/bin/sh\nclaim 0123456789abcdef\n"


def test_what_is_wanted_does_not_show_its_user_data_to_a_log_or_a_traceback() -> None:
    """The user data holds the secret by which the machine is claimed; tracebacks print what functions were given."""
    wanted = Desired(
        key="0" * 32,
        kind=Kind.MACHINE,
        name="cell-1",
        region="us-east-1",
        inputs={"machine_type": "t3.medium", "user_data": SECRET},
    )
    shown = f"{wanted!r} {wanted} {[wanted]} {wanted.__rich_repr__()}"
    assert "0123456789abcdef" not in shown
    assert f"<{len(SECRET)} characters>" in shown
    assert "t3.medium" in shown
    assert wanted.inputs["user_data"] == SECRET


def test_a_refusal_of_a_newer_grafos_is_unknown_and_keeps_its_words() -> None:
    wire = {"code": "cloud_eclipse", "what": "Too dark.", "context": {"cloud_code": "Eclipse", "ambiguous": True}}
    error = CloudError.from_wire(wire)
    assert (error.code, error.what) == ("cloud_unknown", "cloud_eclipse: Too dark.")
    assert (error.cloud_code, error.ambiguous, error.alternatives) == ("Eclipse", True, ())
