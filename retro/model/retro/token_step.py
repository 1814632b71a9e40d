"""Reads one more token of a text on a CPU: the same network as ``RETRO.read``, in NumPy.

A single token needs many small operations and products of a matrix with a vector. There, what
torch does around each operation takes longer than the operation, and MKL, which torch uses, is
slow on some makes of CPU (``bench/RESULTS.md`` has figures). The weights are copied in the
order in which such products read them fastest, so they take their memory twice.

Shape suffixes: D width, I inner width, O outputs, H heads, S tokens that are read, P width of one
head, J rotated pairs of one head, M tokens per chunk, K neighbors, R tokens per retrieved value,
W places of all neighbors that hold a token, V vocabulary, B a batch of one, L one chunk.
"""

import logging
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro.model.language_model import Retrieved, TextCache
from retro.model.layers import rotary_angles
from retro.model.retro.decoder import DecoderCache, EncodedNeighbors
from retro.model.retro.network import RetroNetwork
from retro.model.retro.token_layers import (
    Array,
    TokenLayer,
    TokenNeighbors,
    as_array,
    is_known,
    norm_function,
    paired,
    transposed,
)

logger = logging.getLogger(__name__)

LARGEST_COPY = 2**31
"""Bytes of weights; of a larger model, most computers have no room for a second copy."""


def suits_token_step(model: RetroNetwork) -> bool:
    """Return whether a model can be read by ``TokenStep``.

    It must be on a CPU, in float32, and not too large; and everything a token passes on its way
    must be of the kinds that are written out for NumPy. A network with anything else in it, a new
    sublayer or an adapter, is read by torch.
    """
    weights = list(model.parameters())
    fits = sum(weight.numel() * weight.element_size() for weight in weights) <= LARGEST_COPY
    if not fits or not all(
        weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights
    ):
        return False
    unknown = unknown_parts(model)
    if unknown:
        logger.info("Tokens are read by torch, as NumPy does not know %s", ", ".join(unknown))
    return not unknown


def unknown_parts(model: RetroNetwork) -> list[str]:
    """Return the names of what a token passes on its way and ``TokenStep`` would not compute."""
    own = {"token_embedding", "encoder_embedding", "to_encoder_width", "decoder", "to_logits"}
    unknown = [name for name, _ in model.named_children() if name not in own]
    for name, module in model.named_modules():
        # Neighbors are embedded and encoded by the modules themselves.
        if name.startswith(("encoder_embedding", "to_encoder_width", "decoder.encoder")):
            continue
        if not is_known(module) and module is not model:
            unknown.append(name)
    return sorted(set(unknown))


class TokenStep:
    """Reads single tokens after those in a cache; see the module's docstring.

    Args:
        model: On a CPU, in float32. Its weights must not be changed afterwards.
    """

    uses_all_threads = False

    def __init__(self, model: RetroNetwork) -> None:
        unknown = unknown_parts(model)
        assert not unknown, f"suits_token_step is asked first; {unknown} would be passed over"
        config = model.config
        self._model = model
        self._size = config.chunk_size
        self._embedding_VD = as_array(model.token_embedding.weight)
        self._scale = np.float32(math.sqrt(config.dec_dim))
        self._layers = [TokenLayer(layer) for layer in model.decoder.layers]
        self._first_cca = model.decoder.first_cca
        self._output_norm = norm_function(model.decoder.output_norm)
        self._logits_DV = transposed(model.to_logits.weight)
        self._turns = _Turns(config.dim_head, max(config.max_seq_len, 2 * config.chunk_size))

    def take_over(self, cache: TextCache) -> "TokenCache":
        """Return what the model has read, for one text, in the form that is read here.

        The cache itself is not extended afterwards.

        Args:
            cache: Of one text.
        """
        assert isinstance(cache, DecoderCache), "a cache belongs to the kind that made it"
        return TokenCache(self, cache, self._size)

    def read(self, token: int, cache: "TokenCache", retrieved: Retrieved | None = None) -> Array:
        """Read one token.

        Args:
            token: Its id.
            cache: The tokens before, with room for one more; it is extended.
            retrieved: Retrieved values of the chunk that this token completes, (1, 1,
                neighbors, tokens). None means that it has no neighbors.

        Returns:
            Logits, (vocabulary,).
        """
        place = cache.left_padding + cache.num_tokens
        after = (place + 1) % self._size
        encoded: EncodedNeighbors | None = None
        turn_J = self._turns.at(cache.num_tokens)
        x_D = self._embedding_VD[token] * self._scale
        if after == 0:
            cache.neighbors.clear()
        for number, layer in enumerate(self._layers):
            x_D = layer.attend_to_tokens(
                x_D, cache.k_HSP[number], cache.v_HSP[number], cache.num_tokens, turn_J
            )
            if number == self._first_cca:
                cache.keep_unfinished(x_D)
                if after == 0:
                    encoded = self._encode(cache, retrieved)
            if encoded is not None and layer.cca is not None:
                cache.neighbors[number] = TokenNeighbors.of(layer.cca, encoded, self._size)
            neighbors = cache.neighbors.get(number)
            if neighbors is not None:
                turn_of_cca_J = self._turns.at(after + self._size - 1)
                x_D = layer.read_neighbors(x_D, neighbors, turn_of_cca_J)
            x_D = layer.feed(x_D)
        cache.num_tokens += 1
        return np.dot(self._output_norm(x_D), self._logits_DV)

    def _encode(self, cache: "TokenCache", retrieved: Retrieved | None) -> EncodedNeighbors | None:
        """Return the neighbors in the light of the chunk that is now complete."""
        chunk_BLMD, valid_BLM = cache.take_chunk()
        embedded = None if retrieved is None else self._model.embed_retrieved(retrieved)
        encoder = self._model.decoder.encoder
        if embedded is None or encoder is None:
            return None
        x_BLKRE = encoder(embedded.x_BLKRE, embedded.valid_BLKR, chunk_BLMD, valid_BLM)
        return EncodedNeighbors(x_BLKRE, embedded.valid_BLKR)


