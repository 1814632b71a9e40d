"""Floating-point operations that RETRO needs, counted from its config, and what cards can do.

Only matrix products count, two operations per multiplication and addition. Causal attention
counts the half that is needed. Recomputation and padding do not count, as is usual for model
FLOP utilisation (PaLM, arXiv:2204.02311, appendix B).
"""

from dataclasses import dataclass

from retro.config import ModelConfig

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


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of one forward pass."""

    linear: float
    """Products with weights."""

    attention: float
    """Products of queries, keys and values."""

    @property
    def training(self) -> float:
        """Forward and backward, which needs twice as many."""
        return 3 * (self.linear + self.attention)


def forward_flops(
    config: ModelConfig, tokens: int, num_neighbors: int, *, causal_share: float = 0.5
) -> Flops:
    """Count one sequence with retrieval.

    Args:
        config: The model.
        tokens: Tokens of the sequence, whole chunks.
        num_neighbors: Neighbors of each chunk, each a chunk and its continuation.
        causal_share: Share of causal attention that counts; 1 is all a kernel without
            causal skipping computes.
    """
    inner, size = config.heads * config.dim_head, config.chunk_size
    enc, dec = config.enc_dim, config.dec_dim
    num_chunks, length = tokens // size, 2 * size
    retrieved = num_chunks * num_neighbors * length
    reading = tokens - size + 1  # the first chunk's other tokens have nothing to read

    weights = tokens * config.dec_depth * (4 * dec * inner + 8 * dec * dec)
    weights += tokens * config.num_tokens * dec
    products = config.dec_depth * causal_share * tokens * tokens
    if config.dec_cross_attn_layers:
        cca, cross = len(config.dec_cross_attn_layers), len(config.encoder_cross_layers)
        weights += retrieved * config.enc_depth * (4 * enc * inner + 8 * enc * enc)
        weights += cross * 2 * inner * (retrieved * enc + tokens * dec)
        weights += cca * 2 * inner * (reading * dec + retrieved * enc)
        weights += retrieved * enc * dec * (enc != dec)
        products += config.enc_depth * retrieved * length
        products += cross * retrieved * size
        products += cca * reading * num_neighbors * length
    return Flops(linear=2.0 * weights, attention=4.0 * inner * products)


def peak_flops(card: str) -> float | None:
    """Return the dense bfloat16 peak of a card in FLOP/s, None where it is not known."""
    return next((peak for name, peak in PEAK_BFLOAT16 if name in card), None)
