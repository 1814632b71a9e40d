"""The fields of the form for a new run: one per setting of the training that people choose."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from retro.config.training import Precision, TrainingConfig
from retro.errors import ConfigError
from retro.json_files import parse_json

BASIC = {
    "max_steps": "Steps",
    "batch_size": "Batch size",
    "sequence_length": "Sequence length",
    "learning_rate": "Learning rate",
}
ADVANCED = {
    "num_neighbors": "Neighbors",
    "accumulation": "Batches per step",
    "warmup_steps": "Warm-up steps",
    "final_learning_rate_fraction": "Final learning rate (share)",
    "weight_decay": "Weight decay",
    "gradient_clip": "Largest gradient norm",
    "beta1": "AdamW beta 1",
    "beta2": "AdamW beta 2",
    "eval_every": "Measure every (steps)",
    "eval_sequences": "Sequences measured",
    "sample_tokens": "Sample text (tokens)",
    "checkpoint_every": "Checkpoint every (steps)",
    "keep_checkpoints": "Checkpoints kept",
    "log_every": "Report every (steps)",
    "plateau_evaluations": "Plateau after (measures)",
    "num_workers": "Batch processes",
    "seed": "Seed",
}
FLAGS = {
    "gradient_checkpointing": ("Gradient checkpointing", "less memory, a third more time"),
    "packing": ("Packing", "several short texts in one row"),
    "compile": ("Compile", "torch.compile; needs a C++ compiler"),
}
PRECISION = "precision"
FIELDS = (*BASIC, *ADVANCED, PRECISION, *FLAGS)
"""Names of the settings, in the order of the form."""
PER_ROW = 4


def basic_fields() -> list[Any]:
    """Add the fields that everybody looks at."""
    return _numbers(BASIC)


def advanced_fields() -> list[Any]:
    """Add the others, in the order of ``FIELDS``."""
    fields = _numbers(ADVANCED)
    with gr.Row(elem_id="run-choices"):
        fields.append(
            gr.Dropdown(
                [item.value for item in Precision], label="Precision",
                info="auto: bfloat16 where the device has it", elem_id="run-precision",
                min_width=200,
            )
        )  # fmt: skip
        fields += [
            gr.Checkbox(label=label, info=info, elem_id=f"run-{name}", min_width=200)
            for name, (label, info) in FLAGS.items()
        ]
    return fields


def _numbers(names: Mapping[str, str]) -> list[Any]:
    rows = list(names.items())
    fields: list[Any] = []
    for first in range(0, len(rows), PER_ROW):
        with gr.Row():
            fields += [
                gr.Number(label=label, elem_id=f"run-{name}", min_width=120)
                for name, label in rows[first : first + PER_ROW]
            ]
    return fields


def read_training(values: Sequence[Any], defaults: TrainingConfig) -> dict[str, Any]:
    """Return the settings that a person changed; an empty field is as the preset has it.

    Args:
        values: What stands in the fields, in the order of ``FIELDS``.
        defaults: What the preset amounts to.
    """
    return {
        name: value
        for name, value in zip(FIELDS, values, strict=True)
        if value is not None and value != getattr(defaults, name)
    }


def read_model(text: str | None) -> dict[str, Any]:
    """Return settings of the model from lines of ``NAME=VALUE``.

    Raises:
        ConfigError: A line is something else.
    """
    found: dict[str, Any] = {}
    for line in (text or "").splitlines():
        if not line.strip():
            continue
        name, separator, value = line.partition("=")
        if not separator or not name.strip():
            raise ConfigError(
                f"Each line of the model settings must be NAME=VALUE, got {line.strip()[:80]!r}. "
                f"Write for example dec_depth=6."
            )
        try:
            found[name.strip()] = parse_json(value)
        except ValueError:
            found[name.strip()] = value.strip()
    return found


def write_model(model: Mapping[str, Any]) -> str:
    """Undo ``read_model``."""
    return "\n".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in model.items()
    )