class TokenCache:
    """What a text's tokens left behind: keys and values, neighbors, the unfinished chunk.

    Args:
        step: Reads on.
        cache: What the model has read, of one text.
        chunk_size: Tokens per chunk.
    """

    def __init__(self, step: TokenStep, cache: DecoderCache, chunk_size: int) -> None:
        self._step = step
        self.left_padding = cache.left_padding
        self.num_tokens = cache.num_tokens
        self.k_HSP = [paired(as_array(layer.k_BHSP[0])) for layer in cache.layers]
        self.v_HSP = [as_array(layer.v_BHSP[0]).copy() for layer in cache.layers]
        self.neighbors = {
            number: TokenNeighbors(readable, chunk_size)
            for number, readable in cache.neighbors.items()
        }
        self._unfinished_MD = as_array(cache.unfinished_BMD[0]).copy()
        self._num_unfinished = cache.num_unfinished

    def read(self, token: int, retrieved: Retrieved | None = None) -> Array:
        """Read the next token; see ``TokenText``."""
        return self._step.read(token, self, retrieved)

    def keep_unfinished(self, x_D: Array) -> None:
        """Keep the states of a token of the unfinished chunk, for the neighbor encoder."""
        self._unfinished_MD[self._num_unfinished] = x_D
        self._num_unfinished += 1

    def take_chunk(self) -> tuple[Tensor, Tensor | None]:
        """Return the states of the chunk, which is complete, and where its tokens exist."""
        chunk = torch.from_numpy(self._unfinished_MD[: self._num_unfinished].copy())
        lacking = len(self._unfinished_MD) - self._num_unfinished
        self._num_unfinished = 0
        if lacking == 0:
            return chunk[None, None], None
        valid = torch.ones(1, 1, lacking + len(chunk), dtype=torch.bool)
        valid[..., :lacking] = False
        return nn.functional.pad(chunk, (0, 0, lacking, 0))[None, None], valid

    def shares(self) -> Array | None:
        """Return the share of attention that the last token gave to each neighbor.

        Returns:
            (neighbors, 2), for a neighbor's text and its continuation, as a mean over layers
            and heads; None where there was nothing to read.
        """
        layers = list(self.neighbors.values())
        if not layers:
            return None
        # All layers read the same places.
        total_W = sum((layer.weight_W for layer in layers[1:]), start=layers[0].weight_W)
        share_K2 = np.bincount(layers[0].part_W, total_W, layers[0].num_parts).reshape(-1, 2)
        return share_K2.astype(np.float32) / np.float32(len(layers))


class _Turns:
    """Rotation by position, as complex numbers, computed once for each."""

    def __init__(self, head_width: int, size: int) -> None:
        self._head_width = head_width
        self._turn_SJ = self._compute(size)

    def at(self, position: int) -> NDArray[np.complex64]:
        """Return the rotation of each pair."""
        if position >= len(self._turn_SJ):
            self._turn_SJ = self._compute(2 * position)
        turn_J: NDArray[np.complex64] = self._turn_SJ[position]
        return turn_J

    def _compute(self, size: int) -> NDArray[np.complex64]:
        angle_SJ = rotary_angles(torch.arange(size), self._head_width)
        return torch.polar(torch.ones_like(angle_SJ), angle_SJ).numpy()
