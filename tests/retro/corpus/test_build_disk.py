"""A full disk is told in one sentence, publishes nothing half, and loses nothing finished."""

import errno
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retro import disk
from retro.corpus.corpus import Corpus
from retro.corpus.plan import DEFAULT_WIDTH, estimate_build_bytes
from retro.data.byte_level import ByteLevelTokenizer
from retro.errors import ArtifactError, DiskFullError
from tests.fakes import HashEmbedder
from tests.retro.corpus.builds import CONFIG, ROWS, build, build_until, contents, store_small

STRIDE = 6
FULL = re.compile(
    r"There is no space left on the disk for '[^']+'\. "
    r"Free some space and start the step again; what was finished is kept\."
)


class FullFile(BufferedWriter):
    """A file on a disk that becomes full in the middle of a write."""

    def __init__(self, path: Path, full_disk: "FullDisk") -> None:
        super().__init__(FileIO(path, "wb"))
        self._disk = full_disk

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        if self._disk.is_full_now():
            super().write(rest[: len(rest) // 2])
            raise full()
        return super().write(rest)


class FullDisk:
    """Lets each n-th change of the disk fail."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int) -> None:
        self.left = number
        real_open, real_fsync = Path.open, os.fsync

        def open_(path: Path, mode: str = "r", *given: Any, **named: Any) -> Any:
            if mode != "wb":
                return real_open(path, mode, *given, **named)
            self.check()
            return FullFile(path, self)

        def fsync(descriptor: int) -> None:
            self.check()
            real_fsync(descriptor)

        patch.setattr(Path, "open", open_)
        patch.setattr(os, "fsync", fsync)
        for name in ("mkdir", "rename", "replace"):
            patch.setattr(Path, name, self._checked(getattr(Path, name)))

    def _checked(self, method: Any) -> Any:
        def checked(path: Path, *given: Any, **named: Any) -> Any:
            self.check()
            return method(path, *given, **named)

        return checked

    def is_full_now(self) -> bool:
        self.left -= 1
        return self.left == 0

    def check(self) -> None:
        if self.is_full_now():
            raise full()


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let no file grow larger, as the system does; Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what an undisturbed build makes."""
    corpus_dir = tmp_path_factory.mktemp("wanted") / "corpus"
    store_small(corpus_dir)
    build(corpus_dir)
    return contents(corpus_dir)


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_change_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, str]
) -> None:
    number, was_full = 1, True
    while was_full:
        corpus_dir = tmp_path / str(number)
        store_small(corpus_dir)
        with monkeypatch.context() as patch:
            changes = FullDisk(patch, number)
            message = build_until_full(corpus_dir)
        was_full = changes.left <= 0
        assert bool(message) == was_full
        if was_full:
            assert FULL.fullmatch(message), message
            assert_nothing_half(corpus_dir, wanted)
        build(corpus_dir)
        assert contents(corpus_dir) == wanted
        number += STRIDE
    assert number > 150


def build_until_full(corpus_dir: Path) -> str:
    """Return what is said of the full disk, or nothing if the build ended before it was."""
    try:
        build(corpus_dir)
    except DiskFullError as error:
        return str(error)
    return ""


def assert_nothing_half(corpus_dir: Path, wanted: dict[str, str]) -> None:
    """Check that what has its final name is what an undisturbed build makes, or is refused."""
    is_early = False
    try:
        is_early = not Corpus.open(corpus_dir).has_neighbors
    except ArtifactError:
        assert not (corpus_dir / "index").exists()
    found = contents(corpus_dir)
    if is_early:
        # It says that the neighbors are not there yet.
        del found["index/manifest.json"]
    for name, content in found.items():
        if name.startswith(("tokenizer/", "database/", "index/")):
            assert content == wanted[name]
    assert not [name for name in found if name.startswith(".tmp-")]


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_reported_once(
    tmp_path: Path, wanted: dict[str, str]
) -> None:
    store_small(tmp_path / "sizes")
    build(tmp_path / "sizes")
    sizes = {(tmp_path / "sizes" / name).stat().st_size for name in wanted}
    num_refused = 0
    for limit in sorted(sizes)[1:]:
        corpus_dir = tmp_path / str(limit)
        store_small(corpus_dir)
        with largest_file(limit - 1), pytest.raises(DiskFullError) as caught:
            build(corpus_dir)
        assert str(caught.value).startswith("The system allows no file as large as '")
        num_refused += 1
        assert_nothing_half(corpus_dir, wanted)
        build(corpus_dir)
        assert contents(corpus_dir) == wanted
    assert num_refused > 10


@pytest.mark.parametrize("name", ["keys", "index.partial"])
def test_a_folder_that_cannot_be_made_is_reported_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store_small(tmp_path / "corpus")
    mkdir = Path.mkdir

    def refuse(path: Path, *given: Any, **named: Any) -> None:
        if path.name == name:
            raise full()
        mkdir(path, *given, **named)

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert FULL.fullmatch(build_until_full(tmp_path / "corpus"))


def with_free(patch: pytest.MonkeyPatch, num_bytes: int) -> None:
    usage = SimpleNamespace(free=num_bytes + disk.FLOOR_BYTES)
    patch.setattr(disk, "shutil", SimpleNamespace(disk_usage=lambda _: usage))


def test_a_build_that_would_not_fit_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_small(tmp_path / "corpus")
    before = estimate_build_bytes(tmp_path / "corpus", CONFIG)
    with monkeypatch.context() as patch:
        with_free(patch, before - 1)
        with pytest.raises(DiskFullError, match=r"free on the disk for building .*'corpus'"):
            build(tmp_path / "corpus")
    assert contents(tmp_path / "corpus") == {}

    # A build that was stopped needs only what is not there yet.
    build_until(tmp_path / "corpus", "neighbors", ROWS, embedder=usual_embedder)
    with_free(monkeypatch, before // 8)
    build(tmp_path / "corpus", embedder=usual_embedder)


def usual_embedder(tokenizer: ByteLevelTokenizer) -> HashEmbedder:
    return HashEmbedder(tokenizer.vocab_size, DEFAULT_WIDTH)


def test_wider_keys_are_refused_before_they_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_small(tmp_path / "corpus")
    needed = estimate_build_bytes(tmp_path / "corpus", CONFIG)
    with_free(monkeypatch, needed)

    with pytest.raises(DiskFullError, match="building"):
        build(tmp_path / "corpus", embedder=lambda _: HashEmbedder(300, 4096))

    assert not (tmp_path / "corpus" / "keys").exists()
