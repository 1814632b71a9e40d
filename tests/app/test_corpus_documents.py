"""Documents with their chunks, changes since the build, versions, and what routes answer."""

import hashlib
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from app.errors import MissingError
from app.pages import corpora, corpus_documents, corpus_settings, corpus_versions
from app.services.corpus_documents import CHARACTERS_PER_PAGE, CHUNKS_PER_PAGE
from app.services.services import Services
from app.services.views.base import plain
from jobs.errors import InvalidChangeError, NotFoundError
from jobs.store.rows import DocumentEntry
from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.data.documents import TextDocument, store_document
from tests.fakes import hash_embedder

CONFIG = CorpusConfig(chunk_size=8, vocab_size=300)
HOSTILE = "<img src=x onerror=1>"
HOSTILE_PATHS = [
    "../../retro.db",
    "..%2F..%2Fretro.db",
    "/etc/passwd",
    "a%00b",
    "x" * 4096,
    "CON",
    "%E2%80%AEtxt.exe",
]


class Letters:
    """A corpus in the database and on disk, built without an encoder."""

    def __init__(self, services: Services) -> None:
        self.services = services
        made = services.corpora.create(f"letters {HOSTILE}", settings=config_to_dict(CONFIG))
        self.id: str = made.id
        self.folder = services.home.corpus_dir(self.id)

    def add(self, texts: dict[str, str]) -> None:
        entries = []
        for path, text in texts.items():
            size = store_document(self.folder, TextDocument(path=path, text=text, encoding="utf-8"))
            digest = hashlib.sha256(text.encode()).hexdigest()
            entries.append(
                DocumentEntry(path=path, bytes=size, sha256=digest, encoding="utf-8", note=None)
            )
        self.services.store.add_documents(self.id, entries)

    def build(self) -> None:
        build_corpus(self.folder, CONFIG, embedder=hash_embedder)
        summary = Corpus.open(self.folder).summary().to_dict()
        self.services.store.set_corpus_summary(self.id, summary)

    def get(self) -> dict[str, Any]:
        found: dict[str, Any] = plain(self.services.corpora.get(self.id))
        return found

    def document(self, path: str, **places: Any) -> dict[str, Any]:
        found: dict[str, Any] = plain(self.services.corpora.document(self.id, path, **places))
        return found


def text_of(number: int, words: int = 120) -> str:
    return " ".join(f"word{(number * 31 + i * i) % 57}" for i in range(words)) + "\n\xe4\u20ac"


@pytest.fixture
def letters(services: Services) -> Letters:
    made = Letters(services)
    made.add({f"a/{number}.txt": text_of(number) for number in range(9)})
    made.add({f"b/{HOSTILE}.txt": f"{HOSTILE} {text_of(20, 900)}"})
    made.build()
    return made


def test_documents_tell_their_chunks_and_what_is_held_out(letters: Letters) -> None:
    found = letters.services.corpora.documents(letters.id)
    corpus = Corpus.open(letters.folder)

    records = {record.path: record for record in corpus.database.documents}
    assert found.total == 10
    for item in found.documents:
        record = records[item.path]
        assert item.num_chunks == record.num_chunks
        assert item.is_held_out == (record.split != "train")
        assert not item.is_changed
    assert any(item.is_held_out for item in found.documents)
    part = letters.services.corpora.documents(letters.id, contains="A/3")
    assert ([item.path for item in part.documents], part.total) == (["a/3.txt"], 1)


