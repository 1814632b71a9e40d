"""Settings of every stage, checked before any work starts.

Configs are frozen. An unknown name or a value outside its range is refused when the
config is made, so no invalid config object exists.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from enum import StrEnum
from numbers import Integral
from typing import Any, TypeVar

from retro.errors import ConfigError
from retro.errors import shown as shown
from retro.places import check_place

ConfigT = TypeVar("ConfigT")

LARGEST_INTEGER = 2**53
"""Integers up to here are exact in JSON and in a browser."""
BUNDLED_ENCODER = "all-MiniLM-L6-v2"
"""Name of the encoder that needs no download."""
MOST_NEIGHBORS = 100
MOST_STOPS = 16
LONGEST_STOP = 200


class Exclusion(StrEnum):
    """Which chunks may not be neighbors of a chunk."""

    AUTO = "auto"
    """``DOCUMENT``, or ``WINDOW`` where one document holds most of the corpus."""
    DOCUMENT = "document"
    """No chunk of the same document."""
    WINDOW = "window"
    """No chunk of the same document within one sequence length."""


class IndexKind(StrEnum):
    """Structure that is searched for nearest keys."""

    AUTO = "auto"
    """Chosen by the number of chunks."""
    FLAT = "flat"
    """Exact search over all keys."""
    IVF = "ivf"
    """Inverted lists over full keys: approximate."""
    HNSW = "hnsw"
    """Graph over full keys: approximate, searched on the CPU."""


class Precision(StrEnum):
    """Number format of the matrix products."""

    AUTO = "auto"
    """bfloat16 where the device computes with it natively, else float32."""
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """How a folder of text becomes a retrieval database."""

    chunk_size: int = 64
    """Tokens per chunk (m in the paper)."""

    num_neighbors: int = 2
    """Neighbors stored for each chunk (k in the paper)."""

    vocab_size: int | None = None
    """Tokens of the byte-level BPE tokenizer; None keeps the one there is, else chooses by size."""

    encoder: str | None = None
    """Hub name or folder of the frozen encoder for keys; None is the bundled MiniLM."""

    validation_fraction: float = 0.05
    """Share of documents held out of the retrieval database, at least one document."""

    exclusion: Exclusion = Exclusion.AUTO
    """Which chunks may not be neighbors of a chunk."""

    exclusion_window: int = 2048
    """Tokens of the same document on either side that ``WINDOW`` excludes."""

    index_kind: IndexKind = IndexKind.AUTO
    """Structure of the index."""

    seed: int = 0
    """Seed of the choice of validation documents and of index training."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_integer(self, "chunk_size", 2, 4096)
        check_integer(self, "num_neighbors", 1, MOST_NEIGHBORS)
        if self.vocab_size is not None:
            check_integer(self, "vocab_size", 258, 1_000_000)
        check_optional_place(self, "encoder")
        check_number(self, "validation_fraction", 0.0, 0.5)
        check_choice(self, "exclusion", Exclusion)
        check_integer(self, "exclusion_window", 1, LARGEST_INTEGER)
        check_choice(self, "index_kind", IndexKind)
        check_integer(self, "seed", 0, LARGEST_INTEGER)


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

    checkpoint_every: int = 50
    """Optimizer steps between checkpoints."""

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
        check_integer(self, "checkpoint_every", 1, 1_000_000_000)
        check_integer(self, "keep_checkpoints", 1, 1_000_000)
        check_integer(self, "log_every", 1, 1_000_000_000)
        check_integer(self, "plateau_evaluations", 0, 1_000_000)
        check_choice(self, "precision", Precision)
        for name in ("packing", "compile", "gradient_checkpointing"):
            check_flag(self, name)
        check_integer(self, "num_workers", 0, 256)
        check_integer(self, "seed", 0, LARGEST_INTEGER)


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How the next token is drawn."""

    max_new_tokens: int = 192
    """Most tokens to write."""

    temperature: float = 0.8
    """Divides the logits; 0 always takes the likeliest token."""

    top_k: int = 0
    """Draw from this many likeliest tokens only; 0 is all."""

    top_p: float = 0.95
    """Draw from the smallest set of likeliest tokens that reaches this probability."""

    min_p: float = 0.0
    """Draw from tokens that are at least this share as likely as the likeliest one."""

    repetition_penalty: float = 1.0
    """Makes tokens that are in the text already less likely; 1 leaves them as they are."""

    stop: tuple[str, ...] = ()
    """The text ends in front of the first of these that would appear in it."""

    seed: int = 0
    """The same seed and settings write the same text."""

    num_samples: int = 1
    """Texts written side by side; the one with number s is that of ``seed + s``."""

    num_neighbors: int = 2
    """Neighbors read for each chunk."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        check_integer(self, "max_new_tokens", 1, 100_000)
        check_number(self, "temperature", 0.0, 100.0)
        check_integer(self, "top_k", 0, 10_000_000)
        check_number(self, "top_p", 0.0, 1.0, above_minimum=True)
        check_number(self, "min_p", 0.0, 1.0)
        check_number(self, "repetition_penalty", 0.1, 10.0)
        check_texts(self, "stop", MOST_STOPS, LONGEST_STOP)
        check_integer(self, "seed", 0, LARGEST_INTEGER)
        check_integer(self, "num_samples", 1, 16)
        check_integer(self, "num_neighbors", 1, MOST_NEIGHBORS)


