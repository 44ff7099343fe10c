"""What a test of an image needs of a container engine: docker, podman, or buildah with chroot."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

USER = "1234567:0"


@dataclass(frozen=True)
class Call:
    """How an image is started: its arguments, its models and where it finds them, its port."""

    arguments: Sequence[str]
    models: Path
    mounted: str
    port: int


@dataclass(frozen=True)
class Started:
    """A container that runs; ``pid`` is its first process as this machine counts them."""

    process: subprocess.Popen[bytes]
    pid: int


class Engine(Protocol):
    """Runs commands of one image, as an unknown user of group 0, on a read-only root."""

    def config(self) -> dict[str, Any]:
        """Return the image's configuration in Docker's words."""

    def bytes_over(self, base: str) -> int:
        """Return how many bytes the image has more than its base, uncompressed."""

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the image to its end, where a started server can be reached."""

    def started(self, call: Call, log: Path) -> AbstractContextManager[Started]:
        """Start the image over a folder of models, and end it at last."""


def output(*command: str) -> str:
    """Run a command that must succeed and return what it wrote."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


class Daemon:
    """Docker or podman."""

    def __init__(self, engine: str, image: str) -> None:
        """Name what runs what."""
        self._engine = engine
        self._image = image
        self._limits = ["--read-only", "--tmpfs", "/tmp:size=64m", "--user", USER, "--cap-drop=ALL"]  # noqa: S108 - a folder in the container
        self._limits += ["--security-opt", "no-new-privileges"]
        self._name = f"onnxport-test-{os.getpid()}"

    def config(self) -> dict[str, Any]:
        """Return the image's configuration in Docker's words."""
        return dict(json.loads(output(self._engine, "image", "inspect", self._image))[0]["Config"])

    def bytes_over(self, base: str) -> int:
        """Return how many bytes the image has more than its base, uncompressed."""
        sizes = [
            int(output(self._engine, "image", "inspect", "--format", "{{.Size}}", name))
            for name in (self._image, base)
        ]
        return sizes[0] - sizes[1]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container that serves, or in a new one."""
        running = output(self._engine, "ps", "--quiet", "--filter", f"name={self._name}")
        start = ["run", "--rm", "--entrypoint", command[0], *self._limits, self._image]
        arguments = ["exec", self._name, *command] if running else [*start, *command[1:]]
        return subprocess.run(
            [self._engine, *arguments], check=False, capture_output=True, text=True
        )

    @contextmanager
    def started(self, call: Call, log: Path) -> Iterator[Started]:
        """Start the image over a folder of models, and end it at last."""
        command = [self._engine, "run", "--rm", "--name", self._name, *self._limits]
        command += ["--volume", f"{call.models}:{call.mounted}:ro"]
        command += ["--env", f"ONNXPORT_PORT={call.port}"]
        command += ["--publish", f"127.0.0.1:{call.port}:{call.port}", self._image]
        command += call.arguments
        with log.open("wb") as written, subprocess.Popen(command, stderr=written) as process:
            try:
                yield Started(process, self._pid(process))
            finally:
                process.terminate()

    def _pid(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until the engine knows the container's first process."""
        while process.poll() is None:
            asked = subprocess.run(
                [self._engine, "inspect", "--format", "{{.State.Pid}}", self._name],
                check=False,
                capture_output=True,
                text=True,
            )
            if asked.stdout.strip() not in {"", "0"}:
                return int(asked.stdout)
        raise SystemExit("the container ended before it began")


class Chroot:
    """Buildah's images without an engine: a namespace of mounts, a root that is read-only, a user.

    Needs root.  The network is this machine's own.
    """

    def __init__(self, image: str) -> None:
        """Unpack the image."""
        self._image = image
        self._container = output("buildah", "from", "--pull-never", image).strip()
        self._root = Path(output("buildah", "mount", self._container).strip())

    def close(self) -> None:
        """Throw the unpacked image away."""
        output("buildah", "rm", self._container)

    def config(self) -> dict[str, Any]:
        """Return the image's configuration in Docker's words."""
        inspected = json.loads(output("buildah", "inspect", "--type", "image", self._image))
        return dict(inspected["Docker"]["config"])

    def bytes_over(self, base: str) -> int:
        """Return how many bytes the image has more than its base, uncompressed."""
        container = output("buildah", "from", "--pull-never", base).strip()
        try:
            root = output("buildah", "mount", container).strip()
            return _bytes_in(str(self._root)) - _bytes_in(root)
        finally:
            output("buildah", "rm", container)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the image to its end."""
        return subprocess.run(self._command(command), check=False, capture_output=True, text=True)

    @contextmanager
    def started(self, call: Call, log: Path) -> Iterator[Started]:
        """Start the image over a folder of models, and end it at last."""
        config = self.config()
        command = self._command([*config["Entrypoint"], *(call.arguments or config["Cmd"])], call)
        with log.open("wb") as written, subprocess.Popen(command, stderr=written) as process:
            try:
                # Each step replaces the one before by exec, so the number stays the same.
                yield Started(process, process.pid)
            finally:
                process.terminate()
                process.wait()
                # The next start may have its models elsewhere.
                (self._root / call.mounted.lstrip("/")).rmdir()

    def _command(self, command: Sequence[str], call: Call | None = None) -> list[str]:
        """Return what mounts all read-only but /tmp, gives up every right, and runs the command."""
        root = shlex.quote(str(self._root))
        steps = [
            f"mount --bind {root} {root}",
            f"cd {root}",
            "mount -t proc proc proc",
            "mount --bind /dev dev",
            "mount -t tmpfs -o size=64m,mode=1777 tmpfs tmp",
        ]
        environment = {}
        if call:
            # The folder to mount on is the engine's to make, as docker and podman do.
            folder = call.mounted.lstrip("/")
            steps += [
                f"mkdir -p {folder}",
                f"mount --bind {shlex.quote(str(call.models))} {folder}",
            ]
            steps += [f"mount -o remount,ro,bind {folder}"]
            environment["ONNXPORT_PORT"] = str(call.port)
        steps += [f"mount -o remount,ro,bind {root}", self._entry(root, command, environment)]
        return ["unshare", "--mount", "sh", "-c", " && ".join(steps)]

    def _entry(self, root: str, command: Sequence[str], environment: dict[str, str]) -> str:
        """Return what enters the root as the unknown user, with the image's variables alone."""
        config = self.config()
        variables = [*config["Env"], *(f"{k}={v}" for k, v in environment.items())]
        user, group = USER.split(":")
        rights = f"setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs"
        rights += " --bounding-set=-all --inh-caps=-all"
        inner = f"cd {shlex.quote(config['WorkingDir'] or '/')} && exec {shlex.join(command)}"
        entered = f"/usr/bin/env -i {shlex.join(variables)} {rights} sh -c {shlex.quote(inner)}"
        return f"exec chroot {root} {entered}"


def _bytes_in(folder: str) -> int:
    """Return what the files of a tree take, without what is mounted in it."""
    return int(output("du", "--summarize", "--one-file-system", "--bytes", folder).split()[0])


@contextmanager
def engine_of(name: str, image: str) -> Iterator[Engine]:
    """Yield the engine of this name for one image."""
    if name != "buildah":
        yield Daemon(name, image)
        return
    engine = Chroot(image)
    try:
        yield engine
    finally:
        engine.close()