def test_the_chunks_of_all_pages_are_the_text(letters: Letters) -> None:
    path = f"b/{HOSTILE}.txt"
    pages = [letters.document(path)]
    while pages[-1]["page"] < pages[-1]["num_pages"]:
        pages.append(letters.document(path, page=pages[-1]["page"] + 1))

    assert len(pages) > 2
    chunks = [chunk for page in pages for chunk in page["chunks"]]
    text = (letters.folder / "documents" / path).read_text()
    assert "".join(chunk["text"] for chunk in chunks) == text
    assert [chunk["chunk_index"] for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert text[chunk["start"] : chunk["end"]] == chunk["text"]
        stored = letters.services.corpora.chunk(letters.id, chunk["chunk_id"])
        assert (stored.text, stored.document) == (chunk["text"], path)
        assert stored.num_tokens == chunk["num_tokens"]
        assert stored.is_retrievable != chunk["is_held_out"]


def test_a_place_or_a_chunk_chooses_its_page(letters: Letters) -> None:
    path = f"b/{HOSTILE}.txt"
    last = letters.document(path, page=letters.document(path)["num_pages"])
    chunk = last["chunks"][-1]

    assert letters.document(path, chunk_id=chunk["chunk_id"])["page"] == last["page"]
    assert letters.document(path, start=chunk["start"])["page"] == last["page"]
    assert letters.document(path, start=10**12)["page"] == last["page"]
    for places in ({"page": 999}, {"page": 0}, {"chunk_id": 10**9}):
        with pytest.raises(MissingError, match=r"must be between|is not of"):
            letters.document(path, **places)
    with pytest.raises(NotFoundError, match="There is no document 'none'"):
        letters.document("none")


def test_documents_that_are_not_built_are_shown_by_characters(letters: Letters) -> None:
    text = "0123456789" * (CHARACTERS_PER_PAGE // 4)
    letters.add({"new.txt": text})

    pages = [letters.document("new.txt", page=number) for number in (1, 2, 3)]

    assert [page["num_pages"] for page in pages] == [3, 3, 3]
    assert "".join(page["text"] for page in pages) == text
    assert pages[0]["num_chunks"] is None
    assert pages[0]["chunks"] == []
    assert letters.document("new.txt", start=CHARACTERS_PER_PAGE + 1)["page"] == 2
    with pytest.raises(MissingError, match="is not of"):
        letters.document("new.txt", chunk_id=0)


def test_changes_are_told_until_they_are_built(letters: Letters) -> None:
    assert letters.get()["changes"] == {"added": 0, "replaced": 0, "removed": 0}
    letters.services.corpora.change(letters.id, name="renamed")
    assert not letters.get()["has_changes"]

    letters.add({"new.txt": text_of(40), "a/1.txt": "replaced " * 30})
    letters.services.corpora.remove_document(letters.id, "a/2.txt")

    assert letters.get()["changes"] == {"added": 1, "replaced": 1, "removed": 1}
    shown = corpora.render_top(letters.services, {"corpus": letters.id})
    assert "changed since version 1: 1 added, 1 replaced, 1 removed" in shown
    assert "Build the next version" in shown
    letters.build()
    assert not letters.get()["has_changes"]
    assert letters.get()["version"] == 2


def test_a_replaced_or_removed_document_keeps_the_text_of_its_build(letters: Letters) -> None:
    chunk = letters.document("a/1.txt")["chunks"][1]
    letters.add({"a/1.txt": "replaced " * 30})
    now, before = letters.document("a/1.txt"), letters.document("a/1.txt", start=chunk["start"])
    assert (now["text"], now["chunks"]) == ("replaced " * 30, [])
    assert before["is_changed"]
    assert before["chunks"][1] == chunk

    letters.services.corpora.remove_document(letters.id, "a/1.txt")
    removed = letters.document("a/1.txt")
    assert not removed["is_stored"]
    assert removed["chunks"][1] == chunk


def test_removing_takes_the_file_and_empty_folders(letters: Letters) -> None:
    remove = letters.services.corpora.remove_document
    letters.add({"deep/er/x.txt": "text", "deep/y.txt": "other"})

    remove(letters.id, "deep/er/x.txt")
    root = letters.folder / "documents"
    assert not (root / "deep/er").exists()
    assert (root / "deep/y.txt").exists()
    (root / "deep/y.txt").unlink()
    remove(letters.id, "deep/y.txt")
    with pytest.raises(NotFoundError):
        remove(letters.id, "deep/y.txt")

    letters.services.corpora.build(letters.id)
    with pytest.raises(InvalidChangeError, match="can be removed"):
        remove(letters.id, "a/1.txt")


@pytest.mark.parametrize("path", HOSTILE_PATHS)
def test_hostile_paths_find_and_remove_nothing(
    client: TestClient, letters: Letters, path: str
) -> None:
    before = sorted(item for item in letters.services.home.path.rglob("*") if item.is_file())
    for method in ("GET", "DELETE"):
        answer = client.request(method, f"/api/v1/corpora/{letters.id}/documents/{path}")
        assert answer.status_code in (400, 404, 422), answer.text
        assert "Traceback" not in answer.text
    after = sorted(item for item in letters.services.home.path.rglob("*") if item.is_file())
    assert after == before


def test_routes_rename_list_and_show(client: TestClient, letters: Letters) -> None:
    base = f"/api/v1/corpora/{letters.id}"
    changed = client.patch(base, json={"name": " new  name ", "settings": {"num_neighbors": 3}})
    assert changed.json()["name"] == "new name"
    assert changed.json()["changed_settings"] == ["num_neighbors"]
    for body, words in (
        ({"name": " "}, "name must have"),
        ({"settings": {"chunk_size": -1}}, "chunk_size must be"),
        ({"settings": {"seed": 2**63}}, "seed must be"),
        ({"settings": {"colour": 1}}, "no setting 'colour'"),
    ):
        answer = client.patch(base, json=body)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    (version,) = client.get(f"{base}/versions").json()["versions"]
    assert (version["number"], version["state"], version["runs"]) == (1, "current", [])
    assert version["bytes"] > 0
    sizes = client.get(f"{base}/sizes").json()["bytes"]
    assert sizes["documents"] == letters.services.corpora.num_bytes(letters.id)
    assert sizes["index"] > 0
    path = quote(f"b/{HOSTILE}.txt")
    assert client.get(f"{base}/documents/{path}?page=2").json()["page"] == 2
    assert client.delete(f"{base}/documents/a/1.txt").status_code == 204
    assert client.get(f"{base}/documents?contains=a/1").json()["total"] == 0
    for body in ({}, {"text": "x", "chunk_id": 1}):
        assert client.post(f"{base}/search", json=body).status_code == 422
    assert client.post(f"{base}/search", json={"chunk_id": 10**6}).status_code == 404


def test_pages_show_text_as_text(letters: Letters) -> None:
    services, query = letters.services, {"corpus": letters.id}
    place = {**query, "document": f"b/{HOSTILE}.txt"}
    chunk = letters.document(place["document"])["chunks"][0]["chunk_id"]
    shown = [
        corpora.render_top(services, query),
        corpora.render_top(services, place),
        corpora.render_top(services, {**place, "chunk": str(chunk)}),
        corpora.render_top(services, {**place, "start": "0", "end": "9"}),
        corpus_documents.render_documents(services, {**query, "contains": HOSTILE[:8]}),
        corpus_settings.render_settings(services, query),
        corpus_versions.render_versions(services, query),
    ]

    assert all("<img" not in html for html in shown)
    assert all(shown)
    assert "Neighbors of chunk 1 of" in shown[2]
    assert 'id="place"' in shown[3]
    assert shown[1].count('class="chunk-number"') == CHUNKS_PER_PAGE
    for places in ({"chunk": "x"}, {"chunk": "9" * 12}, {"page": "77777"}):
        assert "may have been deleted" in corpora.render_top(services, {**place, **places})


def test_an_empty_corpus_and_a_missing_one_have_pages(services: Services) -> None:
    made = services.corpora.create("empty")
    for query in ({"corpus": made.id}, {"corpus": "nothing"}, {}):
        for render in (
            corpus_documents.render_documents,
            corpus_settings.render_settings,
            corpus_versions.render_versions,
            corpora.render_top,
            corpora.render_uploads,
        ):
            assert "<img" not in render(services, query)
    assert services.corpora.versions(made.id) == []
    assert "Add files" in corpora.render_uploads(services, {"corpus": made.id})
