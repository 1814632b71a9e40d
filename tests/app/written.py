"""Generations written by hand, in the JSON that the services return."""

import re
from collections.abc import Mapping
from typing import Any

from app.pages.result import render_result
from app.services.views.generations import Generation
from retro.generation.events import OutputChunk
from retro.generation.overlap import RunTracker, copied_fraction

Json = dict[str, Any]
VOCABULARY: dict[str, int] = {}
AUSTRIA = "Austria\nGeography\nTotal area: 83,850 km2; land area: 82,730 km2"
FIRST = (
    "\nComparative area: slightly smaller than Maine\nLand boundaries: 2,640 km total; Hungary "
    "366 km, Italy 430 km\nCoastline: none--landlocked\nMaritime claims: none--landlocked"
)
SECOND = "\nClimate: temperate; cold winters with frequent rain in lowlands and snow in mountains"
SWITZERLAND = "Switzerland Geography Total area: 41,290 km2; land area: 39,770 km2"
HUNGARY = "Hungary Geography Total area: 93,030 km2; land area: 92,340 km2"


def tokens_of(text: str) -> tuple[list[int], list[str]]:
    """Return ids and pieces of a text; a word with the white space before it is one token."""
    pieces = re.findall(r"\s*\S+|\s+$", text)
    return [VOCABULARY.setdefault(piece.strip(), len(VOCABULARY)) for piece in pieces], pieces


def neighbor(rank: int, text: str, continuation: str = "", **changes: Any) -> dict[str, Any]:
    own, after = tokens_of(text), tokens_of(continuation)
    return {
        "rank": rank,
        "source": "retrieved",
        "chunk_id": 16 + rank,
        "document": f"world/{rank}.txt",
        "document_id": rank,
        "start": 512,
        "end": 803,
        "chunk_index": 0,
        "num_chunks": 38,
        "distance": 0.3 + rank / 100,
        "text": text,
        "continuation": continuation,
        "token_ids": own[0],
        "continuation_token_ids": after[0],
        "text_segments": [[piece, 0] for piece in own[1]],
        "continuation_segments": [[piece, 0] for piece in after[1]],
        "attention_share": 0.64 if rank == 1 else 0.36,
        "continuation_share": 0.4 if rank == 1 else 0.0,
        **changes,
    }


