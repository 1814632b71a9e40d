"""Rows of runs as training leaves them, written straight into a database."""

import math
from collections.abc import Iterable
from typing import Any

from sqlalchemy import insert, update

from jobs.store.models import Checkpoint, Corpus, Metric, Run
from jobs.store.states import RunState
from jobs.store.store import Store
from retro.config.checks import config_to_dict
from retro.model.retro.presets import parameter_count, resolve_preset

SETTINGS = {"chunk_size": 64, "num_neighbors": 2, "vocab_size": 4096}


def add_corpus(store: Store, name: str = "letters") -> str:
    """Add a corpus that counts as built."""
    corpus = store.create_corpus(name, SETTINGS)
    with store.write() as session:
        summary = {"vocab_size": 4096, "num_chunks": 100, "num_documents": 5}
        session.execute(update(Corpus).where(Corpus.id == corpus.id).values(summary=summary))
    return corpus.id


def add_run(store: Store, corpus_id: str, name: str, *, step: int, **training: Any) -> str:
    """Add a run that has been trained for some steps."""
    model, config = resolve_preset(
        "tiny", model={}, training=training, num_tokens=4096, chunk_size=64, num_neighbors=2
    )
    settings = {
        "preset": "tiny",
        "model": {},
        "training": training,
        "parameters": parameter_count(model),
        "resolved": {"model": config_to_dict(model), "training": config_to_dict(config)},
    }
    run = store.create_run(name, corpus_id, settings, max(step, config.max_steps))
    with store.write() as session:
        values = {"state": RunState.PAUSED.value, "step": step}
        session.execute(update(Run).where(Run.id == run.id).values(**values))
        if step:
            session.execute(
                insert(Checkpoint),
                [
                    {"run_id": run.id, "step": step, "val_loss_on": 3.2, "val_loss_off": 3.4,
                     "bytes": 55_000_000, "is_best": True, "is_pinned": False,
                     "created_at": store.now()}
                ],
            )  # fmt: skip
    return run.id


def add_points(
    store: Store, run_id: str, steps: Iterable[int], *, speed: float = 300.0, every: int = 50
) -> None:
    """Add what training measures at some steps, and let the run be at the last of them."""
    rows: list[dict[str, Any]] = []
    last = 0
    for step in steps:
        last = step
        wobble = math.sin(step * 12.9898) * 0.15
        loss = 3.0 + 6.0 * math.exp(-step / speed)
        values = {
            "train_loss": loss + wobble,
            "learning_rate": 3e-3 * min(1.0, step / 100) * math.exp(-step / 4000),
            "tokens_per_second": 2000 + 300 * wobble,
            "gradient_norm": 1.0 + abs(wobble) * 3,
        }
        if step % every == 0:
            gain = 0.25 * (1 - math.exp(-step / 500))
            values |= {"val_loss_on": loss + 0.1 - gain, "val_loss_off": loss + 0.1}
        rows += [
            {"run_id": run_id, "name": name, "step": step, "value": value}
            for name, value in values.items()
        ]
    with store.write() as session:
        session.execute(insert(Metric), rows)
        session.execute(update(Run).where(Run.id == run_id).values(step=last))
