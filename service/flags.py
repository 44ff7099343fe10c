"""One flag a setting, and KServe's spellings beside them, for verbs of the command line."""

from __future__ import annotations

import inspect as signatures
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, cast

import typer

from service.platforms import KSERVE_FLAGS, KSERVE_IGNORED, KSERVE_REFUSED
from service.settings import Settings, setting_names

_KSERVE: Final = "kserve_"
# As Triton spells it.
_OTHER_SPELLINGS: Final = {"model_control": ("--model-control-mode",)}


def with_settings(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb one flag a setting, so that flags and settings cannot differ, and KServe's.

    The verb takes them as keyword arguments, None where a flag was not given.
    """
    own = [p for p in signatures.signature(verb).parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = [_flag(name) for name in setting_names()]
    flags += [_kserve_flag(name) for name in (*KSERVE_FLAGS, *KSERVE_IGNORED, *KSERVE_REFUSED)]

    def command(**arguments: object) -> None:
        verb(**arguments)

    command.__doc__ = verb.__doc__
    hints = signatures.get_annotations(verb, eval_str=True)
    parameters = [p.replace(annotation=hints[p.name], kind=p.KEYWORD_ONLY) for p in own] + flags
    typed = cast("Any", command)
    typed.__signature__ = signatures.Signature(parameters)
    typed.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _flag(name: str) -> signatures.Parameter:
    """Return the flag of one setting; its value stays text, the settings check it."""
    field = Settings.model_fields[name]
    kind: Any = bool | None if field.annotation is bool else str | None
    default = field.default
    if isinstance(default, tuple):
        kind = list[str] | None
    shown = ",".join(default) if isinstance(default, tuple) else str(default)
    help_text = f"{field.description} (default: {shown or 'none'})"
    spellings = (f"--{name.replace('_', '-')}", *_OTHER_SPELLINGS.get(name, ()))
    option = typer.Option(*spellings, help=help_text, show_default=False)
    if field.annotation is bool:
        flag = name.replace("_", "-")
        option = typer.Option(f"--{flag}/--no-{flag}", help=help_text, show_default=False)
    return signatures.Parameter(
        name,
        signatures.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, option],
    )


def _kserve_flag(name: str) -> signatures.Parameter:
    """Return a flag in KServe's spelling, which is known by its underscores."""
    ours = KSERVE_FLAGS.get(name, "")
    option = typer.Option(
        f"--{name}",
        help=f"KServe's spelling of --{ours.replace('_', '-')}.",
        hidden=not ours,
        show_default=False,
    )
    return signatures.Parameter(
        f"{_KSERVE}{name}",
        signatures.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, option],
    )


def parted(flags: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    """Return our flags, and those that KServe spells, without what marks them."""
    ours = {name: value for name, value in flags.items() if not name.startswith(_KSERVE)}
    kserve = {
        name.removeprefix(_KSERVE): str(value)
        for name, value in flags.items()
        if name.startswith(_KSERVE) and value is not None
    }
    return ours, kserve
