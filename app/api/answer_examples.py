"""Examples of what the REST routes answer, as the OpenAPI description shows them."""

from typing import Any

Json = dict[str, Any]

CORPUS_ID = "5d0c0f7a9b3e4c21"
RUN_ID = "b81f6e2d4a7c9035"
JOB_ID = "0e9d8c7b6a5f4321"
GENERATION_ID = "7c1e5a9038d24bf6"
CREATED_AT = 1790000000.0

CORPUS: Json = {
    "id": CORPUS_ID,
    "name": "Notes",
    "state": "ready",
    "settings": {"chunk_size": 64, "num_neighbors": 2},
    "summary": {"num_chunks": 4096, "vocab_size": 8192},
    "num_documents": 120,
    "num_chunks": 4096,
    "has_changes": False,
    "build_job_id": JOB_ID,
    "created_at": CREATED_AT,
    "updated_at": CREATED_AT + 60,
}
DOCUMENT: Json = {"path": "notes/a.txt", "bytes": 812, "encoding": "utf-8", "note": None}
NEIGHBOR: Json = {
    "rank": 1,
    "chunk_id": 17,
    "document": "notes/a.txt",
    "start": 512,
    "end": 803,
    "distance": 0.41,
    "text": "The for statement is used to iterate",
    "continuation": " over the elements of a sequence.",
    "chunk_index": 2,
    "num_chunks": 9,
}
CHUNK: Json = {
    "chunk_id": 40,
    "document": "notes/b.txt",
    "start": 0,
    "end": 290,
    "text": "A while statement repeats",
    "continuation": " as long as an expression is true.",
    "chunk_index": 0,
    "num_chunks": 5,
    "is_retrievable": True,
    "neighbors": [NEIGHBOR],
}
JOB: Json = {
    "id": JOB_ID,
    "number": 3,
    "kind": "build",
    "state": "running",
    "priority": 0,
    "stage": "embed",
    "done": 512,
    "total": 4096,
    "message": "",
    "error": None,
    "corpus_id": CORPUS_ID,
    "run_id": None,
    "attempt": 1,
    "after_id": None,
    "parent_id": None,
    "cancel_requested": False,
    "worker": "gpu-host",
    "slot": "cuda:0",
    "pid": 4711,
    "lease_expires_at": CREATED_AT + 80,
    "created_at": CREATED_AT,
    "started_at": CREATED_AT + 1,
    "progress_at": CREATED_AT + 19,
    "finished_at": None,
}
JOB_EVENT: Json = {
    "at": CREATED_AT,
    "from": "queued",
    "to": "starting",
    "attempt": 1,
    "message": "",
}
RUN: Json = {
    "id": RUN_ID,
    "name": "First model",
    "corpus_id": CORPUS_ID,
    "corpus_name": "Notes",
    "settings": {"preset": "tiny", "model": {}, "training": {"max_steps": 2000}},
    "state": "running",
    "step": 500,
    "total_steps": 2000,
    "job_id": JOB_ID,
    "parent_id": None,
    "message": "",
    "created_at": CREATED_AT,
    "updated_at": CREATED_AT + 60,
}
CHECKPOINT: Json = {
    "step": 500,
    "val_loss_on": 4.31,
    "val_loss_off": 4.35,
    "bytes": 37_000_000,
    "is_best": True,
    "is_pinned": False,
    "created_at": CREATED_AT + 50,
}
GENERATION: Json = {
    "id": GENERATION_ID,
    "run_id": RUN_ID,
    "run_name": "First model",
    "corpus_id": CORPUS_ID,
    "state": "succeeded",
    "message": "",
    "prompt": "The for statement",
    "settings": {"max_new_tokens": 128, "seed": 0, "retrieval": "on"},
    "result": {"on": {"reason": "length", "num_tokens": 128, "seconds": 1.9}},
    "created_at": CREATED_AT,
    "finished_at": CREATED_AT + 2,
    "parent_id": None,
    "branch_index": None,
    "text": "The for statement is used to iterate over",
    "seed": 0,
    "chunks": [
        {
            "index": 1,
            "text": " is used to iterate over",
            "token_ids": [318, 973, 284],
            "is_prompt": False,
            "mean_nll": 2.1,
            "copied_fraction": 0.12,
            "neighbors": [NEIGHBOR],
        }
    ],
}
SYSTEM: Json = {
    "devices": [{"kind": "cpu", "name": "CPU, 2 threads"}],
    "device": "CPU, 2 threads",
    "disk": {"total": 500_000_000_000, "free": 320_000_000_000},
    "worker": {"alive": True, "num_alive": 1, "host": "gpu-host", "pid": 4700},
    "workers": [{"host": "gpu-host", "pid": 4700, "alive": True, "heartbeat_age": 0.4}],
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "time": CREATED_AT,
}
