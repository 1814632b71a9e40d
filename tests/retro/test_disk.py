"""Work that does not fit on the disk is refused with figures."""

import re
from pathlib import Path

import pytest

from retro.disk import FLOOR_BYTES, free_bytes, require_free, size_text
from retro.errors import DiskFullError


def test_free_space_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    here = free_bytes(tmp_path)

    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(here, rel=0.1)
    assert here > 0


def test_what_fits_passes_and_what_does_not_is_refused_with_figures(tmp_path: Path) -> None:
    require_free(tmp_path, 1, "a test")
    free = free_bytes(tmp_path)

    with pytest.raises(DiskFullError) as caught:
        require_free(tmp_path / "later", 2**52, "the keys of corpus a")

    message = str(caught.value)
    assert message.startswith("There must be 4.0 PB free on the disk for the keys of corpus a (")
    assert "4.0 PB and 256 MB that stay free), got " in message
    assert message.endswith("Free some space and start again; nothing was changed.")
    assert re.search(r"got [\d.,]+ (MB|GB|TB)\.", message)
    assert free > 0


def test_some_space_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retro.disk.free_bytes", lambda _path: FLOOR_BYTES + 10)

    require_free(tmp_path, 10, "a test")
    with pytest.raises(DiskFullError):
        require_free(tmp_path, 11, "a test")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KB"), (300 * 2**20, "300 MB"),
     (5 * 2**29, "2.5 GB"), (2**65, "32,768 PB")],
)  # fmt: skip
def test_sizes_are_short(size: int, text: str) -> None:
    assert size_text(size) == text
