"""What no record names is in nobody's way after a start, and what is recorded stays."""

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.pages import settings
from app.services import strays
from app.services.services import Services
from app.services.uploads import UploadedFile
from app.web import guard, make_rest_app
from jobs import corpus_files
from jobs.store.corpus_locks import CorpusUse
from jobs.store.models import Base
from jobs.store.store import Store
from tests.app.real_app import BASE, LIMITS

KIND = "unrecorded"


def add(services: Services, corpus_id: str, texts: dict[str, str]) -> None:
    files = [UploadedFile(path=path, content=io.BytesIO(t.encode())) for path, t in texts.items()]
    services.uploads.add(corpus_id, files)


def put(path: Path, text: str = "no record names this") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def corpus_id(services: Services) -> str:
    made = str(services.corpora.create("notes").id)
    add(services, made, {"a.txt": "one", "b/c.txt": "two"})
    return made


@pytest.fixture
def root(services: Services, corpus_id: str) -> Path:
    return services.home.corpus_dir(corpus_id) / "documents"


def start(services: Services) -> None:
    services.storage.unrecorded.start()
    services.storage.unrecorded.wait(30)


def files_below(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def set_aside(services: Services) -> list[str]:
    """Return what was set aside, without the time that it was."""
    return sorted(path.split("/", 1)[1] for path in files_below(services.home.strays_dir))


def test_a_start_leaves_what_is_recorded_alone(
    services: Services, corpus_id: str, root: Path
) -> None:
    start(services)
    unknown = [root / "stray.txt", root / "b" / "stray.txt", root / "deep" / "er" / "x.txt"]
    for path in (*unknown, root / "b" / ".tmp-c.txt-00", root.parent / "incoming" / "gone-000001"):
        put(path)
    put(services.home.corpora_dir / "by hand" / "documents" / "x.txt")
    gone = put(services.home.corpora_dir / "zzzzzzzzzzzz" / "documents" / "x.txt")
    measured = services.storage.measure().leftovers
    assert getattr(measured, KIND).num == 6

    start(services)

    assert files_below(root.parent) == ["documents/a.txt", "documents/b/c.txt"]
    assert not (root / "deep").exists()
    assert not gone.parents[1].exists()
    assert (services.home.corpora_dir / "by hand" / "documents" / "x.txt").exists()
    kept = [f"{corpus_id}/documents/{path.relative_to(root)}" for path in unknown]
    assert set_aside(services) == sorted([*kept, "zzzzzzzzzzzz/documents/x.txt"])
    start(services)
    assert len(set_aside(services)) == 4


def test_what_was_set_aside_goes_after_a_week(
    services: Services, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root / "stray.txt")
    start(services)
    assert len(set_aside(services)) == 1

    later = int(time.time()) + strays.KEPT_S + 60
    monkeypatch.setattr(strays, "now", lambda: later)
    start(services)

    assert list(services.home.strays_dir.iterdir()) == []


def test_the_settings_page_removes_it_at_once(
    services: Services, client: TestClient, corpus_id: str, root: Path
) -> None:
    put(root / "stray.txt", "x" * 100)
    services.storage.unrecorded.wait(30)
    start(services)
    put(root / "b" / "other.txt", "x" * 30)
    put(services.home.corpora_dir / "zzzzzzzzzzzz" / "index" / "x", "x" * 7)
    services.storage.measure()
    shown = settings.render_storage(services)
    assert 'id="clean-unrecorded"' in shown
    assert "3 items, 137 bytes" in shown

    answer = client.post("/api/v1/storage/clean", json={"what": KIND})

    assert answer.json() == {"what": KIND, "num_removed": 3, "freed_bytes": 137}
    assert files_below(services.home.corpora_dir) == [
        f"{corpus_id}/documents/a.txt",
        f"{corpus_id}/documents/b/c.txt",
    ]
    assert 'id="clean-unrecorded"' not in settings.render_storage(services)


def test_what_an_upload_is_about_to_record_is_left_alone(
    services: Services, corpus_id: str, root: Path
) -> None:
    lock = services.store.take_corpus(corpus_id, CorpusUse.ADD)
    staged = put(root.parent / "incoming" / f"{lock.token}-000001")
    stray = put(root / "stray.txt")

    found = services.storage.leftovers.find(KIND)
    assert found.paths == (stray,)
    services.storage.unrecorded.remove([stray, staged])
    assert (stray.exists(), staged.exists()) == (True, True)

    services.store.release_lock(lock.token)
    assert set(services.storage.leftovers.find(KIND).paths) == {stray, staged}
    add(services, corpus_id, {"stray.txt": "recorded meanwhile"})
    services.storage.unrecorded.remove([stray, staged])
    assert (stray.exists(), staged.exists()) == (True, False)


def test_a_start_finishes_what_a_killed_process_had_recorded(
    services: Services, corpus_id: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus_files, "publish_documents", be_killed)
    with pytest.raises(KeyboardInterrupt):
        add(services, corpus_id, {"a.txt": "new", "d.txt": "more"})
    monkeypatch.undo()
    services.store.remove_document(corpus_id, "b/c.txt")
    deleted = services.corpora.create("deleted").id
    add(services, deleted, {"x.txt": "text"})
    services.store.delete_corpus(deleted)

    with TestClient(guard(make_rest_app(services), None), base_url=BASE):
        # Before the first request is answered.
        assert files_below(root.parent) == ["documents/a.txt", "documents/d.txt"]
        assert (root / "a.txt").read_text() == "new"
        services.storage.unrecorded.wait(30)

    assert not services.home.corpus_dir(deleted).exists()
    assert services.store.deleted_corpora() == []
    assert set_aside(services) == []


def test_a_copy_whose_maker_was_killed_goes_and_one_that_is_built_stays(
    services: Services, corpus_id: str
) -> None:
    store = services.store
    made = [store.begin_corpus(name, {}) for name in ("half", "whole", "busy", "living", "gone")]
    half, whole, busy, living, gone = (lock.corpus.id for lock in made)
    for one in (half, whole, busy, living):
        add(services, one, {"a.txt": "one"})
    store.submit("build", corpus_id=whole, settings={})
    with store.write() as session:
        locks = Base.metadata.tables["locks"]
        ended = locks.update().where(locks.c.name != f"making:{living}")
        session.execute(ended.values(expires_at=0.0))
    store.take_corpus(busy, CorpusUse.ADD)
    store.delete_corpus(gone)

    start(services)

    left = {item.id for item in services.corpora.list_corpora()}
    assert left == {corpus_id, whole, busy, living}
    assert not services.home.corpus_dir(half).exists()
    assert set(store.unfinished_corpora()) == {busy}


@pytest.mark.parametrize("is_known", [True, False])
def test_another_database_by_mistake_takes_nobody_a_document(
    services: Services,
    root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    is_known: bool,
) -> None:
    if is_known:
        start(services)
    other = Services(services.home, Store(f"sqlite:///{tmp_path / 'other.db'}"), limits=LIMITS)
    start(other)
    assert "belong to another database than the one in use" in caplog.text
    own = other.corpora.create("their own").id
    add(other, own, {"x.txt": "text"})
    start(other)
    assert other.storage.leftovers.find(KIND).paths == ()
    other.store.close()

    assert files_below(root) == ["a.txt", "b/c.txt"]
    assert set_aside(services) == []


@pytest.mark.usefixtures("corpus_id")
def test_corpora_that_an_older_copy_did_not_know_come_back_with_the_newer_one(
    services: Services,
) -> None:
    start(services)
    services.store.backup(services.home.path / "older.db")
    later = str(services.corpora.create("later").id)
    add(services, later, {"x.txt": "text"})
    put(services.home.corpus_dir(later) / "index" / "manifest.json")
    older = Services(services.home, Store(f"sqlite:///{services.home.path / 'older.db'}"))
    start(older)
    older.store.close()
    assert set_aside(services) == [f"{later}/documents/x.txt", f"{later}/index/manifest.json"]

    start(services)

    assert files_below(services.home.corpus_dir(later)) == [
        "documents/x.txt",
        "index/manifest.json",
    ]
    assert set_aside(services) == []


def test_documents_that_an_older_copy_did_not_know_come_back_with_the_newer_one(
    services: Services, corpus_id: str, root: Path
) -> None:
    services.store.backup(services.home.path / "older.db")
    add(services, corpus_id, {"new/d.txt": "three", "e.txt": "four"})
    older = Services(services.home, Store(f"sqlite:///{services.home.path / 'older.db'}"))
    start(older)
    older.store.close()
    paths = [f"{corpus_id}/documents/{path}" for path in ("e.txt", "new/d.txt")]
    assert set_aside(services) == paths
    [damaged] = services.home.strays_dir.rglob("e.txt")
    damaged.write_text("FOUR")

    start(services)

    assert files_below(root) == ["a.txt", "b/c.txt", "new/d.txt"]
    assert set_aside(services) == paths[:1]


def test_a_fault_keeps_nobody_from_starting(
    services: Services,
    corpus_id: str,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(root / "stray.txt")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(Path, "rename", refuse)
    start(services)
    assert f"corpus {corpus_id} is left as it is" in caplog.text

    monkeypatch.setattr(services.store, "deleted_corpora", refuse)
    start(services)
    assert "could not be cleared away" in caplog.text


@pytest.fixture
def slow_walk(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    go_on = threading.Event()
    walk = os.walk

    def wait(*arguments: object, **named: object) -> object:
        assert go_on.wait(30)
        return walk(*arguments, **named)  # type: ignore[call-overload]  # as it was called

    monkeypatch.setattr(os, "walk", wait)
    yield go_on
    go_on.set()


def test_a_stop_ends_it(services: Services, root: Path, slow_walk: threading.Event) -> None:
    stray = put(root / "stray.txt")
    services.storage.unrecorded.start()
    threading.Timer(0.2, slow_walk.set).start()

    services.storage.unrecorded.close()

    assert stray.exists()
