"""The tokenizer of a corpus: kept when documents change, taken when a model asks for it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retro.config.corpus import CorpusConfig
from retro.corpus import embed_stage
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.summary import CorpusSummary
from retro.corpus.tokenizer import (
    find_tokenizer,
    take_tokenizer,
    tokenizer_words,
)
from retro.data.byte_level import ByteLevelTokenizer
from retro.errors import ArtifactMismatchError, ArtifactMissingError, ConfigError
from retro.retrieval.index import Index, open_index
from retro.retrieval.index_info import IndexInfo
from retro.whole_files import write_json
from tests.fakes import HashEmbedder, hash_embedder, random_texts, small_corpus, store_texts

CONFIG = CorpusConfig(chunk_size=8, vocab_size=300)
NEW = {"z-new.txt": "words that nobody wrote before, quickly and jokingly " * 8}


def build(corpus_dir: Path, config: CorpusConfig = CONFIG, **wishes: Any) -> CorpusSummary:
    return build_corpus(corpus_dir, config, embedder=hash_embedder, **wishes)


def identity(corpus_dir: Path) -> str:
    return Corpus.open(corpus_dir).tokenizer.fingerprint


def test_a_tokenizer_outlives_its_documents(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    before = identity(tmp_path)
    assert build(tmp_path).tokenizer_origin == "trained"
    store_texts(tmp_path, NEW)

    summary = build(tmp_path)

    assert identity(tmp_path) == before
    assert (summary.tokenizer_origin, summary.tokenizer_source) == ("kept", None)
    assert tokenizer_words(summary.to_dict()) == "kept from before the documents were changed"
    # The words of the new document would have changed a tokenizer trained on them.
    small_corpus(tmp_path / "fresh", {**random_texts(8, 60), **NEW})
    assert identity(tmp_path / "fresh") != before


def test_what_was_removed_is_trained_on_no_longer_but_the_tokenizer_stays(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    before = identity(tmp_path)
    removed = next(path for path in random_texts(8, 60))
    (tmp_path / "documents" / removed).unlink()

    assert build(tmp_path).tokenizer_origin == "kept"

    assert identity(tmp_path) == before


@pytest.mark.parametrize(
    ("vocab_size", "is_kept"), [(None, True), (300, True), (299, False), (310, False)]
)
def test_another_vocabulary_size_asks_for_another_tokenizer(
    tmp_path: Path, vocab_size: int | None, is_kept: bool
) -> None:
    small_corpus(tmp_path)
    before = identity(tmp_path)
    store_texts(tmp_path, NEW)

    summary = build(tmp_path, replace(CONFIG, vocab_size=vocab_size))

    assert (identity(tmp_path) == before) is is_kept
    assert summary.tokenizer_origin == ("kept" if is_kept else "trained")
    assert summary.vocab_size == (vocab_size or 300)


def test_asking_again_for_more_tokens_than_a_small_corpus_gives_keeps_them(tmp_path: Path) -> None:
    config = replace(CONFIG, vocab_size=50_000)
    small_corpus(tmp_path, config=config)
    before = identity(tmp_path)
    store_texts(tmp_path, NEW)

    assert build(tmp_path, config).vocab_size < 50_000

    assert identity(tmp_path) == before


def test_a_new_tokenizer_is_trained_on_the_present_documents_once(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    before = identity(tmp_path)
    store_texts(tmp_path, NEW)
    build(tmp_path)

    summary = build(tmp_path, new_tokenizer=True)

    assert summary.tokenizer_origin == "trained"
    texts = {**random_texts(8, 60), **NEW}
    documents = Corpus.open(tmp_path).database.documents
    trained_on = sorted(record.path for record in documents if record.split == "train")
    assert "z-new.txt" in trained_on
    fresh = ByteLevelTokenizer.train((texts[path] for path in trained_on), 300)
    assert identity(tmp_path) == fresh.fingerprint != before
    manifest = tmp_path / "tokenizer" / "manifest.json"
    made_at = manifest.stat().st_mtime_ns
    build(tmp_path, new_tokenizer=True)
    assert manifest.stat().st_mtime_ns == made_at


def test_a_taken_tokenizer_is_used_named_and_kept(tmp_path: Path) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    small_corpus(mine)
    store_texts(other, random_texts(6, 80, seed=9))
    config = replace(CONFIG, vocab_size=None)

    summary = build(other, config, tokenizer=mine)

    assert identity(other) == identity(mine)
    assert (summary.tokenizer_origin, summary.tokenizer_source) == ("taken", "mine")
    assert tokenizer_words(summary.to_dict()) == "taken from mine"
    shutil.rmtree(mine)
    store_texts(other, NEW)
    again = build(other, config)
    assert (again.tokenizer_origin, again.tokenizer_source) == ("taken", "mine")
    assert again.num_documents == 7


def test_taking_the_tokenizer_it_has_changes_nothing(tmp_path: Path) -> None:
    small_corpus(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    manifest = tmp_path / "b" / "tokenizer" / "manifest.json"
    made_at = manifest.stat().st_mtime_ns

    assert build(tmp_path / "b", tokenizer=tmp_path / "a").tokenizer_origin == "trained"

    assert manifest.stat().st_mtime_ns == made_at


def test_a_corpus_given_a_tokenizer_before_its_first_build_uses_it(tmp_path: Path) -> None:
    small_corpus(tmp_path / "a")
    store_texts(tmp_path / "b", random_texts(6, 80, seed=9))
    take_tokenizer(tmp_path / "b", replace(find_tokenizer(tmp_path / "a"), name="run 'first'"))

    summary = build(tmp_path / "b", replace(CONFIG, vocab_size=None))

    assert identity(tmp_path / "b") == identity(tmp_path / "a")
    assert summary.tokenizer_source == "run 'first'"


def make_places(folder: Path) -> dict[str, tuple[Path, int | None]]:
    """Return places that hold one tokenizer, each with the chunk size known there."""
    corpus, run, model, bare = (folder / name for name in ("corpus", "run", "model", "bare"))
    small_corpus(corpus)
    shutil.copytree(corpus / "tokenizer", run / "tokenizer")
    write_json(run / "config.json", {"preset": "tiny", "model": {"chunk_size": 16}})
    for place in (model, bare):
        place.mkdir()
        shutil.copy(corpus / "tokenizer" / "tokenizer.json", place)
    write_json(model / "config.json", {"chunk_size": 32, "num_tokens": 300})
    return {
        "corpus": (corpus, 8),
        "run": (run, 16),
        "model": (model, 32),
        "bare": (bare, None),
        "corpus/tokenizer": (corpus / "tokenizer", None),
        "bare/tokenizer.json": (bare / "tokenizer.json", None),
    }


def test_a_tokenizer_is_found_in_every_place_that_has_one(tmp_path: Path) -> None:
    for name, (place, chunk_size) in make_places(tmp_path).items():
        source = find_tokenizer(place)

        assert (source.name, source.chunk_size) == (name, chunk_size)
        assert source.tokenizer.fingerprint == identity(tmp_path / "corpus")


def unstarted(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    write_json(folder / "config.json", {"preset": "tiny", "model_choices": {}})


def foreign(folder: Path) -> None:
    (folder / "tokenizer" / "manifest.json").unlink()
    path = folder / "tokenizer" / "tokenizer.json"
    path.write_text(path.read_text().replace("no text", "[PAD]"))


def flipped(folder: Path) -> None:
    path = folder / "tokenizer" / "tokenizer.json"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (unstarted, ArtifactMissingError, r"^run must hold tokenizer\.json .*Name a run that has"),
        (shutil.rmtree, ArtifactMissingError, "^run must hold"),
        (foreign, ArtifactMismatchError, "cannot be read as one .*which token ends a text"),
        (flipped, ArtifactMismatchError, "sha256 differs"),
    ],
)
def test_a_place_without_a_usable_tokenizer_is_refused(
    tmp_path: Path, damage: Any, error: type[Exception], words: str
) -> None:
    make_places(tmp_path)
    damage(tmp_path / "run")

    with pytest.raises(error, match=words):
        build(tmp_path / "corpus", tokenizer=tmp_path / "run")

    assert build(tmp_path / "corpus").tokenizer_origin == "trained"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"chunk_size": 9}, r"chunk_size must be 16 with the tokenizer of run, got 9\. Leave"),
        ({"vocab_size": 258}, r"vocab_size must be 300 with the tokenizer of run, got 258\."),
    ],
)
def test_settings_that_contradict_the_tokenizer_are_refused_before_any_work(
    tmp_path: Path, change: dict[str, int], words: str
) -> None:
    run, _ = make_places(tmp_path)["run"]
    corpus_dir = tmp_path / "corpus"
    before = sorted((path, path.stat().st_mtime_ns) for path in corpus_dir.rglob("*"))

    with pytest.raises(ConfigError, match=words):
        build(corpus_dir, replace(CONFIG, **{"chunk_size": 16, **change}), tokenizer=run)

    assert sorted((path, path.stat().st_mtime_ns) for path in corpus_dir.rglob("*")) == before
    with pytest.raises(ConfigError, match="a new tokenizer or with that of run, got both"):
        build(corpus_dir, replace(CONFIG, chunk_size=16), tokenizer=run, new_tokenizer=True)


def test_a_model_decides_chunk_size_and_vocabulary(tmp_path: Path) -> None:
    source = find_tokenizer(make_places(tmp_path)["run"][0])

    settings = source.settings({"num_neighbors": 3, "vocab_size": None})

    own = {"vocab_size": None, "tokenizer": None}
    assert settings == {"num_neighbors": 3, "chunk_size": 16, **own}
    bare = replace(source, chunk_size=None)
    assert bare.settings({"chunk_size": 5}) == {"chunk_size": 5, **own}


@pytest.mark.parametrize("damage", [flipped, lambda folder: shutil.rmtree(folder / "tokenizer")])
def test_a_lost_tokenizer_is_made_again_or_the_build_says_that_it_cannot(
    tmp_path: Path, damage: Any
) -> None:
    small_corpus(tmp_path / "corpus")
    shutil.copytree(tmp_path / "corpus" / "tokenizer", tmp_path / "saved")
    before = identity(tmp_path / "corpus")
    damage(tmp_path / "corpus")
    build(tmp_path / "corpus")
    assert identity(tmp_path / "corpus") == before

    damage(tmp_path / "corpus")
    store_texts(tmp_path / "corpus", NEW)
    with pytest.raises(ArtifactMismatchError, match=rf"must stay {before[:12]}.*--tokenizer RUN"):
        build(tmp_path / "corpus")

    build(tmp_path / "corpus", tokenizer=tmp_path / "saved")
    assert identity(tmp_path / "corpus") == before
    damage(tmp_path / "corpus")
    assert build(tmp_path / "corpus", new_tokenizer=True).tokenizer_origin == "trained"
    assert identity(tmp_path / "corpus") != before


def test_a_tokenizer_is_made_again_with_the_size_it_was_asked_for(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    before = identity(tmp_path)
    flipped(tmp_path)

    build(tmp_path, replace(CONFIG, vocab_size=None))

    assert identity(tmp_path) == before


def test_a_corpus_of_an_earlier_version_keeps_its_tokenizer(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    before = identity(tmp_path)
    path = tmp_path / "tokenizer" / "manifest.json"
    values = json.loads(path.read_bytes())
    del values["settings"]["asked_vocab_size"], values["settings"]["source"]
    write_json(path, values)
    assert build(tmp_path).tokenizer_origin == "trained"
    store_texts(tmp_path, NEW)

    assert build(tmp_path).tokenizer_origin == "kept"

    assert identity(tmp_path) == before
    assert tokenizer_words({}) == "trained on this corpus, now or earlier"


def test_keys_of_chunks_that_were_there_are_not_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed_stage, "ROWS_PER_SHARD", 16)
    before = small_corpus(tmp_path).database
    store_texts(tmp_path, NEW)
    embedders: list[HashEmbedder] = []

    def counted(tokenizer: Any) -> HashEmbedder:
        embedders.append(hash_embedder(tokenizer))
        return embedders[-1]

    build_corpus(tmp_path, CONFIG, embedder=counted)

    after = Corpus.open(tmp_path).database
    known = {row.tobytes() for row in before.chunks_CM}
    new = [row for row in after.chunks_CM if row.tobytes() not in known]
    assert 0 < len(new) < after.num_chunks // 2
    assert embedders[0].num_embedded == len(new)


def test_a_corpus_that_was_built_again_is_not_searched_with_old_chunks(tmp_path: Path) -> None:
    opened = small_corpus(tmp_path)
    store_texts(tmp_path, NEW)
    build(tmp_path)

    with pytest.raises(ArtifactMismatchError, match=f"version {opened.fingerprint[:12]}.*again"):
        opened.retriever(embedder=hash_embedder).search_text("words", 2)

    (tmp_path / "keys" / "manifest.json").unlink()
    with pytest.raises(ArtifactMismatchError, match="is being built"):
        Corpus.open(tmp_path).retriever(embedder=hash_embedder).search_text("words", 2)


def test_a_build_that_ends_while_a_corpus_is_opened_for_search_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = small_corpus(tmp_path)

    def open_late(folder: Path, info: IndexInfo) -> Index:
        # The same chunks and keys, but another index and other settings.
        build(tmp_path, replace(CONFIG, num_neighbors=3))
        return open_index(folder, info)

    monkeypatch.setattr("retro.corpus.search.open_index", open_late)
    with pytest.raises(ArtifactMismatchError, match="has been built again"):
        opened.retriever(embedder=hash_embedder).search_text("words", 2)


def test_a_searcher_that_is_open_goes_on_with_what_it_opened(tmp_path: Path) -> None:
    opened = small_corpus(tmp_path).retriever(embedder=hash_embedder)
    before = opened.search_text("words", 2)
    store_texts(tmp_path, NEW)
    build(tmp_path)

    assert opened.search_text("words", 2) == before
