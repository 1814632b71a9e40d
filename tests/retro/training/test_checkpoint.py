"""Checkpoints: damaged ones are found out, pinned ones stay, and what is left over goes."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.soak.saving import KEEP, check_newest, make_run, make_trained, save_next
from retro.checkpoints import (
    checkpoint_name,
    checkpoints_lock,
    find_checkpoint,
    list_checkpoints,
    pin_checkpoint,
)
from retro.config.model import ModelConfig
from retro.errors import ArtifactError, ArtifactMismatchError, ArtifactMissingError, DiskFullError
from retro.run import Run, open_run
from retro.run_space import (
    checkpoints_to_come,
    estimate_checkpoint_bytes,
    needed_bytes,
)
from retro.training.alerts import Alert
from retro.training.checkpoint import (
    delete_old_checkpoints,
    restore_newest,
    save_checkpoint,
)
from retro.training.state import TrainerState
from tests.retro.training.runs import (
    Recorder,
    StopAfter,
    checkpoint_content,
    folder_content,
    go,
)
from tests.retro.training.runs import make_run as make_real_run

FILES = ("model.safetensors", "trainer.pt", "manifest.json")


@pytest.fixture
def saved(tmp_path: Path) -> Run:
    """Return a run with checkpoints of steps 1 and 2."""
    run = make_run(tmp_path / "run")
    model, optimizer = make_trained(run)
    state = TrainerState()
    for _ in range(2):
        save_next(run, model, optimizer, state)
    return run


def damages(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield what a file may have become; None is deleted."""
    yield "deleted", None
    yield "emptied", b""
    size = len(data)
    for length in (1, size // 3, size - 1):
        yield f"truncated to {length}", data[:length]
    for place in {0, 1, size // 5, size // 2, size - 8, size - 1}:
        bit = 1 << place % 8
        yield f"bit {bit} at {place}", data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
    yield "longer", data + b"\0"


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_any_damage_of_any_file_is_found_and_the_checkpoint_before_is_used(
    saved: Run, name: str
) -> None:
    newest = saved.checkpoints_dir / checkpoint_name(2)
    file = newest / name
    original = file.read_bytes()
    for what, data in damages(original):
        file.unlink()
        if data is not None:
            file.write_bytes(data)

        assert find_checkpoint(saved.path).step == 1, what
        with pytest.raises(ArtifactError):
            find_checkpoint(saved.path, 2)
        model, optimizer = make_trained(saved)
        alerts: list[Alert] = []
        state = restore_newest(saved, model, optimizer, alerts.append)

        assert state is not None
        assert state.step == 1, what
        assert all((parameter == 1).all() for parameter in model.parameters())
        assert [(alert.kind, alert.step) for alert in alerts] == [("damaged", 2)]
        (saved.checkpoints_dir / f"{newest.name}.damaged").rename(newest)
        file.write_bytes(original)
    assert check_newest(saved, 2) == 2


@pytest.mark.slow
def test_no_bit_of_a_manifest_can_change_unnoticed(saved: Run) -> None:
    file = saved.checkpoints_dir / checkpoint_name(2) / "manifest.json"
    original = file.read_bytes()
    for place in range(0, len(original), 5):
        bit = 1 << place % 8
        file.write_bytes(original[:place] + bytes([original[place] ^ bit]) + original[place + 1 :])
        assert find_checkpoint(saved.path).step == 1, place


@pytest.mark.slow
def test_a_run_goes_on_exactly_from_the_checkpoint_before_a_damaged_one(
    tmp_path: Path, corpus_dir: Path
) -> None:
    whole = make_real_run(tmp_path / "whole", corpus_dir, checkpoint_every=2)
    run = make_real_run(tmp_path / "run", corpus_dir, checkpoint_every=2)
    go(whole)
    go(run, stop=StopAfter(7))
    (run.checkpoints_dir / checkpoint_name(7) / "trainer.pt").write_bytes(b"")
    shutil.rmtree(run.checkpoints_dir / checkpoint_name(6))
    recorder = Recorder()

    go(run, recorder)

    assert recorder.events[:2] == [("damaged", 7), ("resumed", 4)]
    assert "step-00000007 was set aside" in recorder.alerts[0].message
    assert checkpoint_content(run, 8) == checkpoint_content(whole, 8)


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(saved: Run) -> None:
    for step in (1, 2):
        (saved.checkpoints_dir / checkpoint_name(step) / "trainer.pt").unlink()
    model, optimizer = make_trained(saved)
    message = (
        r"^Run run needs a checkpoint that is whole, and all 2 it has are damaged "
        r"\(step-00000001.*, step-00000002.*\)\. Duplicate the run .* delete these folders"
    )

    with pytest.raises(ArtifactMismatchError, match=message):
        find_checkpoint(saved.path)
    for _ in range(2):  # the second time they have been set aside already
        with pytest.raises(ArtifactMismatchError, match=message):
            restore_newest(saved, model, optimizer)

    shutil.rmtree(saved.checkpoints_dir)
    assert restore_newest(saved, model, optimizer) is None


def test_checkpoints_of_another_model_or_corpus_are_refused_and_not_set_aside(saved: Run) -> None:
    model, optimizer = make_trained(saved)
    assert saved.model is not None
    other = replace(saved, model=replace(saved.model, heads=4))
    elsewhere = replace(saved, corpus_fingerprint="another")

    with pytest.raises(ArtifactMismatchError, match="model with other settings than run run has"):
        restore_newest(other, model, optimizer)
    with pytest.raises(ArtifactMismatchError, match="corpus version none, but run run names"):
        restore_newest(elsewhere, model, optimizer)

    assert check_newest(saved, 2) == 2


def test_a_manifest_says_how_the_checkpoint_was_made(saved: Run) -> None:
    path = find_checkpoint(saved.path).path
    settings = json.loads((path / "manifest.json").read_bytes())["settings"]

    assert saved.model is not None
    assert settings["model"]["dec_dim"] == saved.model.dec_dim
    assert settings["training"]["keep_checkpoints"] == KEEP
    assert settings["num_threads"] == torch.get_num_threads()
    assert settings["corpus"] == "none"


def test_pinned_checkpoints_are_kept_until_they_are_unpinned(saved: Run) -> None:
    model, optimizer = make_trained(saved)
    state = TrainerState(step=2)
    pin_checkpoint(saved.path, 1, True)
    pin_checkpoint(saved.path, 1, True)
    for _ in range(8):
        save_next(saved, model, optimizer, state)

    deleted = delete_old_checkpoints(saved, KEEP)

    records = {record.step: record for record in list_checkpoints(saved.path)}
    assert sorted(records) == [1, 5, 9, 10]  # pinned, best, newest
    assert [step for step, record in records.items() if record.is_pinned] == [1]
    assert [step for step, record in records.items() if record.is_best] == [5]
    assert deleted == [2, 3, 4, 6, 7, 8]
    assert find_checkpoint(saved.path, 1).is_pinned
    pin_checkpoint(saved.path, 1, False)
    pin_checkpoint(saved.path, 1, False)
    assert delete_old_checkpoints(saved, KEEP) == [1]


@pytest.mark.parametrize("pinned", [True, False])
def test_a_checkpoint_that_is_gone_cannot_be_pinned(saved: Run, pinned: bool) -> None:
    with pytest.raises(ArtifactMissingError, match=r"no checkpoint of step 7; it has 1, 2\."):
        pin_checkpoint(saved.path, 7, pinned)
    with pytest.raises(ArtifactMissingError, match="it has none"):
        pin_checkpoint(saved.path / "nothing", 7, pinned)

    assert not (saved.checkpoints_dir / checkpoint_name(7)).exists()


def test_pinning_waits_for_a_deletion_and_then_finds_nothing(saved: Run) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from retro.checkpoints import pin_checkpoint\n"
        "print('ready', flush=True)\n"
        "pin_checkpoint(Path(sys.argv[1]), 1, True)"
    )
    with checkpoints_lock(saved.path):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(saved.path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[3],
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2)
        assert process.poll() is None
        shutil.rmtree(saved.checkpoints_dir / checkpoint_name(1))
    _, errors = process.communicate()

    assert "ArtifactMissingError: Run run has no checkpoint of step 1; it has 2." in errors


def test_readers_meet_no_half_of_a_checkpoint_that_comes_and_goes(saved: Run) -> None:
    path = saved.checkpoints_dir / checkpoint_name(2)
    away = saved.checkpoints_dir / ".tmp-gone-for-a-moment"
    is_over = threading.Event()

    def come_and_go() -> None:
        while not is_over.is_set():
            path.rename(away)
            away.rename(path)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    found = set()
    try:
        for _ in range(200):
            found.add(tuple(record.step for record in list_checkpoints(saved.path)))
            found.add((find_checkpoint(saved.path).step,))
    finally:
        is_over.set()
        thread.join()

    assert found <= {(1, 2), (1,), (2,)}


def test_only_one_of_equally_good_checkpoints_is_kept_as_the_best(saved: Run) -> None:
    model, optimizer = make_trained(saved)
    for step in range(3, 7):
        state = TrainerState(step=step, val_step=step, val_loss_on=1.5, val_loss_off=2.0)
        save_checkpoint(saved, model, optimizer, state)

    assert [record.step for record in list_checkpoints(saved.path) if record.is_best] == [3]


def test_what_a_killed_deletion_left_is_removed_and_not_brought_back(saved: Run) -> None:
    model, optimizer = make_trained(saved)
    half = saved.checkpoints_dir / f".tmp-gone-{checkpoint_name(1)}-0a1b2c3d"
    (saved.checkpoints_dir / checkpoint_name(1)).rename(half)
    (half / "trainer.pt").unlink()

    assert [record.step for record in list_checkpoints(saved.path)] == [2]
    restore_newest(saved, model, optimizer)

    assert [path.name for path in saved.checkpoints_dir.iterdir()] == [checkpoint_name(2)]


@pytest.mark.slow
def test_more_checkpoints_than_are_kept_go_at_the_next_start(
    tmp_path: Path, corpus_dir: Path
) -> None:
    """A process that was killed between writing and deleting leaves them."""
    run = make_real_run(
        tmp_path / "run", corpus_dir, checkpoint_every=1, eval_every=8, keep_checkpoints=9
    )
    go(run)
    config = json.loads((run.path / "config.json").read_bytes())
    config["training_choices"]["keep_checkpoints"] = 2
    (run.path / "config.json").write_text(json.dumps(config))
    recorder = Recorder()

    go(run, recorder)

    assert recorder.events == [("resumed", 8), *(("deleted", step) for step in range(1, 7))]
    assert [record.step for record in list_checkpoints(run.path)] == [7, 8]


@pytest.mark.slow
def test_a_checkpoint_is_reported_before_older_ones_are_deleted(
    tmp_path: Path, corpus_dir: Path
) -> None:
    run = make_real_run(
        tmp_path / "run", corpus_dir, checkpoint_every=2, eval_every=8, keep_checkpoints=1
    )
    recorder = Recorder()

    go(run, recorder)

    assert recorder.events == [
        ("resumed", 0), ("saved", 2), ("saved", 4), ("deleted", 2),
        ("saved", 6), ("deleted", 4), ("saved", 8), ("deleted", 6),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"preset": "tiny"}', b"\xff\xfe"])
def test_a_damaged_config_is_told_and_harms_no_checkpoint(
    tmp_path: Path, corpus_dir: Path, data: bytes
) -> None:
    run = make_real_run(tmp_path / "run", corpus_dir, max_steps=2)
    go(run)
    (run.path / "config.json").write_bytes(data)
    before = folder_content(run.path)

    with pytest.raises(ArtifactMismatchError, match=r"run/config\.json is damaged"):
        go(run)

    assert folder_content(run.path) == before
    assert find_checkpoint(run.path).step == 2


SIZES = [
    {},
    {"dec_depth": 6, "dec_dim": 64, "dec_cross_attn_layers": (2, 4)},
    {"num_tokens": 20_000, "dec_dim": 64, "tie_embeddings": True, "gated_rmsnorm": True},
    {"enc_dim": 96, "enc_depth": 3, "separate_encoder_embedding": True, "use_deepnet": True},
]


@pytest.mark.parametrize("sizes", SIZES)
def test_the_estimate_of_a_checkpoint_is_a_little_above_its_size(
    tmp_path: Path, sizes: dict[str, object]
) -> None:
    run = make_run(tmp_path)
    assert run.model is not None
    run = replace(run, model=replace(run.model, **sizes))  # type: ignore[arg-type]
    model, optimizer = make_trained(run)
    save_next(run, model, optimizer, TrainerState())

    record = list_checkpoints(run.path)[0]
    on_disk = sum(path.stat().st_size for path in record.path.iterdir())
    estimate = estimate_checkpoint_bytes(run.model)
    assert on_disk <= estimate <= 1.05 * on_disk + 200_000


def test_the_room_a_run_needs_follows_from_what_it_will_keep(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.model is not None
    assert run.training is not None
    config = replace(run.training, max_steps=105, checkpoint_every=10, keep_checkpoints=3)
    one = estimate_checkpoint_bytes(run.model)

    def needed(step: int, kept: int) -> float:
        return needed_bytes(run.model or ModelConfig(), config, step=step, num_kept=kept) / one

    seldom = replace(config, checkpoint_every=1000)
    assert [checkpoints_to_come(seldom, step) for step in (0, 24, 25, 105)] == [2, 2, 1, 0]
    assert [checkpoints_to_come(config, step) for step in (0, 9, 10, 99, 100, 104, 105)] == [
        11, 11, 10, 2, 1, 1, 0,
    ]  # fmt: skip
    assert needed(0, 0) == 5  # three newest, the best, and the one that is written
    assert needed(40, 4) == 1
    assert needed(40, 9) == 1
    assert needed(90, 0) == 2
    assert needed(105, 4) == 0


@pytest.mark.slow
def test_a_run_without_room_is_refused_before_anything_is_changed(
    tmp_path: Path, corpus_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_real_run(tmp_path / "run", corpus_dir, max_steps=2)
    go(run)
    before = folder_content(run.path)
    monkeypatch.setattr("retro.disk.FLOOR_BYTES", 2**60)

    with pytest.raises(
        DiskFullError, match=r"There must be 1,024 PB free .* checkpoints of run run .*, got .*Free"
    ):
        go(run, max_steps=6)
    assert go(run).step == 2  # a finished run needs no room

    after = folder_content(run.path)
    assert after == before
    assert open_run(run.path).training_choices["max_steps"] == 2
