"""A JSON file that is nested too deep, too large or something else is told of in one sentence."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from retro.checkpoints import checkpoint_name, find_checkpoint
from retro.config.corpus import CorpusConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.corpus.files import read_config
from retro.data.byte_level import ByteLevelTokenizer
from retro.errors import ArtifactError, ArtifactMismatchError
from retro.export import export_run
from retro.generation.generate import Generator
from retro.json_files import MOST_BYTES, MOST_DEPTH, parse_json, read_list, read_object
from retro.model.retro.model import RETRO
from retro.retrieval.embedder import TextEncoder
from retro.run import Run, create_run, open_run
from retro.training.trainer import train
from tests.conftest import TINY_MODEL, TINY_TRAINING
from tests.retro.training.runs import Recorder

CPU = torch.device("cpu")
TEXT = "The climate of Arland"


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"[]" + b"}" * depth


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "so deep that the parser ends": lambda path: path.write_bytes(nested(100_000)),
    "so deep that whoever reads it ends": lambda path: path.write_bytes(nested(MOST_DEPTH)),
    "a number": lambda path: path.write_bytes(b"7"),
    "too large": lambda path: os.truncate(path, 2**31),
    "a folder": make_a_folder,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, corpus_dir: Path) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "run"
    training = {**TINY_TRAINING, "max_steps": 4, "checkpoint_every": 2, "eval_every": 2}
    run = create_run(folder, corpus_dir, model=TINY_MODEL, training=training)
    train(run.path, device=CPU)
    return run


@pytest.fixture(scope="module")
def folders(
    run: Run, corpus_dir: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Return a folder of each kind. Tests must not change them."""
    place = tmp_path_factory.mktemp("models")
    encoder = shutil.copytree(bert_folder, place / "encoder")
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"}]
    (encoder / "modules.json").write_text(json.dumps(modules))
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling" / "config.json").write_text("{}")
    export_run(run.path, place / "model")
    return {"corpus": corpus_dir, "run": run.path, "model": place / "model", "encoder": encoder}


def search(folder: Path) -> object:
    return Corpus.open(folder).retriever(CPU).search_text(TEXT, 1)


def write(folder: Path) -> object:
    return Generator.open(folder, device=CPU, with_corpus=False)


def encode(folder: Path) -> object:
    return TextEncoder.open(str(folder), CPU).encode([TEXT])


READERS: list[tuple[str, str, Callable[[Path], object]]] = [
    ("corpus", "index/manifest.json", search),
    ("corpus", "tokenizer/manifest.json", search),
    ("corpus", "tokenizer/tokenizer.json", search),
    ("corpus", "database/manifest.json", search),
    ("corpus", "database/documents.json", search),
    ("corpus", "corpus.json", read_config),
    ("run", "config.json", open_run),
    ("run", "tokenizer/tokenizer.json", write),
    ("model", "config.json", RETRO.from_pretrained),
    ("model", "origin.json", write),
    ("model", "tokenizer.json", write),
    ("encoder", "config.json", encode),
    ("encoder", "tokenizer.json", encode),
    ("encoder", "tokenizer_config.json", encode),
    ("encoder", "modules.json", encode),
    ("encoder", "1_Pooling/config.json", encode),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "read"), READERS)
def test_whoever_reads_a_damaged_file_says_which_it_is(
    folders: dict[str, Path], tmp_path: Path, kind: str, name: str, read: Callable[[Path], object]
) -> None:
    read(folders[kind])

    for damage, harm in DAMAGES.items():
        folder = shutil.copytree(folders[kind], tmp_path / damage / kind)
        harm(folder / name)
        with pytest.raises(ArtifactError) as caught:
            read(folder)

        sentence = str(caught.value)
        assert Path(name).name in sentence, damage
        assert len(sentence) < 500, damage
        assert "\n" not in sentence, damage


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    run: Run, tmp_path: Path, damage: str
) -> None:
    copied = shutil.copytree(run.path, tmp_path / "run")
    DAMAGES[damage](copied / "checkpoints" / checkpoint_name(4) / "manifest.json")
    recorder = Recorder()

    assert find_checkpoint(copied).step == 2
    train(copied, device=CPU, listener=recorder)

    assert recorder.steps("resumed") == [2]
    assert [alert.kind for alert in recorder.alerts] == ["damaged"]
    assert find_checkpoint(copied).step == 4


