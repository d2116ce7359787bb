"""Measure what a champion says of pictures without a digit: ``python -m benchmarks.not_digits``.

Draws letters, scribbles and shapes, reads them as any picture and prints which share the champion
answers surely, and the AUROC: the share of pairs of a test digit and such a picture in which the
rule finds the picture less like a digit. Beside it stand the share of the test digits that it calls
unsure, and the expected calibration error. The rule was chosen with the pictures of
``pictures(choosing=True)``: other fonts, scribbles and shapes, and training images that the network
had not been trained on. With ``--choose`` these are measured, for several weights of doubt: the
share answered surely with a limit that calls 2% of the validation part unsure.
"""

import argparse
import string
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from serving.champion import load_champion
from serving.normalise import find_digits
from storage.errors import DigitsError, ImageError
from storage.models.classifier import Classifier
from storage.models.store import open_store
from storage.models.unsure import UNSURE, read_rule
from storage.settings import read_settings
from tasks.load import load
from tasks.scoring.statistics import calibration_error
from tasks.training.unsure import CLEAN_UNSURE
from tasks.training.validation import in_validation

SIDE, COUNT = 200, 300
FONTS = ("DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique")
FONTS_TO_CHOOSE = ("STIXGeneral", "cmr10", "cmss10", "STIXGeneralItalic")
WEIGHTS = (0.15, 0.5, 1, 2, 3, 5, 10)
# To the eye these letters are digits: 0, 1, 2, 5, 6, 8, 9.
LIKE_DIGITS = "OoQDIliZzSsBbgq"

Points = NDArray[np.float64]


def letters(
    random: np.random.Generator, fonts: tuple[str, ...], but: str = LIKE_DIGITS
) -> Iterator[Image.Image]:
    """Letters except some, at random."""
    folder = Path(get_data_path()) / "fonts" / "ttf"
    chosen = [letter for letter in string.ascii_letters if letter not in but]
    while True:
        font = ImageFont.truetype(folder / f"{random.choice(fonts)}.ttf", 130)
        picture = Image.new("L", (SIDE, SIDE), 255)
        ImageDraw.Draw(picture).text(
            (SIDE / 2, SIDE / 2), str(random.choice(chosen)), fill=0, font=font, anchor="mm"
        )
        yield picture


def scribbles(random: np.random.Generator, *, smooth: bool) -> Iterator[Image.Image]:
    """Walks with random turns; smooth ones are sums of waves."""
    while True:
        if smooth:
            time = np.linspace(0, 2 * np.pi, 120)
            waves = random.normal(size=(2, 4, 1)) / np.arange(1, 5)[:, None]
            phases = random.uniform(0, 2 * np.pi, (2, 4, 1))
            points = (waves * np.sin(np.arange(1, 5)[:, None] * time + phases)).sum(axis=1).T
        else:
            turns = random.normal(0, 0.9, int(random.integers(20, 60))).cumsum()
            points = np.stack([np.cos(turns), np.sin(turns)], axis=1).cumsum(axis=0)
        yield _drawn([points], random)


def shapes(random: np.random.Generator) -> Iterator[Image.Image]:
    """Square, triangle, cross, plus, tick, heart, star and arrow, a little turned."""
    time = np.linspace(0, 2 * np.pi, 60)
    heart = [16 * np.sin(time) ** 3, np.cos([time, 2 * time, 3 * time, 4 * time])]
    heart = np.stack([heart[0], -(heart[1].T @ [13, -5, -2, -1])], axis=1)
    star = np.stack([np.sin(time[:1] + np.arange(6) * 0.8 * np.pi),
                     -np.cos(np.arange(6) * 0.8 * np.pi)], axis=1)  # fmt: skip
    known = [
        [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]],
        [[[0, 1], [1, 1], [0.5, 0], [0, 1]]],
        [[[0, 0], [1, 1]], [[0, 1], [1, 0]]],
        [[[0, 0.5], [1, 0.5]], [[0.5, 0], [0.5, 1]]],
        [[[0, 0.6], [0.35, 1], [1, 0]]],
        [heart],
        [star],
        [[[0, 0.5], [1, 0.5], [0.65, 0.2]], [[1, 0.5], [0.65, 0.8]]],
    ]
    while True:
        strokes = known[random.integers(len(known))]
        yield _drawn(_turned(strokes, random.normal(0, 0.12)), random)


