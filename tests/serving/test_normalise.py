"""Pictures of all kinds take MNIST's form: real digits, redrawn in each way."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from serving.normalise import normalise, read_image
from storage.errors import ImageError
from tasks.load import load

Draw = Callable[[NDArray[np.uint8]], Image.Image]


def enlarged(side: int) -> Draw:
    return lambda digit: Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)


def off_centre(digit: NDArray[np.uint8]) -> Image.Image:
    canvas = Image.new("L", (84, 84))
    canvas.paste(Image.fromarray(digit), (50, 3))
    return canvas


def half_size(digit: NDArray[np.uint8]) -> Image.Image:
    """Ten pixels high: half of the detail is lost."""
    canvas = Image.new("L", (28, 28))
    canvas.paste(Image.fromarray(digit).resize((14, 14), Image.Resampling.BOX), (7, 7))
    return canvas


def transparent(ink: int) -> Draw:
    return lambda digit: Image.merge("LA", (Image.new("L", (28, 28), ink), Image.fromarray(digit)))


def red_on_white(digit: NDArray[np.uint8]) -> Image.Image:
    paper = Image.fromarray(255 - digit)
    return Image.merge("RGB", (Image.new("L", (28, 28), 255), paper, paper))


def photographed(digit: NDArray[np.uint8]) -> Image.Image:
    """Dark ink on unevenly lit paper, with sensor noise."""
    ink = np.asarray(enlarged(400)(digit), dtype=np.float64) / 255
    down, across = np.mgrid[0:400, 0:400] / 400
    noise = np.random.default_rng(int(digit.sum())).normal(0, 6, ink.shape)
    shade = (150 + 60 * across + 30 * down) * (1 - 0.75 * ink) + noise
    return Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).convert("RGB")


def thin_pen(digit: NDArray[np.uint8]) -> Image.Image:
    drawn = enlarged(400)(digit).point(lambda value: 255 if value > 128 else 0)
    for _ in range(6):
        drawn = drawn.filter(ImageFilter.MinFilter(3))
    return drawn


VARIANTS: dict[str, Draw] = {
    "28 pixels": Image.fromarray,
    "64 pixels": enlarged(64),
    "300 pixels": enlarged(300),
    "1,000 pixels": enlarged(1000),
    "dark on light": lambda digit: Image.fromarray(255 - digit),
    "dark on light, 300 pixels": lambda digit: enlarged(300)(255 - digit),
    "black on transparent": transparent(0),
    "white on transparent": transparent(255),
    "off-centre": off_centre,
    "half size": half_size,
    "red on white": red_on_white,
    "photographed": photographed,
    "thin pen": thin_pen,
}


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def seen(image: Image.Image) -> NDArray[np.uint8]:
    """The model's input for an image, by way of a file."""
    return normalise(read_image(encoded(image)))


def alike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def digits() -> NDArray[np.uint8]:
    """Thirty real digits, three of each."""
    images: NDArray[np.uint8] = load.fn("mnist-5k").train_images[::134]
    return images


def test_a_picture_in_mnists_form_is_unchanged(digits) -> None:
    same = [np.array_equal(seen(Image.fromarray(digit)), digit) for digit in digits]
    # The others have their centre of mass between two pixels, or a faint edge.
    assert np.mean(same) > 0.9


@pytest.mark.parametrize("name", VARIANTS)
def test_every_rendering_of_a_digit_gives_the_same_input(name: str, digits) -> None:
    # The correlation of two different digits is about 0.4.
    found = [alike(seen(VARIANTS[name](digit)), digit) for digit in digits]
    assert np.median(found) > (0.8 if name in {"half size", "thin pen"} else 0.93)


@pytest.mark.parametrize("paper", [255, 0])
def test_a_drawing_cut_out_of_its_paper_is_put_back_on_it(paper: int, digits) -> None:
    for digit in digits:
        whole = Image.fromarray(np.pad(np.asarray(enlarged(140)(digit)), 40))
        whole = whole.point(lambda value: abs(paper - value))
        cut = Image.merge("LA", (whole, whole.point(lambda value: 255 * (value != paper))))
        assert alike(seen(cut), seen(whole)) > 0.99


