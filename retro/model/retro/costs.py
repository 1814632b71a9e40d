"""What a training step costs, counted from the config: operations and memory, without a model.

Only matrix products count as operations, two per multiplication and addition. Causal attention
counts the half that is needed. Recomputation and padding do not count, as is usual for model
FLOP utilisation (PaLM, arXiv:2204.02311, appendix B).
"""

from dataclasses import dataclass

from retro.config.model import ModelConfig
from retro.model.memory import BYTES_PER_WEIGHT, TrainingMemory
from retro.model.retro.presets import parameter_count

PEAK_OVER_COUNTED = 1.7
"""Largest need of a step as measured, over the inner states that are counted one by one."""
RECOMPUTED_SHARE = 1.5
"""The same for the one layer that is computed again with gradient checkpointing."""


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


def training_memory(
    config: ModelConfig,
    *,
    batch_size: int,
    tokens: int,
    num_neighbors: int,
    value_bytes: int,
    checkpointing: bool,
) -> TrainingMemory:
    """Estimate the memory of a training step.

    Args:
        config: The model.
        batch_size: Sequences at once, before accumulation.
        tokens: Tokens of a sequence, whole chunks.
        num_neighbors: Neighbors of each chunk.
        value_bytes: Bytes of an inner state on average: 4 for float32, 3 for bfloat16, with which
            the stream and the norms stay float32.
        checkpointing: Whether inner states are computed again instead of being kept.
    """
    inner, enc, dec = config.heads * config.dim_head, config.enc_dim, config.dec_dim
    # A neighbor and its continuation are two chunks, so a chunk of tokens brings as many.
    per_token = 2 * num_neighbors
    decoder_layer, decoder_kept = _layer_values(dec, inner), 2 * dec
    encoder_layer, encoder_kept = _layer_values(enc, inner), 2 * enc
    cca = cross = cca_kept = cross_kept = 0
    if config.dec_cross_attn_layers:
        # Keys and values of everything retrieved, besides what reads them.
        cca = 2 * dec + 3 * inner + 2 * inner * per_token
        cross = per_token * (2 * enc + 3 * inner) + 2 * inner
        cca_kept, cross_kept = dec, per_token * enc
    else:
        encoder_layer = encoder_kept = 0
    num_cca, num_cross = len(config.dec_cross_attn_layers), len(config.encoder_cross_layers)
    if checkpointing:
        values = config.dec_depth * decoder_kept + num_cca * cca_kept
        values += config.enc_depth * encoder_kept * per_token + num_cross * cross_kept
        # One layer at a time is computed again, and needs what all need otherwise.
        largest = max(decoder_layer + cca, encoder_layer * per_token + cross)
        values += round(RECOMPUTED_SHARE * largest)
    else:
        values = config.dec_depth * decoder_layer + num_cca * cca
        values += config.enc_depth * encoder_layer * per_token + num_cross * cross
    state = BYTES_PER_WEIGHT * parameter_count(config)
    return TrainingMemory(
        weights=state,
        gradients=state,
        moments=2 * state,
        activations=round(PEAK_OVER_COUNTED * batch_size * tokens * values * value_bytes),
    )


def _layer_values(width: int, inner: int) -> int:
    """Return the inner states of one layer for each token: two norms, attention, feed-forward."""
    return 4 * width + 5 * inner + 8 * width
