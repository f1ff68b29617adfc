"""Which credentials are used: nobody's for an emulator, what the SDK finds for the process, one file when told so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google.auth
from google.auth.credentials import Credentials
from google.oauth2 import credentials as person
from google.oauth2 import service_account

from grafos_connectors.contract import CloudError
from grafos_connectors.gcp.endpoints import UNIVERSE
from grafos_connectors.gcp.errors import NEXT_STEPS

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
KEY_FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"


def find_login(environment: Mapping[str, str] | None) -> tuple[Credentials, str]:
    """Credentials for the real cloud and the project that they name, if any; a token is not asked for.

    ``environment`` stands in for the process's variables, and then only the key file that it names is looked at.
    Raises ``credentials_missing``; the SDK's own exceptions for what it looks at by itself.
    """
    if environment is None:
        found, project = google.auth.default(scopes=[SCOPE])
    else:
        found, project = _in_file(environment.get(KEY_FILE_VARIABLE, ""))
    if getattr(found, "universe_domain", UNIVERSE) != UNIVERSE:
        raise CloudError("unsupported", "This version of grafos only uses the public Google Cloud.", where="gcp")
    return found, project or ""


def _in_file(key_file: str) -> tuple[Credentials, str]:
    """A service account's key, or a person's login as ``gcloud auth application-default login`` writes it."""
    if not key_file:
        raise _missing("No Google Cloud credentials were found.")
    try:
        said: Any = json.loads(Path(key_file).read_text(encoding="utf-8"))
        kind = said.get("type") if isinstance(said, dict) else None
        if kind == "service_account":
            key = service_account.Credentials.from_service_account_info(said, scopes=[SCOPE])
            return key, str(said.get("project_id", ""))
        if kind == "authorized_user":
            return person.Credentials.from_authorized_user_info(said, scopes=[SCOPE]), ""
    except (OSError, ValueError) as error:
        raise _missing(f"The Google Cloud key {key_file} cannot be used.", str(error)) from error
    raise _missing(f"The Google Cloud key {key_file} cannot be used.", f"it is of the type {kind!r}")


def _missing(what: str, why: str = "") -> CloudError:
    return CloudError("credentials_missing", what, where="gcp", why=why, next=NEXT_STEPS["credentials_missing"])