@pytest.mark.slow
def test_a_corpus_is_built_again_whatever_file_is_damaged(corpus_dir: Path, tmp_path: Path) -> None:
    names = [path.relative_to(corpus_dir) for path in sorted(corpus_dir.rglob("*.json"))]
    assert len(names) > 4
    for number, name in enumerate(names):
        copied = shutil.copytree(corpus_dir, tmp_path / str(number))
        (copied / name).write_bytes(nested(100_000))

        config = CorpusConfig(chunk_size=8, vocab_size=400)
        summary = build_corpus(copied, config, device=CPU)

        assert summary.fingerprint == Corpus.open(corpus_dir).fingerprint, name
        search(copied)


@pytest.mark.parametrize("depth", [MOST_DEPTH, MOST_DEPTH + 1, 900, 100_000])
def test_depth_is_limited_however_deep_the_calls_are(depth: int) -> None:
    def parse_below(calls: int) -> object:
        return parse_below(calls - 1) if calls else parse_json(nested(depth - 1))

    for calls in (0, sys.getrecursionlimit() // 2):
        if depth <= MOST_DEPTH:
            assert json.dumps(parse_below(calls))
        else:
            with pytest.raises(ValueError, match="nested at most 100 deep, got more"):
                parse_below(calls)


def test_files_are_read_up_to_their_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1]")

    assert read_list(path) == [1]
    with pytest.raises(ArtifactMismatchError, match=r"a\.json is damaged \(it must hold an object"):
        read_object(path)
    os.truncate(path, MOST_BYTES + 1)
    with pytest.raises(ArtifactMismatchError, match="at most 67108864 bytes, got 67108865"):
        read_object(path)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(ArtifactMismatchError, match="a link to itself"):
        read_object(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactMismatchError, match="it must be a file, got something else"):
        read_object(path)


@pytest.fixture
def manifest(corpus_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(corpus_dir, tmp_path / "corpus") / "tokenizer" / "manifest.json"


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "n" * 10_000, "a\0b", "", "d/" * 1_000])
def test_a_manifest_names_files_of_its_folder_alone(manifest: Path, name: str) -> None:
    values = json.loads(manifest.read_bytes())
    values["files"] = {name: {"bytes": 1, "sha256": ""}}
    manifest.write_text(json.dumps(values))

    with pytest.raises(ArtifactMismatchError, match=r"tokenizer/manifest\.json is incomplete") as e:
        Corpus.open(manifest.parents[1])
    assert len(str(e.value)) < 400


def test_ids_of_a_tokenizer_that_would_fill_the_memory_are_refused(
    corpus_dir: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(corpus_dir / "tokenizer", tmp_path / "tokenizer")
    values = json.loads((folder / "tokenizer.json").read_bytes())
    values["model"]["vocab"]["!"] = 2**31
    (folder / "tokenizer.json").write_text(json.dumps(values))
    (folder / "manifest.json").unlink()

    with pytest.raises(ArtifactMismatchError, match=r"ids of tokens must be below .* 2147483648"):
        ByteLevelTokenizer.load(folder)


def test_a_tokenizer_that_makes_its_package_give_up_is_refused(
    corpus_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(corpus_dir / "tokenizer", tmp_path / "tokenizer")
    values = json.loads((folder / "tokenizer.json").read_bytes())
    values["model"]["continuing_subword_prefix"] = "x" * 100
    (folder / "tokenizer.json").write_text(json.dumps(values))

    with pytest.raises(ArtifactMismatchError, match=r"tokenizer\.json is damaged"):
        ByteLevelTokenizer.load(folder)
    capfd.readouterr()
