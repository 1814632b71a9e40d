"""Settings of a training run."""

from dataclasses import dataclass
from enum import StrEnum

from retro.config.checks import (
    LARGEST_INTEGER,
    MOST_NEIGHBORS,
    check_choice,
    check_flag,
    check_integer,
    check_number,
)

FIRST_CHECKPOINT = 25
"""Step after which every run is saved, so that its first text need not wait for the interval."""


class Precision(StrEnum):
    """Number format of the matrix products."""

    AUTO = "auto"
    """bfloat16 where the device computes with it natively, else float32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """How a model is trained."""

    max_steps: int = 1000
    """Optimizer steps of the whole run, over all sessions."""

    batch_size: int = 8
    """Sequences per optimizer step and process, before accumulation."""

    accumulation: int = 1
    """Batches whose gradients are added up for one optimizer step."""

    sequence_length: int = 512
    """Tokens per training sequence; a multiple of the corpus's chunk size."""

    num_neighbors: int = 2
    """Neighbors each chunk reads; at most as many as the corpus stores."""

    learning_rate: float = 1e-3
    """Peak learning rate, after the warm-up."""

    final_learning_rate_fraction: float = 0.1
    """Learning rate at the last step, as a share of the peak."""

    warmup_steps: int = 50
    """Optimizer steps of linear warm-up."""

    weight_decay: float = 0.1
    """Weight decay of matrices; norms, biases and embeddings have none."""

    beta1: float = 0.9
    """AdamW: decay of the first moment."""

    beta2: float = 0.95
    """AdamW: decay of the second moment."""

    gradient_clip: float = 1.0
    """Largest norm of all gradients together."""

    eval_every: int = 50
    """Optimizer steps between measurements of the validation loss."""

    eval_sequences: int = 32
    """Most validation sequences per measurement."""

    sample_tokens: int = 64
    """Tokens of the sample text that is written at every measurement; 0 writes none."""

    checkpoint_every: int = 50
    """Optimizer steps between checkpoints; the first comes after 25 steps at the latest."""

    keep_checkpoints: int = 3
    """Newest checkpoints kept, besides the best and the pinned ones."""

    log_every: int = 5
    """Optimizer steps between reports of the training loss."""

    plateau_evaluations: int = 5
    """Validations without a better loss, or with a rising one, that give an alert; 0 is never."""

    precision: Precision = Precision.AUTO
    """Number format of the matrix products; weights and optimizer stay float32."""

    packing: bool = True
    """Put several short pieces of text into one row, instead of padding each to a row."""

    compile: bool = False
    """Compile the network with torch.compile before the first step; needs a C++ compiler."""

    gradient_checkpointing: bool = False
    """Compute inner states again for the gradient: less memory for about a third more time."""

    num_workers: int = 0
    """Processes that prepare batches; 0 prepares them between the steps."""

    seed: int = 0
    """Seed of weights, order of data and dropout."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_integer(self, "max_steps", 1, 1_000_000_000)
        check_integer(self, "batch_size", 1, 65_536)
        check_integer(self, "accumulation", 1, 65_536)
        check_integer(self, "sequence_length", 2, 10_000_000)
        check_integer(self, "num_neighbors", 1, MOST_NEIGHBORS)
        check_number(self, "learning_rate", 0.0, 10.0, above_minimum=True)
        check_number(self, "final_learning_rate_fraction", 0.0, 1.0)
        check_integer(self, "warmup_steps", 0, 1_000_000_000)
        check_number(self, "weight_decay", 0.0, 10.0)
        check_number(self, "beta1", 0.0, 1.0, below_maximum=True)
        check_number(self, "beta2", 0.0, 1.0, below_maximum=True)
        check_number(self, "gradient_clip", 0.0, 1e6, above_minimum=True)
        check_integer(self, "eval_every", 1, 1_000_000_000)
        check_integer(self, "eval_sequences", 1, 1_000_000)
        check_integer(self, "sample_tokens", 0, 10_000)
        check_integer(self, "checkpoint_every", 1, 1_000_000_000)
        check_integer(self, "keep_checkpoints", 1, 1_000_000)
        check_integer(self, "log_every", 1, 1_000_000_000)
        check_integer(self, "plateau_evaluations", 0, 1_000_000)
        check_choice(self, "precision", Precision)
        for name in ("packing", "compile", "gradient_checkpointing"):
            check_flag(self, name)
        check_integer(self, "num_workers", 0, 256)
        check_integer(self, "seed", 0, LARGEST_INTEGER)
