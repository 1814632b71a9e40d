"""A run that was stopped, in whatever way, equals one that was never stopped, bit for bit."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from retro.checkpoints import checkpoint_name, list_checkpoints
from retro.config.training import TrainingConfig
from retro.corpus.corpus import Corpus
from retro.errors import TrainingError
from retro.run import open_run, resolved_run
from retro.training.checkpoint import random_states, restore_random_states
from retro.training.trainer import Trainer, corpus_facts, train
from tests.conftest import TINY_MODEL
from tests.retro.training.runs import (
    CPU,
    Recorder,
    StopAfter,
    checkpoint_content,
    go,
    make_run,
    without_speed,
)

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
STEPS_PER_EPOCH = 7
SETTINGS = {"batch_size": 2, "max_steps": 17, "eval_every": 5, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory, corpus_dir: Path
) -> tuple[dict[str, object], Recorder]:
    """Return the last checkpoint of a run that was never stopped, and what it told."""
    run = make_run(tmp_path_factory.mktemp("straight") / "run", corpus_dir, **SETTINGS)
    recorder = Recorder()
    go(run, recorder)
    return checkpoint_content(run, 17), recorder


@pytest.mark.parametrize(
    ("where", "stop"),
    [
        ("in mid-epoch", 3),
        ("at the boundary", STEPS_PER_EPOCH),
        ("in epoch 2", STEPS_PER_EPOCH + 3),
        ("at the second boundary", 2 * STEPS_PER_EPOCH),
    ],
)
def test_a_run_that_was_paused_equals_one_that_was_not(
    tmp_path: Path,
    corpus_dir: Path,
    corpus: Corpus,
    straight: tuple[dict[str, object], Recorder],
    where: str,
    stop: int,
) -> None:
    run = make_run(tmp_path / "run", corpus_dir, **SETTINGS)
    recorder = Recorder()

    go(run, recorder, StopAfter(stop))
    torch.rand(5), np.random.rand(5), random.random()  # what happens between two processes
    trainer = Trainer(open_run(run.path), corpus, CPU)
    place = trainer.state.sequences_seen
    go(run, recorder)

    assert len(trainer.dataset) == 2 * STEPS_PER_EPOCH
    assert place == 2 * stop
    assert (place % len(trainer.dataset) == 0) == ("boundary" in where)
    expected, heard = straight
    assert checkpoint_content(run, 17) == expected
    assert recorder.measured() == heard.measured()


def test_a_resumed_run_reads_the_batches_that_come_next(
    tmp_path: Path, corpus_dir: Path, corpus: Corpus
) -> None:
    run = make_run(tmp_path / "run", corpus_dir, **SETTINGS)
    facts = corpus_facts(corpus, corpus_dir)
    order = Trainer(resolved_run(run, facts), corpus, CPU).order
    rows = order.take(0, 34).reshape(-1, 2)
    go(run, stop=StopAfter(10))

    resumed = Trainer(open_run(run.path), corpus, CPU)

    # Backwards, so that no state of the order helps.
    for step in reversed(range(10, 17)):
        np.testing.assert_array_equal(resumed.order.take(2 * step, 2), rows[step])
    assert sorted(rows[:7].ravel()) == sorted(rows[7:14].ravel()) == list(range(14))
    assert rows[:7].tolist() != rows[7:14].tolist()


def test_two_threads_resume_as_exactly_as_one(tmp_path: Path, corpus_dir: Path) -> None:
    torch.set_num_threads(2)
    try:
        settings = {**SETTINGS, "max_steps": 6}
        whole = make_run(tmp_path / "whole", corpus_dir, **settings)
        parts = make_run(tmp_path / "parts", corpus_dir, **settings)
        go(whole)
        go(parts, stop=StopAfter(3))
        go(parts)
    finally:
        torch.set_num_threads(1)

    assert checkpoint_content(parts, 6) == checkpoint_content(whole, 6)


def test_another_number_of_threads_is_told(
    tmp_path: Path, corpus_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", corpus_dir, max_steps=2)
    go(run)
    torch.set_num_threads(2)
    try:
        go(run, max_steps=3)
    finally:
        torch.set_num_threads(1)

    assert "was trained with 1 threads and goes on with 2" in caplog.text


def test_every_random_generator_goes_on_where_it_was(tmp_path: Path) -> None:
    torch.save(random_states(), tmp_path / "states.pt")

    def draw() -> list[float]:
        return [torch.rand(1).item(), random.random(), np.random.rand(), np.random.randn()]

    expected = draw()
    np.random.randn()  # leaves a second normal number in store
    restore_random_states(torch.load(tmp_path / "states.pt", weights_only=True))

    assert draw() == expected


def test_a_checkpoint_of_an_earlier_version_goes_on(
    tmp_path: Path, corpus_dir: Path, straight: tuple[dict[str, object], Recorder]
) -> None:
    """It has only torch's random states, and knows of no alerts and sizes."""
    run = make_run(tmp_path / "run", corpus_dir, **SETTINGS)
    go(run, stop=StopAfter(8))
    path = run.checkpoints_dir / checkpoint_name(8)
    values = torch.load(path / "trainer.pt", weights_only=True)
    del values["random"]["python"], values["random"]["numpy"]
    old = ("step", "sequences_seen", "tokens_seen", "val_step", "val_loss_on", "val_loss_off")
    values["state"] = {name: values["state"][name] for name in old}
    torch.save(values, path / "trainer.pt")
    write_old_manifest(path, values["state"], open_run(run.path).corpus_fingerprint)
    recorder = Recorder()

    go(run, recorder)

    expected, heard = straight
    assert recorder.steps("resumed") == [8]
    assert checkpoint_content(run, 17)["weights"] == expected["weights"]
    assert recorder.measured() == [item for item in heard.measured() if item[0] > 8]


