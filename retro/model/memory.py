"""What training needs of a device, for any kind of model."""

from dataclasses import dataclass

BYTES_PER_WEIGHT = 4
"""Weights, their gradients and both moments of AdamW are float32 in every precision."""
PEAK_BFLOAT16 = (
    ("B200", 2250e12),
    ("GH200", 989e12),
    ("H200", 989e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("RTX 5090", 209e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
)
"""Dense bfloat16 FLOP/s by part of the card's name, from the makers' data sheets; first match."""


def peak_flops(card: str) -> float | None:
    """Return the dense bfloat16 peak of a card in FLOP/s, None where it is not known."""
    return next((peak for name, peak in PEAK_BFLOAT16 if name in card), None)


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that a training step needs at its peak."""

    weights: int
    gradients: int
    moments: int
    """The two moments of AdamW."""
    activations: int
    """Inner states that are kept for the gradient, and what is computed from them."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.moments + self.activations
