"""Sizes of a RETRO network."""

from dataclasses import dataclass

from retro.config.checks import check_flag, check_integer, check_layers, check_number
from retro.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Sizes of the RETRO network; the arguments of ``retro.RETRO``."""

    num_tokens: int = 28996
    """Size of the vocabulary; the default is that of BERT base cased."""

    max_seq_len: int = 2048
    """Most tokens the decoder reads at once (n in the paper)."""

    chunk_size: int = 64
    """Tokens per chunk (m in the paper)."""

    enc_dim: int = 896
    """Width of the neighbor encoder."""

    enc_depth: int = 2
    """Layers of the neighbor encoder."""

    enc_cross_attn_layers: tuple[int, ...] | None = None
    """Encoder layers, counted from 1, that read the decoder; None means all."""

    dec_dim: int = 768
    """Width of the decoder (d in the paper)."""

    dec_depth: int = 12
    """Layers of the decoder."""

    dec_cross_attn_layers: tuple[int, ...] = (1, 3, 6, 9)
    """Decoder layers, counted from 1, with chunked cross-attention (P in the paper)."""

    heads: int = 8
    """Attention heads, the same in encoder and decoder."""

    dim_head: int = 64
    """Width of one attention head."""

    enc_attn_dropout: float = 0.0
    """Dropout on the encoder's attention weights."""

    enc_ff_dropout: float = 0.0
    """Dropout inside the encoder's feed-forward layers."""

    dec_attn_dropout: float = 0.0
    """Dropout on the decoder's attention weights, self and cross."""

    dec_ff_dropout: float = 0.0
    """Dropout inside the decoder's feed-forward layers."""

    use_deepnet: bool = False
    """Post-normalisation with the residual scales of DeepNet (arXiv:2203.00555)."""

    gated_rmsnorm: bool = False
    """Gated RMSNorm (arXiv:2104.07012) in place of RMSNorm."""

    tie_embeddings: bool = False
    """Use the token embedding as the output layer as well."""

    separate_encoder_embedding: bool = False
    """Give the neighbor encoder a token embedding of its own instead of the decoder's."""

    pad_id: int = 0
    """Token id that marks "nothing here" in sequences and neighbors."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_integer(self, "num_tokens", 2, 10_000_000)
        check_integer(self, "max_seq_len", 1, 10_000_000)
        check_integer(self, "chunk_size", 2, 4096)
        for name in ("enc_dim", "dec_dim"):
            check_integer(self, name, 2, 1_000_000)
        for name in ("enc_depth", "dec_depth", "heads"):
            check_integer(self, name, 1, 10_000)
        check_integer(self, "dim_head", 4, 4096)
        for name in ("enc_attn_dropout", "enc_ff_dropout", "dec_attn_dropout", "dec_ff_dropout"):
            check_number(self, name, 0.0, 1.0, below_maximum=True)
        for name in (
            "use_deepnet",
            "gated_rmsnorm",
            "tie_embeddings",
            "separate_encoder_embedding",
        ):
            check_flag(self, name)
        check_integer(self, "pad_id", 0, self.num_tokens - 1)
        check_layers(self, "enc_cross_attn_layers", self.enc_depth, optional=True)
        check_layers(self, "dec_cross_attn_layers", self.dec_depth)
        if self.dim_head % 4 != 0:
            raise ConfigError(
                f"dim_head must be a multiple of 4, because half of each head carries rotary "
                f"positions in pairs, got {self.dim_head}."
            )
        if self.max_seq_len % self.chunk_size != 0:
            raise ConfigError(
                f"max_seq_len must be a multiple of chunk_size, "
                f"got {self.max_seq_len} and {self.chunk_size}."
            )

    @property
    def encoder_cross_layers(self) -> tuple[int, ...]:
        """Encoder layers that read the decoder, counted from 1, never None."""
        if self.enc_cross_attn_layers is None:
            return tuple(range(1, self.enc_depth + 1))
        return self.enc_cross_attn_layers
