"""A model writes from text it was not trained on, and from text that was added later."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from retro.__main__ import main
from retro.config.corpus import CorpusConfig
from retro.config.sampling import SamplingConfig
from retro.corpus.build import build_corpus
from retro.corpus.corpus import Corpus
from retro.errors import ArtifactMismatchError
from retro.export import export_run
from retro.generation.events import ChunkEvent
from retro.generation.generate import Generator
from retro.run import create_run
from retro.training.trainer import train
from tests.conftest import TINY_MODEL, TINY_TRAINING, country_texts
from tests.fakes import store_texts

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
CONFIG = CorpusConfig(chunk_size=8, vocab_size=400)
PROMPT = "Sailors mend their nets in the harbor at dawn"
RIVERS = {
    f"rivers/{name}.txt": f"The river {name} springs in the hills, passes {town} and its mills, "
    f"and after long bends reaches the sea near {town}. Boats carry grain on the {name}.\n"
    for name, town in [("Alda", "Brock"), ("Cern", "Dole"), ("Esk", "Firth"), ("Gara", "Hove")]
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a corpus and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("other")
    store_texts(folder / "countries", country_texts())
    build_corpus(folder / "countries", CONFIG, device=CPU)
    training = {**TINY_TRAINING, "max_steps": 2, "checkpoint_every": 2, "eval_every": 2}
    create_run(folder / "run", folder / "countries", model=TINY_MODEL, training=training)
    train(folder / "run", device=CPU)
    return folder


def write(generator: Generator, prompt: str = PROMPT) -> tuple[str, list[dict[str, Any]]]:
    """Return the text and the neighbors that the prompt brought up."""
    config = SamplingConfig(max_new_tokens=12, seed=1)
    chunks = [
        event.chunk.to_dict()
        for event in generator.generate(prompt, config)
        if isinstance(event, ChunkEvent)
    ]
    text = "".join(chunk["text"] for chunk in chunks if not chunk["is_prompt"])
    return text, [neighbor for chunk in chunks for neighbor in chunk["neighbors"]]


def documents(neighbors: list[dict[str, Any]]) -> set[str]:
    return {neighbor["document"] for neighbor in neighbors}


def test_a_model_writes_from_a_corpus_that_took_its_tokenizer(folder: Path) -> None:
    rivers = folder / "rivers"
    store_texts(rivers, RIVERS)
    summary = build_corpus(rivers, CorpusConfig(chunk_size=8), device=CPU, tokenizer=folder / "run")

    _, neighbors = write(Generator.open(folder / "run", corpus_dir=rivers, device=CPU))

    assert (summary.tokenizer_origin, summary.tokenizer_source) == ("taken", "run")
    assert len(neighbors) >= 4
    assert documents(neighbors) <= set(RIVERS)
    assert all(one["text"] in RIVERS[one["document"]] for one in neighbors)


def test_files_added_to_a_corpus_are_retrieved_without_training(folder: Path) -> None:
    countries = folder / "countries"
    _, before = write(Generator.open(folder / "run", device=CPU))
    assert before
    assert documents(before) <= set(country_texts())
    checkpoint = folder / "run" / "checkpoints" / "step-00000002" / "manifest.json"
    written_at = checkpoint.stat().st_mtime_ns
    # The lot decides which documents are held out; this one is not.
    store_texts(countries, {"harbor.txt": f"{PROMPT}. Gulls follow the boats.\n" * 3})

    summary = build_corpus(countries, CONFIG, device=CPU)
    text, after = write(Generator.open(folder / "run", device=CPU))

    split = {record.path: record.split for record in Corpus.open(countries).database.documents}
    assert split["harbor.txt"] == "train"
    assert summary.tokenizer_origin == "kept"
    assert "harbor.txt" in documents(after)
    assert text
    assert checkpoint.stat().st_mtime_ns == written_at
    with pytest.raises(ArtifactMismatchError, match="was trained on corpus version"):
        train(folder / "run", device=CPU, max_steps=4)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("words", CorpusConfig(chunk_size=8, vocab_size=300)),
        ("chunks", CorpusConfig(chunk_size=16)),
    ],
)
def test_any_model_writes_from_any_corpus(folder: Path, name: str, config: CorpusConfig) -> None:
    corpus_dir = folder / f"other-{name}"
    store_texts(corpus_dir, RIVERS)
    tokenizer = folder / "run" / "tokenizer" if name == "chunks" else None
    build_corpus(corpus_dir, config, device=CPU, tokenizer=tokenizer)
    generator = Generator.open(folder / "run", corpus_dir=corpus_dir, device=CPU)

    _, neighbors = write(generator, "The river Alda springs in hills")

    assert ("cut with another tokenizer" in generator.note) is (name == "words")
    assert neighbors
    size = generator.model.chunk_size
    for one in neighbors:
        whole = RIVERS[one["document"]]
        assert whole[one["start"] :].startswith(one["text"])
        assert (one["text"] + one["continuation"]) in whole
        for which in ("token_ids", "continuation_token_ids"):
            assert len(one[which]) <= size
        assert generator.tokenizer.decode(one["token_ids"]) == one["text"]


def run_command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return code, shown.out, shown.err.strip().splitlines()[-1] if shown.err.strip() else ""


def test_the_command_line_builds_copies_and_builds_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    for path, text in RIVERS.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(text)
    own, copy = tmp_path / "own", tmp_path / "copy"
    own_settings = ("--chunk-size", 12, "--num-neighbors", 3)
    code, out, _ = run_command(capsys, "build", source, "--out", own, *own_settings)
    assert code == 0
    assert "chunks of 12, " in out
    assert "trained on this corpus" in out

    # A copy of a corpus: its documents and its other settings, not its built parts.
    model = export_run(folder / "run", tmp_path / "model")
    command = ("build", own, "--out", copy, "--tokenizer", model)
    code, _, err = run_command(capsys, *command, "--chunk-size", 12)
    assert (code, copy.exists()) == (1, False)
    assert "chunk_size must be 8 with the tokenizer of model, got 12." in err
    code, out, _ = run_command(capsys, *command)
    assert code == 0
    assert "4 documents" in out
    assert "chunks of 8, " in out
    assert "taken from model" in out
    assert Corpus.open(copy).config.num_neighbors == 3

    # Built again with more files and no settings: everything stays as it was chosen.
    (source / "new.txt").write_text("Ferries cross the lake twice a day. " * 5)
    code, out, _ = run_command(capsys, "build", source, "--out", own)
    assert code == 0
    assert "5 documents" in out
    assert "chunks of 12, " in out
    assert "kept from before the documents were changed" in out
    code, out, _ = run_command(capsys, "build", source, "--out", own, "--new-tokenizer")
    assert "trained on this corpus" in out

    prompt = ("--prompt", "The river Alda springs in the hills", "--max-new-tokens", 4, "--json")
    code, out, _ = run_command(capsys, "generate", model, "--corpus", copy, *prompt)
    assert code == 0
    neighbors = [one for chunk in json.loads(out)["chunks"] for one in chunk["neighbors"]]
    assert documents(neighbors) <= set(RIVERS)
    assert neighbors
    code, out, _ = run_command(capsys, "generate", model, "--corpus", own, *prompt[:-1])
    assert code == 0
    assert "The corpus was cut with another tokenizer" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tokenizer", "{folder}/none"], "none must hold tokenizer.json"),
        (["--tokenizer", "{folder}/run", "--vocab-size", "300"], "vocab_size must be 400"),
        (["--tokenizer", "{folder}/run", "--new-tokenizer"], "got both"),
    ],
)
def test_a_wrong_tokenizer_is_one_line(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    (tmp_path / "a.txt").write_text(RIVERS["rivers/Alda.txt"])
    filled = [argument.format(folder=folder) for argument in arguments]

    code, out, err = run_command(capsys, "build", tmp_path, "--out", tmp_path / "c", *filled)

    assert (code, out) == (1, "")
    assert err.startswith("python -m retro build: ")
    assert words in err
