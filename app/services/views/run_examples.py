"""Examples of views of jobs, runs and their curves."""

from app.services.views.examples import (
    CORPUS_ID,
    CREATED_AT,
    DEVICE,
    JOB_ID,
    RUN_ID,
    Json,
    settings_of,
)
from retro.config.model import ModelConfig
from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.config.training import TrainingConfig

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

TRAINED_BASE: Json = {
    "model": settings_of(
        PretrainedConfig(base="smollm2-135m", base_sha256=64 * "a", mode=TrainingMode.LORA)
    ),
    "training": settings_of(TrainingConfig(max_steps=240, batch_size=1, packing=False)),
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
SAMPLE_TEXT: Json = {
    "step": 100,
    "prompt": "The harbour of the town",
    "text": " is small, and its boats are older than the houses.",
    "num_neighbors": 2,
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
    "trained": 3_120_000,
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
