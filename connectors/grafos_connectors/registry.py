"""Opens the connector of a cloud by its name. Only that cloud's SDK is imported, and only then."""

from __future__ import annotations

from collections.abc import Mapping

from grafos_connectors.contract import CloudError, Connector
from grafos_core.clock import Clock

PROVIDERS = ("aws", "azure", "gcp")


def open_connector(
    provider: str,
    region: str = "",
    *,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    listing_lag_s: float | None = None,
) -> Connector:
    """The connector to ``provider`` ("aws"), with questions that name no region going to ``region``.

    ``environment`` stands in for the process's variables that configure the SDK (endpoint, credentials, region) and
    shuts out every other place that it reads. ``listing_lag_s`` overrides what the cloud is known for. Errors:
    ``unsupported`` for a cloud that this version cannot drive or whose extra is not installed, ``cloud_invalid`` for a
    region that does not exist, ``credentials_mixed``. No request is made.
    """
    if provider != "aws":
        raise _unsupported(provider)
    try:
        from grafos_connectors.aws.connector import AwsConnector
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "botocore":
            raise
        raise CloudError(
            "unsupported",
            "The AWS SDK is not installed.",
            why=str(missing),
            next="Install the extra: pip install 'grafos-connectors[aws]'.",
        ) from missing
    return AwsConnector(region, environment=environment, clock=clock, listing_lag_s=listing_lag_s)


def _unsupported(provider: str) -> CloudError:
    if provider in PROVIDERS:
        return CloudError(
            "unsupported",
            f"This version of grafos cannot provision on {provider}.",
            next="Use --provider aws, or --provider local for this machine.",
        )
    return CloudError("unsupported", f"There is no provider {provider!r}.", next=f"Known: {', '.join(PROVIDERS)}.")
