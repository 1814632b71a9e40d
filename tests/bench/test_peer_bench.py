"""The comparison with retro-pytorch: its processes, its inputs and its message without a peer."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.__main__ import main
from bench.build import Stages
from bench.peer.processes import Worker, WorkerError
from bench.peer.step import SIZES, random_batch
from bench.sample_text import WordPieces, whole_chunks, write_copies
from bench.timing import alternate
from retro.retrieval.encoder_files import find_encoder

BENCH = Path(__file__).parents[2] / "bench"
WITH_THE_PEER = ("peer/theirs.py", "peer/step.py", "peer/worker.py", "timing.py")


@pytest.mark.parametrize("path", WITH_THE_PEER)
def test_what_runs_beside_the_peer_does_not_import_this_library(path: str) -> None:
    tree = ast.parse((BENCH / path).read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert "retro" not in {name.split(".")[0] for name in imported}
    own = {
        f"{name.removeprefix('bench.').replace('.', '/')}.py"
        for name in imported
        if "bench" in name
    }
    assert own <= set(WITH_THE_PEER)


def test_without_the_peer_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RETRO_PEER_PYTHON", "/nowhere/python")
    monkeypatch.setattr(sys, "argv", ["bench", "peer-training"])

    assert main() == 1

    said = [line for line in capsys.readouterr().out.splitlines() if line and line[0] != "#"]
    assert len(said) == 1
    assert "/nowhere/python" in said[0]
    assert "make bench-peer-env" in said[0]


@pytest.mark.slow
def test_a_worker_answers_after_a_failure_and_whatever_is_printed(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "from bench.peer.worker import serve\n"
        "def shout(text):\n"
        "    print(text)\n"
        "    return len(text)\n"
        "serve('loud', {'shout': shout})\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        worker = Worker(sys.executable, "loud")
    with worker:
        assert worker.facts["name"] == "loud"
        with pytest.raises(WorkerError, match="shout"):
            worker.ask("shout", wrong=1)
        assert worker.ask("shout", text='{"value": 1}') == 12


def test_a_worker_that_cannot_start_is_reported() -> None:
    with pytest.raises(WorkerError, match="ended early"):
        Worker(sys.executable, "bench.there_is_no_such_module")


def test_both_sides_are_given_the_same_tokens_without_padding() -> None:
    first, again = random_batch(torch.device("cpu")), random_batch(torch.device("cpu"))

    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)
        assert one.min() > 0
        assert one.max() < SIZES["num_tokens"]
    assert first[0].shape == (4, 513)
    assert first[1].shape == (4, 8, 2, 128)


def test_candidates_are_measured_in_turn_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    values = {"a": iter([9.0, 1.0, 2.0, 3.0]), "b": iter([9.0, 5.0, 5.0, 8.0])}

    def measured(name: str) -> float:
        order.append(name)
        return next(values[name])

    found = alternate({"a": lambda: measured("a"), "b": lambda: measured("b")}, 3)

    assert found == {"a": 2.0, "b": 5.0}
    assert order == ["a", "b"] * 4


def test_no_chunk_of_the_copies_is_repeated_by_the_copying(tmp_path: Path) -> None:
    write_copies(tmp_path / "texts", 2)

    files = sorted((tmp_path / "texts").iterdir())
    paragraphs = {
        copy: {
            paragraph
            for path in files
            if path.name.startswith(copy)
            for paragraph in path.read_text(encoding="utf-8").split("\n\n")
        }
        for copy in ("001", "002")
    }
    assert len(files) % 2 == 0
    assert paragraphs["001"]
    assert not paragraphs["001"] & paragraphs["002"]


def test_chunks_are_whole_and_begin_again_where_text_ends() -> None:
    chunks = whole_chunks([[1, 2, 3, 4, 5], [6, 7]], 4, 2)

    assert chunks.tolist() == [[1, 2], [3, 4], [6, 7], [1, 2]]
    assert chunks.dtype == np.int32


def test_word_pieces_are_not_cut_off_and_come_back_as_text() -> None:
    tokenizer = WordPieces(find_encoder(None))
    ids = tokenizer.encode("the for statement " * 300)

    assert len(ids) == 900
    assert tokenizer.decode(ids[:3]) == "the for statement"


def test_stages_share_out_the_whole_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 7.0, 8.0])
    monkeypatch.setattr("bench.build.time.perf_counter", lambda: next(now))
    stages = Stages()

    for stage in ("chunk", "embed", "embed", "index"):
        stages(stage, 0, 0)
    stages.begin(None)

    assert stages.seconds == {"chunk": 1.0, "embed": 6.0, "index": 1.0}
