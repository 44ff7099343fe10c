"""Pictures: decoded within bounds, or taken as raw pixels; never trusted."""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Mapping

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from service.arrays import array_from_json, kind_of
from service.errors import InvalidRequest, TooLarge
from service.tensors import Tensor

MAX_PIXELS = 25_000_000
FORMATS = ("PNG", "JPEG")
_MODES = {1: "L", 3: "RGB"}
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
# What puts a picture upright, by its EXIF orientation.
_TURNS: Mapping[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_picture(raw: bytes, channels: int) -> Tensor:
    """Return a PNG or JPEG file as uint8 [height, width, channels], turned as its EXIF data says.

    Raises InvalidRequest for an empty, damaged or unknown file and TooLarge for one that declares
    more than 25 megapixels, before any of them is decoded.
    """
    if not raw:
        raise InvalidRequest("picture: empty, expected a PNG or JPEG file")
    try:
        with warnings.catch_warnings():
            # Damaged metadata is no concern of the picture; the size has a limit of our own below.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            picture = Image.open(io.BytesIO(raw), formats=FORMATS)
            _check_size(picture.width, picture.height)
            return _pixels(picture, channels)
    except Image.DecompressionBombError as error:
        raise TooLarge(f"picture: declares far more than {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        raise InvalidRequest(_unknown(raw)) from error
    # Pillow's decoders raise all of these on damaged files.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError) as error:
        raise InvalidRequest(f"picture: damaged or truncated: {error}") from error


def _unknown(raw: bytes) -> str:
    """Say why a file was not even opened."""
    for signature, kind in _SIGNATURES.items():
        if raw.startswith(signature):
            return f"picture: damaged or truncated: {len(raw)} bytes that begin as {kind} does"
    return f"picture: neither PNG nor JPEG, it begins with {raw[:8].hex(' ')}"


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise TooLarge(f"picture: {width} x {height} pixels, at most {MAX_PIXELS} are allowed")


def _pixels(picture: Image.Image, channels: int) -> Tensor:
    if picture.mode.startswith(("I", "F")):
        raise InvalidRequest(f"picture: more than 8 bits a channel (mode {picture.mode})")
    array = np.asarray(_upright(picture).convert(_MODES[channels]))
    return array.reshape(*array.shape[:2], channels)


def _upright(picture: Image.Image) -> Image.Image:
    # A PNG file may hold its EXIF data behind the pixels.
    picture.load()
    # `ImageOps.exif_transpose` also writes the data anew, which fails where any of it is damaged.
    turn = _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation))
    return picture if turn is None else picture.transpose(turn)


def picture_from_numbers(value: object, channels: int) -> Tensor:
    """Return ``{"b64": text}`` or nested whole numbers 0-255 as uint8 [height, width, channels]."""
    if isinstance(value, Mapping):
        return decode_picture(_base64(value), channels)
    pixels = array_from_json(value, np.dtype(np.uint8), "picture")
    shaped = pixels[..., None] if pixels.ndim == 2 and channels == 1 else pixels
    if shaped.ndim != 3 or shaped.shape[2] != channels or shaped.size == 0:
        wanted = "[height, width]" if channels == 1 else "[height, width, 3]"
        raise InvalidRequest(f"picture: expected {wanted}, got shape {list(pixels.shape)}")
    _check_size(shaped.shape[1], shaped.shape[0])
    return shaped


def _base64(value: Mapping[object, object]) -> bytes:
    if set(value) != {"b64"}:
        keys = sorted(str(key) for key in value)
        raise InvalidRequest(f"picture: expected numbers or {{'b64': text}}, got keys {keys}")
    text = value["b64"]
    if not isinstance(text, str):
        raise InvalidRequest(f"picture: b64: expected a string, got {kind_of(text)}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"picture: b64 is not base64: {error}") from error


def resize(picture: Tensor, *, height: int, width: int) -> Tensor:
    """Return uint8 [height, width, channels], resampled with an antialiased bilinear filter."""
    if picture.shape[:2] == (height, width):
        return picture
    squeezed = picture[..., 0] if picture.shape[2] == 1 else picture
    image = Image.fromarray(np.ascontiguousarray(squeezed))
    sized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return sized.reshape(height, width, picture.shape[2])
