"""Opens the connector of a cloud by its name. Only that cloud's SDK is imported, and only then."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from grafos_connectors.contract import CloudError, Connector
from grafos_core.clock import Clock


@dataclass(frozen=True)
class _Cloud:
    """Where a cloud's connector is, and the modules of its SDK that the extra brings."""

    called: str
    module: str
    connector: str
    sdk: tuple[str, ...]


_CLOUDS = {
    "aws": _Cloud("AWS", "grafos_connectors.aws.connector", "AwsConnector", ("boto3", "botocore")),
    "azure": _Cloud(
        "Azure",
        "grafos_connectors.azure.connector",
        "AzureConnector",
        ("azure.identity", "azure.mgmt.compute", "azure.mgmt.network", "azure.mgmt.resource"),
    ),
    "gcp": _Cloud(
        "Google Cloud",
        "grafos_connectors.gcp.connector",
        "GcpConnector",
        ("google.auth", "google.cloud.compute_v1", "requests"),
    ),
}
PROVIDERS = tuple(_CLOUDS)


def open_connector(
    provider: str,
    region: str = "",
    *,
    environment: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    listing_lag_s: float | None = None,
) -> Connector:
    """The connector to ``provider`` ("aws", "azure", "gcp"), with questions that name no region going to ``region``.

    ``environment`` stands in for the process's variables that configure the SDK (endpoint, credentials, region) and
    shuts out every other place that it reads. ``listing_lag_s`` overrides what the cloud is known for. Errors:
    ``unsupported`` for a cloud that nobody knows or whose extra is not installed, ``cloud_invalid`` for a
    region that does not exist, ``credentials_mixed``. No request is made.
    """
    cloud = _CLOUDS.get(provider)
    if cloud is None:
        raise CloudError("unsupported", f"There is no provider {provider!r}.", next=f"Known: {', '.join(PROVIDERS)}.")
    missing = [module for module in cloud.sdk if not _is_there(module)]
    if missing:
        raise CloudError(
            "unsupported",
            f"The {cloud.called} SDK is not installed.",
            why=f"there is no module {missing[0]}",
            next=f"Install the extra: pip install 'grafos-connectors[{provider}]'.",
        )
    connector: Connector = getattr(importlib.import_module(cloud.module), cloud.connector)(
        region, environment=environment, clock=clock, listing_lag_s=listing_lag_s
    )
    return connector


def _is_there(module: str) -> bool:
    """Whether it could be imported; only the packages around it are."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
