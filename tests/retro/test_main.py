"""The command line, as a person uses it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retro.__main__ import main
from tests.conftest import TINY_MODEL, TINY_TRAINING, country_texts

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def write_folder(folder: Path, texts: dict[str, str]) -> Path:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def options(kind: str, values: dict[str, object]) -> list[str]:
    return [
        part
        for name, value in values.items()
        for part in (f"--{kind}", f"{name}={json.dumps(value)}")
    ]


def test_the_whole_way_from_a_folder_to_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "text", country_texts())
    (folder / "empty.txt").write_text("")
    corpus, run = str(tmp_path / "corpus"), str(tmp_path / "run")

    assert main(["build", str(folder), "--out", corpus, "--chunk-size", "8"]) == 0
    out, err = capsys.readouterr()
    assert "8 documents" in out
    assert "skipped empty.txt" in err

    settings = [*options("model", TINY_MODEL), *options("training", TINY_TRAINING)]
    assert main(["train", corpus, "--out", run, *settings]) == 0
    assert "finished at step 8" in capsys.readouterr().out
    assert main(["train", corpus, "--out", run, "--max-steps", "10"]) == 0
    assert "going on after step 8" in capsys.readouterr().out
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        if "train_loss" in line
    ]
    assert steps == list(range(1, 11))

    command = ["generate", run, "--prompt", "The capital", "--max-new-tokens", "20", "--seed", "5"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "the first chunk has no neighbors" in shown
    assert "lower is nearer" in shown
    assert main([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["prompt"] == "The capital"
    assert result["text"]
    with_neighbors = [chunk for chunk in result["chunks"] if chunk["neighbors"]]
    assert with_neighbors
    for neighbor in with_neighbors[0]["neighbors"]:
        text = (folder / neighbor["document"]).read_text()
        assert neighbor["text"] == text[neighbor["start"] : neighbor["end"]]

    assert main([*command, "--json", "--retrieval", "off"]) == 0
    assert all(not c["neighbors"] for c in json.loads(capsys.readouterr().out)["chunks"])

    assert main(["search", corpus, "The capital of Arland", "-k", "3"]) == 0
    assert capsys.readouterr().out.count("squared distance") == 3


def test_metrics_after_the_checkpoint_are_measured_again_not_twice(
    tmp_path: Path, corpus_dir: Path
) -> None:
    run = tmp_path / "run"
    settings = [*options("model", TINY_MODEL), *options("training", TINY_TRAINING)]
    assert main(["train", str(corpus_dir), "--out", str(run), *settings]) == 0
    whole = (run / "metrics.jsonl").read_text()
    # As after a kill between the checkpoint of step 4 and the one of step 8.
    for path in sorted((run / "checkpoints" / "step-00000008").iterdir(), reverse=True):
        path.unlink()
    (run / "checkpoints" / "step-00000008").rmdir()
    (run / "metrics.jsonl").write_text(whole[: whole.rindex('"val_loss_on"')])

    assert main(["train", str(corpus_dir), "--out", str(run)]) == 0

    def without_speed(text: str) -> list[dict[str, float]]:
        rows = [json.loads(line) for line in text.splitlines()]
        return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows]

    assert without_speed((run / "metrics.jsonl").read_text()) == without_speed(whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "{tmp}/none", "--out", "{tmp}/c"], "none"),
        (["build", "--out", "{tmp}/c"], "either a FOLDER or --sample"),
        (["build", "{tmp}/binary", "--out", "{tmp}/c"], "at least one text file, got none"),
        (["build", "{tmp}/text", "--out", "{tmp}/c", "--chunk-size", "1"], "chunk_size must be"),
        (
            ["build", "{tmp}/text", "--out", "{tmp}/c", "--chunk-size", "x"],
            "invalid int value: 'x'",
        ),
        (["build", "--sample", "nothing", "--out", "{tmp}/c"], "'nothing'"),
        (["train", "{tmp}/none", "--out", "{tmp}/r"], "has no index yet"),
        (["train", "{corpus}", "--out", "{tmp}/r", "--preset", "huge"], "got 'huge'"),
        (["train", "{corpus}", "--out", "{tmp}/r", "--max-steps", "0"], "max_steps must be"),
        (["train", "{corpus}", "--out", "{tmp}/r", "--model", "heads"], "expected NAME=VALUE"),
        (["generate", "{tmp}/none", "--prompt", "x"], "none holds no training run"),
        (["generate", "{tmp}/none", "--prompt", "x", "--top-p", "2"], "top_p must be"),
        (["search", "{tmp}/none", "x"], "has no index yet"),
        (["search", "{corpus}", ""], "got"),
        (["search", "{corpus}", "x", "-k", "0"], "got 0"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_1(
    tmp_path: Path,
    corpus_dir: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write_folder(tmp_path / "text", {"a.txt": "some text\n" * 50})
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / "x.bin").write_bytes(bytes(range(256)))
    filled = [a.format(tmp=tmp_path, corpus=corpus_dir) for a in arguments]

    try:
        code = main(filled)
    except SystemExit as stop:
        code = int(str(stop.code))

    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("skipped ")]
    assert code == 1
    assert out == ""
    assert message in lines[-1]
    assert lines[-1].startswith("python -m retro")
    assert "Traceback" not in err


def test_a_run_cannot_be_continued_with_other_settings(
    tmp_path: Path, corpus_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*options("model", TINY_MODEL), *options("training", TINY_TRAINING)]
    main(["train", str(corpus_dir), "--out", str(tmp_path / "run"), *settings])
    capsys.readouterr()

    code = main(["train", str(corpus_dir), "--out", str(tmp_path / "run"), "--batch-size", "9"])

    assert code == 1
    assert "run was started with batch_size = 4, got 9" in capsys.readouterr().err


def test_ctrl_c_writes_a_checkpoint_and_the_same_command_goes_on(
    tmp_path: Path, corpus_dir: Path
) -> None:
    settings = options(
        "training", {**TINY_TRAINING, "max_steps": 100_000, "checkpoint_every": 90_000}
    )
    command = [
        sys.executable, "-m", "retro", "train", str(corpus_dir), "--out", str(tmp_path / "run"),
        *options("model", TINY_MODEL), *settings,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("step "):
                break
        process.send_signal(2)
        rest = process.stdout.read()
        assert process.wait() == 0

    assert "stopped at step" in rest
    stopped = int(rest.split("stopped at step ")[1].split(";")[0])
    assert (tmp_path / "run" / "checkpoints" / f"step-{stopped:08d}").exists()
