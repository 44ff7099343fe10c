"""The command line: serve, predict, inspect, verify, doctor, healthcheck, config, keys, audit."""

# Heavy imports stand inside the verbs: `onnxport --help` must not wait for ONNX Runtime.
# ruff: noqa: PLC0415

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from service import __version__
from service.commands import add_commands
from service.errors import ConfigurationError, ServiceError
from service.flags import parted, with_settings
from service.logs import printable
from service.platforms import KSERVE_IGNORED
from service.sources import load_settings, trace_settings


class Output(StrEnum):
    """How an answer is written."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option(help="Text for people or JSON for programs.")]
RepositoryOption = Annotated[
    Path | None, typer.Option(help="Where models are looked up by name (default: models).")
]
ProvidersOption = Annotated[
    str | None, typer.Option(help="Execution providers, as in the settings, such as cuda,cpu.")
]
FAILURE_EXIT: Final = 1
USAGE_EXIT: Final = 2
REFUSED_EXIT: Final = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an error is one line on standard error and exit code 1 or 2."""
    try:
        make_cli()(args=None if arguments is None else list(arguments), prog_name="onnxport")
    except ServiceError as error:
        typer.echo(f"onnxport: {printable(str(error))}", err=True)
        sys.exit(USAGE_EXIT if isinstance(error, ConfigurationError) else FAILURE_EXIT)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(FAILURE_EXIT)
    except OSError as error:
        # A folder that may not be read, a name that is too long, a disk that fails.
        typer.echo(f"onnxport: {printable(str(error))}", err=True)
        sys.exit(FAILURE_EXIT)


