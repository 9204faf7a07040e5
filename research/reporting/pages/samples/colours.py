"""Colours of numbers that colour-blind readers can tell apart, and a readable colour of text on each."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb

BINS = 33
"""Number of colours in a scale; odd, so that 0 is the middle colour of a diverging scale."""


@dataclass(frozen=True)
class Paint:
    """A background, and black or white, whichever is easier to read on it."""

    background: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A linear scale between two numbers.

    Example:
        >>> scale = Scale(low=0.0, high=2.0, diverging=False)
        >>> scale.bin(0.0), scale.bin(1.0), scale.bin(5.0)
        (0, 16, 32)
    """

    low: float
    """The number of the first colour."""
    high: float
    """The number of the last colour; above `low`."""
    diverging: bool
    """Orange, white, purple (PuOr) for numbers on both sides of 0, or dark to bright (viridis)."""

    def bin(self, value: float) -> int:
        """Index of a number's colour; a number beyond an end has the colour of that end."""
        share = (value - self.low) / (self.high - self.low)
        return round(min(1.0, max(0.0, share)) * (BINS - 1))

    @cached_property
    def paints(self) -> tuple[Paint, ...]:
        """The colours from low to high."""
        colours = colormaps["PuOr" if self.diverging else "viridis"]
        backgrounds = [to_hex(colours(k / (BINS - 1))) for k in range(BINS)]
        if self.diverging:
            backgrounds[BINS // 2] = "#ffffff"
        return tuple(Paint(background, _readable(background)) for background in backgrounds)


def scale_of(values: Iterable[float], *, diverging: bool, reaches: float = 0.0) -> Scale:
    """The scale from 0, or around 0, that holds all finite values.

    Args:
        values: any number of them; NaN stands for none.
        diverging: a scale around 0, equally far to both sides.
        reaches: a further number that the scale holds.

    Example:
        >>> scale_of([0.5, -2.0, float("nan")], diverging=True)
        Scale(low=-2.0, high=2.0, diverging=True)
    """
    far = max((abs(value) for value in values if isfinite(value)), default=0.0)
    far = max(far, reaches) or 1.0
    return Scale(low=-far if diverging else 0.0, high=far, diverging=diverging)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, from 1 to 21; text needs 4.5 at least.

    Source: Web Content Accessibility Guidelines 2.2, "contrast ratio" and "relative luminance".
    """
    low, high = sorted(_luminance(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _readable(background: str) -> str:
    return max(("#000000", "#ffffff"), key=lambda text: contrast(background, text))


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
