"""Generations as pages and REST routes get them."""

from typing import Any

from app.services.live import RETRIEVAL_MODES, split_variant, variants_of
from jobs.rows import GenerationRow


def summary_to_dict(row: GenerationRow) -> dict[str, Any]:
    """Return a generation without its chunks."""
    return {
        "id": row.id,
        "run_id": row.run_id,
        "run_name": row.run_name,
        "corpus_id": row.corpus_id,
        "state": row.state.value,
        "message": row.message,
        "prompt": row.prompt,
        "settings": row.settings,
        "result": row.result,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
        "parent_id": row.parent_id,
        "branch_index": row.branch_index,
    }


def generation_to_dict(row: GenerationRow) -> dict[str, Any]:
    """Return a generation as the REST routes answer it.

    One object with its chunks, and all its samples under ``samples`` where there are
    several; with retrieval "both", one object under ``on`` and one under ``off``.
    """
    summary = summary_to_dict(row)
    modes = RETRIEVAL_MODES[row.settings["retrieval"]]
    if len(modes) > 1:
        texts = {mode: _text(row, mode) for mode in modes}
        return {**summary, **{mode: {"id": row.id, **text} for mode, text in texts.items()}}
    whole = {**summary, **_text(row, modes[0])}
    variants = variants_of(row.settings)
    if len(variants) > 1:
        names = ("text", "seed", "chunks")
        samples = [_text(row, variant) for variant in variants]
        whole["samples"] = [{name: sample[name] for name in names} for sample in samples]
    return whole


def _text(row: GenerationRow, variant: str) -> dict[str, Any]:
    chunks = row.chunks.get(variant, [])
    return {
        "text": "".join(chunk["text"] for chunk in chunks),
        "prompt": row.prompt,
        "seed": row.settings["seed"] + split_variant(variant)[1],
        "chunks": chunks,
    }
