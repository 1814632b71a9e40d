"""Uploads, removals, builds, copies and deletions that meet in one corpus."""

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.errors import ChangeRefusedError
from app.services import intake
from app.services.services import Services
from app.services.uploads import UploadedFile
from jobs import corpus_files
from jobs.corpus_files import CorpusFiles
from jobs.errors import BusyError, NotFoundError
from jobs.store.corpus_locks import CorpusUse
from retro.errors import DiskFullError
from tests.app.real_app import make_services


def file(path: str, text: str) -> UploadedFile:
    return UploadedFile(path=path, content=io.BytesIO(text.encode()))


def stored(services: Services, corpus_id: str) -> dict[str, str]:
    root = services.home.corpus_dir(corpus_id) / "documents"
    return {
        path.relative_to(root).as_posix(): path.read_text()
        for path in root.rglob("*")
        if path.is_file()
    }


def agree(services: Services, corpus_id: str) -> bool:
    """Return whether every file is what its row says."""
    texts = stored(services, corpus_id)
    sums = {path: intake.new_text(document(path, text))[0].sha256 for path, text in texts.items()}
    return services.store.document_sums(corpus_id) == sums


def document(path: str, text: str) -> Any:
    return intake.TextDocument(path=path, text=text, encoding="utf-8")


@pytest.fixture
def corpus_id(services: Services) -> str:
    made = str(services.corpora.create("notes").id)
    services.uploads.add(made, [file("a.txt", "first text")])
    return made


@pytest.fixture
def during_upload(
    services: Services, corpus_id: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[], Any]], Any]:
    """Do something while an upload holds the corpus and has not stored its text yet."""
    keep = CorpusFiles.keep
    reached, go_on = threading.Event(), threading.Event()

    def keep_slowly(files: CorpusFiles, texts: Any) -> Any:
        if not reached.is_set():
            reached.set()
            assert go_on.wait(30)
        return keep(files, texts)

    def run(action: Callable[[], Any]) -> Any:
        monkeypatch.setattr(CorpusFiles, "keep", keep_slowly)
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(services.uploads.add, corpus_id, [file("b.txt", "second text")])
            try:
                assert reached.wait(30)
                return action()
            finally:
                go_on.set()
                assert sent.result()["counts"]["added"] == 1

    monkeypatch.setattr(corpus_files, "WAIT_S", 0.1)
    return run


@pytest.mark.parametrize("times", range(3))
def test_of_two_uploads_of_one_path_one_wins_whole(
    services: Services, corpus_id: str, times: int
) -> None:
    other = make_services(services.home.path)
    paths = [f"{number}.txt" for number in range(15)]
    together = threading.Barrier(2)

    def send(to: Services, mark: str) -> dict[str, Any]:
        together.wait()
        return to.uploads.add(corpus_id, [file(path, f"{mark} {path} {times}") for path in paths])

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(send, (services, other), ("ours", "theirs")))
    other.store.close()

    assert agree(services, corpus_id)
    words = {text.split()[0] for path, text in stored(services, corpus_id).items() if path in paths}
    assert len(words) == 1
    assert sorted(answer["counts"]["replaced"] for answer in answers) == [0, 15]
    assert sorted(answer["counts"]["added"] for answer in answers) == [0, 15]


CHANGES: dict[str, tuple[str, ...]] = {
    "build": (),
    "copy": (),
    "delete": (),
    "remove_document": ("a.txt",),
}


@pytest.mark.parametrize("name", CHANGES)
def test_other_changes_wait_for_an_upload_and_say_so(
    services: Services,
    corpus_id: str,
    during_upload: Callable[[Callable[[], Any]], Any],
    name: str,
) -> None:
    def change() -> None:
        getattr(services.corpora, name)(corpus_id, *CHANGES[name])

    def change_in_vain() -> None:
        with pytest.raises(BusyError, match=r"'notes' .* files are being added to it\. Try again"):
            change()

    during_upload(change_in_vain)

    assert sorted(stored(services, corpus_id)) == ["a.txt", "b.txt"]
    assert agree(services, corpus_id)
    assert [item.id for item in services.corpora.list_corpora()] == [corpus_id]
    change()


def test_a_second_upload_waits_for_the_first(
    services: Services,
    client: TestClient,
    corpus_id: str,
    during_upload: Callable[[Callable[[], Any]], Any],
) -> None:
    def send() -> Any:
        files = [("files", ("c.txt", b"third text"))]
        return client.post(f"/api/v1/corpora/{corpus_id}/files", files=files)

    refused = during_upload(send)

    assert refused.status_code == 409
    assert refused.json()["detail"] == (
        "Corpus 'notes' is changed by one request at a time, and files are being added to it. "
        "Try again in a moment."
    )
    assert send().json()["counts"]["added"] == 1
    assert sorted(stored(services, corpus_id)) == ["a.txt", "b.txt", "c.txt"]


