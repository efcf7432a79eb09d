"""Places for the labels of points in a picture. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

NEAREST = 14.0
BOX = (15.0, 12.0)
"""Width and height of a number, in pixels."""

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def places(at: Sequence[tuple[float, float]], inside: Box) -> list[tuple[float, float]]:
    """Choose for the number beside each point where it stands, as an offset in pixels.

    Nearest places first; one that overlaps a point or a number that stands already is not taken.
    """
    taken: list[Box] = [_box(x, y, 8.0, 8.0) for x, y in at]
    chosen: list[tuple[float, float]] = []
    for x, y in at:
        free = (
            offset
            for offset in _offsets()
            if not any(_overlap(_box(x + offset[0], y + offset[1], *BOX), other) for other in taken)
            and inside[0] < x + offset[0] < inside[2]
            and inside[1] < y + offset[1] < inside[3]
        )
        offset = next(free, (NEAREST, 0.0))
        taken.append(_box(x + offset[0], y + offset[1], *BOX))
        chosen.append(offset)
    return chosen


def _offsets() -> list[tuple[float, float]]:
    turns = (0, 180, 45, -45, 135, -135, 90, -90, 22, -22, 158, -158)
    return [
        (radius * math.cos(math.radians(turn)), radius * math.sin(math.radians(turn)))
        for radius in (NEAREST, 22.0, 32.0, 44.0, 58.0, 74.0, 92.0)
        for turn in turns
    ]


def _box(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