def write_old_manifest(path: Path, state: dict[str, int], corpus: str | None) -> None:
    """Write the manifest as the first version did: format 1, without sizes of the model."""
    settings = {
        "step": state["step"],
        "tokens_seen": state["tokens_seen"],
        "val_loss_on": None,
        "val_loss_off": None,
        "corpus": corpus,
    }
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    files = {
        name: {
            "bytes": (path / name).stat().st_size,
            "sha256": hashlib.sha256((path / name).read_bytes()).hexdigest(),
        }
        for name in ("model.safetensors", "trainer.pt")
    }
    values = {
        "format": 1,
        "kind": "checkpoint",
        "fingerprint": hashlib.sha256(text.encode()).hexdigest(),
        "settings": settings,
        "files": files,
    }
    (path / "manifest.json").write_text(json.dumps(values, indent=2) + "\n")


def command(corpus_dir: Path, run_dir: Path, max_steps: int) -> list[str]:
    settings = {**SETTINGS, "sequence_length": 32, "learning_rate": 3e-3, "warmup_steps": 2,
                "max_steps": max_steps, "log_every": 1, "precision": "float32"}  # fmt: skip
    model = {**TINY_MODEL, "dec_ff_dropout": 0.1}
    options = [f"--model={name}={json.dumps(value)}" for name, value in model.items()]
    options += [f"--training={name}={value}" for name, value in settings.items()]
    return [sys.executable, "-m", "retro", "train", str(corpus_dir), "--out", str(run_dir),
            *options]  # fmt: skip


def until_step(process: "subprocess.Popen[str]", metrics: Path, step: int) -> None:
    """Wait until a process has measured a step."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and f'"step": {step},' in metrics.read_text():
            return
        time.sleep(0.01)
    pytest.fail(f"step {step} was not reached: {process.communicate()[1]}")


def processes(corpus_dir: Path, run_dir: Path, max_steps: int) -> Iterator["subprocess.Popen[str]"]:
    """Start the same command again and again."""
    while True:
        with subprocess.Popen(
            command(corpus_dir, run_dir, max_steps),
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            yield process


def test_processes_that_were_killed_and_stopped_make_the_run_of_one_that_was_not(
    tmp_path: Path, corpus_dir: Path
) -> None:
    last = 100
    # The command line writes sample texts between the steps, which must change nothing.
    settings = {**SETTINGS, "max_steps": last, "sample_tokens": TrainingConfig().sample_tokens}
    whole = make_run(tmp_path / "whole", corpus_dir, **settings)
    run_dir = tmp_path / "run"
    heard = Recorder()
    go(whole, heard)
    started = processes(corpus_dir, run_dir, last)
    metrics = run_dir / "metrics.jsonl"

    killed = next(started)
    until_step(killed, metrics, random.randrange(6, 30))
    with pytest.raises(TrainingError, match=rf"run is trained by process {killed.pid}\. Wait"):
        train(run_dir, device=CPU)
    killed.kill()
    killed.wait()
    terminated = next(started)
    until_step(terminated, metrics, 60)
    terminated.send_signal(signal.SIGTERM)
    output, errors = terminated.communicate()
    assert terminated.returncode == 0, errors
    stopped = int(output.split("stopped at step ")[1].split(";")[0])
    assert list_checkpoints(run_dir)[-1].step == stopped
    finished = next(started)
    output, errors = finished.communicate()

    assert finished.returncode == 0, errors
    assert f"going on after step {stopped}" in output
    run = open_run(run_dir)
    assert checkpoint_content(run, last) == checkpoint_content(whole, last)
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    measured = [(line.pop("step"), without_speed(line)) for line in lines]
    assert measured == heard.measured()
