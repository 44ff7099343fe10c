"""What `service.images` promises."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps, PngImagePlugin

from service import images
from service.errors import InvalidRequest, ServiceError, TooLarge
from service.images import MAX_PIXELS, decode_picture, picture_from_numbers, resize
from service.tensors import Tensor
from tests.support.strategies import JSON, damaged

ORIENTATION = 0x0112
PNG_START = b"\x89PNG\r\n\x1a\n"
COLOURS = np.random.default_rng(7).integers(0, 256, (5, 7, 3), np.uint8)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """Return data as a camera writes it."""
    data = Image.Exif()
    data[ORIENTATION] = orientation
    data[0x010E] = "a description"
    data[0x011A] = 1.5
    data.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    return data


def rich_png() -> bytes:
    """Return a palette with transparency, EXIF data and texts, in one file."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("a", "b" * 30, zip=True)
    texts.add_itxt("c", "d", "en", "e", zip=True)
    picture = Image.fromarray(COLOURS).convert("P")
    return saved(
        picture, "PNG", exif=exif(6), pnginfo=texts, transparency=bytes([0, 9]), dpi=(72, 72)
    )


RICH_PNG = rich_png()
RICH_JPEG = saved(
    Image.fromarray(COLOURS), "JPEG", exif=exif(6), progressive=True, icc_profile=b"x" * 40
)


def with_checksums(raw: bytes) -> bytes:
    """Return a PNG file with right checksums, so that damage reaches what reads the chunks."""
    mended, start = raw[:8], 8
    while start + 12 <= len(raw):
        end = start + 8 + int.from_bytes(raw[start : start + 4], "big")
        kind_and_content = raw[start + 4 : end]
        mended += raw[start:end] + struct.pack(">I", zlib.crc32(kind_and_content))
        start = end + 4
    return mended


