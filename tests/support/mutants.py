"""Random damage to the folder of a bundle, each drawn from a seed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, by their paths."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def mutate(files: dict[str, bytes], seed: int) -> dict[str, bytes]:
    """Return the files with one to three damages; they may cancel each other out."""
    draw = random.Random(seed)
    mutant = dict(files)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        draw.choice(_DAMAGES)(mutant, draw)
    return mutant


def write(files: dict[str, bytes], folder: Path) -> None:
    """Have exactly these files in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def _at(content: bytes, draw: random.Random) -> int:
    return draw.randrange(len(content)) if content else 0


def _flip(content: bytes, draw: random.Random) -> bytes:
    place = _at(content, draw)
    changed = bytes([content[place] ^ 1 << draw.randrange(8)]) if content else b"\x01"
    return content[:place] + changed + content[place + 1 :]


def _overwrite(content: bytes, draw: random.Random) -> bytes:
    place, length = _at(content, draw), draw.randint(1, 64)
    return content[:place] + draw.randbytes(length) + content[place + length :]


def _zero(content: bytes, draw: random.Random) -> bytes:
    place = _at(content, draw)
    return content[:place] + bytes(len(content) - place)


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: _at(content, draw)]


def _insert(content: bytes, draw: random.Random) -> bytes:
    place = _at(content, draw)
    return content[:place] + draw.randbytes(draw.randint(1, 16)) + content[place:]


def _turn(content: bytes, draw: random.Random) -> bytes:
    place = _at(content, draw)
    return content[place:] + content[:place]


def _digit(content: bytes, draw: random.Random) -> bytes:
    """Change one character in a way that leaves text text."""
    places = [index for index, byte in enumerate(content[:4096]) if byte in b"0123456789"]
    if not places:
        return _flip(content, draw)
    place = draw.choice(places)
    return content[:place] + draw.choice(b"0123456789").to_bytes() + content[place + 1 :]


_CONTENT: Final = (_flip, _overwrite, _zero, _cut, _insert, _turn, _digit)


def _damage(files: dict[str, bytes], draw: random.Random) -> None:
    if files:
        name = draw.choice(sorted(files))
        files[name] = draw.choice(_CONTENT)(files[name], draw)


def _drop(files: dict[str, bytes], draw: random.Random) -> None:
    if files:
        del files[draw.choice(sorted(files))]


def _swap(files: dict[str, bytes], draw: random.Random) -> None:
    if len(files) > 1:
        one, other = draw.sample(sorted(files), 2)
        files[one], files[other] = files[other], files[one]


def _rename(files: dict[str, bytes], draw: random.Random) -> None:
    if files:
        name = draw.choice(sorted(files))
        files[f"{name}{draw.choice('~x0')}"] = files.pop(name)


def _add(files: dict[str, bytes], draw: random.Random) -> None:
    files[f"extra{draw.randrange(10)}"] = draw.randbytes(draw.randrange(8))


_DAMAGES: Final[tuple[Callable[[dict[str, bytes], random.Random], None], ...]] = (
    *(_damage,) * 6,
    _drop,
    _swap,
    _rename,
    _add,
)
