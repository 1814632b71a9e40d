"""What the files take up, what may be removed, and the Settings page that shows both."""

import io
import os
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.pages import settings
from app.services.installation import SetUp
from app.services.leftovers import OLD_LOG_S, UNTOUCHED_S
from app.services.services import Services
from app.services.sizes import measure, tree_bytes
from app.services.system import read_gpus
from app.services.uploads import UploadedFile, UploadLimits
from app.ui import render_strip
from app.web import guard, make_rest_app
from jobs.home import Home
from jobs.store.sqlite import sqlite_warning
from jobs.store.store import Store
from retro.retrieval.encoder_files import find_encoder_offline
from tests.app.real_app import BASE, LIMITS

LONG_AGO = time.time() - UNTOUCHED_S - 60


def add_corpus(services: Services, name: str) -> str:
    corpus = services.corpora.create(name)
    file = UploadedFile(path="one.txt", content=io.BytesIO(b"letters and words " * 100))
    services.uploads.add(corpus.id, [file])
    return str(corpus.id)


def make_old(path: Path) -> None:
    for one in (*path.rglob("*"), path):
        os.utime(one, (LONG_AGO, LONG_AGO))


def put(path: Path, num_bytes: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * num_bytes)
    return path


def test_parts_add_up_to_all_bytes_and_links_count_once(services: Services, tmp_path: Path) -> None:
    home = services.home
    services.store.check()
    put(home.runs_dir / "a" / "checkpoints" / "step-1" / "model", 1000)
    put(home.runs_dir / "a" / "config.json", 10)
    shared = put(home.corpora_dir / "b" / "database" / "chunks.npy", 500)
    (home.corpora_dir / "b" / "versions").mkdir()
    os.link(shared, home.corpora_dir / "b" / "versions" / "chunks.npy")
    (home.corpora_dir / "b" / "outside").symlink_to(put(tmp_path / "outside", 9_000))
    put(home.job_logs_dir / "c.log", 7)

    sizes = measure(home)

    link = (home.corpora_dir / "b" / "outside").lstat().st_size
    assert sizes.corpora == {"b": 500 + link}
    assert sizes.runs == {"a": 1010}
    assert sizes.checkpoint_bytes == 1000
    assert (sizes.parts["logs"], sizes.parts["backups"]) == (7, 0)
    assert sizes.parts["database"] > 0
    assert sizes.total == sum(sizes.parts.values()) == tree_bytes(home.path, set())


def test_a_page_gets_the_sizes_without_waiting_for_them(services: Services) -> None:
    corpus_id = add_corpus(services, "<b>big</b>")

    first = settings.render_storage(services)
    services.storage.measure()
    second = settings.render_storage(services)

    assert "being added up" in first
    assert f'href="/corpora?corpus={corpus_id}">&lt;b&gt;big&lt;/b&gt;</a>' in second
    assert "nothing to remove" in second


def test_only_logs_of_jobs_long_ended_are_removed(services: Services, client: TestClient) -> None:
    services.corpora.build(add_corpus(services, "letters"))
    waiting = services.jobs.queue()[0].id
    logs = services.home.job_logs_dir
    old, kept, fresh = put(logs / "gone.log", 33), put(logs / f"{waiting}.log"), put(logs / "x.log")
    for path in (old, kept):
        os.utime(path, (time.time() - OLD_LOG_S - 60,) * 2)

    answer = client.post("/api/v1/storage/clean", json={"what": "logs"})

    assert answer.json() == {"what": "logs", "num_removed": 1, "freed_bytes": 33}
    assert [path.exists() for path in (old, kept, fresh)] == [False, True, True]


