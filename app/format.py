"""Numbers and times as people read them."""

import math


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Return for example ``1 file`` or ``1,204 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(num_bytes: float) -> str:
    """Return bytes in decimal units, for example ``1.4 MB``."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:,.0f} {unit}" if unit == "bytes" else f"{num_bytes:,.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.3g} TB"


def parameters(number: int) -> str:
    """Return a parameter count, for example ``3.1 M``."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """Return a length of time, for example ``3 min 20 s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} days"


def ago(then: float, now: float) -> str:
    """Return how long ago something was, for example ``5 min ago``."""
    passed = max(0.0, now - then)
    if passed < 10:
        return "just now"
    if passed < 60:
        return f"{int(passed)} s ago"
    if passed < 3600:
        return f"{int(passed // 60)} min ago"
    if passed < 48 * 3600:
        return f"{int(passed // 3600)} h ago"
    return f"{int(passed // 86400)} days ago"


def number(value: float | None, digits: int = 2) -> str:
    """Return a measured value, or a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "-"
    # Adding zero takes the sign from a zero, which rounding can make of a small number.
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def percent(share: float | None) -> str:
    """Return a share between 0 and 1 as a percentage."""
    return "-" if share is None or not math.isfinite(share) else f"{100 * share:.0f} %"
