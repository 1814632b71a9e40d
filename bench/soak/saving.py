"""Kill -9 at random moments of a process that does nothing but save checkpoints.

Every value of a checkpoint is its step number, so one look tells whether a checkpoint is whole
and of one piece. ``python -m bench.soak.saving 200`` prints the figures as JSON.
"""

import argparse
import json
import os
import random
import signal
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import torch

from retro.checkpoints import checkpoint_paths, find_checkpoint, list_checkpoints
from retro.config.checks import config_to_dict
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig
from retro.model.retro.model import RETRO
from retro.run import Run
from retro.training.checkpoint import delete_old_checkpoints, restore_newest, save_checkpoint
from retro.training.optimizer import make_optimizer
from retro.training.state import TrainerState
from retro.whole_files import STAGING_PREFIX

KEEP = 2
MOST_SAVED = 2
"""Checkpoints a process may finish before the one in which it is killed."""
FIRST_PACE_S = 0.02
"""Time of a checkpoint before one was measured; where the machine is busy it takes longer."""
STEP = struct.Struct("<q")
MODEL = ModelConfig(
    num_tokens=400, max_seq_len=32, chunk_size=8, enc_dim=32, enc_depth=1, dec_dim=48,
    dec_depth=1, dec_cross_attn_layers=(1,), heads=2, dim_head=16,
)  # fmt: skip


@dataclass(kw_only=True)
class SavingReport:
    """What came of the kills; a broken promise raises instead."""

    kills: int = 0
    """Processes killed."""
    while_writing: int = 0
    """Kills that left a half-written checkpoint."""
    while_deleting: int = 0
    """Kills that left a half-deleted checkpoint."""
    saved: int = 0
    """Steps of the newest checkpoint at the end."""
    seconds: float = 0.0
    """Time for everything."""


def kill_while_saving(folder: Path, kills: int, seed: int = 0) -> SavingReport:
    """Save without pause in a child process, kill it, look at what is there, and go on.

    Call it in a process with one thread: the children are forks of it.

    Args:
        folder: An empty folder.
        kills: Number of kills.
        seed: Of the moments of the kills.

    Raises:
        AssertionError: A checkpoint is not whole, one that was reported is gone, or something
            was left over.
    """
    run = make_run(folder)
    rng = random.Random(seed)
    report = SavingReport()
    begun = time.perf_counter()
    pace_s = FIRST_PACE_S
    for _ in range(kills):
        told, pace_s = _save_until_killed(run, rng, pace_s)
        report.kills += 1
        left = [path.name for path in run.checkpoints_dir.glob(f"{STAGING_PREFIX}*")]
        is_deleted = [name.startswith(f"{STAGING_PREFIX}gone-") for name in left]
        report.while_deleting += any(is_deleted)
        report.while_writing += not all(is_deleted)
        report.saved = check_newest(run, told)
    report.seconds = time.perf_counter() - begun
    return report


def make_run(folder: Path) -> Run:
    """Return a run that needs no corpus, because it is never trained."""
    return Run(
        path=folder,
        kind="retro",
        preset="tiny",
        model_choices={},
        training_choices={},
        corpus_path=folder,
        model=MODEL,
        training=TrainingConfig(keep_checkpoints=KEEP),
        corpus_fingerprint="none",
        tokenizer_fingerprint="none",
        corpus_summary=None,
    )


def make_trained(run: Run) -> tuple[RETRO, torch.optim.AdamW]:
    """Return a model and an optimizer of the run."""
    assert run.model is not None
    assert run.training is not None
    model = RETRO(**config_to_dict(run.model))
    return model, make_optimizer(model, run.training)


@torch.no_grad()
def set_values(
    model: RETRO, optimizer: torch.optim.Optimizer, state: TrainerState, step: int
) -> None:
    """Make every value that a checkpoint holds follow from its step."""
    for parameter in model.parameters():
        parameter.fill_(step)
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step)),
            "exp_avg": torch.full_like(parameter, step),
            "exp_avg_sq": torch.full_like(parameter, step),
        }
    torch.manual_seed(step)
    state.step = state.val_step = state.sequences_seen = state.tokens_seen = step
    state.val_loss_on = state.val_loss_off = 1.0 + step % 5


def save_next(run: Run, model: RETRO, optimizer: torch.optim.Optimizer, state: TrainerState) -> int:
    """Save a checkpoint of the next step and return the step."""
    set_values(model, optimizer, state, state.step + 1)
    return save_checkpoint(run, model, optimizer, state).step


def check_newest(run: Run, told: int) -> int:
    """Check that the newest checkpoint is whole and resumes, and that nothing else is there.

    Args:
        run: The run.
        told: Newest step that a saving process reported; 0 is none.

    Returns:
        Step of the newest checkpoint, 0 where there is none.
    """
    newest = find_checkpoint(run.path).step if checkpoint_paths(run.path) else 0
    assert newest >= told, f"step {told} was saved, and the newest checkpoint is {newest}"
    model, optimizer = make_trained(run)
    state = restore_newest(run, model, optimizer) or TrainerState()
    assert state.step == state.sequences_seen == newest
    if newest:
        expected = torch.rand(3, generator=torch.Generator().manual_seed(newest))
        assert torch.equal(torch.rand(3), expected), "the random state is another step's"
        for parameter in model.parameters():
            moments = optimizer.state[parameter]
            for value in (parameter, moments["exp_avg"], moments["exp_avg_sq"], moments["step"]):
                assert (value == newest).all(), f"a value of step {newest} is another step's"
    names = {path.name for path in run.checkpoints_dir.glob("*")}
    steps = {record.path.name for record in list_checkpoints(run.path)}
    assert names == steps, f"left over: {sorted(names - steps)}"
    assert len(steps) <= KEEP + 2, f"{len(steps)} checkpoints are kept"
    return newest


def in_child(work: Callable[[], None]) -> int:
    """Start a forked process that does ``work`` and exits with 0, or with 1 on any error."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def _save_until_killed(run: Run, rng: random.Random, pace_s: float) -> tuple[int, float]:
    """Kill a saving process while it works on a checkpoint, the first or a later one.

    Returns:
        The newest step that it reported, 0 if it came to none, and the seconds that one
        checkpoint took.
    """
    reader, writer = os.pipe()
    child = in_child(lambda: _save_forever(run, writer))
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        told = pipe.read(STEP.size)
        for _ in range(rng.randint(0, MOST_SAVED)):
            begun = time.perf_counter()
            told += pipe.read(STEP.size)
            pace_s = time.perf_counter() - begun
        # From here on every moment is as likely as any other.
        time.sleep(rng.uniform(0, pace_s))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        told += pipe.read()
    assert os.WIFSIGNALED(status), "the saving process failed by itself"
    whole = len(told) // STEP.size * STEP.size
    return max((step for (step,) in STEP.iter_unpack(told[:whole])), default=0), pace_s


def _save_forever(run: Run, writer: int) -> NoReturn:
    model, optimizer = make_trained(run)
    state = restore_newest(run, model, optimizer) or TrainerState()
    os.write(writer, STEP.pack(state.step))
    delete_old_checkpoints(run, KEEP)
    while True:
        os.write(writer, STEP.pack(save_next(run, model, optimizer, state)))
        delete_old_checkpoints(run, KEEP)


def main() -> None:
    """Print the report of so many kills."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        report = kill_while_saving(Path(folder), arguments.kills, arguments.seed)
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main()
