"""MNIST digits redrawn as people photograph, scan and draw them."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Digit = NDArray[np.uint8]  # (28, 28); 0 is paper, 255 is ink
Ink = NDArray[np.float32]  # (height, width); 0 is paper, 1 is ink
Picture = NDArray[np.uint8]  # (height, width), (height, width, 3) in RGB, or with alpha
Draw = Callable[[Digit, Generator], Picture]

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def strokes(digit: Digit, height: int, pen: float = 0.0) -> Ink:
    """The digit's strokes with sharp edges, cropped to them.

    Args:
        digit: An MNIST image.
        height: Pixels of the digit's 28.
        pen: Pixels of the 28 by which a stroke gets thicker, or thinner if negative.
    """
    large = cv2.resize(digit, (height, height), interpolation=cv2.INTER_CUBIC)
    large = cv2.GaussianBlur(
        np.pad(large.astype(np.float32) / 255, height // 4), (0, 0), height / 90
    )
    if pen:
        side = 2 * round(abs(pen) * height / 56) + 1
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        large = cv2.dilate(large, kernel) if pen > 0 else cv2.erode(large, kernel)
    ink = np.clip((large - 0.5) * height / 28 + 0.5, 0, 1).astype(np.float32)
    if pen >= 0:
        return _cropped(ink)
    return _cropped(ink) if ink.max() > 0.9 else strokes(digit, height, pen / 2)


def _cropped(ink: Ink) -> Ink:
    rows, columns = np.flatnonzero(ink.max(1) > 0.02), np.flatnonzero(ink.max(0) > 0.02)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def placed(ink: Ink, width: int, height: int, x: float, y: float) -> Ink:
    """The ink on a sheet; x and y in [0, 1] say where in the room that is left."""
    sheet = np.zeros((height, width), np.float32)
    left, top = round(x * (width - ink.shape[1])), round(y * (height - ink.shape[0]))
    sheet[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return sheet


def on_sheet(digit: Digit, rng: Generator, share: float | None = None, pen: float = 0.0) -> Ink:
    """The digit somewhere near the middle of a square sheet of 300 to 500 pixels."""
    side = int(rng.integers(300, 501))
    height = side * (rng.uniform(0.55, 0.8) if share is None else share)
    ink = strokes(digit, round(height), pen)
    return placed(ink, side, side, *rng.uniform(0.3, 0.7, 2))


def painted(
    ink: Ink, paper: NDArray[np.float32] | Sequence[float] = WHITE, colour: Sequence[float] = BLACK
) -> NDArray[np.float32]:
    """Mix the colours of paper and ink."""
    share = ink[..., None]
    mixed: NDArray[np.float32] = np.asarray(paper, np.float32) * (1 - share)
    return mixed + np.asarray(colour, np.float32) * share


def rounded(values: NDArray[np.floating]) -> Picture:
    """Grey levels as bytes."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def sheet_colour(rng: Generator) -> NDArray[np.float32]:
    """A white to cream paper."""
    return np.array([1, rng.uniform(0.97, 1), rng.uniform(0.92, 1)], np.float32) * rng.uniform(
        225, 255
    )


def pen_colour(rng: Generator) -> NDArray[np.float32]:
    """A black, blue, or dark red pen."""
    colours = ((20, 20, 24), (25, 28, 70), (30, 50, 130), (120, 20, 25))
    return np.array(colours[rng.integers(len(colours))], np.float32)


def written(digit: Digit, rng: Generator, **options: float) -> NDArray[np.float32]:
    """A digit with a pen on a clean sheet."""
    return painted(on_sheet(digit, rng, **options), sheet_colour(rng), pen_colour(rng))


def compressed(picture: NDArray[np.floating], rng: Generator, sigma: float = 4.0) -> Picture:
    """What a camera adds: noise and JPEG."""
    noisy = rounded(picture + rng.normal(0, sigma, picture.shape))
    _, file = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 92))])
    return np.asarray(cv2.imdecode(file, cv2.IMREAD_UNCHANGED), np.uint8)


