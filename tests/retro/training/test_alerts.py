"""People hear of a loss that is no number, no longer falls, or rises; each once."""

import math
from pathlib import Path

import pytest
import torch

from retro.__main__ import main
from retro.checkpoints import list_checkpoints
from retro.config.training import TrainingConfig
from retro.corpus.corpus import Corpus
from retro.errors import ConfigError, TrainingError
from retro.run import open_run, resolved_run
from retro.training import trainer as module
from retro.training.alerts import note_validation
from retro.training.optimizer import extension_note, learning_rate
from retro.training.state import TrainerState
from retro.training.trainer import Trainer, corpus_facts
from tests.retro.training.runs import (
    CPU,
    Recorder,
    StopAfter,
    folder_content,
    go,
    make_run,
)


def told(losses: list[float], patience: int, state: TrainerState | None = None) -> list[str]:
    """Return step and kind of what is told of losses, one validation per step."""
    state = state or TrainerState()
    found = []
    for loss in losses:
        state.step += 1
        alert = note_validation(state, loss, patience)
        state.val_loss_on = loss
        if alert is not None:
            assert alert.step == state.step
            found.append(f"{alert.step} {alert.kind}")
    return found


FLAT = [3.0, 2.0, 2.0, 1.9999, 2.0, 2.01, 2.0, 2.0]


@pytest.mark.parametrize(
    ("losses", "patience", "expected"),
    [
        (FLAT, 3, ["5 plateau"]),
        (FLAT, 0, []),
        (FLAT, 7, []),
        ([3.0, 2.9, 2.8, 2.7, 2.6], 1, []),
        # Told again only after a better loss.
        ([2.0, 2.0, 2.0, 1.9, 1.9, 1.9], 2, ["3 plateau", "6 plateau"]),
        # Many small improvements together are one.
        ([2.0, 1.9985, 1.997, 1.9955, 1.994, 1.9925], 3, []),
        ([2.0, 1.999, 1.9975, 1.9965, 1.995], 2, []),
        ([2.0, 2.1, 2.2, 2.3, 2.4], 3, ["4 rising"]),
        ([2.0, 2.1, 2.0, 2.1, 2.2, 2.3], 3, ["4 plateau", "6 rising"]),
        ([2.0, 2.1, 2.2, 1.5, 1.6, 1.7], 2, ["3 rising", "6 rising"]),
    ],
)
def test_what_is_told_of_validation_losses(
    losses: list[float], patience: int, expected: list[str]
) -> None:
    assert told(losses, patience) == expected


def test_a_state_that_was_saved_tells_the_same(tmp_path: Path) -> None:
    losses = [2.0, 2.1, 2.0, 2.1, 2.2, 2.3, 1.5, 1.5, 1.6, 1.7, 1.8]
    whole = told(losses, 3)
    for cut in range(len(losses)):
        state = TrainerState()
        first = told(losses[:cut], 3, state)
        torch.save(vars(state), tmp_path / "state.pt")
        loaded = TrainerState(**torch.load(tmp_path / "state.pt", weights_only=True))

        assert first + told(losses[cut:], 3, loaded) == whole


def test_messages_tell_the_rule_the_values_and_what_to_do() -> None:
    state = TrainerState(step=50, val_loss_on=2.5, best_val_loss=2.5, best_step=40)

    plateau = note_validation(state, 2.4999, 1)
    state.val_loss_on = 2.4999
    rising = note_validation(state, 2.75, 1)

    assert plateau is not None
    assert plateau.message.startswith(
        "The validation loss should fall by 0.1% within 1 validations, got 2.5 in step 50 after "
        "2.5 in step 40. Stop the run"
    )
    assert rising is not None
    assert rising.message.startswith(
        "The validation loss should not rise 1 times in a row, got 2.75 in step 50 after 2.5 in "
        "step 40: the model learns its text by heart. Stop the run"
    )


