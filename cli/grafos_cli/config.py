"""`grafos config`: what the settings are, and who said so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from grafos_cli.taught import new_group, taught, terminal_of

if TYPE_CHECKING:
    from grafos_cli.settings import Setting

app = new_group(
    help="The settings of the command line: flag, then variable, then grafos.toml, then your own file, then default.",
    examples=("grafos config show --origin", "grafos config schema"),
    next="grafos config show --origin",
)


@app.command(
    "show",
    cls=taught(
        examples=("grafos config show", "grafos config show --origin --color never"),
        next="grafos config schema",
        streams="settings",
    ),
)
def show(
    ctx: typer.Context,
    origin: Annotated[bool, typer.Option("--origin", help="also who says each value, and where")] = False,  # noqa: FBT002
) -> None:
    """Shows every setting as it counts now."""
    from grafos_cli.settings import settle
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    found = settle().values()
    head = ("SETTING", "VALUE", *(("ORIGIN", "WHERE") if origin else ()))
    rows = [[one.setting.name, one.value or "-", *((one.origin, one.where) if origin else ())] for one in found]
    document = [
        {"name": one.setting.name, "value": one.value, "origin": one.origin, "where": one.where} for one in found
    ]
    terminal.emit({"settings": document}, table(head, rows, terminal))


@app.command(
    "schema",
    cls=taught(
        examples=("grafos config schema", "grafos config schema --json | jq .config_schema > grafos-config.json"),
        next="grafos config show --origin",
    ),
)
def schema(ctx: typer.Context) -> None:
    """Shows every setting that exists; with --json the JSON Schema of config.toml, for editors."""
    from grafos_cli.settings import SETTINGS
    from grafos_cli.tables import table

    terminal = terminal_of(ctx)
    head = ("SETTING", "VALUES", "DEFAULT", "FLAG", "VARIABLE", "WHAT")
    rows = [
        [one.name, "|".join(one.choices) or one.shape, one.default, one.flag, one.variable, one.meaning]
        for one in SETTINGS
    ]
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.toml of grafos",
        "type": "object",
        "additionalProperties": False,
        "properties": {one.name: _property(one) for one in SETTINGS},
    }
    terminal.emit({"config_schema": document}, table(head, rows, terminal, spare=("DEFAULT", "FLAG", "VARIABLE")))


def _property(setting: Setting) -> dict[str, Any]:
    described = {"description": setting.meaning}
    if setting.choices == ("true", "false"):
        return {**described, "type": "boolean", "default": setting.default == "true"}
    if setting.choices:
        return {**described, "enum": list(setting.choices), "default": setting.default}
    return {**described, "type": "string", "default": setting.default}
