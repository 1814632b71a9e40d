"""Examples of what the REST routes answer, as the OpenAPI description shows them."""

import json
from typing import Any

from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig

Json = dict[str, Any]

CORPUS_ID = "5d0c0f7a9b3e4c21"
RUN_ID = "b81f6e2d4a7c9035"
JOB_ID = "0e9d8c7b6a5f4321"
GENERATION_ID = "7c1e5a9038d24bf6"
FINGERPRINT = "3f9ab1c05d7e2468"
CREATED_AT = 1790000000.0


def settings_of(config: Any) -> Json:
    """Return a config as JSON has it."""
    values: Json = json.loads(json.dumps(config_to_dict(config)))
    return values


DEVICE: Json = {"kind": "cuda", "name": "NVIDIA L4", "memory_bytes": 24_152_899_584}
VERSIONS: Json = {"python": "3.11.9", "retro": "9b1c44d0a2e7f635", "torch": "2.13.0"}
SYSTEM: Json = {
    "devices": [DEVICE],
    "device": "NVIDIA L4, 22 GB",
    "disk": {"total": 500_000_000_000, "free": 320_000_000_000},
    "worker": {
        "alive": True,
        "num_alive": 1,
        "host": "gpu-host",
        "pid": 4700,
        "slots": ["cuda:0"],
        "started_at": CREATED_AT - 600,
        "heartbeat_at": CREATED_AT - 0.4,
    },
    "workers": [
        {
            "host": "gpu-host",
            "pid": 4700,
            "alive": True,
            "started_at": CREATED_AT - 600,
            "heartbeat_at": CREATED_AT - 0.4,
            "heartbeat_age": 0.4,
            "is_this_version": True,
            "slots": [
                {
                    "slot": "cuda:0",
                    "job": {
                        "id": JOB_ID,
                        "number": 3,
                        "kind": "build",
                        "pid": 4711,
                        "attempt": 1,
                        "lease_left": 41.3,
                        "progress_age": 0.7,
                    },
                }
            ],
        }
    ],
    "versions": VERSIONS,
    "time": CREATED_AT,
}
INSTALLATION: Json = {
    "encoder": {"name": "all-MiniLM-L6-v2", "is_bundled": True, "is_here": True},
    "access": {"has_token": True, "host": "127.0.0.1"},
    "mcp": "read",
    "database": {"kind": "SQLite", "version": "3.51.3", "warning": None},
    "backups": {"num_copies": 3, "newest": "2026-09-21.db", "newest_at": CREATED_AT - 3600},
    "kept_free_bytes": 1_073_741_824,
    "devices": [DEVICE],
    "versions": VERSIONS,
}
STORAGE: Json = {
    "home": "retro-data",
    "measured_at": CREATED_AT,
    "total_bytes": 191_400_000,
    "parts": {
        "corpora": 41_000_000,
        "runs": 148_000_000,
        "database": 1_300_000,
        "logs": 100_000,
        "models": 540_000_000,
        "backups": 1_000_000,
        "other": 0,
    },
    "checkpoint_bytes": 147_000_000,
    "floor_bytes": 268_435_456,
    "largest_corpora": [{"id": CORPUS_ID, "name": "Notes", "bytes": 41_000_000}],
    "largest_runs": [{"id": RUN_ID, "name": "First model", "bytes": 148_000_000}],
    "leftovers": {
        "logs": {"num": 12, "bytes": 48_200},
        "damaged": {"num": 0, "bytes": 0},
        "temporary": {"num": 1, "bytes": 4096},
        "unrecorded": {"num": 0, "bytes": 0},
    },
    "free_bytes": 320_000_000_000,
}
PRESET: Json = {"name": "tiny", "description": "A first model within minutes on a laptop CPU."}

