"""Where a PostgreSQL database is, as libpq writes it, and how that is shown: never with what is secret in it."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

from grafos_core.errors import GrafosError

SCHEMES = ("postgresql", "postgres")
SECRET_OPTIONS = ("password", "sslpassword")
HIDDEN = "***"


class DatabaseUrl:
    """``text`` is for the driver alone; ``str()`` and ``repr()`` give host and database, and no secret."""

    def __init__(self, text: str) -> None:
        try:
            parts = urlsplit(text)
            options = parse_qsl(parts.query)
        except ValueError as error:
            raise _not_one() from error
        # An @ in another place, or a second one, means that a password is not encoded: it would be taken for a host or
        # a path, and be shown.
        is_parted = text.count("@") == parts.netloc.count("@") <= 1 and "#" not in text
        if parts.scheme not in SCHEMES or not is_parted:
            raise _not_one()
        self.text = text
        user, _, place = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        self._secrets = {password, *(value for option, value in options if option in SECRET_OPTIONS)}
        self._shown = f"{parts.scheme}://{f'{name}@' if name else ''}{place}{parts.path}"

    def without_secrets(self, said: str) -> str:
        """What somebody said about this database, fit to be shown."""
        for secret in self._secrets:
            for form in filter(None, (secret, unquote(secret))):
                said = said.replace(form, HIDDEN)
        return said

    def __repr__(self) -> str:
        return self._shown


def _not_one() -> GrafosError:
    return GrafosError(
        "config_invalid",
        "this is not the URL of a PostgreSQL database",  # which is not shown: a password may be in it
        where="--database",
        next="write postgresql://USER@HOST:PORT/NAME?sslmode=verify-full&sslrootcert=FILE; in a password, / ? # and @ "
        "are written as %2F, %3F, %23 and %40",
    )