def test_an_upload_that_a_build_ends_says_what_is_stored(
    services: Services, corpus_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BATCH_FILES", 2)
    keep = CorpusFiles.keep

    def build_afterwards(files: CorpusFiles, texts: Any) -> Any:
        try:
            return keep(files, texts)
        finally:
            monkeypatch.undo()
            monkeypatch.setattr(intake, "BATCH_FILES", 2)
            services.store.release_lock(files.token)
            services.corpora.build(corpus_id)

    monkeypatch.setattr(CorpusFiles, "keep", build_afterwards)
    files = [file(f"{number}.txt", f"text {number}") for number in range(5)]

    with pytest.raises(
        ChangeRefusedError,
        match=r"when it is not being built\. .* 2 documents of this request had been stored "
        r"before; send it again for the rest\.",
    ):
        services.uploads.add(corpus_id, files)

    assert sorted(stored(services, corpus_id)) == ["0.txt", "1.txt", "a.txt"]
    assert agree(services, corpus_id)


def test_an_upload_to_a_corpus_that_is_deleted_meanwhile_brings_nothing_back(
    services: Services, corpus_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BATCH_FILES", 2)
    store_batch = intake.Intake._store_batch

    def delete_before(self: intake.Intake, batch: Any) -> None:
        monkeypatch.undo()
        services.corpora.delete(corpus_id)
        store_batch(self, batch)

    monkeypatch.setattr(intake.Intake, "_store_batch", delete_before)

    with pytest.raises(NotFoundError, match="There is no corpus"):
        services.uploads.add(corpus_id, [file("b.txt", "second text")])

    assert list(services.home.corpora_dir.iterdir()) == []
    assert services.store.deleted_corpora() == []


def test_a_file_that_differs_is_never_taken_for_unchanged(
    services: Services, corpus_id: str
) -> None:
    place = services.home.corpus_dir(corpus_id) / "documents" / "a.txt"
    for damage in ("first texT", "first text and more", ""):
        place.write_text(damage)
        answer = services.uploads.add(corpus_id, [file("a.txt", "first text")])
        assert [item["change"] for item in answer["accepted"]] == ["replaced"]
        assert agree(services, corpus_id)
    answer = services.uploads.add(corpus_id, [file("a.txt", "first text")])
    assert [item["change"] for item in answer["accepted"]] == ["unchanged"]


def test_limits_count_what_others_have_added_meanwhile(
    services: Services, corpus_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "BATCH_FILES", 2)
    other = make_services(services.home.path)
    keep = CorpusFiles.keep

    def add_afterwards(files: CorpusFiles, texts: Any) -> Any:
        try:
            return keep(files, texts)
        finally:
            monkeypatch.setattr(CorpusFiles, "keep", keep)
            services.store.release_lock(files.token)
            theirs = [file(f"theirs-{number}.txt", f"{number}") for number in range(18)]
            other.uploads.add(corpus_id, theirs)

    monkeypatch.setattr(CorpusFiles, "keep", add_afterwards)
    answer = services.uploads.add(
        corpus_id, [file(f"ours-{number}.txt", f"our {number}") for number in range(20)]
    )
    other.store.close()

    assert services.store.count_documents(corpus_id) == 30
    assert (answer["counts"]["added"], answer["counts"]["skipped"]) == (11, 9)


@pytest.mark.parametrize("sample", [None, "python-docs"])
def test_a_corpus_that_cannot_be_filled_is_not_made(
    services: Services, corpus_id: str, monkeypatch: pytest.MonkeyPatch, sample: str | None
) -> None:
    def fill_up(*_: object) -> None:
        raise DiskFullError("There is no space left on the disk.")

    monkeypatch.setattr(CorpusFiles, "keep", fill_up)
    make = partial(services.corpora.create, "sample", sample=sample)
    with pytest.raises(DiskFullError):
        make() if sample else services.corpora.copy(corpus_id)

    assert [item.id for item in services.corpora.list_corpora()] == [corpus_id]
    assert [path.name for path in services.home.corpora_dir.iterdir()] == [corpus_id]
    assert services.store.unfinished_corpora() == {}


def test_a_text_that_has_not_taken_its_place_yet_is_read(
    services: Services, corpus_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus_files, "publish_documents", be_killed)
    with pytest.raises(KeyboardInterrupt):
        services.uploads.add(corpus_id, [file("a.txt", "new text"), file("b.txt", "more")])
    monkeypatch.undo()

    for path, text in (("a.txt", "new text"), ("b.txt", "more")):
        assert services.corpora.document(corpus_id, path).text == text
    assert stored(services, corpus_id) == {"a.txt": "first text"}
    services.store.take_corpus(corpus_id, CorpusUse.ADD)
    for staged in (services.home.corpus_dir(corpus_id) / "incoming").iterdir():
        staged.unlink()  # as if it took its place at this moment
    assert services.corpora.document(corpus_id, "a.txt").text == "first text"
