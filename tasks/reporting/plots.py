"""Plots of a report, as PNG in a ``data:`` URI: no network needed, legible in light and dark."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.scoring.values import Counts, Mistake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from storage.records import Evaluation
    from tasks.train import Epoch

# An opaque background: on a transparent one the text would vanish in one of the two themes.
PAPER, INK, BLUE, ORANGE = "#fbfaf7", "#22303c", "#2f6db3", "#c8611a"

# On a new machine it logs that it is building its font cache.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


def learning_curve(curve: Sequence[Epoch]) -> str:
    """Loss and accuracy of each epoch, on the training images and the validation part if any."""
    figure = _figure(7.2, 2.5, left=0.06, right=0.985, bottom=0.19, top=0.89, wspace=0.16)
    loss, accuracy = figure.subplots(1, 2)
    _draw_curve(loss, "loss (nats)", [e.loss for e in curve], [e.validation_loss for e in curve])
    _draw_curve(
        accuracy, "accuracy", [e.accuracy for e in curve], [e.validation_accuracy for e in curve]
    )
    return _data_uri(figure)


def _draw_curve(
    axes: Any, quantity: str, training: Sequence[float], validation: Sequence[float | None]
) -> None:
    lines = [("training", training, ORANGE)]
    known = [value for value in validation if value is not None]
    if len(known) == len(training):
        lines.append(("validation", known, BLUE))
    above = max(lines, key=lambda line: line[1][-1])
    for name, values, colour in lines:
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=colour, marker="o", markersize=3.5, linewidth=1.8)
        axes.annotate(
            f"{name} {values[-1]:.4f}", (epochs[-1], values[-1]), textcoords="offset points",
            xytext=(0, 7 if name == above[0] else -14), ha="right", fontsize=9, color=colour,
        )  # fmt: skip
    axes.set_title(quantity, loc="left", fontsize=10, color=INK)
    axes.set_xlabel("epoch", fontsize=9)
    axes.margins(y=0.22)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _plain(axes)


def robustness(ours: Mapping[str, Counts], champions: Mapping[str, Counts] | None) -> str:
    """Shares of the transformed test images that are right, beside the champion's if it has any."""
    figure = _figure(7.2, 2.8, left=0.1, right=0.78, bottom=0.11, top=0.86)
    axes = figure.subplots()
    rows = range(len(ours))
    # The champion's ring is wider than this run's dot, so that both are seen where they meet.
    for name, counts, colour, size, fill, column in (
        ("champion", champions, ORANGE, 64, "none", 1.22),
        ("this run", ours, BLUE, 26, BLUE, 1.09),
    ):
        if not counts:
            continue
        shares = [counts[row].correct / counts[row].total for row in ours]
        axes.scatter(shares, rows, s=size, facecolors=fill, edgecolors=colour, linewidths=1.6)
        for row, text in ((-1.2, name), *enumerate(f"{share:.4f}" for share in shares)):
            axes.text(
                column, row, text, transform=axes.get_yaxis_transform(),
                ha="center", va="center", fontsize=9, color=colour,
            )  # fmt: skip
    axes.set_yticks(rows, list(ours))
    axes.set_ylim(len(ours) - 0.5, -0.7)
    # Differences of a few images do not fill the picture.
    lowest = min(axes.get_xlim()[0], 0.94)
    axes.set_xlim(lowest, 1 + 0.04 * (1 - lowest))
    axes.set_axisbelow(True)
    axes.grid(axis="y", linewidth=0.5, alpha=0.4)
    axes.set_title("accuracy on transformed test images", loc="left", fontsize=10, color=INK)
    _plain(axes)
    return _data_uri(figure)


def confusion_matrix(evaluation: Evaluation) -> str:
    """Counts by true and predicted digit; mistakes are coloured by their share."""
    figure = _figure(5.0, 4.8, left=0.1, right=0.99, bottom=0.1, top=0.94)
    axes = figure.subplots()
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mistakes = np.where(np.eye(10, dtype=bool), np.nan, shares)
    top = max(float(np.nanmax(mistakes)), 0.01)
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=top)
    for digit, row in enumerate(counts):
        for predicted, count in enumerate(row):
            right = digit == predicted
            dark = not right and mistakes[digit, predicted] > 0.6 * top
            axes.text(
                predicted, digit, f"{count:,}" if count else "·", ha="center", va="center",
                fontsize=8 if right else 8.5, color=BLUE if right else ("white" if dark else INK),
                fontweight="bold" if right else "normal",
            )  # fmt: skip
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("predicted digit", fontsize=9)
    axes.set_ylabel("true digit", fontsize=9)
    axes.set_title("test images by true and predicted digit", loc="left", fontsize=10, color=INK)
    _plain(axes)
    axes.tick_params(length=0)
    return _data_uri(figure)


def contact_sheet(images: NDArray[np.uint8], mistakes: Sequence[Mistake]) -> str:
    """The test images (uint8, shape (n, 28, 28)) of at least one mistake, in the order given."""
    columns, across, down = 8, 36, 46  # in image pixels, with room for the caption
    rows = -(-len(mistakes) // columns)
    figure = _figure(7.2, 7.2 * rows * down / (columns * across), left=0, right=1, bottom=0, top=1)
    axes = figure.subplots()
    # One picture draws four times as fast as one per image.
    sheet = np.full((rows * down, columns * across), np.nan)
    for place, mistake in enumerate(mistakes):
        top, left = place // columns * down + 15, place % columns * across + 4
        sheet[top : top + 28, left : left + 28] = images[mistake.index]
        caption = f"{mistake.true} as {mistake.predicted}\n{mistake.probability:.3f}"
        axes.text(
            left + 14, top - 1.5, caption,
            ha="center", va="bottom", fontsize=8, color=INK,
        )  # fmt: skip
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=255)
    axes.axis("off")
    return _data_uri(figure)


def _figure(width: float, height: float, **margins: float) -> Figure:
    # Not pyplot, which keeps every figure and is not thread-safe. No layout engine either: it
    # draws everything twice.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor=PAPER)
    figure.subplots_adjust(**margins)
    return figure


def _plain(axes: object) -> None:
    axes.set_facecolor(PAPER)  # type: ignore[attr-defined]
    axes.tick_params(labelsize=8, colors=INK)  # type: ignore[attr-defined]
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side in {"left", "bottom"})  # type: ignore[attr-defined]


def _data_uri(figure: Figure) -> str:
    """The figure in 64 colours, which take a third of the bytes."""
    drawn, content = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", facecolor=PAPER)
    Image.open(drawn).convert("RGB").quantize(64).save(content, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
