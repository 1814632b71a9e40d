"""Examples of what the REST routes answer, as the OpenAPI description shows them."""

import json
from typing import Any

from retro.config.checks import config_to_dict
from retro.config.corpus import CorpusConfig
from retro.config.model import ModelConfig
from retro.config.training import TrainingConfig

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

RUN_SUMMARY: Json = {
    "id": RUN_ID,
    "name": "First model",
    "corpus_id": CORPUS_ID,
    "corpus_name": "Notes",
    "settings": {
        "preset": "tiny",
        "model": {"dec_depth": 6},
        "training": {"max_steps": 2000},
        "parameters": 3_120_000,
        "resolved": {
            "model": settings_of(
                ModelConfig(num_tokens=8192, dec_depth=6, dec_cross_attn_layers=(3,))
            ),
            "training": settings_of(TrainingConfig(max_steps=2000)),
        },
    },
    "state": "running",
    "step": 500,
    "total_steps": 2000,
    "job_id": JOB_ID,
    "parent_id": None,
    "tags": ["baseline"],
    "corpus_version": 1,
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
RUN: Json = {
    **RUN_SUMMARY,
    "notes": "Two neighbors, seed 0.",
    "checkpoints": [CHECKPOINT],
    "alerts": [
        {
            "kind": "plateau",
            "step": 450,
            "message": "The validation loss should fall by 0.1% within 5 validations, got 4.31 in "
            "step 450 after 4.31 in step 200. Stop the run and write with its best checkpoint, or "
            "go on if the learning rate still has to fall.",
            "at": CREATED_AT + 45,
        }
    ],
}
POINT: Json = {"name": "train_loss", "step": 100, "value": 4.12}
MEMORY: Json = {
    "weights": 12_480_000,
    "gradients": 12_480_000,
    "moments": 24_960_000,
    "activations": 240_000_000,
    "program": 350_000_000,
    "total": 639_920_000,
}
ESTIMATE: Json = {
    "parameters": 3_120_000,
    "memory": MEMORY,
    "memory_checkpointed": {**MEMORY, "activations": 60_000_000, "total": 459_920_000},
    "needed_bytes": 639_920_000,
    "checkpoint_bytes": 188_000_000,
    "device": DEVICE,
    "fits": True,
    "seconds": 240.0,
    "tokens_per_second": 34_100.0,
    "basis": {
        "kind": "measured",
        "run": "First model",
        "flops_per_second": 1.4e12,
        "text": "from the speed that run 'First model' measured on this host",
    },
}
RECIPE: Json = {
    "command": "python -m retro train corpora/5d0c0f7a9b3e4c21 \\\n  --out runs/first-model",
    "python": "from retro.run import create_run\n...",
}
CURVES: Json = {
    "runs": [
        {
            "id": RUN_ID,
            "name": "First model",
            "state": "running",
            "step": 500,
            "total_steps": 2000,
            "job_id": JOB_ID,
            "curves": {
                "train_loss": {"steps": [250, 500], "values": [5.02, 4.29]},
                "val_loss_gap": {"steps": [250, 500], "values": [0.01, 0.04]},
            },
        }
    ]
}
COMPARISON: Json = {
    "runs": [
        {
            "id": RUN_ID,
            "name": "First model",
            "state": "running",
            "step": 500,
            "total_steps": 2000,
            "preset": "tiny",
            "parameters": 3_120_000,
            "corpus_id": CORPUS_ID,
            "corpus_name": "Notes",
            "corpus_version": 1,
            "tags": ["baseline"],
            "train_loss": 4.29,
            "val_loss_on": 4.31,
            "val_loss_off": 4.35,
            "val_loss_gap": 0.04,
            "best_val_loss_on": 4.31,
            "best_step": 500,
            "tokens_per_second": 34_100.0,
            "seconds": 62.5,
        }
    ],
    "settings": [
        {"group": "training", "name": "max_steps", "values": [2000], "differs": False},
    ],
    "metrics": ["learning_rate", "train_loss", "val_loss_off", "val_loss_on"],
}