CORPUS_SETTINGS = settings_of(CorpusConfig())
SUMMARY: Json = {
    "num_documents": 120,
    "num_validation_documents": 6,
    "num_chunks": 4096,
    "num_retrievable": 3900,
    "num_tokens": 258_000,
    "num_bytes": 1_040_000,
    "chunk_size": 64,
    "num_neighbors": 2,
    "num_short": 0,
    "vocab_size": 8192,
    "index_kind": "flat",
    "recall": 1.0,
    "exclusion": "document",
    "exclusion_window": 2048,
    "encoder": "all-MiniLM-L6-v2",
    "tokenizer_origin": "trained",
    "tokenizer_source": None,
    "fingerprint": FINGERPRINT,
    "num_embedded": 4096,
    "num_reused": 0,
}
LISTED_CORPUS: Json = {
    "id": CORPUS_ID,
    "name": "Notes",
    "state": "ready",
    "settings": CORPUS_SETTINGS,
    "summary": SUMMARY,
    "num_documents": 121,
    "num_chunks": 4096,
    "version": 1,
    "built_at": CREATED_AT + 60,
    "has_changes": True,
    "changes": {"added": 1, "replaced": 0, "removed": 0},
    "changed_settings": ["num_neighbors"],
    "build_job_id": JOB_ID,
    "created_at": CREATED_AT,
    "updated_at": CREATED_AT + 90,
}
CORPUS: Json = {**LISTED_CORPUS, "unfinished_runs": [{"id": RUN_ID, "name": "First model"}]}
CORPUS_VERSION: Json = {
    "number": 1,
    "state": "current",
    "built_at": CREATED_AT + 60,
    "fingerprint": FINGERPRINT,
    "num_documents": 120,
    "num_validation_documents": 6,
    "num_chunks": 4096,
    "num_embedded": 4096,
    "num_reused": 0,
    "vocab_size": 8192,
    "settings": CORPUS_SETTINGS,
    "changed_settings": [],
    "bytes": 9_400_000,
    "runs": [{"id": RUN_ID, "name": "First model", "state": "running"}],
}
CORPUS_SIZES: Json = {
    "bytes": {
        "documents": 1_040_000,
        "tokenizer": 420_000,
        "database": 1_200_000,
        "keys": 6_300_000,
        "index": 6_400_000,
        "versions": 0,
    }
}
DOCUMENT: Json = {
    "path": "notes/a.txt",
    "bytes": 812,
    "encoding": "utf-8",
    "note": None,
    "num_chunks": 9,
    "is_held_out": False,
    "is_changed": False,
}
DOCUMENT_TEXT: Json = {
    "path": "notes/loops.txt",
    "bytes": 43,
    "encoding": "utf-8",
    "note": None,
    "is_stored": True,
    "is_changed": False,
    "split": "train",
    "num_chunks": 1,
    "num_characters": 43,
    "page": 1,
    "num_pages": 1,
    "start": 0,
    "text": "Loops. The for statement is used to iterate",
    "chunks": [
        {
            "chunk_id": 15,
            "chunk_index": 0,
            "start": 0,
            "end": 43,
            "num_tokens": 9,
            "is_held_out": False,
            "text": "Loops. The for statement is used to iterate",
        }
    ],
}
ACCEPTED_FILE: Json = {
    "path": "notes/a.txt",
    "bytes": 812,
    "encoding": "latin-1",
    "change": "added",
    "note": "read as Latin-1",
}
SKIPPED_FILE: Json = {"path": "notes/b.txt", "reason": "notes/b.txt is empty. Leave it out."}
UPLOAD_COUNTS: Json = {"added": 1, "replaced": 0, "unchanged": 0, "skipped": 1, "bytes": 812}
NEIGHBOR: Json = {
    "rank": 1,
    "chunk_id": 17,
    "document": "notes/a.txt",
    "start": 512,
    "end": 548,
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
    "end": 25,
    "text": "A while statement repeats",
    "continuation": " as long as an expression is true.",
    "chunk_index": 0,
    "num_chunks": 5,
    "num_tokens": 7,
    "is_retrievable": True,
    "neighbors": [NEIGHBOR],
}
