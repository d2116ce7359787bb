"""Separate ink from paper, whatever the light and the colours are."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

cv2.setNumThreads(1)  # requests run side by side already

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Grey levels of 255 between ink and paper.
MIN_CONTRAST = 25


def find_ink(grey: Grey) -> Grey:
    """The amount of ink per pixel.

    Args:
        grey: float32, shape (height, width), 0 to 255; dark on light or light on dark.

    Returns:
        float32, shape (height, width), 0 to 1; all 0 if there is no ink.
    """
    if _light_on_dark(grey):
        grey = 255 - grey
    paper = _paper(grey)
    darkness = 255 * (1 - grey / np.maximum(paper, 1))
    if darkness.max() <= 0:  # by rounding, all is brighter than its paper
        return np.zeros_like(grey)
    clear = darkness[darkness <= max(_otsu(np.maximum(darkness, 0)), 0)]
    noise = 1.4826 * float(np.median(np.abs(clear - np.median(clear))))
    low = 3 * noise
    high = float(np.percentile(darkness[darkness >= darkness.max() / 2], 90))
    if high > 250:
        high = 255.0  # leave images of full contrast, such as MNIST's own, unchanged
    if high - low < MIN_CONTRAST:
        return np.zeros_like(grey)
    ink: Grey = np.clip((darkness - low) / (high - low), 0, 1)
    return ink


def _light_on_dark(grey: Grey) -> bool:
    """Whether the strokes are lighter than the paper."""
    scale = min(1.0, 120 / max(grey.shape))
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    light = small > _otsu(small)
    share = float(np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]]).mean())
    # The picture's edge shows paper, unless light and shadow are what the threshold parts.
    parted = _parted(small, light)
    if not 0.1 < share < 0.9 or (parted > 0.8 and share > 0.65) or parted > 0.95:
        return share < 0.5
    # Strokes are narrower than paper.
    amounts = [_narrow(small, max(small.shape) // part) for part in (16, 8, 5, 3)]
    enough = 0.3 * float(np.max(amounts))
    for darks, lights in amounts:
        # Of shapes wider than this only the corners show.
        if max(darks, lights) > max(2 * min(darks, lights), enough):
            return lights > darks
    return share < 0.3


def _parted(grey: NDArray[Any], light: Mask) -> float:
    """The share of the variance that two levels explain: near 1 for ink on even paper."""
    if light.all() or not light.any():
        return 0.0
    share = float(light.mean())
    between: float = share * (1 - share) * float(grey[light].mean() - grey[~light].mean()) ** 2
    return between / max(float(grey.var()), 1e-6)


def _narrow(grey: NDArray[Any], width: int) -> tuple[float, float]:
    """The amounts of dark and of light in shapes narrower than this."""
    padded = cv2.copyMakeBorder(grey, width, width, width, width, cv2.BORDER_REPLICATE)
    dark = cv2.morphologyEx(padded, cv2.MORPH_BLACKHAT, box(width | 1))
    light = cv2.morphologyEx(padded, cv2.MORPH_TOPHAT, box(width | 1))
    least = 0.3 * max(dark.max(), light.max())
    return float(dark[dark > least].sum()), float(light[light > least].sum())


def _paper(grey: Grey) -> Grey:
    """The brightness of the paper under the ink, under even or uneven light."""
    threshold, darkest = _otsu(grey), float(np.percentile(grey, 2))
    bright = grey > threshold
    light, dark = grey[bright], grey[~bright]
    level = float(np.median(light)) if light.size else float(grey.max())
    contrast = max(level - darkest, 1)
    uneven = float(np.mean(np.abs(light - level))) > 0.07 * contrast
    shadow = dark.size > 0 and float(np.mean(np.abs(dark - darkest))) > 0.3 * contrast
    if not (uneven or shadow) or _parted(grey, bright) > 0.95:
        return np.full_like(grey, level)
    # A closing wider than a stroke leaves only the paper, with its shadows as sharp as they are.
    half = max(1, max(grey.shape) // 5)
    smooth = cv2.medianBlur(grey.astype(np.uint8), 5)
    padded = cv2.copyMakeBorder(smooth, half, half, half, half, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, box(2 * half + 1))
    return np.asarray(closed[half:-half, half:-half], np.float32)


def _otsu(grey: NDArray[Any]) -> float:
    threshold, _ = cv2.threshold(grey.astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold)


def box(width: int, height: int | None = None) -> NDArray[np.uint8]:
    """A kernel of this size; a square if it has no height."""
    return np.ones((height or width, width), np.uint8)
