"""The command line: train by recipe, evaluate, export, pack, list, compare, data."""

# Heavy imports stand inside the verbs: `onnxport-train --help` must not wait for torch.
# ruff: noqa: PLC0415

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from service import __version__
from service.errors import ServiceError
from training.binding import RecipeError

FAILURE_EXIT = 1
USAGE_EXIT = 2


class Output(StrEnum):
    """How the result is written."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option(help="Text for people or JSON for programs.")]
RepositoryOption = Annotated[Path, typer.Option(help="Where bundles are published.")]
RunsOption = Annotated[Path, typer.Option(help="Where runs keep their folders.")]
Recipe = Annotated[
    str, typer.Argument(help="A recipe's name (see list), a .toml file or a run's folder.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the recipe, such as optim.lr=3e-4.")
]


class RecipeFirst(TyperGroup):
    """A group whose first word, if it is no verb, is a recipe to train."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own
        """Put the verb before a recipe's name."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = ["train", *args]
        return super().parse_args(ctx, args)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error is one line on standard error and exit code 1 or 2.

    An interrupt is exit code 130, by typer.
    """
    try:
        make_cli()(args=None if arguments is None else list(arguments), prog_name="onnxport-train")
    except RecipeError as error:
        typer.echo(f"onnxport-train: {error}", err=True)
        sys.exit(USAGE_EXIT)
    except (ServiceError, ValueError, OSError, FloatingPointError) as error:
        typer.echo(f"onnxport-train: {error}", err=True)
        sys.exit(FAILURE_EXIT)


def make_cli() -> typer.Typer:
    """Return the command line with all its verbs."""
    cli = typer.Typer(
        name="onnxport-train",
        cls=RecipeFirst,
        help="Train by recipe and publish a proven bundle: onnxport-train RECIPE [key=value ...].",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cli.callback()(_root)
    verbs = (_train, _list, _evaluate, _export, _pack, _compare)
    for verb in verbs:
        cli.command(verb.__name__.removeprefix("_"))(verb)
    data = typer.Typer(help="Look at data before training on them.", no_args_is_help=True)
    data.callback()(_data)
    data.command("check")(_check)
    cli.add_typer(data, name="data")
    return cli


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer's shape of a callback
    if asked:
        typer.echo(f"onnxport-train {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    del version


def _data() -> None:
    """Look at data before training on them."""


def _train(  # noqa: PLR0913 - the options of the command
    recipe: Recipe,
    overrides: Overrides = None,
    *,
    repository: RepositoryOption = Path("models"),
    runs: RunsOption = Path("runs"),
    name: Annotated[str, typer.Option(help="The model's name, if not the recipe's.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="The seed of the run.")] = None,
    seeds: Annotated[str, typer.Option(help="Several seeds: 0,1,2. The first is published.")] = "",
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    output: OutputOption = Output.TEXT,
) -> None:
    """Train, evaluate and publish what a recipe describes."""
    from training.command import Request, train

    changes = [*(overrides or ())]
    changes += [f"name={name}"] if name else []
    changes += [f"seed={seed}"] if seed is not None else []
    request = Request(recipe, tuple(changes), repository, runs, resume=resume)
    train(request, _seeds(seeds), as_json=output is Output.JSON)


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise RecipeError(f"--seeds '{text}': must be whole numbers with commas between, as 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _list() -> None:
    """List the recipes that come with the package."""
    from training.command import list_recipes

    list_recipes()


def _evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle, or a model's folder.")],
    *,
    data: Annotated[str, typer.Option(help="Where the data lie, if not with the package.")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Measure a bundle again on its test split."""
    from training.command import evaluate

    evaluate(bundle, data, as_json=output is Output.JSON)


def _export(
    source: Annotated[
        Path, typer.Argument(help="The folder of a finished run; for precision=int8 also a bundle.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="precision=fp16 or int8, margin=, speedup=, rows=together."),
    ] = None,
    *,
    repository: RepositoryOption = Path("models"),
    data: Annotated[str, typer.Option(help="Where a bundle's data lie.")] = "",
    output: OutputOption = Output.TEXT,
) -> None:
    """Publish a run again as a new version, in full or, past a quality gate, in less precision."""
    from training.command import Export, export

    request = Export(source, tuple(changes or ()), repository, data)
    export(request, as_json=output is Output.JSON)


def _pack(
    model: Annotated[Path, typer.Argument(help="An ONNX file.")],
    *,
    inputs: Annotated[Path, typer.Option(help="An npz file with 16 or more golden inputs.")],
    name: Annotated[str, typer.Option(help="The model's name.")],
    repository: RepositoryOption = Path("models"),
    labels: Annotated[str, typer.Option(help="A classifier's labels: cat,dog.")] = "",
) -> None:
    """Make a bundle of an existing ONNX file, with ONNX Runtime's answers as the golden ones."""
    from training.pack import pack_model

    names = [label.strip() for label in labels.split(",") if label.strip()]
    bundle = pack_model(model, inputs, repository=repository, name=name, labels=names)
    typer.echo(str(bundle.path))


def _compare(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles or models' folders.")],
    *,
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what several bundles reach, side by side."""
    from training.command import compare_bundles

    compare_bundles(bundles, as_json=output is Output.JSON)


def _check(
    recipe: Recipe, overrides: Overrides = None, *, output: OutputOption = Output.TEXT
) -> None:
    """Say what is suspicious in a recipe's data, and describe them."""
    from training.command import check_data

    check_data(recipe, tuple(overrides or ()), as_json=output is Output.JSON)


if __name__ == "__main__":
    main()