def chunk(
    index: int,
    text: str,
    neighbors: list[dict[str, Any]] | None = None,
    *,
    is_prompt: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Return a chunk with the runs that it shares with its neighbors."""
    ids, pieces = tokens_of(text)
    neighbors = neighbors or []
    tracker = RunTracker([one["token_ids"] + one["continuation_token_ids"] for one in neighbors])
    for token in ids:
        tracker.add(token)
    for one in neighbors:
        _color(one, ids)
    logprobs = [-0.5 - place % 4 for place in range(len(ids))]
    return {
        "index": index,
        "text": text,
        "token_ids": ids,
        "segments": [[piece, run] for piece, run in zip(pieces, tracker.lengths, strict=True)],
        "is_prompt": is_prompt,
        "logprobs": [None, *logprobs[1:]] if index == 0 else logprobs,
        "other_logprobs": None,
        "mean_nll": 1.5,
        "copied_fraction": copied_fraction(tracker.lengths),
        "runs": [run.to_dict() for run in tracker.runs()],
        "neighbors": neighbors,
        **changes,
    }


def _color(one: dict[str, Any], ids: list[int]) -> None:
    tracker = RunTracker([ids])
    lengths = [tracker.add(token) for token in one["token_ids"] + one["continuation_token_ids"]]
    for name in ("text_segments", "continuation_segments"):
        here, lengths = lengths[: len(one[name])], lengths[len(one[name]) :]
        one[name] = [[piece, run] for (piece, _), run in zip(one[name], here, strict=True)]


def chunks() -> list[dict[str, Any]]:
    """Return a prompt and two written chunks, the first of which copied a long run."""
    after = (
        "Comparative area: slightly more than twice the size of New Jersey Land boundaries: 1,852 "
        "km total; Austria 164 km Coastline: none--landlocked Maritime claims: none--landlocked"
    )
    return [
        chunk(0, AUSTRIA, is_prompt=True),
        chunk(1, FIRST, [neighbor(1, SWITZERLAND, after), neighbor(2, HUNGARY, SWITZERLAND)]),
        chunk(2, SECOND, [neighbor(1, "Climate: cold winters", "with rain and snow in mountains")]),
    ]


def generation(**changes: Any) -> dict[str, Any]:
    """Return a finished generation with retrieval on."""
    parts = changes.pop("chunks", None) or chunks()
    settings = {
        "max_new_tokens": 192, "temperature": 0.8, "top_k": 0, "top_p": 0.95, "min_p": 0.0,
        "repetition_penalty": 1.0, "stop": [], "fast": False,
        "seed": 3, "num_samples": 1, "num_neighbors": 2,
        "retrieval": "on", "checkpoint_step": 4000, "corpus_fingerprint": "f00d",
        "steering": {"exclude_chunks": [], "exclude_documents": [], "given": {}},
        **changes.pop("settings", {}),
    }  # fmt: skip
    made = {
        "id": "gen1",
        "run_id": "run1",
        "run_name": "factbook-small",
        "corpus_id": "corpus1",
        "state": "succeeded",
        "message": "",
        "prompt": AUSTRIA,
        "settings": settings,
        "result": {
            "on": {"reason": "length", "num_tokens": 30, "seconds": 0.5, "slid": False},
            "seconds": 0.6,
        },
        "created_at": 1_700_000_000.0,
        "finished_at": 1_700_000_001.0,
        "parent_id": None,
        "branch_index": None,
        "text": "".join(part["text"] for part in parts),
        "seed": settings["seed"],
        "chunks": parts,
    }
    return {**made, **changes}


def both() -> dict[str, Any]:
    """Return a generation with retrieval on and off, each measured under both."""
    on = chunks()
    off = [{**one, "neighbors": [], "runs": [], "copied_fraction": 0.0} for one in chunks()]
    off = [{**one, "segments": [[text, 0] for text, _ in one["segments"]]} for one in off]
    for parts in (on, off):
        for one in parts:
            one["other_logprobs"] = [None if p is None else p - 1 for p in one["logprobs"]]
    sides = {"on": on, "off": off}
    whole = generation(settings={"retrieval": "both"})
    for name in ("text", "seed", "chunks"):
        del whole[name]
    finish = whole["result"]["on"]
    whole["result"] = {"on": finish, "off": {**finish, "seconds": 0.25}, "seconds": 0.8}
    for side, parts in sides.items():
        text = "".join(one["text"] for one in parts)
        whole[side] = {"id": "gen1", "text": text, "prompt": AUSTRIA, "seed": 3, "chunks": parts}
    return whole


def old() -> dict[str, Any]:
    """Return a generation as the first version of the app stored it."""
    new_in_chunks = ("logprobs", "other_logprobs", "runs")
    new_in_neighbors = (
        "source", "token_ids", "continuation_token_ids", "attention_share", "continuation_share"
    )  # fmt: skip
    parts = [{k: v for k, v in part.items() if k not in new_in_chunks} for part in chunks()]
    for part in parts:
        part["neighbors"] = [
            {name: value for name, value in one.items() if name not in new_in_neighbors}
            for one in part["neighbors"]
        ]
    made = generation(chunks=parts)
    kept = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "num_neighbors", "retrieval")
    made["settings"] = {name: made["settings"][name] for name in kept}
    return made


def view(generation: Json) -> Generation:
    return Generation.model_validate(generation)


def shown(
    generation: Json, partial: Mapping[str, Json] | None = None, *rest: Any,
    parent: Json | None = None, **options: Any,
) -> str:  # fmt: skip
    """Return a generation as its page shows it."""
    return render_result(
        view(generation),
        {
            variant: OutputChunk.from_dict({"token_ids": [], **part})
            for variant, part in (partial or {}).items()
        },
        *(rest or (0,)),
        parent=None if parent is None else view(parent),
        **options,
    )