def test_damaged_checkpoints_go_and_the_others_stay(services: Services, client: TestClient) -> None:
    checkpoints = services.home.run_dir("a") / "checkpoints"
    put(checkpoints / "step-00000002.damaged" / "model.safetensors", 70)
    good = put(checkpoints / "step-00000001" / "model.safetensors")
    services.storage.measure()
    shown = settings.render_storage(services)

    answer = client.post("/api/v1/storage/clean", json={"what": "damaged"})

    assert 'id="clean-damaged"' in shown
    assert "70 bytes" in shown
    assert answer.json()["freed_bytes"] == 70
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000001"]
    assert good.exists()
    assert 'id="clean-damaged"' not in settings.render_storage(services)


def test_temporary_files_in_use_are_left_alone(services: Services) -> None:
    busy, idle = add_corpus(services, "busy"), add_corpus(services, "idle")
    services.corpora.build(busy)
    corpora = services.home.corpora_dir
    left = corpora / idle / ".tmp-keys-00000000"
    used = corpora / busy / ".tmp-keys-00000000"
    fresh = corpora / idle / "database" / ".tmp-chunks-00000000"
    only_copy = corpora / idle / ".tmp-old-index-00000000"
    replaced = corpora / idle / ".tmp-old-documents-00000000"
    trash = corpora / ".tmp-trash-gone-00000000"
    for folder in (left, used, fresh, only_copy, replaced, trash):
        put(folder / "file")
        if folder is not fresh:
            make_old(folder)

    found = services.storage.leftovers.remove("temporary")

    assert set(found.paths) == {left, replaced, trash}
    assert [path.exists() for path in (left, replaced, trash)] == [False] * 3
    assert [path.exists() for path in (used, fresh, only_copy)] == [True] * 3


def test_an_unknown_kind_of_leftovers_is_refused(client: TestClient) -> None:
    answer = client.post("/api/v1/storage/clean", json={"what": "corpora"})

    assert answer.status_code == 422
    assert answer.json()["detail"].endswith("got 'corpora'.")


def test_the_settings_tell_the_set_up_but_no_secret(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    set_up = SetUp(host="0.0.0.0", has_token=True, encoder=str(tmp_path), mcp="read")
    services = Services(home, Store(home.database_url()), set_up=set_up, limits=LIMITS)

    with TestClient(guard(make_rest_app(services), None), base_url=BASE) as client:
        answer = client.get("/api/v1/settings").json()
    shown = settings.render_set_up(services)

    assert answer["access"] == {"has_token": True, "host": "0.0.0.0"}
    assert answer["encoder"] == {"name": str(tmp_path), "is_bundled": False, "is_here": False}
    assert answer["mcp"] == "read"
    assert answer["database"]["warning"] == sqlite_warning()
    assert answer["backups"] == {"num_copies": 0, "newest": None, "newest_at": None}
    assert "not on this machine" in shown
    assert 'action="/logout"' in shown
    assert "reading only" in shown
    services.store.close()


def test_the_bundled_encoder_needs_no_network() -> None:
    assert find_encoder_offline(None) is not None
    assert find_encoder_offline("nobody/has-this") is None


@pytest.mark.parametrize(
    ("free_disk", "words"), [(0, ""), (1 << 70, "bad-text"), ("little", "warn-text")]
)
def test_the_strip_warns_of_a_disk_that_is_nearly_full(
    tmp_path: Path, free_disk: int | str, words: str
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    store = Store(home.database_url())
    kept = free_disk
    if isinstance(kept, str):
        kept = Services(home, store).system.disk().free // 3
    services = Services(home, store, limits=UploadLimits(free_disk=kept))

    strip = render_strip(services)

    assert f'class="num {words}" href="/settings"' in strip
    assert ("only " in strip) is bool(words)
    store.close()


def test_the_memory_of_gpus_is_read_where_it_is_known() -> None:
    found = read_gpus("81559, NVIDIA H100\n[N/A], NVIDIA, Inc. GB10\n\n")

    assert [(gpu.name, gpu.memory_bytes) for gpu in found] == [
        ("NVIDIA H100", 81559 * 2**20),
        ("NVIDIA, Inc. GB10", None),
    ]
