"""Examples of texts with their chunks and neighbors, as the OpenAPI description shows them."""

from app.services.views.examples import (
    CORPUS_ID,
    CREATED_AT,
    FINGERPRINT,
    GENERATION_ID,
    NEIGHBOR,
    RUN_ID,
    Json,
    settings_of,
)
from retro.config.sampling import SamplingConfig

PROMPT_CHUNK: Json = {
    "index": 0,
    "text": "The for statement",
    "token_ids": [464, 329, 2643],
    "segments": [["The", 0], [" for", 0], [" statement", 0]],
    "is_prompt": True,
    "logprobs": [None, -6.1, -3.1],
    "other_logprobs": None,
    "mean_nll": 4.6,
    "copied_fraction": 0.0,
    "runs": [],
    "neighbors": [],
}
READ_NEIGHBOR: Json = {
    **NEIGHBOR,
    "source": "retrieved",
    "document_id": 3,
    "token_ids": [464, 329, 2643, 318, 973, 284, 11629],
    "continuation_token_ids": [625, 262, 4847, 286, 257, 8379, 13],
    "text_segments": [
        ["The", 0],
        [" for", 0],
        [" statement", 0],
        [" is", 1],
        [" used", 2],
        [" to", 3],
        [" iterate", 4],
    ],
    "continuation_segments": [
        [" over", 5],
        [" the", 0],
        [" elements", 0],
        [" of", 0],
        [" a", 0],
        [" sequence", 0],
        [".", 0],
    ],
    "attention_share": 0.62,
    "continuation_share": 0.18,
}
WRITTEN_CHUNK: Json = {
    "index": 1,
    "text": " is used to iterate over",
    "token_ids": [318, 973, 284, 11629, 625],
    "segments": [[" is", 1], [" used", 2], [" to", 3], [" iterate", 4], [" over", 5]],
    "is_prompt": False,
    "logprobs": [-1.2, -0.8, -0.3, -1.9, -0.8],
    "other_logprobs": None,
    "mean_nll": 1.0,
    "copied_fraction": 1.0,
    "runs": [{"start": 0, "end": 5, "places": [{"rank": 1, "start": 3}]}],
    "neighbors": [READ_NEIGHBOR],
}
GIVEN: Json = {"chunk_id": None, "text": "A loop repeats.", "continuation": ""}
TEXT_END: Json = {"reason": "length", "num_tokens": 5, "seconds": 0.2, "slid": False}
GENERATION_SUMMARY: Json = {
    "id": GENERATION_ID,
    "run_id": RUN_ID,
    "run_name": "First model",
    "corpus_id": CORPUS_ID,
    "state": "succeeded",
    "message": "",
    "prompt": "The for statement",
    "settings": {
        **settings_of(SamplingConfig(max_new_tokens=5)),
        "retrieval": "on",
        "checkpoint_step": 500,
        "chunk_size": 64,
        "reads_as_text": False,
        "corpus_fingerprint": FINGERPRINT,
        "steering": {
            "exclude_chunks": [16],
            "exclude_documents": ["notes/c.txt"],
            "given": {"2": [GIVEN]},
        },
    },
    "result": {"on": TEXT_END, "seconds": 1.9},
    "created_at": CREATED_AT,
    "finished_at": CREATED_AT + 2,
    "parent_id": None,
    "branch_index": None,
}
SAMPLE: Json = {
    "text": "The for statement is used to iterate over",
    "seed": 0,
    "chunks": [PROMPT_CHUNK, WRITTEN_CHUNK],
}
GENERATION: Json = {**GENERATION_SUMMARY, **SAMPLE}
GENERATION_WITH_SAMPLES: Json = {
    **GENERATION,
    "settings": {**GENERATION_SUMMARY["settings"], "num_samples": 2},
    "result": {"on": TEXT_END, "on:1": TEXT_END, "seconds": 1.9},
    "samples": [SAMPLE, {**SAMPLE, "seed": 1}],
}
ON: Json = {
    **SAMPLE,
    "id": GENERATION_ID,
    "prompt": "The for statement",
    "chunks": [
        {**PROMPT_CHUNK, "other_logprobs": [None, -6.1, -3.1]},
        {**WRITTEN_CHUNK, "other_logprobs": [-1.2, -1.4, -0.5, -3.3, -1.6]},
    ],
}
OFF: Json = {
    **ON,
    "chunks": [
        ON["chunks"][0],
        {
            **WRITTEN_CHUNK,
            "segments": [[text, 0] for text, _ in WRITTEN_CHUNK["segments"]],
            "other_logprobs": [-1.2, -0.8, -0.3, -1.9, -0.8],
            "logprobs": [-1.2, -1.4, -0.5, -3.3, -1.6],
            "mean_nll": 1.6,
            "copied_fraction": 0.0,
            "runs": [],
            "neighbors": [],
        },
    ],
}
GENERATION_OF_BOTH: Json = {
    **GENERATION_SUMMARY,
    "settings": {**GENERATION_SUMMARY["settings"], "retrieval": "both"},
    "result": {"on": TEXT_END, "off": TEXT_END, "seconds": 2.1},
    "on": ON,
    "off": OFF,
}
