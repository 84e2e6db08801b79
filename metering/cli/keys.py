"""`metering keys`: secrets that say whose a call is."""

from pathlib import Path
from typing import Annotated

import typer

from metering.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the commands of this module to `app`."""
    keys = typer.Typer(help="Metering keys: secrets that say whose a call is.", no_args_is_help=True)
    keys.callback()(lambda: None)  # a group, though it has one command
    keys.command("mint")(mint)
    app.add_typer(keys, name="keys")


def mint(
    identity: Annotated[str, typer.Option("--id", help="The key's name in events and statements.", show_default=False)],
    team: Annotated[str | None, typer.Option(help="Whose calls they are.")] = None,
    project: Annotated[str | None, typer.Option(help="Which project they are for.")] = None,
    environment: Annotated[str | None, typer.Option(help="Which environment they come from, such as prod.")] = None,
    principal: Annotated[str | None, typer.Option(help="The person or service that holds the key.")] = None,
    kind: Annotated[str, typer.Option(help="The word in the secret: mk_<kind>_….")] = "live",
) -> None:
    """Mint a key: its secret, shown this once, and the [[key]] table for the sidecar's file."""
    import msgspec

    from metering.sidecar.config import parse_config
    from metering.sidecar.keys import hash_secret, mint_secret

    try:
        secret = mint_secret(kind)
    except ValueError as error:
        raise InputError(str(error)) from None
    fields = {
        "id": identity,
        "hash": f"sha256:{hash_secret(secret.encode()).hex()}",
        "team": team,
        "project": project,
        "environment": environment,
        "principal": principal,
    }
    # A basic string of TOML: JSON's escapes are a part of TOML's.
    lines = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in fields.items() if value is not None]
    stanza = "\n".join(("[[key]]", *lines))
    parse_config(f'{stanza}\n[[route]]\npath = "/"\nupstream = "http://a"\nprovider = "a"', Path())  # refuses a bad id
    typer.echo(f"# secret, shown only now: {secret}")
    typer.echo(stanza)
    typer.echo("send it as header x-metering-key, or put /k/<secret> before the path of the base URL", err=True)
