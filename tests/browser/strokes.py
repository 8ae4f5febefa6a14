"""How somebody writes the ten digits: strokes of points in a box of 100 × 100, y downwards."""

from __future__ import annotations

import math

Point = tuple[float, float]


def arc(x: float, y: float, wide: float, high: float, start_deg: float, end_deg: float) -> list[Point]:
    """Return points of an ellipse; 0° is right, 90° is down."""
    steps = max(4, round(abs(end_deg - start_deg) / 15))
    angles = [math.radians(start_deg + (end_deg - start_deg) * step / steps) for step in range(steps + 1)]
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


DIGITS: dict[int, list[list[Point]]] = {
    0: [arc(50, 50, 26, 38, -90, 270)],
    1: [[(52, 12), (50, 88)]],
    2: [[*arc(50, 34, 24, 22, 190, 385), (28, 86), (76, 86)]],
    3: [[*arc(46, 31, 22, 19, 200, 450), *arc(46, 68, 26, 20, -90, 150)]],
    4: [[(40, 12), (22, 56), (78, 56)], [(64, 30), (62, 90)]],
    5: [[(72, 14), (36, 14), (32, 46), *arc(46, 65, 24, 22, -110, 130)]],
    6: [[(62, 10), (38, 40), *arc(48, 66, 21, 21, 200, 560)]],
    7: [[(22, 16), (76, 16), (46, 90)]],
    8: [[*arc(50, 31, 17, 18, 90, 450), *arc(50, 69, 21, 20, -90, 270)]],
    9: [[*arc(50, 34, 19, 20, 0, -360), (68, 60), (60, 90)]],
}
