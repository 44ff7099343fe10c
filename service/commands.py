"""The verbs that need no server and no model: keys new, keys check, audit verify."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from service.access import Scope
from service.audit_check import Check, check_files
from service.errors import ConfigurationError
from service.keys import Key, new_key, parse_keys, toml_lines
from service.logs import printable

DAMAGED_EXIT: Final = 3


def add_commands(cli: typer.Typer) -> None:
    """Give the command line its groups ``keys`` and ``audit``."""
    keys = typer.Typer(help="Make API keys and look at key files.", no_args_is_help=True)
    keys.command("new")(_new)
    keys.command("check")(_check)
    cli.add_typer(keys, name="keys")
    audit = typer.Typer(help="Look at audit logs.", no_args_is_help=True)
    # With a callback of its own, or one verb alone would take the group's place.
    audit.callback()(_audit)
    audit.command("verify")(_verify)
    cli.add_typer(audit, name="audit")


def _new(
    name: Annotated[str, typer.Argument(help="Whose key it is; it stands in logs.")],
    scopes: Annotated[
        str,
        typer.Option(help=f"What it may be used for, such as predict,read: {', '.join(Scope)}."),
    ],
    expires: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"], help="Until when, in UTC."),
    ] = None,
) -> None:
    """Make a key: the lines for the key file on standard output, the key itself on the other.

    So `onnxport keys new ci --scopes predict >> keys.toml` adds it and shows it once.  It is kept
    nowhere.
    """
    key = new_key()
    until = expires and expires.replace(tzinfo=UTC)
    lines = toml_lines(key, name, _scopes(scopes), until)
    typer.echo(f"The key of {name}, which is shown only now: {key}", err=True)
    typer.echo(f"{lines}\n")


def _scopes(text: str) -> list[Scope]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in set(Scope):
            raise ConfigurationError(f"--scopes: expected {', '.join(Scope)}, got {word[:40]!r}")
    if not words:
        raise ConfigurationError(f"--scopes: name at least one of {', '.join(Scope)}")
    return [scope for scope in Scope if scope in words]


def _check(file: Annotated[Path, typer.Argument(help="A key file.")]) -> None:
    """Say whom a key file lets in; exit 2 if the server would not take it."""
    for key in parse_keys(file.read_bytes(), str(file)):
        typer.echo(_key_line(key, datetime.now(UTC)))


def _key_line(key: Key, now: datetime) -> str:
    who = key.identity
    scopes = ",".join(scope for scope in Scope if scope in who.scopes)
    if math.isinf(who.expires):
        return f"{who.name}: {scopes}, never expires"
    until = datetime.fromtimestamp(who.expires, UTC)
    word = "expired" if until <= now else "expires"
    return f"{who.name}: {scopes}, {word} {until:%Y-%m-%dT%H:%M:%SZ}"


def _audit() -> None:
    """Look at audit logs."""


def _verify(
    files: Annotated[list[Path], typer.Argument(help="A log, or its parts, the oldest first.")],
    head: Annotated[
        list[str] | None, typer.Option(help="A hash noted before; a line must still have it.")
    ] = None,
) -> None:
    """Check that the lines of an audit log are all there and unchanged; exit 3 if not."""
    with ExitStack() as stack:
        check = check_files(
            ((str(path), _lines(stack, path)) for path in files), must_hold=head or ()
        )
    for problem in check.problems:
        typer.echo(printable(problem))
    for line in _summary(check):
        typer.echo(line)
    if check.problems:
        raise typer.Exit(DAMAGED_EXIT)


def _lines(stack: ExitStack, path: Path) -> Iterator[bytes]:
    return iter(stack.enter_context(path.open("rb")))


def _summary(check: Check) -> Iterator[str]:
    state = f"{len(check.problems)} problems" if check.problems else "whole"
    yield f"{check.lines} lines in {len(check.heads)} chains: {state}"
    if check.unclosed:
        yield f"{check.unclosed} chains have no end: their processes run, or were killed"
    if check.continued:
        yield f"{check.continued} chains go on from a file that was not given"
    for chain, head in check.heads.items():
        yield f"head of {printable(chain)}: {head}"
