"""Neighbors, as a terminal shows them."""

from typing import Any


def print_neighbor(neighbor: dict[str, Any]) -> None:
    """Print where a neighbor comes from, and how it begins."""
    share = neighbor.get("attention_share")
    print(
        f"    [{neighbor['rank']}] {neighbor['document']}, characters {neighbor['start']}-"
        f"{neighbor['end']}, squared distance {neighbor['distance']:.3f} (lower is nearer)"
        + ("" if share is None else f", {share:.0%} of attention")
    )
    print(f"        {_one_line(neighbor['text'])}")
    if neighbor["continuation"]:
        print(f"        ... {_one_line(neighbor['continuation'])}")


def _one_line(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 3]}..."