@pytest.mark.slow
def test_a_resumed_run_gives_the_alerts_of_one_that_was_not_stopped(
    tmp_path: Path, corpus_dir: Path
) -> None:
    # A learning rate of nearly nothing keeps the loss where it is.
    settings = {"learning_rate": 1e-9, "eval_every": 1, "plateau_evaluations": 4, "max_steps": 7}
    whole, parts = Recorder(), Recorder()

    go(make_run(tmp_path / "whole", corpus_dir, **settings), whole)
    run = make_run(tmp_path / "parts", corpus_dir, **settings)
    go(run, parts, StopAfter(3))
    go(run, parts)

    assert [(alert.kind, alert.step) for alert in whole.alerts] == [("plateau", 5)]
    assert parts.alerts == whole.alerts


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["weight", "last step", "validation"])
def test_a_loss_that_is_no_number_is_told_and_nothing_of_it_is_saved(
    tmp_path: Path,
    corpus_dir: Path,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    run = make_run(tmp_path / "run", corpus_dir, checkpoint_every=2, eval_every=6)
    go(run, stop=StopAfter(4))
    before = folder_content(run.checkpoints_dir)
    facts = corpus_facts(corpus, corpus_dir)
    trainer = Trainer(resolved_run(run, facts), corpus, CPU)
    weight = trainer.model.to_logits.weight
    recorder = Recorder()

    def break_now(_stage: str, done: int, _total: int) -> None:
        if broken == "validation":
            # Only tokens that are held out are spoiled: training goes on as if nothing were.
            found = {"val_loss_on": math.nan, "val_loss_off": 1.0}
            monkeypatch.setattr(module, "validation_losses", lambda *_: found)
        elif (broken == "weight" and done == 4) or (broken == "last step" and done == 6):
            with torch.no_grad():
                weight[5] = math.inf if broken == "last step" else math.nan

    with pytest.raises(TrainingError) as caught:
        trainer.train(recorder, lambda: False, break_now)

    rule = {
        "weight": "The loss must stay a finite number, got nan with gradient norm nan in step 5.",
        "last step": "The largest weight must stay a finite number, got inf after step 6.",
        "validation": "The validation loss must stay a finite number, got nan after step 6.",
    }[broken]
    assert str(caught.value).startswith(rule)
    assert "last checkpoint is kept; start a new run with a learning rate below 0.003" in str(
        caught.value
    )
    assert [(alert.kind, alert.message) for alert in recorder.alerts] == [
        ("nan", str(caught.value))
    ]
    assert folder_content(run.checkpoints_dir) == before
    assert [record.step for record in list_checkpoints(run.path)] == [2, 4]


@pytest.mark.slow
def test_an_extended_run_follows_the_schedule_of_its_new_length(
    tmp_path: Path, corpus_dir: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_dir, max_steps=6, warmup_steps=2)
    recorder = Recorder()
    go(run)

    go(run, recorder, max_steps=12)

    config = open_run(run.path).training
    assert config is not None
    rates = dict(recorder.values("learning_rate"))
    assert rates == {step: learning_rate(step, config) for step in range(7, 13)}
    # It ended at a tenth of the peak, rises at once, and falls to a tenth again.
    assert rates[7] > 5 * 3e-4
    assert list(rates.values()) == sorted(rates.values(), reverse=True)
    assert rates[12] == pytest.approx(3e-4)


def test_what_an_extension_does_is_told() -> None:
    before = TrainingConfig(max_steps=100, warmup_steps=0, learning_rate=1.0)
    after = TrainingConfig(max_steps=200, warmup_steps=0, learning_rate=1.0)

    assert extension_note(100, before, after) == (
        "the run now ends at step 200 instead of 100: its learning rate goes from 0.1 to 0.543 "
        "with step 101, and falls to 0.1 at the end"
    )
    assert extension_note(100, before, before) is None
    assert extension_note(100, after, before) is None


@pytest.mark.slow
def test_the_command_line_tells_of_an_extension_and_of_alerts(
    tmp_path: Path, corpus_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"learning_rate": 1e-9, "eval_every": 1, "plateau_evaluations": 4, "max_steps": 3}
    run = make_run(tmp_path / "run", corpus_dir, **settings)
    go(run)

    code = main(["train", str(corpus_dir), "--out", str(run.path), "--max-steps", "6"])

    output = capsys.readouterr()
    assert code == 0
    assert "the run now ends at step 6 instead of 3: its learning rate goes from" in output.out
    assert "warning: The validation loss should fall by 0.1% within 4" in output.err
    code = main(["train", str(corpus_dir), "--out", str(run.path), "--max-steps", "5"])
    assert code == 1
    assert "max_steps must be at least 6" in capsys.readouterr().err


@pytest.mark.slow
def test_a_length_that_the_run_has_passed_is_refused_and_changes_nothing(
    tmp_path: Path, corpus_dir: Path
) -> None:
    run = make_run(tmp_path / "run", corpus_dir)
    go(run, stop=StopAfter(5))
    before = folder_content(run.path)

    with pytest.raises(
        ConfigError, match=r"max_steps must be at least 5, .* run run has taken, got 4\. Choose"
    ):
        go(run, max_steps=4)
    assert folder_content(run.path) == before

    assert go(run, max_steps=5).state == "finished"
    assert go(run, max_steps=6).step == 6
