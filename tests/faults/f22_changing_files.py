"""F22: a repository that is written to while it is watched, in the ways that tools write.

Each case begins with a version that serves, lets another one arrive, and ends when that serves.
Callers ask all the while: none may fail, none may be answered by what is incomplete.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.harness import Caller, pace, report, served, until
from tests.faults.texts import MODEL, ask, digest, make_bundle
from tests.support.servers import RealServer

PAUSE = 0.2
WITHIN = 2.0
PATIENCE = 30.0
Arrive = Callable[[Path, Path], Awaitable[None]]


async def _write(content: bytes, target: Path, *, pieces: int = 4, keep: bool = False) -> None:
    """Write a file piece by piece; ``keep`` writes over what is there."""
    size = max(1, -(-len(content) // pieces))
    with target.open("r+b" if keep else "wb") as stream:
        for start in range(0, len(content), size):
            stream.write(content[start : start + size])
            stream.flush()
            await asyncio.sleep(PAUSE)
        stream.truncate()


async def slow_copy(source: Path, target: Path) -> None:
    """Copy under the final name, slowly."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        await _write(file.read_bytes(), target / file.name)


async def model_first(source: Path, target: Path) -> None:
    """Copy the model, wait, and then the rest with the list of files last."""
    target.mkdir()
    names = sorted((f.name for f in source.iterdir()), key=lambda n: (n != "model.onnx", n))
    names.sort(key=lambda name: name == "bundle.json")
    for name in names:
        shutil.copyfile(source / name, target / name)
        await asyncio.sleep(2.5 if name == "model.onnx" else PAUSE)


async def list_first(source: Path, target: Path) -> None:
    """Copy the list of files, wait, and then what it lists."""
    target.mkdir()
    names = sorted((f.name for f in source.iterdir()), key=lambda n: (n != "bundle.json", n))
    for name in names:
        shutil.copyfile(source / name, target / name)
        await asyncio.sleep(2.5 if name == "bundle.json" else PAUSE)


async def preallocated(source: Path, target: Path) -> None:
    """Give every file its size first, and fill in the zeros slowly."""
    target.mkdir()
    for file in source.iterdir():
        with (target / file.name).open("wb") as stream:
            stream.truncate(file.stat().st_size)
    for file in sorted(source.iterdir()):
        await _write(file.read_bytes(), target / file.name, keep=True)


async def renamed(source: Path, target: Path) -> None:
    """Put a complete folder in place in one step."""
    hidden = target.parent / f".{target.name}"
    shutil.copytree(source, hidden)
    hidden.rename(target)


async def rsync(source: Path, target: Path, *more: str) -> None:
    """Have rsync do it, as slowly as it can be told."""
    command = ["rsync", "-a", "--bwlimit=4", *more, f"{source}/", f"{target}/"]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def rsync_in_place(source: Path, target: Path) -> None:
    """Have rsync write without temporary names."""
    await rsync(source, target, "--inplace")


async def empty_first(source: Path, target: Path) -> None:
    """Make the folder, wait, and fill it."""
    target.mkdir()
    await asyncio.sleep(2.5)
    for file in sorted(source.iterdir()):
        shutil.copyfile(file, target / file.name)


CASES: dict[str, Arrive] = {
    "slow copy": slow_copy,
    "model first": model_first,
    "list first": list_first,
    "preallocated": preallocated,
    "renamed": renamed,
    "empty first": empty_first,
}
if shutil.which("rsync"):
    CASES |= {"rsync": rsync, "rsync --inplace": rsync_in_place}


