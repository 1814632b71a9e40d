"""Raw files are written together or not at all."""

import multiprocessing
import multiprocessing.synchronize
import time
from pathlib import Path

import pytest

from retro.errors import ConfigError
from retro.retro_pytorch.files import only_writer, replaced_together


class StopHereError(Exception):
    """Stands for the end of the process."""


def test_files_take_their_names_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a.dat", tmp_path / "new" / "b.dat"]

    with replaced_together(paths) as (first, second):
        first.write(b"one")
        second.write(b"two")
        assert not any(path.exists() for path in paths)

    assert [path.read_bytes() for path in paths] == [b"one", b"two"]


@pytest.mark.parametrize("error", [StopHereError, KeyboardInterrupt])
def test_a_failure_leaves_older_files_as_they_were(
    tmp_path: Path, error: type[BaseException]
) -> None:
    paths = [tmp_path / "a.dat", tmp_path / "b.dat"]
    for path in paths:
        path.write_bytes(b"old")

    def fail() -> None:
        with replaced_together(paths) as (first, _):
            first.write(b"half")
            raise error

    with pytest.raises(error):
        fail()

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "a.dat": b"old",
        "b.dat": b"old",
    }


def test_paths_must_differ_and_be_files(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="its own path"),
        replaced_together([tmp_path / "a", tmp_path / "x" / ".." / "a"]),
    ):
        pass
    with pytest.raises(ConfigError, match="is a folder"), replaced_together([tmp_path]):
        pass


def hold(path: Path, seconds: float, ready: "multiprocessing.synchronize.Event") -> None:
    with only_writer(path):
        ready.set()
        time.sleep(seconds)


@pytest.mark.slow
def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "a.dat", 0.5, ready))
    other.start()
    assert ready.wait(30)
    began = time.monotonic()

    with only_writer(tmp_path / "a.dat"):
        waited = time.monotonic() - began

    other.join()
    assert waited > 0.2
