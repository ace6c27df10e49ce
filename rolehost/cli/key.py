"""`rolehost key new|list|remove|sign-out`: the API keys of a front end that others than this machine can reach."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from rolehost.cli.options import DATA, AsJson, Data
from rolehost.cli.printing import print_json, print_table
from rolehost.errors import RoleHostError
from rolehost.frontend.authentication import keys
from rolehost.frontend.authentication.identity import Permission

app = typer.Typer(no_args_is_help=True, help="Make, list or remove API keys.", rich_markup_mode=None)

KeysFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--keys-file", metavar="FILE", dir_okay=False, help="Another file than `keys` in the data directory."),
]
Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is: shown in pages and logs.")]


class Role(StrEnum):
    """What a key may do; each role may do what those before it may."""

    READ = "read"
    SUBMIT = "submit"
    OPERATE = "operate"


@app.command()
def new(
    name: Name,
    *,
    role: Annotated[
        Role, typer.Option("--role", help="read: look; submit: and submit jobs; operate: and replay, cancel, purge.")
    ] = Role.SUBMIT,
    data: Data = DATA,
    keys_file: KeysFile = None,
    unless_any: Annotated[
        bool, typer.Option("--unless-any", help="Do nothing if there is a key already: for a first start.")
    ] = False,
    print_only: Annotated[
        bool, typer.Option("--print-only", help="Store nothing: print what goes into Frontend.ApiKeys, too.")
    ] = False,
) -> None:
    """Make a key. It is printed once, and kept as a hash only.

    A running front end accepts it at once, unless it was started without any authentication: then when it starts again.
    """
    if not keys.NAME.fullmatch(name):
        raise RoleHostError(f"a key's name is up to 64 letters, digits and . _ @ -, not {name!r}")
    key = keys.make_key()
    entry = keys.ApiKey(name, Permission(role), keys.hashed(key))
    if print_only:
        print(f"{key}\n{entry}")
        return
    with keys.changing_keys(_file(data, keys_file, make=True)) as known:
        if unless_any and known:
            return
        if name in known:
            raise RoleHostError(f'there is a key "{name}" already: remove it first, or take another name')
        known[name] = entry
    print(key)


@app.command("list")
def list_keys(*, data: Data = DATA, keys_file: KeysFile = None, as_json: AsJson = False) -> None:
    """List the keys: names and roles, never the keys themselves."""
    found = _read(data, keys_file)
    if as_json:
        print_json({"keys": [{"name": key.name, "role": key.role, "sha256": key.sha256} for key in found]})
        return
    print_table(("NAME", "ROLE", "SHA-256"), [(key.name, str(key.role), f"{key.sha256[:12]}…") for key in found])


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Whose keys.")],
    *,
    data: Data = DATA,
    keys_file: KeysFile = None,
) -> None:
    """Remove keys: they are refused from now on, and what was signed in with them is signed out."""
    with keys.changing_keys(_file(data, keys_file)) as known:
        if missing := [name for name in names if name not in known]:
            raise RoleHostError(f'there is no key "{missing[0]}"')
        for name in dict.fromkeys(names):
            del known[name]
    for name in dict.fromkeys(names):
        print(f"{name} is removed")


@app.command()
def sign_out(*, data: Data = DATA) -> None:
    """Sign everybody out of the pages; keys stay as they are."""
    from rolehost.frontend.authentication.sessions import SECRET_FILE  # noqa: PLC0415 - heavy, `--help` needs none of it

    try:
        (data / SECRET_FILE).unlink()
    except FileNotFoundError:
        raise RoleHostError(
            f"there is no session secret in {data}: nobody has signed in, or Frontend.SessionSecretFile names another"
        ) from None
    print("everybody is signed out")


def _file(data: Path, keys_file: Path | None, *, make: bool = False) -> Path:
    from rolehost.host.paths import DataDirectory  # noqa: PLC0415 - heavy, and `--help` needs none of it

    if keys_file is not None:
        return keys_file
    if make:
        return DataDirectory.at(data).root / keys.FILE
    if not data.is_dir():
        raise RoleHostError(f"there is no data directory {data}: name the service's with --data")
    return data / keys.FILE


def _read(data: Path, keys_file: Path | None) -> tuple[keys.ApiKey, ...]:
    return keys.read_keys(_file(data, keys_file))