def remove(path: Path) -> None:
    """Remove a folder, or the link to one."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path)


@dataclass(slots=True)
class Trial:
    """A server, its repository, and what was found."""

    server: RealServer
    repository: Path
    caller: Caller
    version: int = 1
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.repository / MODEL

    async def serves(self, wanted: str) -> float:
        """Wait until a bundle answers everywhere; return how long it took."""

        async def there() -> bool:
            alone = {(MODEL, str(self.version)): "READY"}
            ready = {k: s for k, s in (await self.caller.states()).items() if "READY" in s}
            return await digest(self.caller) == wanted and ready == alone

        return await until(there, PATIENCE)

    async def arrive(self, case: str, how: Arrive) -> None:
        """Have a newer version arrive, and then remove the older one."""
        with TemporaryDirectory(dir=self.repository.parent) as folder:
            bundle = make_bundle(Path(folder))
            old, self.version = self.version, self.version + 1
            await how(bundle.path, self.model / str(self.version))
            self.seconds.setdefault(case, []).append(await self.serves(bundle.manifest.digest))
        remove(self.model / str(old))

    async def overwrite(self) -> None:
        """Write another bundle over the one that serves, file by file."""
        with TemporaryDirectory(dir=self.repository.parent) as folder:
            bundle = make_bundle(Path(folder))
            for file in sorted(bundle.path.iterdir()):
                await _write(
                    file.read_bytes(), self.model / str(self.version) / file.name, keep=True
                )
            took = await self.serves(bundle.manifest.digest)
            self.seconds.setdefault("overwritten in place", []).append(took)

    async def flip(self) -> None:
        """Serve what a link leads to, and turn the link as mounted volumes do."""
        with TemporaryDirectory(dir=self.repository.parent) as folder:
            bundle = make_bundle(Path(folder))
            old, self.version = self.version, self.version + 1
            first, second = self.model / "..first", self.model / "..second"
            shutil.copytree(bundle.path, first)
            (self.model / "..data").symlink_to(first.name)
            (self.model / str(self.version)).symlink_to("..data")
            began = await self.serves(bundle.manifest.digest)
            newer = make_bundle(Path(folder))
            shutil.copytree(newer.path, second)
            (self.model / "..next").symlink_to(second.name)
            os.replace(self.model / "..next", self.model / "..data")  # noqa: PTH105 - one step
            took = await self.serves(newer.manifest.digest)
            self.seconds.setdefault("link turned", []).append(max(began, took))
            remove(self.model / str(old))
            remove(first)
        await self.arrive("renamed", renamed)
        for left in (self.model / "..data", second):
            remove(left)

    async def truncate(self) -> None:
        """Cut a file that serves; what is in memory answers, and the reason is to be seen."""
        path = self.model / str(self.version)
        with (path / "model.onnx").open("r+b") as stream:
            stream.truncate(10)

        async def told() -> bool:
            state = (await self.caller.states()).get((MODEL, str(self.version)), "")
            return state.startswith("READY: its replacement failed") and "model.onnx" in state

        self.seconds.setdefault("truncated", []).append(await until(told, PATIENCE))

    async def round(self) -> None:
        """Do everything once."""
        for case, how in CASES.items():
            await self.arrive(case, how)
        await self.overwrite()
        await self.truncate()
        await self.arrive("renamed", renamed)
        await self.flip()


async def run(server: RealServer, repository: Path, rounds: int) -> int:
    """Do so many rounds while callers ask."""
    trial, over = Trial(server, repository, Caller(server.address)), asyncio.Event()
    trial.model.mkdir()
    with TemporaryDirectory(dir=repository.parent) as folder:
        bundle = make_bundle(Path(folder))
        bundle.path.rename(trial.model / "1")
        await trial.serves(bundle.manifest.digest)
    # All workers have it now, and the next look has seen that all of them do.
    await asyncio.sleep(1)
    asking = asyncio.create_task(pace(server.address, ask, callers=4, rate=10, until=over))
    for _ in range(rounds):
        await trial.round()
    over.set()
    load = await asking
    errors = [str(line["message"]) for line in server.so_far() if line["level"] == "error"]
    slowest = {case: round(max(took), 2) for case, took in trial.seconds.items()}
    figures = {
        "rounds": rounds,
        "requests": len(load.seconds),
        "failed": len(load.failures),
        "first": load.failures[:3],
        "served_after_seconds_worst": slowest,
        "error_lines": len(errors),
        "errors": sorted({error.split(": ", 1)[-1][:100] for error in errors}),
    }
    goals = {
        "failed": not load.failures,
        "served": all(took != float("inf") for took in slowest.values()),
        "in time": all(took <= WITHIN for case, took in slowest.items() if case != "truncated"),
        # What was truncated is told once; nothing else may be.
        "errors": len(errors) <= rounds,
    }
    trial.caller.close()
    return report("F22", figures, goals)


def main() -> None:
    """Do it and exit 1 if a goal is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=10)
    given = options.parse_args()
    with served("--workers", 2) as (server, repository):
        code = asyncio.run(run(server, repository, given.rounds))
    raise SystemExit(code)


if __name__ == "__main__":
    main()