@pytest.mark.parametrize("side", [28, 64, 300, 2000])
@pytest.mark.parametrize("turn", [0, 90])
def test_the_ink_fits_20_pixels_and_is_centred_by_its_mass(side: int, turn: int) -> None:
    canvas = Image.new("L", (side, side))
    ImageDraw.Draw(canvas).rectangle((side // 8, side // 3, side // 2, side * 2 // 3), fill=255)
    image = seen(canvas.rotate(turn))
    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert image.max() == 255
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = image.sum()
    assert abs((image.sum(axis=1) @ np.arange(28)) / mass - 14) <= 0.51
    assert abs((image.sum(axis=0) @ np.arange(28)) / mass - 14) <= 0.51


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("PNG", ["1", "L", "P", "RGB", "RGBA", "I;16"]),
        ("JPEG", ["L", "RGB", "CMYK"]),
        ("WEBP", ["L", "RGB", "RGBA"]),
        ("BMP", ["1", "L", "P", "RGB", "RGBA"]),
    ],
)
def test_every_file_format_and_mode_is_read(kind: str, modes: list[str], digits) -> None:
    drawn = enlarged(120)(digits[0])
    for mode in modes:
        if mode == "I;16":
            image = Image.fromarray(np.asarray(drawn).astype(np.uint16) * 257)
        else:
            image = drawn.convert(mode)
        found = normalise(read_image(encoded(image, kind)))
        # One bit per pixel and JPEG lose a little.
        assert alike(found, digits[0]) > 0.75, mode


def test_a_photograph_is_rotated_by_its_exif_orientation(digits) -> None:
    seven = digits[21]
    turned = enlarged(100)(seven).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert alike(normalise(read_image(encoded(turned, "JPEG", exif=exif))), seven) > 0.8
    assert alike(normalise(read_image(encoded(turned, "JPEG"))), seven) < 0.5


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (50, 50), 200),
        Image.new("RGBA", (50, 50)),
        Image.new("RGB", (1, 1), "red"),
        Image.new("I;16", (30, 30), 7),
        Image.fromarray(np.random.default_rng(0).normal(200, 2, (99, 99)).astype(np.uint8)),
    ],
    ids=["one shade", "transparent", "one pixel", "16 bits", "sensor noise"],
)
def test_an_image_without_ink_is_an_error_and_not_a_digit(image: Image.Image) -> None:
    with pytest.raises(ImageError, match="expected a digit in the image, found no ink"):
        seen(image)


def bomb(width: int, height: int) -> bytes:
    """A small PNG whose header declares this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "received an empty file"),
        (b"no image", "received another file type"),
        (b"GIF89a" + bytes(100), "received a GIF file; save it as PNG or JPEG"),
        (b"II*\0" + bytes(100), "received a TIFF file; save it as PNG or JPEG"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "received a HEIC file; save it as PNG or JPEG"),
        (b"\0\0\0\x1cftypavif" + bytes(100), "received an AVIF file; save it as PNG or JPEG"),
        (b"%PDF-1.7" + bytes(100), "received a PDF file; save it as PNG or JPEG"),
        (encoded(Image.new("L", (90, 90)))[:60], "received a damaged file"),
        (encoded(Image.new("L", (90, 90)), "JPEG")[:200], "received"),
        (bomb(60_000, 60_000), "at most 25,000,000 pixels"),
        (bomb(9_000, 9_000), "received 9,000 x 9,000"),
        (bomb(2**31 - 1, 2**31 - 1), "expected an image"),
    ],
)
def test_other_files_and_large_images_are_refused_before_decoding(
    content: bytes, said: str
) -> None:
    with pytest.raises(ImageError, match=said):
        read_image(content)


@given(content=st.binary(max_size=400), start=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP"]))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_a_digit_or_one_error(content: bytes, start: str) -> None:
    whole = encoded(Image.new("L", (40, 40), 9), start)
    cut = len(content) % len(whole)
    for candidate in (content, whole[:cut] + content, content[:8] + whole[8:]):
        try:
            image = normalise(read_image(candidate))
        except ImageError:
            continue
        assert image.shape == (28, 28)
