"""Files are whole or not there, and damage is noticed."""

import errno
import itertools
import json
import math
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retro.artifacts import (
    fingerprint,
    is_finished,
    read_manifest,
    read_record,
    verify_files,
    write_manifest,
)
from retro.errors import ArtifactMismatchError, ArtifactMissingError, DiskFullError
from retro.json_files import read_json
from retro.whole_files import (
    disk_errors,
    link_file,
    open_array,
    remove_staging,
    save_array,
    staged_folder,
    write_bytes,
    write_json,
)


class StopHereError(Exception):
    """Stands for the end of the process."""


def finished(folder: Path) -> Path:
    with staged_folder(folder) as staging:
        save_array(staging / "rows.npy", np.arange(6, dtype=np.int32).reshape(2, 3))
        write_manifest(staging, "test", content="print", settings={"size": 3})
    return folder


def write_half(folder: Path) -> None:
    with staged_folder(folder) as staging:
        (staging / "half").write_text("half")
        raise StopHereError


def test_bytes_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    write_bytes(path, b"first")
    write_bytes(path, b"second")

    assert path.read_bytes() == b"second"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_bytes(path, b"first")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, f"No space left on device {descriptor}")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"no space left on the disk for 'file\.txt'"):
        write_bytes(path, b"second")

    assert path.read_bytes() == b"first"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (errno.ENOSPC, "There is no space left on the disk for 'file.txt'. Free some space"),
        (errno.EDQUOT, "The disk quota leaves no room for 'file.txt'. Free some space"),
        (errno.EFBIG, "The system allows no file as large as 'file.txt' must be. Raise the limit"),
    ],
)
def test_every_kind_of_full_disk_is_told_apart(reason: int, message: str) -> None:
    with pytest.raises(DiskFullError) as caught, disk_errors(Path("folder/file.txt")):
        raise OSError(reason, "from the system")

    wanted = f"{message} and start the step again; what was finished is kept."
    assert str(caught.value) == wanted