# What was always read.


def _as_it_is(digit: Digit, _: Generator) -> Picture:
    return digit


def _dark_on_light(digit: Digit, _: Generator) -> Picture:
    return 255 - digit


def _enlarged(digit: Digit, rng: Generator) -> Picture:
    side = int(np.exp(rng.uniform(np.log(56), np.log(1000))))
    large = cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC)
    return 255 - large if rng.random() < 0.5 else large


def _half_size(digit: Digit, _: Generator) -> Picture:
    small = cv2.resize(digit, (14, 14), interpolation=cv2.INTER_AREA)
    return np.pad(small, 7)


def _off_centre(digit: Digit, rng: Generator) -> Picture:
    canvas = np.zeros((84, 84), np.uint8)
    top, left = rng.integers(0, 57, 2)
    canvas[top : top + 28, left : left + 28] = digit
    return canvas


def _clean(digit: Digit, rng: Generator) -> Picture:
    return rounded(written(digit, rng))


def _thin_pen(digit: Digit, rng: Generator) -> Picture:
    return rounded(written(digit, rng, pen=rng.uniform(-0.8, -0.3)))


def _thick_pen(digit: Digit, rng: Generator) -> Picture:
    return rounded(written(digit, rng, pen=rng.uniform(1, 2)))


def _pencil(digit: Digit, rng: Generator) -> Picture:
    ink = on_sheet(digit, rng)
    grain = cv2.GaussianBlur(rng.uniform(0, 1, ink.shape).astype(np.float32), (0, 0), 1)
    ink *= np.clip(0.35 + 1.5 * (grain - 0.5) + 0.3, 0, 1)
    return rounded(
        painted(ink, sheet_colour(rng), (110, 110, 112)) + rng.normal(0, 2, (*ink.shape, 1))
    )


def _chalk(digit: Digit, rng: Generator) -> Picture:
    ink = on_sheet(digit, rng)
    grain = cv2.GaussianBlur(rng.uniform(0, 1, ink.shape).astype(np.float32), (0, 0), 1)
    ink *= np.clip(0.7 + 2 * (grain - 0.5), 0, 1)
    board = np.array([35, 60, 45], np.float32) * rng.uniform(0.7, 1.5)
    return rounded(painted(ink, board, (225, 225, 215)) + rng.normal(0, 4, (*ink.shape, 1)))


def _noise(digit: Digit, rng: Generator) -> Picture:
    drawn = written(digit, rng)
    return rounded(drawn + rng.normal(0, rng.uniform(8, 20), drawn.shape))


def _small_on_a_page(digit: Digit, rng: Generator) -> Picture:
    width, height = 600, 850
    ink = strokes(digit, int(rng.integers(60, 110)))
    return rounded(
        painted(
            placed(ink, width, height, *rng.uniform(0.1, 0.9, 2)),
            sheet_colour(rng),
            pen_colour(rng),
        )
    )


def _gaps(digit: Digit, rng: Generator) -> Picture:
    """A pen that skipped: one to three cuts through the strokes."""
    ink = on_sheet(digit, rng)
    rows, columns = np.nonzero(ink > 0.5)
    height = float(np.ptp(rows))
    for _ in range(rng.integers(1, 4)):
        at = rng.integers(len(rows))
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * height
        start, end = (
            np.array([columns[at], rows[at]]) - reach,
            np.array([columns[at], rows[at]]) + reach,
        )
        cv2.line(
            ink,
            start.astype(int).tolist(),
            end.astype(int).tolist(),
            0.0,
            max(1, round(height * rng.uniform(0.015, 0.05))),
            cv2.LINE_AA,
        )
    return rounded(painted(ink, sheet_colour(rng), pen_colour(rng)))


def _inverted(digit: Digit, rng: Generator) -> Picture:
    return 255 - rounded(written(digit, rng))


