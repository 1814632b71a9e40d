"""Building a corpus: every stage kept, resumed or made again as its inputs ask."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from retro.artifacts import read_manifest, write_manifest
from retro.config.corpus import CorpusConfig, Exclusion, IndexKind
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.files import read_config
from retro.corpus.ingest import ingest_folder
from retro.data.documents import SkippedFile
from retro.errors import ArtifactMismatchError, ArtifactMissingError, InputError
from retro.whole_files import save_array, write_json
from tests.fakes import hash_embedder, random_texts, small_corpus, store_texts

CONFIG = CorpusConfig(chunk_size=8, vocab_size=300)
STAGES = ["ingest", "tokenize", "chunk", "embed", "index", "neighbors"]
STAGE_FOLDERS = ("tokenizer", "database", "keys", "index")
ROOT = Path(__file__).parents[3]


class StopHereError(Exception):
    """Stands for the end of the process."""


def made_at(corpus_dir: Path) -> dict[str, int]:
    """Return when each stage was made."""
    return {
        name: (corpus_dir / name / "manifest.json").stat().st_mtime_ns for name in STAGE_FOLDERS
    }


def changed(corpus_dir: Path, config: CorpusConfig) -> set[str]:
    before = made_at(corpus_dir)
    build_corpus(corpus_dir, config, embedder=hash_embedder)
    after = made_at(corpus_dir)
    return {name for name in STAGE_FOLDERS if before[name] != after[name]}


def test_a_folder_becomes_a_corpus(tmp_path: Path) -> None:
    source, corpus_dir = tmp_path / "source", tmp_path / "corpus"
    for path, text in random_texts(9, 40).items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    (source / "empty.txt").write_text("")
    skipped: list[SkippedFile] = []
    reported: list[tuple[str, int, int]] = []

    assert ingest_folder(source, corpus_dir, on_skip=skipped.append) == 9
    summary = build_corpus(
        corpus_dir, CONFIG, on_progress=lambda *at: reported.append(at), embedder=hash_embedder
    )

    assert [file.path for file in skipped] == ["empty.txt"]
    assert list(dict.fromkeys(stage for stage, _, _ in reported)) == STAGES
    last = {stage: (done, total) for stage, done, total in reported}
    assert all(done == total > 0 for done, total in last.values())
    assert summary.num_documents == 9
    assert summary.num_validation_documents == 1
    assert summary.num_chunks > summary.num_retrievable > 50
    assert summary.num_bytes == sum(len(text) for text in random_texts(9, 40).values())
    assert (summary.exclusion, summary.index_kind, summary.recall) == ("document", "flat", 1.0)
    assert summary.num_short == 0
    assert json.loads(json.dumps(summary.to_dict())) == summary.to_dict()
    assert read_config(corpus_dir) == CONFIG


def test_neighbors_keep_to_the_rule(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    documents_C = corpus.database.documents_C

    num_checked = 0
    for chunk, neighbors in enumerate(corpus.neighbors_CK):
        for neighbor in neighbors[neighbors >= 0]:
            assert documents_C[neighbor] != documents_C[chunk]
            assert neighbor < corpus.database.num_retrievable
            num_checked += 1
    assert num_checked == corpus.neighbors_CK.size
    assert (np.diff(corpus.distances_CK, axis=1) >= 0).all()


def test_a_finished_corpus_is_not_built_again(tmp_path: Path) -> None:
    first = small_corpus(tmp_path)

    assert changed(tmp_path, CONFIG) == set()

    assert Corpus.open(tmp_path).fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"num_neighbors": 3}, {"index"}),
        ({"exclusion": Exclusion.WINDOW}, {"index"}),
        ({"index_kind": IndexKind.HNSW}, {"index"}),
        ({"chunk_size": 9}, {"database", "keys", "index"}),
        ({"vocab_size": 310}, {"tokenizer", "database", "keys", "index"}),
        ({"seed": 5}, {"database", "keys", "index"}),
    ],
)
def test_a_changed_setting_remakes_what_depends_on_it(
    tmp_path: Path, change: dict[str, object], expected: set[str]
) -> None:
    before = small_corpus(tmp_path).fingerprint

    assert changed(tmp_path, replace(CONFIG, **change)) == expected  # type: ignore[arg-type]

    after = Corpus.open(tmp_path)
    assert after.fingerprint != before
    # Nothing but the tokenizer is left of the first build: a fresh one is the same.
    store_texts(tmp_path / "fresh", random_texts(8, 60))
    build_corpus(tmp_path / "fresh", after.config, embedder=hash_embedder, tokenizer=tmp_path)
    fresh = Corpus.open(tmp_path / "fresh")
    assert fresh.fingerprint == after.fingerprint
    assert np.array_equal(fresh.neighbors_CK, after.neighbors_CK)


def test_a_changed_document_remakes_everything_but_the_tokenizer(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    store_texts(tmp_path, {"new.txt": "words that are new " * 10})

    assert changed(tmp_path, CONFIG) == {"database", "keys", "index"}

    assert "new.txt" in [record.path for record in Corpus.open(tmp_path).database.documents]


@pytest.mark.parametrize(
    "name", ["database/chunks.npy", "index/neighbors.npy", "tokenizer/tokenizer.json"]
)
def test_a_flipped_bit_is_found_and_made_good(tmp_path: Path, name: str) -> None:
    first = small_corpus(tmp_path)
    expected = np.array(first.neighbors_CK)
    data = bytearray((tmp_path / name).read_bytes())
    data[-3] ^= 1
    (tmp_path / name).write_bytes(data)

    assert name.split("/")[0] in changed(tmp_path, CONFIG)

    assert np.array_equal(Corpus.open(tmp_path).neighbors_CK, expected)


def test_stopping_anywhere_loses_nothing(tmp_path: Path) -> None:
    texts = random_texts(8, 60)
    expected = small_corpus(tmp_path / "whole", texts)
    stages: Counter[str] = Counter()
    limit, num_early, finished = 0, 0, False
    while not finished:
        folder = tmp_path / f"stopped-{limit}"
        store_texts(folder, texts)
        count = 0

        def stop(stage: str, done: int, total: int, limit: int = limit) -> None:
            nonlocal count
            count += 1
            if count > limit:
                stages[stage] += 1
                raise StopHereError((done, total))

        try:
            build_corpus(folder, CONFIG, on_progress=stop, embedder=hash_embedder)
            finished = True
        except StopHereError:
            if (folder / "index").exists():
                assert not Corpus.open(folder).has_neighbors
                num_early += 1
            else:
                with pytest.raises(ArtifactMissingError, match="no index yet"):
                    Corpus.open(folder)
        build_corpus(folder, CONFIG, embedder=hash_embedder)
        resumed = Corpus.open(folder)
        assert resumed.fingerprint == expected.fingerprint
        assert np.array_equal(resumed.neighbors_CK, expected.neighbors_CK)
        assert not list(folder.glob(".tmp-*"))
        limit += 2
    assert set(stages) == set(STAGES)
    assert num_early > 0


def test_what_a_killed_build_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-database-0123abcd").mkdir()
    (tmp_path / ".tmp-database-0123abcd" / "chunks.npy").write_bytes(b"half")

    small_corpus(tmp_path)

    assert not list(tmp_path.glob(".tmp-*"))


def test_a_rebuild_that_was_stopped_is_noticed(tmp_path: Path) -> None:
    small_corpus(tmp_path)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "embed":
            raise StopHereError((done, total))

    with pytest.raises(StopHereError):
        build_corpus(tmp_path, replace(CONFIG, chunk_size=9), on_progress=stop)
    with pytest.raises(ArtifactMismatchError, match="a later build was not finished"):
        Corpus.open(tmp_path)


def test_arrays_are_read_only(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)

    for array in (corpus.neighbors_CK, corpus.distances_CK):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_one_single_document_builds_with_the_window_rule(tmp_path: Path) -> None:
    text = next(iter(random_texts(1, 1500).values()))
    config = replace(CONFIG, exclusion_window=64)

    corpus = small_corpus(tmp_path, {"book.txt": text}, config)

    assert corpus.exclusion is Exclusion.WINDOW
    summary = corpus.summary()
    assert (summary.exclusion, summary.num_short) == ("window", 0)
    ids_CK = corpus.neighbors_CK.astype(int)
    assert np.abs(ids_CK - np.arange(len(ids_CK))[:, None]).min() > 64 // 8


def test_chunks_without_neighbors_are_counted(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, {"book.txt": "words and words " * 40})

    assert corpus.exclusion is Exclusion.WINDOW
    assert corpus.summary().num_short == corpus.database.num_chunks
    assert (corpus.neighbors_CK == -1).all()


@pytest.mark.parametrize("texts", [{}, {"a.txt": "12345"}])
def test_corpora_without_enough_text_are_refused(tmp_path: Path, texts: dict[str, str]) -> None:
    store_texts(tmp_path, texts)

    with pytest.raises(InputError, match="at least"):
        build_corpus(tmp_path, CONFIG, embedder=hash_embedder)


def test_folders_without_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    with pytest.raises(InputError, match=r"'only' must hold .* got none \(0 files skipped\)"):
        ingest_folder(tmp_path / "only", tmp_path / "corpus")
    (tmp_path / "only" / "picture.png").write_bytes(b"\x89PNG\0")
    with pytest.raises(InputError, match=r"\(1 files skipped\)"):
        ingest_folder(tmp_path / "only", tmp_path / "corpus")
    with pytest.raises(InputError, match="'gone' must be a folder"):
        ingest_folder(tmp_path / "gone", tmp_path / "corpus")


def test_a_corpus_without_index_says_what_to_do(tmp_path: Path) -> None:
    store_texts(tmp_path / "letters", {"a.txt": "text"})

    for folder in (tmp_path / "letters", tmp_path / "gone"):
        with pytest.raises(ArtifactMissingError, match=rf"{folder.name}' has no index yet\. Build"):
            Corpus.open(folder)


@pytest.mark.parametrize("name", ["database", "tokenizer"])
def test_a_missing_part_is_named(tmp_path: Path, name: str) -> None:
    small_corpus(tmp_path)
    (tmp_path / name / "manifest.json").unlink()

    with pytest.raises(ArtifactMissingError, match=f"no finished {name}"):
        Corpus.open(tmp_path)


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    path = tmp_path / "index" / "manifest.json"
    values = json.loads(path.read_bytes())
    # Earlier versions wrote no checksum of the manifest itself.
    del values["settings"]["index"], values["sha256"]
    write_json(path, values)

    with pytest.raises(ArtifactMismatchError, match=r"incomplete .*index"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("name", ["neighbors.npy", "distances.npy"])
def test_neighbors_of_another_shape_are_refused(tmp_path: Path, name: str) -> None:
    small_corpus(tmp_path)
    folder = tmp_path / "index"
    manifest = read_manifest(folder, "index")
    save_array(folder / name, np.load(folder / name)[:-1])
    write_manifest(folder, "index", content=manifest.fingerprint, settings=manifest.settings)

    with pytest.raises(ArtifactMismatchError, match=rf"{name} must hold (int|float)32 of shape"):
        Corpus.open(tmp_path)


def test_opening_needs_no_torch(tmp_path: Path) -> None:
    small_corpus(tmp_path)
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "import retro, retro.config.corpus, retro.data.documents, retro.data.samples\n"
        "from retro.corpus.corpus import Corpus\n"
        "corpus = Corpus.open(Path(sys.argv[1]))\n"
        "assert corpus.retriever().describe(corpus.neighbors_CK[0], corpus.distances_CK[0])\n"
        "corpus.summary()\n"
        "heavy = {'torch', 'transformers', 'faiss', 'sentence_transformers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )

    finished = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr


@pytest.mark.slow
def test_many_documents_take_time_in_proportion(tmp_path: Path) -> None:
    texts = {f"d{row % 50}/{row}.txt": f"document {row} " * 3 for row in range(3000)}

    corpus = small_corpus(tmp_path, texts)

    assert len(corpus.database.documents) == 3000
    assert corpus.summary().num_short == 0
