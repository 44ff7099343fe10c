"""Which wheel of ONNX Runtime is installed, and the command that mends a wrong one.

All of them own the same import folder, so that only one may be there.  Nothing is imported here:
a broken installation is what this must be able to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from service.errors import ProviderUnavailable

CPU_WHEEL, GPU_WHEEL = "onnxruntime", "onnxruntime-gpu"
_OTHERS = ("onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-training")
_EITHER = "pip install 'onnxport[cpu]' (or 'onnxport[gpu]')"


def installed_wheels() -> dict[str, str]:
    """Return the installed wheels of ONNX Runtime with their versions."""
    return {
        distribution.metadata["Name"].lower(): distribution.version
        for name in (CPU_WHEEL, GPU_WHEEL, *_OTHERS)
        for distribution in metadata.distributions(name=name)
    }


def has_runtime(wheel: str) -> bool:
    """Whether the wheel's import package is still there: removing a second wheel takes it away."""
    place = metadata.distribution(wheel).locate_file("onnxruntime/__init__.py")
    return Path(str(place)).is_file()


def wheel_problem(
    found: Mapping[str, str],
    providers: Sequence[str] = ("auto",),
    whole: Callable[[str], bool] = has_runtime,
) -> str:
    """Return what is wrong with these wheels for these providers, and its remedy; "" if nothing.

    CUDA with the CPU behind it is no promise, so there the CPU's wheel will do.
    """
    names = sorted(found)
    if not names:
        return f"no ONNX Runtime is installed; mend it with: {_EITHER}"
    if len(names) > 1:
        return (
            f"{' and '.join(names)} are installed together and overwrite each other; mend it "
            f"with: pip uninstall -y {' '.join(names)} && {_EITHER}"
        )
    if not whole(names[0]):
        return (
            f"{names[0]} has lost its files to another wheel that was removed; mend it with: "
            f"pip uninstall -y {names[0]} && {_EITHER}"
        )
    if "cuda" in providers and "cpu" not in providers and names != [GPU_WHEEL]:
        return (
            f"provider 'cuda' needs {GPU_WHEEL}, {names[0]} is installed; mend it with: "
            f"pip uninstall -y {names[0]} && pip install 'onnxport[gpu]'"
        )
    return ""


def check_wheels(providers: Sequence[str] = ("auto",)) -> None:
    """Raise ProviderUnavailable, with the remedy, unless one right wheel is installed."""
    problem = wheel_problem(installed_wheels(), providers)
    if problem:
        raise ProviderUnavailable(problem)
