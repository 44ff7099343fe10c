"""Users' pictures, a folder for each class.

The accepted layouts, in a folder or an archive (.tar, .tar.gz, .tgz, .zip)::

    CLASS/picture.png             split by the seed
    train/CLASS/picture.png       split by the folders; both of them must be there
    test/CLASS/picture.png

Pictures are PNG, JPEG, BMP, GIF, PPM, TIFF or WebP with 8 bits a channel. They are turned as their
EXIF data say, grey if all of them are grey and else RGB (transparency is dropped), and resized to
``image_size`` or the most common size with an antialiased bilinear filter: what the service does
with a picture that a client sends.
"""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from training.data.dataset import DataError, DataSet, Examples, ImageArray, make_dataset
from training.data.records import Record, check_layout, classify, divide, place
from training.data.sources import DAMAGED, read_files
from training.data.spec import DataSpec

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
MAX_PIXELS = 25_000_000
MAX_BYTES = 8 << 30
_EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class _Header:
    """What a picture says of itself: height and width when upright, and whether it is grey."""

    size: tuple[int, int]
    grey: bool


def load_images(spec: DataSpec) -> DataSet:
    """Read the pictures that ``spec.root`` names, in two passes: headers first, then pixels."""
    root = Path(spec.root)
    headers = {path: _read_header(path, raw) for path, raw in read_files(root)}
    records = [Record(path, label, part, "") for path, part, label in _places(headers, root.name)]
    check_layout({record.split for record in records}, root.name)
    classes, labels = classify(records, spec.classes)
    size = spec.image_size or _most_common([header.size for header in headers.values()])
    channels = 1 if all(header.grey for header in headers.values()) else 3
    pixels = _allocate((len(records), *size, channels), root.name)
    index = {record.where: i for i, record in enumerate(records)}
    for path, raw in read_files(root, index.__contains__):
        pixels[index[path]] = decode(path, raw, size=size, channels=channels)
    train, test = divide(Examples(pixels, labels), [record.split for record in records], spec)
    name = spec.name or root.name
    return make_dataset(name, classes, train, test, source=root.name, license="not stated")


def decode(where: str, raw: bytes, *, size: tuple[int, int], channels: int) -> ImageArray:
    """Return a picture file as uint8 [height, width, channels], upright and resized."""
    height, width = size
    with _opened(where, raw) as picture:
        upright = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
        if upright.size != (width, height):
            upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(upright).reshape(height, width, channels)


@contextmanager
def _opened(where: str, raw: bytes) -> Iterator[Image.Image]:
    """Open a picture whose header is within bounds; raise DataError for whatever is wrong in it."""
    try:
        with warnings.catch_warnings():
            # What Pillow warns of is either refused here or does not change the pixels.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(raw), formats=FORMATS) as picture:
                _check_header(where, picture)
                yield picture
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: declares far more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        start = raw[:8].hex(" ")
        raise DataError(f"{where}: not a picture that is read, begins with {start}") from error
    # Pillow's decoders raise all of these on damaged files.
    except (*DAMAGED, SyntaxError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(f"{where}: damaged or truncated picture: {error}") from error


def _check_header(where: str, picture: Image.Image) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        shown = f"{picture.width} x {picture.height}"
        raise DataError(f"{where}: {shown} pixels, at most {MAX_PIXELS} are allowed")
    if picture.mode.startswith(("I", "F")):
        raise DataError(f"{where}: more than 8 bits a channel (mode {picture.mode})")


def _read_header(where: str, raw: bytes) -> _Header:
    with _opened(where, raw) as picture:
        # Orientations 5 to 8 lie on their side.
        lying = picture.getexif().get(_EXIF_ORIENTATION, 1) in range(5, 9)
        size = picture.size if lying else (picture.height, picture.width)
        return _Header(size, picture.mode in ("1", "L", "LA"))


def _places(paths: Iterable[str], source: str) -> Iterator[tuple[str, str, str]]:
    for path in sorted(paths):
        part, label = place(path, source)
        yield path, part, label


def _most_common(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the most common height and width, the larger one of two that are equally common."""
    counts = Counter(sizes)
    return max(counts, key=lambda size: (counts[size], size))


def _allocate(shape: tuple[int, int, int, int], source: str) -> ImageArray:
    needed = math.prod(shape)
    if needed > MAX_BYTES:
        raise DataError(f"{source}: pictures {list(shape)} are {needed} bytes, at most {MAX_BYTES}")
    if min(shape[1:3]) < 1:
        raise DataError(f"{source}: image_size {list(shape[1:3])}: must be at least 1 x 1")
    return np.zeros(shape, np.uint8)
