"""From the settings to a running server: open the port, then become the supervisor.

The command line has read its settings with libraries that a process which lives for months does
not need; the supervisor begins in a fresh interpreter, under the same process id.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from service.admission import Limits, memory_for
from service.allowance import share_of
from service.children import command_of, environment, inheritable
from service.contract import MODEL_FILE
from service.cpu import usable_cores, usable_memory
from service.errors import ConfigurationError
from service.fleet import crew_of
from service.listener import close_listener, listen, listen_unix
from service.mirror import fetch_once, folder_of
from service.settings import Settings
from service.supervisor_options import Following, Options, Poll

_DEVICES = Path("/dev")


def launch(settings: Settings, *, ignored: Sequence[str] = ()) -> NoReturn:
    """Serve until SIGINT or SIGTERM, then let running requests end within the grace time.

    ``ignored`` are flags that were taken without having a meaning here.  Raises ConfigurationError
    if there is nothing to serve or the address cannot be had; does not return otherwise.
    """
    notice, mirror = "", mirror_of(settings)
    if mirror is not None:
        notice = fetch_once(mirror.url, Path(mirror.folder))
        settings = settings.model_copy(update={"repository": Path(mirror.folder)})
    if not settings.repository.exists():
        raise ConfigurationError(
            f"{settings.repository}: no such file or folder; train a model with onnxport-train "
            "cnn, or name a repository, a bundle or an .onnx file"
        )
    listeners = listen_all(settings)
    options = os.memfd_create("onnxport-options")
    found = options_of(with_ports(settings, listeners), ignored, mirror)
    found = replace(found, notices=(*found.notices, notice)) if notice else found
    os.write(options, found.as_json())
    os.lseek(options, 0, os.SEEK_SET)
    descriptors = (options, *(listener.fileno() for listener in listeners))
    inheritable(descriptors)
    sys.stdout.flush()
    sys.stderr.flush()
    command = command_of("service.supervisor", *descriptors)
    os.execve(sys.executable, command, environment())  # noqa: S606 - no shell is wanted


def listen_all(settings: Settings) -> list[socket.socket]:
    """Open the main socket and, where one is wanted, the one for admin, in this order."""
    main = listen_unix(settings.uds) if settings.uds else listen(settings.host, settings.port)
    if settings.admin_port is None:
        return [main]
    try:
        return [main, listen(settings.admin_host, settings.admin_port, prefix="admin-")]
    except ConfigurationError:
        close_listener(main)
        raise


def with_ports(settings: Settings, listeners: Sequence[socket.socket]) -> Settings:
    """Return the settings with the ports that were really taken: by them roads are told apart."""
    names = ("port", "admin_port")
    taken = {
        name: listener.getsockname()[1]
        for name, listener in zip(names, listeners, strict=False)
        if listener.family != socket.AF_UNIX
    }
    return settings.model_copy(update=taken)


def options_of(
    settings: Settings, ignored: Sequence[str] = (), mirror: Following | None = None
) -> Options:
    """Return what the supervisor needs, with the numbers that fit this machine."""
    cuda = uses_cuda(settings.providers)
    crew = crew_of(settings.workers, settings.threads, usable_cores(), cuda=cuda)
    flags = ", ".join(ignored)
    limit = settings.memory_limit
    if limit == "auto":
        # The driver maps far more than it uses.
        limit = 0 if cuda else share_of(usable_memory(), crew.workers)
    return Options(
        workers=crew.workers,
        threads=crew.threads,
        drain_delay=settings.drain_delay,
        grace=settings.grace,
        quarantine_deaths=settings.quarantine_deaths,
        hang_timeout=settings.hang_timeout,
        log_level=settings.log_level,
        log_format=settings.log_format,
        settings={**settings.model_dump(mode="json"), "memory_limit": limit},
        secure=settings.tls_cert is not None,
        poll=poll_of(settings),
        admission=limits_of(settings, cuda=cuda),
        admissions=usable_cores(),
        prestarted=min(usable_cores(), models_at(settings)),
        mirror=mirror if settings.model_control != "none" else None,
        notices=(f"flags of KServe without a meaning here: {flags}",) if flags else (),
    )


def poll_of(settings: Settings) -> Poll | None:
    """Return how the disk is followed, None if it is not."""
    if settings.model_control != "poll":
        return None
    whole = bool(settings.model_name)
    return Poll(str(settings.repository), settings.poll_interval, whole)


def models_at(settings: Settings) -> int:
    """Return about how many versions are loaded at the start, from a glance at the folder."""
    if settings.model_control == "explicit" and not settings.load_model:
        return 0
    path = settings.repository
    if not path.is_dir() or (path / MODEL_FILE).exists():
        return 1
    return sum(not entry.name.startswith(".") for entry in path.iterdir())


def limits_of(settings: Settings, *, cuda: bool) -> Limits:
    """Return what the proof of one version may cost."""
    return Limits(settings.admission_timeout, memory_for(settings.admission_memory, cuda=cuda))


def mirror_of(settings: Settings) -> Following | None:
    """Return how a repository somewhere else is followed, None for one on this machine.

    Raises ConfigurationError if there is no cache to keep it in.
    """
    if not settings.remote:
        return None
    if settings.cache_folder is None:
        raise ConfigurationError(
            f"{settings.remote}: needs a folder to be kept in, see --cache-dir"
        )
    folder = folder_of(settings.remote, settings.cache_folder)
    return Following(settings.remote, str(folder), settings.remote_interval)


def uses_cuda(providers: str | Sequence[str], devices: Path = _DEVICES) -> bool:
    """Whether models will run on a GPU, told without loading a library that would take memory.

    "auto" means CUDA where both its ONNX Runtime and a device are there.
    """
    if providers not in ("auto", ("auto",)):
        return "cuda" in providers or "tensorrt" in providers
    if not any(metadata.distributions(name="onnxruntime-gpu")):
        return False
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()