@pytest.mark.parametrize("num_bytes", [100, 4096, 20_000, 79_999])
def test_an_array_that_does_not_fit_is_told_with_the_reason(tmp_path: Path, num_bytes: int) -> None:
    """By itself numpy would lose the reason, as it tells only how much it has written."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        with pytest.raises(DiskFullError, match=r"no file as large as 'rows\.npy'"):
            save_array(tmp_path / "rows.npy", np.ones((100, 100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3),
        np.zeros((0, 4), dtype=np.float32),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array([(1, 0.5)], dtype=[("id", "<i4"), ("distance", "<f4")]),
        np.arange(20)[::3],
    ],
)
def test_arrays_are_written_as_numpy_writes_them(
    tmp_path: Path, array: NDArray[np.generic]
) -> None:
    save_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "numpy.npy", np.ascontiguousarray(array))

    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_other_faults_of_the_disk_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, f"Input/output error {descriptor}")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        write_bytes(tmp_path / "file.txt", b"data")


def test_arrays_are_read_only(tmp_path: Path) -> None:
    save_array(tmp_path / "rows.npy", np.ones((2, 3)))

    rows = open_array(tmp_path / "rows.npy")

    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


@pytest.mark.parametrize("size", [0, 5, 60, 130])
def test_truncated_arrays_are_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "rows.npy"
    save_array(path, np.ones((2, 3)))
    path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(ArtifactMismatchError, match=r"rows\.npy is damaged"):
        open_array(path)


def test_arrays_of_objects_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(ArtifactMismatchError, match="damaged"):
        open_array(tmp_path / "rows.npy")


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    for read in (open_array, read_json):
        with pytest.raises(ArtifactMissingError, match=f"{tmp_path.name}/gone does not exist"):
            read(tmp_path / "gone")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[1, 2"])
def test_damaged_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)

    with pytest.raises(ArtifactMismatchError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"text": "caf\u00e9 \U0001f600", "list": [1, 2.5, None, True]}
    write_json(tmp_path / "a.json", value)

    assert read_json(tmp_path / "a.json") == value


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "folder"

    with pytest.raises(StopHereError):
        write_half(final)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_fails_keeps_the_old_one(tmp_path: Path) -> None:
    final = finished(tmp_path / "folder")

    with pytest.raises(StopHereError):
        write_half(final)

    assert read_manifest(final, "test").settings == {"size": 3}
    with staged_folder(final) as staging:
        (staging / "new").write_text("new")
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    finished(tmp_path / "folder")
    (tmp_path / ".tmp-folder-1234").mkdir()
    (tmp_path / ".tmp-folder-1234" / "half").write_text("half")
    (tmp_path / ".tmp-file-1234").write_text("half")

    remove_staging(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_was_about_to_be_replaced_gets_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the two renames of a replacement there is no folder of the final name."""
    final = finished(tmp_path / "folder")
    rename = Path.rename

    def end_after_first(path: Path, target: Path) -> None:
        if path != final:
            raise StopHereError
        rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", end_after_first)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(StopHereError), staged_folder(final) as staging:
            (staging / "new").write_text("new")
    assert not final.exists()

    remove_staging(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert read_manifest(final, "test").settings == {"size": 3}


def test_a_retired_folder_does_not_come_back_beside_the_new_one(tmp_path: Path) -> None:
    finished(tmp_path / "folder")
    (tmp_path / ".tmp-old-folder-0123abcd").mkdir()

    remove_staging(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert read_manifest(tmp_path / "folder", "test").settings == {"size": 3}


def test_a_manifest_describes_every_file(tmp_path: Path) -> None:
    manifest = read_manifest(finished(tmp_path / "folder"), "test")

    assert (manifest.kind, manifest.fingerprint) == ("test", "print")
    assert set(manifest.files) == {"rows.npy"}
    verify_files(tmp_path / "folder", manifest)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    folder = finished(tmp_path / "folder")
    data = bytearray((folder / "rows.npy").read_bytes())
    data[-1] ^= 1
    (folder / "rows.npy").write_bytes(data)

    manifest = read_manifest(folder, "test")
    with pytest.raises(ArtifactMismatchError, match=r"rows\.npy is damaged: its sha256"):
        verify_files(folder, manifest)


def test_a_missing_or_shorter_file_is_found_without_reading_it(tmp_path: Path) -> None:
    folder = finished(tmp_path / "folder")
    size = (folder / "rows.npy").stat().st_size

    (folder / "rows.npy").write_bytes(b"12345")
    with pytest.raises(ArtifactMismatchError, match=rf"rows\.npy must have {size} bytes, got 5"):
        read_manifest(folder, "test")
    (folder / "rows.npy").unlink()
    with pytest.raises(ArtifactMismatchError, match="got no file"):
        read_manifest(folder, "test")


@pytest.mark.slow
def test_every_flipped_bit_of_a_manifest_is_found(tmp_path: Path) -> None:
    path = finished(tmp_path / "folder") / "manifest.json"
    whole = path.read_bytes()
    num_refused = 0
    for position, bit in itertools.product(range(len(whole)), range(8)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(ArtifactMismatchError):
            read_manifest(tmp_path / "folder", "test")
        num_refused += 1
    assert num_refused == 8 * len(whole)


@pytest.mark.parametrize("removed", [1, 2, 100])
def test_a_shorter_manifest_is_found(tmp_path: Path, removed: int) -> None:
    path = finished(tmp_path / "folder") / "manifest.json"
    path.write_bytes(path.read_bytes()[:-removed])

    with pytest.raises(ArtifactMismatchError, match="damaged"):
        read_manifest(tmp_path / "folder", "test")


def test_manifests_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = finished(tmp_path / "folder") / "manifest.json"
    values = json.loads(path.read_bytes())
    del values["sha256"]
    write_json(path, values)

    assert read_manifest(tmp_path / "folder", "test").settings == {"size": 3}


def test_settings_that_json_changes_are_no_damage(tmp_path: Path) -> None:
    settings = {"pair": (1, 2), "by number": {2: "b", 10: "a"}, "none": math.nan}
    write_manifest(tmp_path, "test", content="print", settings=settings)

    found = read_manifest(tmp_path, "test").settings

    assert (found["pair"], found["by number"]) == ([1, 2], {"2": "b", "10": "a"})


def test_a_finished_folder_is_whole_undamaged_and_wanted(tmp_path: Path) -> None:
    folder = finished(tmp_path / "folder")

    assert is_finished(folder, "test", "print")
    assert not is_finished(folder, "test", "another print")
    assert not is_finished(folder, "model", "print")
    assert not is_finished(tmp_path / "gone", "test", "print")
    data = bytearray((folder / "rows.npy").read_bytes())
    data[-1] ^= 1
    (folder / "rows.npy").write_bytes(data)
    assert not is_finished(folder, "test", "print")
    assert read_record(folder, "test").fingerprint == "print"


def test_a_file_gets_a_second_name_or_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"data")
    link_file(source, tmp_path / "linked")

    def refuse(target: Path, source: Path) -> None:
        raise PermissionError(f"{target} {source}")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    link_file(source, tmp_path / "copied")

    inode = source.stat().st_ino
    assert (tmp_path / "linked").stat().st_ino == inode
    assert (tmp_path / "copied").stat().st_ino != inode
    assert (tmp_path / "copied").read_bytes() == b"data"


def test_manifests_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    folder = finished(tmp_path / "folder")
    path = folder / "manifest.json"
    values = json.loads(path.read_bytes())

    with pytest.raises(ArtifactMismatchError, match="must be a model, got 'test'"):
        read_manifest(folder, "model")
    for changed, message in [
        ({**values, "format": 99}, "must have format 1, got 99"),
        ([1], r"is damaged \(it must hold an object, got a list\)"),
        ({"format": 1, "kind": "test"}, "incomplete"),
        ({**values, "files": ["rows.npy"]}, "incomplete"),
    ]:
        write_json(path, changed)
        with pytest.raises(ArtifactMismatchError, match=message):
            read_manifest(folder, "test")
    path.unlink()
    with pytest.raises(ArtifactMissingError, match="no finished test"):
        read_manifest(folder, "test")


def test_fingerprints_follow_the_content_and_not_the_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    prints = {fingerprint(value) for value in ({}, [], {"a": 1}, {"a": "1"}, {"a": 1.5}, None)}
    assert len(prints) == 6