def _transparent(digit: Digit, rng: Generator) -> Picture:
    shade = 0 if rng.random() < 0.5 else 255
    return np.dstack([np.full_like(digit, shade)] * 3 + [digit])


def _red_on_white(digit: Digit, _: Generator) -> Picture:
    return np.dstack([np.full_like(digit, 255), 255 - digit, 255 - digit])


def _turned(digit: Digit, rng: Generator) -> Picture:
    return _rotated(written(digit, rng), rng.uniform(-15, 15))


def _rotated(picture: NDArray[np.float32], degrees: float) -> Picture:
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return rounded(
        cv2.warpAffine(
            picture,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


# Paper.


def _ruled(
    paper: NDArray[np.float32], rng: Generator, squares: bool = False
) -> NDArray[np.float32]:
    """Draw light blue lines on a sheet."""
    sheet = paper.copy()
    side = sheet.shape[0]
    step = side * (rng.uniform(0.05, 0.1) if squares else rng.uniform(0.1, 0.2))
    colour = np.array([rng.uniform(150, 200), rng.uniform(190, 215), rng.uniform(220, 240)])
    thickness = int(rng.integers(1, max(2, side // 150) + 1))
    for at in np.arange(rng.uniform(0, step), side, step).astype(int):
        sheet[at : at + thickness] = colour
        if squares:
            sheet[:, at : at + thickness] = colour
    return sheet


def _sheet(ink: Ink, rng: Generator) -> NDArray[np.float32]:
    return np.broadcast_to(sheet_colour(rng), (*ink.shape, 3)).copy()


def _ruled_light_blue(digit: Digit, rng: Generator) -> Picture:
    ink = on_sheet(digit, rng)
    return rounded(painted(ink, _ruled(_sheet(ink, rng), rng), pen_colour(rng)))


def _squared(digit: Digit, rng: Generator) -> Picture:
    ink = on_sheet(digit, rng)
    return rounded(painted(ink, _ruled(_sheet(ink, rng), rng, squares=True), pen_colour(rng)))


def _one_faint_line_below(digit: Digit, rng: Generator) -> Picture:
    ink = on_sheet(digit, rng)
    sheet = _sheet(ink, rng)
    bottom = int(np.flatnonzero(ink.max(1) > 0.5)[-1])
    at = int(rng.integers(bottom, len(ink) - 4))
    thickness = int(rng.integers(1, 4))
    sheet[at : at + thickness] -= rng.uniform(10, 60) * np.array([1.4, 1, 0.6], np.float32)
    return rounded(painted(ink, sheet, pen_colour(rng)))


def _dark_lines(digit: Digit, rng: Generator) -> Picture:
    """Ruled in grey or dark blue, sometimes through the digit."""
    ink = on_sheet(digit, rng)
    sheet = _sheet(ink, rng)
    step = len(ink) * rng.uniform(0.15, 0.25)
    colour = np.array([rng.uniform(60, 130)] * 2 + [rng.uniform(90, 160)])
    for at in np.arange(rng.uniform(0, step), len(ink), step).astype(int):
        sheet[at : at + int(rng.integers(1, 3))] = colour
    return rounded(painted(ink, sheet, pen_colour(rng)))


# Light and camera.


def _shade(shape: tuple[int, int], angle: float) -> NDArray[np.float32]:
    """0 to 1 across the sheet."""
    down, across = np.mgrid[0 : shape[0], 0 : shape[1]] / max(shape)
    along = across * np.cos(angle) + down * np.sin(angle)
    spread: NDArray[np.float32] = ((along - along.min()) / np.ptp(along)).astype(np.float32)
    return spread


def _gradient(ratio: float) -> Draw:
    def draw(digit: Digit, rng: Generator) -> Picture:
        drawn = written(digit, rng)
        light = 1 - (1 - 1 / ratio) * _shade(drawn.shape[:2], rng.uniform(0, 2 * np.pi))
        return compressed(drawn * light[..., None], rng)

    return draw


def _hard_shadow(digit: Digit, rng: Generator) -> Picture:
    drawn = written(digit, rng)
    spread = _shade(drawn.shape[:2], rng.uniform(0, 2 * np.pi))
    edge = rng.uniform(0.3, 0.7)
    shadow = np.clip((spread - edge) * rng.uniform(60, 400) + 0.5, 0, 1)
    return compressed(drawn * (1 - 0.45 * shadow[..., None]), rng)


def _photographed(drawn: NDArray[np.float32], rng: Generator) -> Picture:
    height, width = drawn.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    angle = np.radians(rng.uniform(-8, 8))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width, height]) / 2
    moved = (corners - middle) @ turn.T * 1.15 + middle
    moved += rng.uniform(-0.06, 0.06, (4, 2)) * width
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    taken = cv2.warpPerspective(
        drawn, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    light = 1 - rng.uniform(0.1, 0.4) * _shade((height, width), rng.uniform(0, 2 * np.pi))
    blurred = cv2.GaussianBlur(taken * light[..., None], (0, 0), rng.uniform(0.5, 1.2))
    return compressed(blurred, rng, rng.uniform(3, 7))


def _photo_on_plain_paper(digit: Digit, rng: Generator) -> Picture:
    return _photographed(written(digit, rng), rng)


def _photo_on_ruled_paper(digit: Digit, rng: Generator) -> Picture:
    ink = on_sheet(digit, rng)
    return _photographed(painted(ink, _ruled(_sheet(ink, rng), rng), pen_colour(rng)), rng)


def _desk(shape: tuple[int, ...], rng: Generator) -> NDArray[np.float32]:
    colours = ((70, 48, 38), (40, 40, 45), (110, 80, 55), (55, 70, 60))
    wood = np.array(colours[rng.integers(len(colours))], np.float32)
    grain = cv2.GaussianBlur(rng.normal(0, 25, shape[:2]).astype(np.float32), (0, 0), 1, sigmaY=9)
    return wood + grain[..., None]


def _desk_around(digit: Digit, rng: Generator) -> Picture:
    drawn = written(digit, rng)
    side = len(drawn)
    margin = round(side * rng.uniform(0.1, 0.35))
    size = side + 2 * margin
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    angle = np.radians(rng.uniform(-12, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (corners - side / 2) @ turn.T * 0.9 + size / 2 + rng.uniform(-0.04, 0.04, (4, 2)) * side
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    sheet = cv2.warpPerspective(
        np.dstack([drawn, np.full((side, side), 1, np.float32)]), matrix, (size, size)
    )
    seen = sheet[..., :3] + _desk((size, size), rng) * (1 - sheet[..., 3:])
    return compressed(seen, rng)


def _desk_in_one_corner(digit: Digit, rng: Generator) -> Picture:
    drawn = written(digit, rng)
    side = len(drawn)
    reach = rng.uniform(0.1, 0.35, 2) * side
    corner = np.array([[0, 0], [reach[0], 0], [0, reach[1]]]).astype(np.int32)
    mask = np.zeros((side, side), np.float32)
    cv2.fillPoly(mask, [corner], 1.0, cv2.LINE_AA)
    mask = np.ascontiguousarray(np.rot90(mask, int(rng.integers(4))))[..., None]
    return compressed(drawn * (1 - mask) + _desk((side, side), rng) * mask, rng)


# What stands around a digit.


def _speck(digit: Digit, rng: Generator) -> Picture:
    drawn = written(digit, rng)
    side = len(drawn)
    size = max(1, round(side * rng.uniform(0.005, 0.02)))
    at = [side - size - 3 if rng.random() < 0.5 else 3 for _ in range(2)]
    at = [
        int(
            np.clip(
                place + rng.integers(-2, side // 12) * (1 if place == 3 else -1), 0, side - size
            )
        )
        for place in at
    ]
    drawn[at[0] : at[0] + size, at[1] : at[1] + size] = pen_colour(rng)
    return rounded(drawn)


def _frame(
    drawn: NDArray[np.float32], inset: int, thickness: int, colour: NDArray[np.float32]
) -> None:
    height, width = drawn.shape[:2]
    cv2.rectangle(
        drawn, (inset, inset), (width - 1 - inset, height - 1 - inset), colour.tolist(), thickness
    )


def _frame_at_the_edge(digit: Digit, rng: Generator) -> Picture:
    drawn = written(digit, rng)
    thickness = int(rng.integers(2, 9))
    _frame(drawn, thickness // 2 if rng.random() < 0.7 else 0, thickness, pen_colour(rng))
    return rounded(drawn)


def _frame_inside(digit: Digit, rng: Generator) -> Picture:
    drawn = written(digit, rng, share=rng.uniform(0.5, 0.75))
    _frame(
        drawn, round(len(drawn) * rng.uniform(0.02, 0.08)), int(rng.integers(1, 6)), pen_colour(rng)
    )
    return rounded(drawn)


def _form_field(digit: Digit, rng: Generator) -> Picture:
    """A printed box with its caption above or beside it."""
    ink = strokes(digit, int(rng.integers(130, 220)))
    box = max(ink.shape) + int(rng.integers(20, 60))
    height, width = box + int(rng.integers(90, 160)), box + int(rng.integers(120, 320))
    sheet = np.broadcast_to(sheet_colour(rng), (height, width, 3)).copy()
    left, top = int(rng.integers(10, width - box - 10)), height - box - int(rng.integers(12, 35))
    inner = np.zeros((height, width), np.float32)
    inner[top : top + box, left : left + box] = placed(ink, box, box, *rng.uniform(0.3, 0.7, 2))
    sheet = rounded(painted(inner, sheet, pen_colour(rng)))
    cv2.rectangle(
        sheet, (left, top), (left + box, top + box), (40, 40, 40), int(rng.integers(1, 4))
    )
    caption = str(rng.choice(["Amount", "Digit:", "No. of items", "Room"]))
    cv2.putText(
        sheet,
        caption,
        (12, top - 16),
        cv2.FONT_HERSHEY_SIMPLEX,
        rng.uniform(0.6, 1.1),
        (40, 40, 40),
        2,
        cv2.LINE_AA,
    )
    return sheet


def _drawing_program(digit: Digit, rng: Generator) -> Picture:
    """A screenshot: title bar, tools at the left, a canvas in grey surroundings."""
    width, height = int(rng.integers(560, 900)), int(rng.integers(460, 700))
    shot = np.full((height, width, 3), rng.integers(190, 246), np.uint8)
    bar = int(rng.integers(24, 40))
    shot[:bar] = rng.integers((20, 60, 90), (221, 221, 231))
    cv2.putText(
        shot,
        "untitled - Paint",
        (8, bar - 8),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.5,
        (20, 20, 20),
        1,
        cv2.LINE_AA,
    )
    for number in range(3):
        cv2.rectangle(
            shot, (width - 20 - 24 * number, 8), (width - 8 - 24 * number, 20), (30, 30, 30), 1
        )
    for number in range(int(rng.integers(5, 10))):
        top = bar + 12 + 34 * number
        cv2.rectangle(shot, (8, top), (34, top + 26), (120, 120, 120), 1)
        cv2.circle(
            shot, (21, top + 13), 6, rng.uniform(0, 200, 3).tolist(), -1 if number % 2 else 1
        )
    left, top = 50, bar + 14
    right, bottom = width - int(rng.integers(10, 60)), height - int(rng.integers(20, 60))
    shot[top:bottom, left:right] = 255
    cv2.rectangle(shot, (left, top), (right, bottom), (130, 130, 130), 1)
    ink = strokes(digit, round(0.7 * min(bottom - top, right - left)))
    canvas = placed(ink, right - left, bottom - top, *rng.uniform(0.3, 0.7, 2))
    shot[top:bottom, left:right] = rounded(painted(canvas, shot[top:bottom, left:right], BLACK))
    return shot


def _underlined(digit: Digit, rng: Generator) -> Picture:
    ink = on_sheet(digit, rng)
    rows, columns = np.flatnonzero(ink.max(1) > 0.5), np.flatnonzero(ink.max(0) > 0.5)
    tall = float(np.ptp(rows))
    y = rows[-1] + tall * rng.uniform(0.06, 0.2)
    overhang = tall * rng.uniform(0.02, 0.25)
    thickness = max(2, round(tall * rng.uniform(0.02, 0.08)))
    slope = rng.uniform(-0.03, 0.03) * tall
    start, end = (columns[0] - overhang, y + slope), (columns[-1] + overhang, y - slope)
    cv2.line(
        ink,
        np.array(start).astype(int).tolist(),
        np.array(end).astype(int).tolist(),
        1.0,
        thickness,
        cv2.LINE_AA,
    )
    return rounded(painted(ink, sheet_colour(rng), pen_colour(rng)))


def _tight_crop(digit: Digit, rng: Generator) -> Picture:
    return rounded(
        painted(strokes(digit, int(rng.integers(200, 320))), sheet_colour(rng), pen_colour(rng))
    )


def _tight_crop_thick_pen(digit: Digit, rng: Generator) -> Picture:
    ink = strokes(digit, int(rng.integers(200, 320)), rng.uniform(1.5, 2.5))
    return rounded(painted(ink, sheet_colour(rng), pen_colour(rng)))


KINDS: dict[str, Draw] = {
    "as it is": _as_it_is,
    "dark on light": _dark_on_light,
    "enlarged": _enlarged,
    "half size": _half_size,
    "off-centre": _off_centre,
    "transparent": _transparent,
    "red on white": _red_on_white,
    "clean sheet": _clean,
    "inverted": _inverted,
    "thin pen": _thin_pen,
    "thick pen": _thick_pen,
    "pencil": _pencil,
    "chalk": _chalk,
    "noise": _noise,
    "small on a page": _small_on_a_page,
    "gaps in strokes": _gaps,
    "turned by up to 15°": _turned,
    "ruled light blue": _ruled_light_blue,
    "squared": _squared,
    "one faint line below": _one_faint_line_below,
    "dark lines": _dark_lines,
    "photo on plain paper": _photo_on_plain_paper,
    "photo on ruled paper": _photo_on_ruled_paper,
    "gradient 2:1": _gradient(2),
    "gradient 4:1": _gradient(4),
    "hard shadow": _hard_shadow,
    "desk around the sheet": _desk_around,
    "desk in one corner": _desk_in_one_corner,
    "speck in a corner": _speck,
    "frame at the edge": _frame_at_the_edge,
    "frame inside": _frame_inside,
    "form field": _form_field,
    "drawing program": _drawing_program,
    "underlined": _underlined,
    "tight crop": _tight_crop,
    "tight crop, thick pen": _tight_crop_thick_pen,
}


def number(digits: Sequence[Digit], rng: Generator) -> Picture:
    """Digits apart from each other, of sizes that differ by up to 30 %, dark on light."""
    size = int(rng.integers(160, 260))
    inks = [strokes(digit, round(size * rng.uniform(0.7, 1.3))) for digit in digits]
    gap = [round(size * rng.uniform(0.1, 0.3)) for _ in inks]
    tallest = max(len(ink) for ink in inks)
    parts = []
    for ink, room in zip(inks, gap, strict=True):
        sheet = placed(ink, ink.shape[1] + room, round(tallest * 1.15), 0, rng.uniform(0.2, 0.8))
        parts.append(sheet)
    margin = round(size * rng.uniform(0.15, 0.4))
    return rounded(painted(np.pad(np.hstack(parts), margin), sheet_colour(rng), pen_colour(rng)))
