"""A build that is killed anywhere goes on, and ends with the bytes of an undisturbed one."""

import pytest

from bench.soak.building import soak_builds


@pytest.mark.slow
def test_a_hundred_killed_builds_end_as_if_nothing_had_happened() -> None:
    figures = soak_builds(60, stride=5)

    assert figures.kills >= 100
    assert figures.finished > 40
    assert figures.changes > 150
    # Between the builds both kinds of readers were met.
    assert figures.served > 0
    assert figures.refused > 0
