"""Settings of a pretrained language model that reads neighbors."""

from dataclasses import dataclass

from retro.config.checks import check_integer


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainedConfig:
    """Which pretrained model, and how it reads.

    Raises:
        ConfigError: A value is outside its range.
    """

    base: str
    """Name of the bundled model, folder, or name on the Hub."""
    revision: str | None = None
    """Commit on the Hub; None elsewhere."""
    chunk_size: int = 64
    """Tokens per chunk (m in the paper)."""
    window: int = 2048
    """Most tokens that the model reads at once, neighbors not counted."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_integer(self, "chunk_size", 2, 4096)
        check_integer(self, "window", 2, 2**20)
