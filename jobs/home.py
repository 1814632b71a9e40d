"""The folder that holds everything."""

import os
import secrets
import shutil
from pathlib import Path
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]  # the package has no types

from retro.errors import ConfigError, shown
from retro.places import check_place
from retro.whole_files import sync_folder

DEFAULT_HOME = "~/.retro"
TRASH_PREFIX = ".tmp-trash-"
NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "lustre", "gluster", "afs")
LOG_TAIL_BYTES = 1_000_000


def home_folder(path: str | Path) -> Path:
    """Return the folder that holds everything, written out.

    Raises:
        ConfigError: No folder could be called so.
    """
    chosen = check_place("RETRO_HOME", path, is_new=True)
    try:
        return chosen.expanduser().absolute()
    except RuntimeError:
        raise ConfigError(
            f"RETRO_HOME must not name an unknown user, got {shown(str(path))}. Write the path out."
        ) from None


class Home:
    """Names the files and folders in ``RETRO_HOME``.

    Args:
        path: The folder; made when first needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = home_folder(path)

    def create(self) -> None:
        """Make the folders that must be there.

        Raises:
            ConfigError: They cannot be made.
        """
        try:
            for folder in (self.path, self.corpora_dir, self.runs_dir, self.job_logs_dir):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"RETRO_HOME must be a folder that can be written to, got {shown(str(self.path))} "
                f"({error.strerror}). Choose another folder."
            ) from error

    def database_url(self) -> str:
        """Return the URL of the SQLite database in this folder."""
        return f"sqlite:///{self.path / 'retro.db'}"

    @property
    def corpora_dir(self) -> Path:
        """Folder of all corpora."""
        return self.path / "corpora"

    @property
    def strays_dir(self) -> Path:
        """Folder of what lay in ``corpora_dir`` without a record."""
        return self.corpora_dir / ".strays"

    @property
    def corpora_owner(self) -> Path:
        """File that names the database to which the corpora belong."""
        return self.path / "corpora.database"

    @property
    def runs_dir(self) -> Path:
        """Folder of all runs."""
        return self.path / "runs"

    @property
    def job_logs_dir(self) -> Path:
        """Folder of the jobs' log files."""
        return self.path / "logs" / "jobs"

    @property
    def backups_dir(self) -> Path:
        """Folder of the copies of the database."""
        return self.path / "backups"

    def worker_lock(self, host: str) -> Path:
        """File that the worker of a host keeps locked."""
        return self.path / f"worker-{quote(host, safe='')}.lock"

    def corpus_dir(self, corpus_id: str) -> Path:
        """Folder of one corpus."""
        return self.corpora_dir / corpus_id

    def run_dir(self, run_id: str) -> Path:
        """Folder of one run."""
        return self.runs_dir / run_id

    def job_log(self, job_id: str) -> Path:
        """File with what a job's processes wrote."""
        return self.job_logs_dir / f"{job_id}.log"

    def read_job_log(self, job_id: str, last_lines: int = 200) -> str:
        """Return the end of a job's log, empty if it has none yet.

        Args:
            job_id: The job.
            last_lines: At most this many lines.
        """
        try:
            with self.job_log(job_id).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LOG_TAIL_BYTES))
                text = file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-last_lines:])

    def network_filesystem(self) -> str | None:
        """Return the type of the file system if it is one over a network, else None."""
        mounts = [
            mount
            for mount in psutil.disk_partitions(all=True)
            if self.path.is_relative_to(mount.mountpoint)
        ]
        if not mounts:
            return None
        kind = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype
        return kind if kind.startswith(NETWORK_FILESYSTEMS) else None


def move_to_trash(folder: Path) -> Path | None:
    """Rename a folder in one step, and return its new name, None if it is not there."""
    trash = folder.with_name(f"{TRASH_PREFIX}{folder.name}-{secrets.token_hex(4)}")
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return None
    sync_folder(folder.parent)
    return trash


def remove_folder(folder: Path) -> None:
    """Remove a folder so that no half of it is ever found under its name."""
    trash = move_to_trash(folder)
    if trash is not None:
        shutil.rmtree(trash, ignore_errors=True)


def empty_trash(parent: Path) -> None:
    """Remove what an interrupted removal left in ``parent``."""
    for path in parent.glob(f"{TRASH_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)
