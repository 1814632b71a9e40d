"""The folder that holds everything."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from jobs.home import TRASH_PREFIX, Home, empty_trash, remove_folder
from retro.errors import ConfigError


def test_making_the_folder_twice_changes_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path / "deep" / "home")

    home.create()
    (home.corpus_dir("a") / "documents").mkdir(parents=True)
    home.create()

    assert (home.path / "corpora" / "a" / "documents").is_dir()
    assert home.database_url() == f"sqlite:///{tmp_path}/deep/home/retro.db"


def test_a_home_of_the_user_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert Home(Path("~/.retro")).path == tmp_path / ".retro"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("h" * 10_000, "RETRO_HOME must have at most 3,500 bytes"),
        ("~nobody-of-this-name/retro", "RETRO_HOME must not name an unknown user"),
    ],
)
def test_no_folder_can_be_called_so(path: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Home(Path(path))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"can be written to, got '/.* \(Not a dir"):
        Home(tmp_path / "file" / "home").create()


def test_the_end_of_a_log_is_read(home: Home) -> None:
    assert home.read_job_log("a") == ""

    home.job_log("a").write_bytes(b"".join(b"line %d \xff\n" % i for i in range(1000)))

    lines = home.read_job_log("a", last_lines=2).splitlines()
    assert lines == ["line 998 \ufffd", "line 999 \ufffd"]


def test_only_the_end_of_a_huge_log_is_read(home: Home) -> None:
    home.job_log("a").write_bytes(b"x" * 3_000_000 + b"\nlast\n")

    text = home.read_job_log("a")

    assert len(text) <= 1_000_000
    assert text.endswith("\nlast")


def test_a_removed_folder_is_gone_whole(home: Home) -> None:
    folder = home.corpus_dir("a")
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "0.npy").write_text("x")

    remove_folder(folder)
    remove_folder(folder)

    assert list(home.corpora_dir.iterdir()) == []


def test_what_an_interrupted_removal_left_is_removed(home: Home) -> None:
    (home.runs_dir / f"{TRASH_PREFIX}a-1234" / "checkpoints").mkdir(parents=True)
    home.run_dir("b").mkdir()

    empty_trash(home.runs_dir)

    assert list(home.runs_dir.iterdir()) == [home.run_dir("b")]


def test_what_is_about_the_corpora_is_named(home: Home) -> None:
    assert home.strays_dir.parent == home.corpora_dir
    assert home.corpora_owner.parent == home.path


def test_a_local_disk_is_no_network_file_system(home: Home) -> None:
    assert home.network_filesystem() is None


def test_a_disk_over_a_network_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = {"/": "ext4", str(home.path.parent): "nfs4", str(home.path / "runs"): "ext4"}
    use_mounts(monkeypatch, mounts)

    assert home.network_filesystem() == "nfs4"


def test_a_system_that_does_not_tell_its_disks_has_none_to_warn_of(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_mounts(monkeypatch, {})

    assert home.network_filesystem() is None


def use_mounts(monkeypatch: pytest.MonkeyPatch, kinds: dict[str, str]) -> None:
    """Let the system have these mount points with these types."""
    mounts = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in kinds.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts if all else [])