def config_from_dict(config_type: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Build a config from plain values, refusing names it does not know.

    Args:
        config_type: One of the dataclasses in this module.
        values: Setting name to value, for example from a JSON file.

    Returns:
        The config.

    Raises:
        ConfigError: A name is unknown, or a value is outside its range.
    """
    known = [field.name for field in fields(config_type)]  # type: ignore[arg-type]  # any dataclass type
    for name in values:
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{config_type.__name__} has no setting {name!r}.{hint}")
    return config_type(**values)


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a config as plain values that JSON can hold."""
    return asdict(config)


def check_integer(config: object, name: str, minimum: int, maximum: int) -> None:
    """Refuse a field that is not an integer between two bounds, both allowed."""
    value = whole_number(name, getattr(config, name), minimum, maximum)
    object.__setattr__(config, name, value)


def whole_number(name: str, value: object, minimum: int, maximum: int) -> int:
    """Return a value as an int, if it is a whole number between two bounds, both allowed.

    Raises:
        ConfigError: It is not.
    """
    # Number fields of web forms and JSON written by JavaScript have no integers.
    is_float = isinstance(value, float) and value.is_integer()
    if (is_float or isinstance(value, Integral)) and not isinstance(value, bool):
        number: int = int(value)  # type: ignore[call-overload]  # a float or an integer
        if minimum <= number <= maximum:
            return number
    raise ConfigError(
        f"{name} must be a whole number between {minimum} and {maximum}, got {shown(value)}."
    )


def check_number(
    config: object,
    name: str,
    minimum: float,
    maximum: float,
    *,
    above_minimum: bool = False,
    below_maximum: bool = False,
) -> None:
    """Refuse a field that is not a finite number between two bounds."""
    value = getattr(config, name)
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    too_low = number and (value <= minimum if above_minimum else value < minimum)
    too_high = number and (value >= maximum if below_maximum else value > maximum)
    if not number or too_low or too_high:
        low = f"{'above' if above_minimum else 'at least'} {minimum:g}"
        high = f"{'below' if below_maximum else 'at most'} {maximum:g}"
        raise ConfigError(f"{name} must be {low} and {high}, got {shown(value)}.")
    object.__setattr__(config, name, float(value))


def check_flag(config: object, name: str) -> None:
    """Refuse a field that is neither True nor False."""
    value = getattr(config, name)
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {shown(value)}.")


def check_optional_place(config: object, name: str) -> None:
    """Refuse a field that is neither None nor a name on the Hub or a path."""
    value = getattr(config, name)
    if value is None:
        return
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a text, got {shown(value)}.")
    check_place(name, value)


def check_texts(config: object, name: str, most: int, longest: int) -> None:
    """Refuse a field that is not a list of short texts, and store it as a tuple."""
    value = getattr(config, name)
    if not isinstance(value, list | tuple) or len(value) > most:
        raise ConfigError(f"{name} must be a list of at most {most} texts, got {shown(value)}.")
    for item in value:
        if not isinstance(item, str) or not 0 < len(item) <= longest:
            raise ConfigError(
                f"Each text of {name} must have 1 to {longest} characters, got {shown(item)}."
            )
    object.__setattr__(config, name, tuple(value))


def check_choice(config: object, name: str, choices: type[StrEnum]) -> None:
    """Refuse a field that is not one of the choices, and store the choice itself."""
    value = getattr(config, name)
    try:
        choice = choices(value)
    except ValueError:
        allowed = ", ".join(repr(item.value) for item in choices)
        raise ConfigError(f"{name} must be one of {allowed}, got {shown(value)}.") from None
    object.__setattr__(config, name, choice)


def check_layers(config: object, name: str, depth: int, *, optional: bool = False) -> None:
    """Refuse layer numbers that do not exist, and store them sorted as a tuple."""
    value = getattr(config, name)
    if value is None and optional:
        return
    if not isinstance(value, tuple | list) or not all(
        isinstance(item, int) and not isinstance(item, bool) for item in value
    ):
        raise ConfigError(f"{name} must be a list of layer numbers, got {shown(value)}.")
    wrong = [item for item in value if not 1 <= item <= depth]
    if wrong:
        raise ConfigError(
            f"{name} must be layers between 1 and {depth}, counted from 1, got {wrong[0]}."
        )
    object.__setattr__(config, name, tuple(sorted(set(value))))