def make_cli() -> typer.Typer:
    """Return the command line with all its verbs."""
    cli = typer.Typer(
        name="onnxport",
        help="Serve verified ONNX models, or ask them here and now.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    cli.callback()(_root)
    cli.command("serve")(with_settings(_serve))
    for verb in (_predict, _inspect, _verify, _doctor, _healthcheck):
        cli.command(verb.__name__.removeprefix("_"))(verb)
    add_commands(cli)
    config = typer.Typer(help="Look at the settings.", no_args_is_help=True)
    # With a callback of its own, or one verb alone would take the group's place.
    config.callback()(_config)
    config.command("show")(with_settings(_config_show))
    cli.add_typer(config, name="config")
    return cli


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer's shape of a callback
    if asked:
        typer.echo(f"onnxport {__version__}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    del version


def _serve(
    path: Annotated[
        Path | None, typer.Argument(help="A repository, one bundle, or one .onnx file.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The settings file (default: onnxport.toml if there).")
    ] = None,
    **flags: object,
) -> None:
    """Serve the models at PATH (or --repository) over HTTP."""
    ours, kserve = parted(flags)
    if path is not None:
        if ours.get("repository") is not None:
            raise ConfigurationError("give either PATH or --repository, not both")
        ours["repository"] = path
    settings = load_settings(ours, config=config, kserve=kserve)

    from service.launch import launch
    from service.wheels import check_wheels

    # Before anything imports ONNX Runtime: without a wheel that alone would fail, in its own words.
    check_wheels(settings.providers)

    launch(settings, ignored=[f"--{name}" for name in kserve if name in KSERVE_IGNORED])


def _predict(
    model: Annotated[
        str, typer.Argument(help="A bundle, an .onnx file, or a name in the repository.")
    ],
    files: Annotated[
        list[Path], typer.Argument(help="Pictures, .txt, .json or .npz files, one answer each.")
    ],
    repository: RepositoryOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Answer FILES with MODEL in this process, through the pipeline that also serves."""
    settings = load_settings({"repository": repository})

    from service import local, printing
    from service.app import load_options

    found = local.find(model, settings.repository)
    loaded = local.load(found, load_options(settings))
    answered = local.predict_files(loaded, files)
    if output is Output.JSON:
        printing.write_json(
            {
                "model": found.name,
                "version": found.version,
                "predictions": [{"file": a.file, "prediction": a.answer} for a in answered],
            }
        )
        return
    for answer in answered:
        typer.echo(printing.answer_line(answer.file, answer.answer))


def _inspect(
    path: Annotated[Path, typer.Argument(help="A bundle or any ONNX file.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Show what is in a bundle or an ONNX file, without running it."""
    from service import inspection, printing

    report = inspection.inspect_path(path)
    if output is Output.JSON:
        printing.write_json(report)
    else:
        printing.write_report(report)


def _verify(
    path: Annotated[Path, typer.Argument(help="A repository, one bundle, or one .onnx file.")],
    providers: ProvidersOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Prove the models at PATH as a server would before it takes traffic; exit 3 if one fails."""
    settings = load_settings({"providers": providers})

    from service import inspection, local, printing
    from service.app import proof_options
    from service.launch import limits_of, uses_cuda

    found = local.find_all(path)
    if not found:
        raise ConfigurationError(f"{path}: holds no model")
    limits = limits_of(settings, cuda=uses_cuda(settings.providers))
    proofs = inspection.prove_all(found, proof_options(settings), limits)
    if output is Output.JSON:
        printing.write_json({"models": proofs})
    else:
        for proof in proofs:
            typer.echo(printing.proof_line(proof))
    if any(proof["status"] == "failed" for proof in proofs):
        raise typer.Exit(REFUSED_EXIT)


def _doctor(
    repository: Annotated[
        Path | None, typer.Option(help="Models that must load (default: models, if it is there).")
    ] = None,
    providers: ProvidersOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Say what this machine offers and whether what is wished for works; exit 1 if it does not."""
    settings = load_settings({"repository": repository, "providers": providers})

    from service import printing
    from service.doctor import Wish, examine

    wished = repository is not None or settings.repository.exists()
    asked = ("auto",) if settings.providers == "auto" else settings.providers
    report = examine(Wish(asked, settings.repository if wished else None))
    if output is Output.JSON:
        printing.write_json(report)
    else:
        printing.write_doctor(report)
    if report["problems"]:
        raise typer.Exit(FAILURE_EXIT)


def _healthcheck(
    *,
    url: Annotated[
        str, typer.Option(help="What to ask (default: this machine, at the configured port).")
    ] = "",
    live: Annotated[
        bool, typer.Option("--live", help="Ask whether it runs, not whether it takes traffic.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for an answer.")] = 5,
) -> None:
    """Ask a running server whether it is ready: exit 0 if it is, 1 if not, 2 for a wrong call.

    Host and port, or the Unix socket, and the certificate are those of the variables and the
    settings file.
    """
    from service.healthcheck import ask_health, health_url, own_context

    socket, tls = "", None
    if not url:
        settings = load_settings({})
        socket = settings.uds
        url = health_url(settings.host, settings.port, live=live, tls=settings.tls_cert is not None)
        if settings.tls_cert and settings.tls_key:
            tls = own_context(settings.tls_cert, settings.tls_key)
    elif live:
        raise ConfigurationError("give either --url or --live, not both")
    health = ask_health(url, timeout, uds=socket, tls=tls)
    typer.echo(printable(health.reason), err=not health.good)
    if not health.good:
        raise typer.Exit(FAILURE_EXIT)


def _config() -> None:
    """Look at the settings."""


def _config_show(
    config: Annotated[
        Path | None, typer.Option(help="The settings file (default: onnxport.toml if there).")
    ] = None,
    output: OutputOption = Output.TEXT,
    **flags: object,
) -> None:
    """Show every setting as `serve` would have it here, and where its value comes from."""
    from service import printing

    ours, kserve = parted(flags)
    traced = trace_settings(ours, config=config, kserve=kserve)
    if output is Output.JSON:
        printing.write_json({"settings": printing.setting_rows(traced)})
    else:
        printing.write_settings(traced)


if __name__ == "__main__":
    main()
