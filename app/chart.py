"""Curves as SVG, drawn on the server from thinned points; colors come from the style sheet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.format import escape

HEIGHT = 250.0
NARROW, WIDE = 640.0, 1180.0
LEFT, RIGHT, TOP, BOTTOM = 72.0, 22.0, 10.0, 26.0
NUM_TICKS = 5
FEW_POINTS = 40

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps values to places along one side of the chart."""

    low: float
    high: float
    start: float
    stop: float

    def place(self, value: float) -> float:
        """Return where a value lies, in units of the drawing."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return round values to label."""
        step = round_step((self.high - self.low) / NUM_TICKS)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]


def round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, ... times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def draw(
    series: Mapping[str, Points],
    *,
    label: str,
    total_steps: int | None = None,
    width: float = NARROW,
) -> str:
    """Return a chart with a key above it.

    Args:
        series: Name to (step, value) in order of steps; the order sets the colors.
        label: What the chart shows, for people who do not see it.
        total_steps: Right end of the axis; None is the last step.
        width: Width of the drawing, in its own units.

    Returns:
        HTML.
    """
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return ""
    values = [value for points in drawn.values() for _, value in points]
    steps = [step for points in drawn.values() for step, _ in points]
    x = Axis(0, max(total_steps or 0, *steps, 1), LEFT, width - RIGHT)
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.06 or 1.0
    y = Axis(
        max(0.0, low - margin) if low >= 0 else low - margin, high + margin, HEIGHT - BOTTOM, TOP
    )
    places = {name: f"s{index}" for index, name in enumerate(series)}
    lines = "".join(_line(places[name], points, x, y) for name, points in drawn.items())
    key = "".join(
        f'<span><svg width="22" height="8" class="chart" style="display:inline;width:22px" '
        f'aria-hidden="true"><path class="line {places[name]}" d="M1 4H21"/></svg>'
        f"{escape(name)} <b class=num>{points[-1][1]:.4g}</b></span>"
        for name, points in drawn.items()
    )
    return (
        f'<div class="key">{key}</div><svg class="chart" viewBox="0 0 {width:.0f} {HEIGHT:.0f}" '
        f'role="img" aria-label="{escape(label)}">{_grid(x, y)}{lines}</svg>'
    )


def _line(css: str, points: Points, x: Axis, y: Axis) -> str:
    places = [f"{x.place(step):.1f} {y.place(value):.1f}" for step, value in points]
    dots = ""
    if len(points) <= FEW_POINTS:
        dots = "".join(
            f'<circle class="{css}" cx="{place.split()[0]}" cy="{place.split()[1]}" r="2.2">'
            f"<title>step {step:,.0f}: {value:.4g}</title></circle>"
            for place, (step, value) in zip(places, points, strict=True)
        )
    return f'<path class="line {css}" d="M{"L".join(places)}"/>{dots}'


def _grid(x: Axis, y: Axis) -> str:
    rows = "".join(
        f'<path class="axis" d="M{LEFT:.0f} {y.place(tick):.1f}H{x.stop:.0f}"/>'
        f'<text x="{LEFT - 7:.0f}" y="{y.place(tick) + 4:.1f}" text-anchor="end">'
        f"{_short(tick)}</text>"
        for tick in y.ticks()
    )
    columns = "".join(
        f'<text x="{x.place(tick):.1f}" y="{HEIGHT - 8:.0f}" text-anchor="middle">'
        f"{_short(tick)}</text>"
        for tick in x.ticks()
    )
    return rows + columns


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.4g}"