def polygons(random: np.random.Generator) -> Iterator[Image.Image]:
    """Closed and open polygons with 3 to 7 random corners, and one or two strokes across."""
    while True:
        corners = random.uniform(0, 1, (int(random.integers(3, 8)), 2))
        closed = [corners[:1]] if random.random() < 0.5 else []
        across = [random.uniform(0, 1, (2, 2)) for _ in range(int(random.integers(0, 3)))]
        yield _drawn([np.concatenate([corners, *closed]), *across], random)


def _turned(strokes: list[Points], angle: float) -> list[Points]:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return [np.asarray(stroke) @ turn for stroke in strokes]


def _drawn(strokes: list[Points], random: np.random.Generator) -> Image.Image:
    every = np.concatenate(strokes)
    low, extent = every.min(axis=0), max(float(np.ptp(every, axis=0).max()), 1e-6)
    picture = Image.new("L", (SIDE, SIDE), 255)
    pen, width = ImageDraw.Draw(picture), int(random.integers(8, 16))
    for stroke in strokes:
        points = (np.asarray(stroke) - low) / extent * 120 + 40
        pen.line([tuple(point) for point in points.tolist()], fill=0, width=width, joint="curve")
    return picture


def pictures(*, choosing: bool = False) -> dict[str, Iterator[Image.Image]]:
    """Endless pictures of each kind; those to choose a rule with differ from those reported."""
    random = np.random.default_rng(1 if choosing else 2)
    fonts = FONTS_TO_CHOOSE if choosing else FONTS
    return {
        "letters": letters(random, fonts),
        "scribbles": scribbles(random, smooth=choosing),
        "shapes": polygons(random) if choosing else shapes(random),
        "all 52 letters": letters(random, fonts, but=""),
    }


def read(kind: Iterator[Image.Image], count: int) -> NDArray[np.uint8]:
    """The first ``count`` that are not refused, as uint8 of shape (count, 28, 28)."""
    images: list[NDArray[np.uint8]] = []
    while len(images) < count:
        try:
            images += [found.image for found in find_digits(next(kind))]
        except ImageError:
            continue
    return np.stack(images[:count])


def main() -> None:
    """Print the table of one champion."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.not_digits", description=(__doc__ or "").partition("\n\n")[2]
    )
    parser.add_argument("--dataset", default="mnist", help="data with the test digits")
    parser.add_argument("--name", help="name of the champion [default: as the data's]")
    parser.add_argument("--choose", action="store_true", help="compare weights of doubt")
    arguments = parser.parse_args()
    try:
        name = arguments.name or Path(arguments.dataset).name
        classifier = load_champion(open_store(read_settings(), name)).classifier
        print(f"champion {classifier.version.name}, {classifier.version.manifest['architecture']}")
        (choose if arguments.choose else report)(classifier, arguments.dataset)
    except DigitsError as error:
        sys.exit(f"python -m benchmarks.not_digits: {error}")


def report(classifier: Classifier, dataset: str) -> None:
    """Print the table of a champion."""
    data = load.fn(dataset)
    digits = classifier.unsure_scores(data.test_images)
    error = calibration_error(classifier.probabilities(data.test_images), data.test_labels)
    print(f"test digits unsure {(digits > 1).mean():.2%}, expected calibration error {error:.2%}")
    for kind, drawn in pictures().items():
        scores = classifier.unsure_scores(read(drawn, COUNT))
        surely = (scores <= 1).mean()
        print(f"{kind:14} answered surely {surely:6.1%}, AUROC {auroc(digits, scores):.3f}")


def choose(classifier: Classifier, dataset: str) -> None:
    """Print what would be answered surely with other weights of doubt."""
    rule = read_rule(classifier.version.files[UNSURE])
    images = load.fn(dataset).train_images
    drawn = {"digits": images[in_validation(images.reshape(-1, 784))]}
    drawn |= {kind: read(some, COUNT) for kind, some in pictures(choosing=True).items()}
    answers = {kind: classifier.probabilities(some) for kind, some in drawn.items()}
    for doubt in sorted({*WEIGHTS, rule.doubt}):
        weighed = replace(rule, doubt=doubt, limit=1.0)
        scores = {kind: weighed.scores(some, answers[kind]) for kind, some in drawn.items()}
        limit = np.quantile(scores.pop("digits"), 1 - CLEAN_UNSURE)
        shares = [f"{kind} {(found <= limit).mean():6.1%}" for kind, found in scores.items()]
        print(f"weight {doubt:5.2f}{' (its own)' if doubt == rule.doubt else ''}:", *shares)


def auroc(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    """The share of pairs whose second is larger than the first; half of those that are equal.

    Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    ordered = np.sort(low)
    smaller = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(smaller.mean() / 2 / len(low))


if __name__ == "__main__":
    main()
