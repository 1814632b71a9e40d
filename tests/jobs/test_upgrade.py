"""Old databases become new ones with all that was in them, or stay as they were."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from jobs.errors import DatabaseError
from jobs.home import Home
from jobs.schema import migrate, upgrade
from jobs.schema.upgrade import NEWEST
from jobs.store.database import Database
from jobs.store.models import Base
from jobs.store.store import Store
from tests.jobs.old_databases import ROWS, dump, make_old_database

pytestmark = pytest.mark.both_databases

ROOT = Path(__file__).parents[2]
OPEN = "import sys; from jobs.store.store import Store; Store(sys.argv[1]).check()\n"
ALL_VERSIONS = list(range(1, NEWEST + 1))


def default_differs(
    context: MigrationContext, _found: Any, _column: Any, found: Any, _default: Any, wanted: Any
) -> bool | None:
    """Compare defaults on SQLite, where alembic takes two empty texts for different ones."""
    if context.dialect.name != "sqlite":
        return None
    bare = [None if text is None else text.strip("()'") for text in (found, wanted)]
    return bare[0] != bare[1]


def differences(store: Store) -> list[Any]:
    """Return what alembic would change to make the tables those of the models."""
    options = {"compare_type": True, "compare_server_default": default_differs}
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, Base.metadata))


def recorded_versions(store: Store) -> list[int]:
    with store.read() as session:
        query = text("SELECT version FROM schema_version ORDER BY version")
        return list(session.scalars(query))


def test_the_number_of_the_newest_change_is_that_of_the_last_module() -> None:
    script = ScriptDirectory.from_config(migrate.make_config())

    assert script.get_current_head() == f"{NEWEST:04d}"
    assert {step.revision for step in script.walk_revisions()} == set(upgrade.REVISIONS)


@pytest.mark.parametrize("version", [0, 1, 2])
def test_an_upgrade_ends_at_the_tables_of_the_models(
    empty_url: str, open_store: Callable[[str], Store], version: int
) -> None:
    if version:
        make_old_database(empty_url, version)

    store = open_store(empty_url)

    assert differences(store) == []
    assert recorded_versions(store) == ALL_VERSIONS


@pytest.mark.parametrize("version", [1, 2])
def test_an_upgrade_keeps_every_row(
    empty_url: str, open_store: Callable[[str], Store], version: int
) -> None:
    make_old_database(empty_url, version)
    before = dump(empty_url)
    assert {name for name, rows in before.items() if rows} == {*ROWS, "schema_version"}

    store = open_store(empty_url)

    after = dump(empty_url)
    for name, rows in before.items():
        kept = [{column: row[column] for column in rows[0]} for row in after[name]]
        assert kept[: len(rows)] == rows
        assert len(kept) == len(rows) + (name == "schema_version") * (NEWEST - version)
    job = store.get_job("job1")
    assert (job.done, job.settings, job.priority) == (2**40, {"seed": 3}, 0)
    assert [checkpoint.is_pinned for checkpoint in store.list_checkpoints("run1")] == [False]
    later = store.submit("build", settings={})
    assert later.number == 3
    branch = store.create_generation("run1", None, "Once", {}, parent_id="text1", branch_index=2)
    assert store.get_generation(branch.id).branch_index == 2


def test_references_hold_after_an_upgrade(
    empty_url: str, open_store: Callable[[str], Store]
) -> None:
    make_old_database(empty_url, 1)

    store = open_store(empty_url)
    with store.write() as session:
        session.execute(text("DELETE FROM jobs WHERE id = 'job2'"))
        session.execute(text("DELETE FROM jobs"))
        session.execute(text("DELETE FROM runs"))

    rows = dump(empty_url)
    emptied = ("job_events", "metrics", "checkpoints")
    assert [rows[name] for name in emptied] == [[], [], []]
    assert len(rows["corpora"]) == 1


@pytest.mark.slow
def test_a_database_that_is_up_to_date_is_opened_without_alembic(
    empty_url: str, open_store: Callable[[str], Store]
) -> None:
    open_store(empty_url).close()
    code = OPEN + "print('alembic' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code, empty_url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("INSERT INTO schema_version VALUES (999, 0.0)", "999"),
        ("UPDATE alembic_version SET version_num = '0999'", "0999"),
        ("UPDATE alembic_version SET version_num = 'f00'", "f00"),
    ],
)
def test_a_newer_schema_is_refused_and_left_alone(
    empty_url: str, open_store: Callable[[str], Store], home: Home, statement: str, found: str
) -> None:
    store = open_store(empty_url)
    with store.write() as session:
        session.execute(text(statement))
    before = dump(empty_url)

    with pytest.raises(DatabaseError, match=f"version {NEWEST} or older, got {found}"):
        Store(empty_url).list_jobs()

    assert dump(empty_url) == before
    assert list(home.backups_dir.glob("*")) == []


def test_threads_may_make_the_tables_at_once(
    empty_url: str, open_store: Callable[[str], Store]
) -> None:
    together = threading.Barrier(6)

    def use() -> None:
        together.wait()
        open_store(empty_url).create_corpus("letters", {})

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    store = open_store(empty_url)
    assert len(store.list_corpora()) == 6
    assert recorded_versions(store) == ALL_VERSIONS


def test_threads_may_make_the_tables_of_different_databases_at_once(
    tmp_path: Path, open_store: Callable[[str], Store]
) -> None:
    together = threading.Barrier(6)
    opened: list[Store] = []

    def use(number: int) -> None:
        together.wait()
        opened.append(open_store(f"sqlite:///{tmp_path / f'{number}.db'}"))

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [recorded_versions(store) for store in opened] == [ALL_VERSIONS] * 6


def test_who_comes_second_finds_the_upgrade_done(
    empty_url: str,
    open_store: Callable[[str], Store],
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_old_database(empty_url, 2)
    find_version = upgrade.find_version

    def find_and_be_slow(connection: Connection) -> tuple[int, bool]:
        found = find_version(connection)
        monkeypatch.undo()
        open_store(empty_url)
        return found

    monkeypatch.setattr(upgrade, "find_version", find_and_be_slow)
    store = open_store(empty_url)

    assert recorded_versions(store) == ALL_VERSIONS
    assert len(list(home.backups_dir.glob("*"))) == store.is_sqlite


@pytest.mark.slow
@pytest.mark.parametrize("version", [0, 2])
def test_processes_that_upgrade_at_once_end_with_one_upgrade(
    empty_url: str, open_store: Callable[[str], Store], home: Home, version: int
) -> None:
    if version:
        make_old_database(empty_url, version)
    before = dump(empty_url)
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, empty_url], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(4)
    ]

    errors = [process.communicate()[1].decode() for process in processes]

    assert [process.returncode for process in processes] == [0] * 4, errors
    store = open_store(empty_url)
    assert recorded_versions(store) == ALL_VERSIONS
    assert differences(store) == []
    assert len(list(home.backups_dir.glob("*"))) == (version > 0 and store.is_sqlite)
    assert dump(empty_url)["metrics"] == before.get("metrics", [])


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["ADD COLUMN priority", "TABLE run_alerts", "UPDATE alembic_v"])
def test_an_upgrade_that_is_killed_leaves_the_old_database(
    empty_url: str, open_store: Callable[[str], Store], moment: str
) -> None:
    make_old_database(empty_url, 2)
    before = dump(empty_url)
    code = (
        "import os, signal, sys\n"
        "from sqlalchemy import Engine, event\n"
        "def look(connection, cursor, statement, *rest):\n"
        f"    if {moment!r} in statement: os.kill(os.getpid(), signal.SIGKILL)\n"
        "event.listen(Engine, 'after_cursor_execute', look)\n"
    )

    killed = subprocess.run([sys.executable, "-c", code + OPEN, empty_url], cwd=ROOT, check=False)

    assert killed.returncode == -signal.SIGKILL
    assert dump(empty_url) == before
    store = open_store(empty_url)
    assert differences(store) == []
    assert dump(empty_url)["metrics"] == before["metrics"]


REBUILD = (
    "with op.batch_alter_table('corpora') as corpora:",
    "    corpora.alter_column('name', nullable=True)",
    "with op.batch_alter_table('runs') as runs:",
    "    runs.alter_column('name', nullable=True)",
    "with op.batch_alter_table('jobs') as jobs:",
    "    jobs.alter_column('kind', nullable=True)",
)


@pytest.fixture
def add_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Add a change after the newest one, made of the lines that are given."""

    def add(*lines: str) -> None:
        revision, newest = f"{NEWEST + 1:04d}", f"{NEWEST:04d}"
        folder = tmp_path / "schema"
        shutil.copytree(migrate.FOLDER, folder)
        body = "\n    ".join(lines)
        (folder / "versions" / "next.py").write_text(
            f"from alembic import op\nrevision, down_revision = {revision!r}, {newest!r}\n"
            f"def upgrade():\n    {body}\n"
        )
        monkeypatch.setattr(migrate, "FOLDER", folder)
        monkeypatch.setattr(upgrade, "NEWEST", NEWEST + 1)
        monkeypatch.setattr(upgrade, "REVISIONS", {**upgrade.REVISIONS, revision: NEWEST + 1})

    return add


def test_rows_outlive_tables_that_are_rebuilt(
    empty_url: str, open_store: Callable[[str], Store], add_change: Callable[..., None]
) -> None:
    make_old_database(empty_url, 2)
    before = dump(empty_url)
    add_change(*REBUILD)

    store = open_store(empty_url)

    after = dump(empty_url)
    names = ("documents", "job_events", "metrics", "checkpoints", "generation_chunks")
    counts = {name: len(after[name]) for name in names}
    assert counts == {name: len(before[name]) for name in names}
    with store.write() as session:
        session.execute(text("DELETE FROM jobs WHERE id = 'job2'"))
        session.execute(text("DELETE FROM jobs"))
    assert dump(empty_url)["job_events"] == []
    with pytest.raises(IntegrityError), store.write() as session:
        session.execute(text("DELETE FROM corpora"))


def test_a_change_that_fails_takes_back_those_before_it(
    empty_url: str, add_change: Callable[..., None]
) -> None:
    make_old_database(empty_url, 1)
    before = dump(empty_url)
    add_change(*REBUILD, "raise ZeroDivisionError")
    database = Database(empty_url)

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            database.check()

    assert dump(empty_url) == before
