"""Settings of a pretrained language model that reads neighbors."""

from dataclasses import dataclass
from enum import StrEnum

from retro.config.checks import check_choice, check_integer, check_optional_place


class TrainingMode(StrEnum):
    """What a training changes in a pretrained model."""

    NONE = "none"
    """Nothing: the model as it was published."""
    GATES = "gates"
    """One number per layer and head, added to the scores of neighbors; without retrieval the
    model stays exactly what it was."""
    LORA = "lora"
    """Low-rank matrices beside those of the attention, and the gates."""
    FULL = "full"
    """All weights, and the gates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainedConfig:
    """Which pretrained model, how it reads, and what is trained in it.

    Raises:
        ConfigError: A value is outside its range.
    """

    base: str
    """Name of the bundled model, folder, or name on the Hub."""
    revision: str | None = None
    """Commit on the Hub; None elsewhere."""
    base_sha256: str | None = None
    """Identity of the model's tensors; None before its first use."""
    mode: TrainingMode = TrainingMode.NONE
    """What was trained."""
    lora_rank: int = 8
    """Rank of the matrices of ``lora``."""
    chunk_size: int = 64
    """Tokens per chunk (m in the paper)."""
    window: int = 2048
    """Most tokens that the model reads at once, neighbors not counted."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_optional_place(self, "base")
        check_choice(self, "mode", TrainingMode)
        check_integer(self, "lora_rank", 1, 1024)
        check_integer(self, "chunk_size", 2, 4096)
        check_integer(self, "window", 2, 2**20)