def header_only(width: int, height: int) -> bytes:
    """Return a PNG that declares a size and holds not one pixel."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return with_checksums(
        PNG_START + struct.pack(">I", 13) + head + bytes(4) + bytes(4) + b"IDAT" + bytes(4)
    )


def outcome(raw: bytes, channels: int) -> Tensor | ServiceError:
    """Return the pixels, or the error with which the file is refused."""
    try:
        return decode_picture(raw, channels)
    except (InvalidRequest, TooLarge) as error:
        return error


def refusal(value: object, channels: int = 1) -> str:
    """Return the text with which a JSON value is refused."""
    with pytest.raises(InvalidRequest) as caught:
        picture_from_numbers(value, channels)
    return str(caught.value)


@given(
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3).map(lambda s: (*s[:2], 3)))
)
def test_png_keeps_every_pixel(pixels: Tensor) -> None:
    """Width and height are not confused, and colours not changed."""
    raw = saved(Image.fromarray(pixels), "PNG")
    np.testing.assert_array_equal(decode_picture(raw, 3), pixels, strict=True)
    grey = saved(Image.fromarray(pixels[..., 0].copy()), "PNG")
    np.testing.assert_array_equal(decode_picture(grey, 1), pixels[..., :1], strict=True)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_becomes_grey_or_colour(mode: str) -> None:
    """What the file holds is converted to what the model takes."""
    picture = Image.fromarray(COLOURS).convert(mode)
    for channels, wanted in ((1, "L"), (3, "RGB")):
        found = decode_picture(saved(picture, "PNG"), channels)
        wanted_pixels = np.asarray(picture.convert(wanted)).reshape(5, 7, channels)
        np.testing.assert_array_equal(found, wanted_pixels, strict=True)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_close_to_its_pixels(mode: str) -> None:
    """One colour survives the compression of a JPEG file."""
    raw = saved(Image.new("RGB", (9, 4), (200, 200, 200)).convert(mode), "JPEG", quality=95)
    found = decode_picture(raw, 3)
    assert found.shape == (4, 9, 3)
    assert np.abs(found.astype(int) - 200).max() <= 2


def test_a_palette_with_transparency_is_no_cause_to_complain() -> None:
    """A valid picture is read without a warning."""
    assert decode_picture(RICH_PNG, 3).shape == (7, 5, 3)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_is_turned_as_its_exif_data_says(kind: str, orientation: int) -> None:
    """All eight orientations, and numbers that are none, are read as Pillow's own tool does."""
    raw = saved(Image.fromarray(COLOURS), kind, exif=exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    np.testing.assert_array_equal(decode_picture(raw, 3), np.asarray(upright), strict=True)


def test_exif_data_that_cannot_be_written_again() -> None:
    """Damage in a tag that nobody asked for does not stop a picture from being turned."""
    good = saved(Image.fromarray(COLOURS), "JPEG", exif=exif(6))
    # The text that describes the picture becomes, by its type, floating-point numbers.
    entry = struct.pack(">HH", 0x010E, 2)
    assert good.count(entry) == 1
    damaged_tag = good.replace(entry, struct.pack(">HH", 0x010E, 11))
    np.testing.assert_array_equal(decode_picture(damaged_tag, 3), decode_picture(good, 3))


@given(
    st.binary() | damaged(RICH_JPEG) | damaged(RICH_PNG) | damaged(RICH_PNG).map(with_checksums),
    st.sampled_from([1, 3]),
)
def test_any_file_is_a_picture_or_refused(raw: bytes, channels: int) -> None:
    """Whatever is damaged or cut off, there are pixels or an error that says picture."""
    found = outcome(raw, channels)
    if isinstance(found, ServiceError):
        assert str(found).startswith("picture: ")
    else:
        assert found.dtype == np.uint8
        assert found.ndim == 3
        assert found.shape[2] == channels


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "picture: empty, expected a PNG or JPEG file"),
        (PNG_START, "picture: damaged or truncated: 8 bytes that begin as PNG does"),
        (header_only(0, 0), "picture: damaged or truncated: 45 bytes that begin as PNG does"),
        (b"\xff\xd8\xff\xe0", "picture: damaged or truncated: 4 bytes that begin as JPEG does"),
        (b"GIF89a", "picture: neither PNG nor JPEG, it begins with 47 49 46 38 39 61"),
        (saved(Image.fromarray(COLOURS), "BMP"), "it begins with 42 4d"),
        (RICH_PNG[:-30], "picture: damaged or truncated: "),
        (RICH_JPEG[:-30], "picture: damaged or truncated: "),
        (
            saved(Image.fromarray(np.zeros((2, 2), np.uint16)), "PNG"),
            "picture: more than 8 bits a channel (mode I;16)",
        ),
    ],
)
def test_files_that_are_no_pictures(raw: bytes, text: str) -> None:
    """The text tells a foreign format from a damaged file."""
    found = outcome(raw, 1)
    assert isinstance(found, InvalidRequest)
    assert text in str(found)


@pytest.mark.parametrize("sides", [(5001, 5000), (25_000_001, 1), (10_000, 10_000)])
def test_a_picture_of_too_many_pixels(sides: tuple[int, int]) -> None:
    """The declared size is refused, with the limit, before there is a pixel to decode."""
    found = outcome(header_only(*sides), 1)
    assert isinstance(found, TooLarge)
    assert str(found) == (
        f"picture: {sides[0]} x {sides[1]} pixels, at most {MAX_PIXELS} are allowed"
    )


def test_a_bomb() -> None:
    """50,000 x 50,000 declared pixels are refused in a PNG file and in a JPEG file."""
    jpeg = saved(Image.new("L", (259, 258)), "JPEG")
    assert jpeg.count(struct.pack(">HH", 258, 259)) == 1
    for raw in (
        header_only(50_000, 50_000),
        jpeg.replace(struct.pack(">HH", 258, 259), struct.pack(">HH", 50_000, 50_000)),
    ):
        found = outcome(raw, 1)
        assert isinstance(found, TooLarge)
        assert str(MAX_PIXELS) in str(found)


def test_the_largest_picture_is_taken() -> None:
    """The limit itself is allowed, and only pixels count, not the sides."""
    assert decode_picture(saved(Image.new("1", (5000, 5000)), "PNG"), 1).shape == (5000, 5000, 1)
    assert picture_from_numbers([[0] * 5001], 1).shape == (1, 5001, 1)


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3]), st.data())
def test_numbers_are_pixels(height: int, width: int, channels: int, data: st.DataObject) -> None:
    """Nested numbers 0 to 255 are the picture, grey ones with or without their last axis."""
    pixels = data.draw(arrays.arrays(np.uint8, (height, width, channels)))
    forms = [pixels, *([pixels[..., 0]] if channels == 1 else [])]
    for form in forms:
        found = picture_from_numbers(form.tolist(), channels)
        np.testing.assert_array_equal(found, pixels, strict=True)


def test_a_file_in_base64_is_the_file() -> None:
    """The object form leads to the same pixels."""
    found = picture_from_numbers({"b64": base64.b64encode(RICH_PNG).decode()}, 3)
    np.testing.assert_array_equal(found, decode_picture(RICH_PNG, 3), strict=True)


@given(JSON | st.builds(lambda text: {"b64": text}, st.text()))
def test_any_value_is_a_picture_or_refused(value: object) -> None:
    """A caller's JSON never ends in another error."""
    try:
        found = picture_from_numbers(value, 1)
    except (InvalidRequest, TooLarge):
        return
    assert found.dtype == np.uint8
    assert found.shape[2] == 1


@pytest.mark.parametrize(
    ("value", "channels", "text"),
    [
        ("iVBORw0KGgo=", 1, "picture: expected a whole number, got a string"),
        (None, 1, "picture: expected a whole number, got null"),
        ([[0, 256]], 1, "picture: 256 is outside 0..255 of uint8"),
        ([[0, -1]], 1, "picture: -1 is outside 0..255 of uint8"),
        ([[0, 0.5]], 1, "picture: 0.5 is not an exact whole number for uint8"),
        ([0, 1], 1, "picture: expected [height, width], got shape [2]"),
        ([[[0, 1]]], 1, "picture: expected [height, width], got shape [1, 1, 2]"),
        ([[0, 1]], 3, "picture: expected [height, width, 3], got shape [1, 2]"),
        ([[[0]]], 3, "picture: expected [height, width, 3], got shape [1, 1, 1]"),
        ([], 1, "picture: expected [height, width], got shape [0]"),
        ([[]], 1, "picture: expected [height, width], got shape [1, 0]"),
        ([[1], [1, 2]], 1, "picture: ragged or mixed nesting of lists"),
        ({}, 1, "picture: expected numbers or {'b64': text}, got keys []"),
        (
            {"b64": "", "a": 1},
            1,
            "picture: expected numbers or {'b64': text}, got keys ['a', 'b64']",
        ),
        ({"b64": 5}, 1, "picture: b64: expected a string, got the number 5"),
        ({"b64": "é"}, 1, "picture: b64 is not base64: "),
        ({"b64": "AAA"}, 1, "picture: b64 is not base64: "),
        ({"b64": "AA AA"}, 1, "picture: b64 is not base64: "),
        ({"b64": ""}, 1, "picture: empty"),
    ],
)
def test_values_that_are_no_pictures(value: object, channels: int, text: str) -> None:
    """The text says what was expected and what was seen."""
    assert refusal(value, channels).startswith(text)


def test_too_many_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of pixels holds for numbers too; a small one, since the real one takes long."""
    monkeypatch.setattr(images, "MAX_PIXELS", 6)
    assert picture_from_numbers([[0, 0, 0]] * 2, 1).shape == (2, 3, 1)
    with pytest.raises(TooLarge, match=r"picture: 4 x 2 pixels, at most 6 are allowed"):
        picture_from_numbers([[0, 0, 0, 0]] * 2, 1)


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    """What fits is handed on as it is."""
    assert resize(COLOURS, height=5, width=7) is COLOURS


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(3, 4), (10, 1), (64, 65)])
def test_a_picture_is_resized(channels: int, height: int, width: int) -> None:
    """Height, width and channels are as asked, and one colour stays that colour."""
    found = resize(np.full((5, 7, channels), 77, np.uint8), height=height, width=width)
    np.testing.assert_array_equal(found, np.full((height, width, channels), 77, np.uint8))


def test_shrinking_takes_the_mean() -> None:
    """A fine pattern becomes grey instead of whichever pixel was hit."""
    pattern = np.indices((64, 64)).sum(0) % 2 * 255
    found = resize(pattern[..., None].astype(np.uint8), height=8, width=8)
    assert np.abs(found.astype(int) - 127).max() <= 1
