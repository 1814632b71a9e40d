"""Reads one more token of a text on a CPU: the same network as ``RETRO.read``, in NumPy.

A single token needs many small operations and products of a matrix with a vector. There, what
torch does around each operation takes longer than the operation, and MKL, which torch uses, is
slow on some makes of CPU (``bench/RESULTS.md`` has figures). The weights are copied in the
order in which such products read them fastest, so they take their memory twice.

Shape suffixes: D width, I inner width, O outputs, H heads, S tokens that are read, P width of one
head, J rotated pairs of one head, M tokens per chunk, K neighbors, R tokens per retrieved value,
W places of all neighbors that hold a token, V vocabulary, B a batch of one, L one chunk.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro.model.attention import CrossAttention, SelfAttention
from retro.model.layers import FeedForward, Residual, RMSNorm, rotary_angles
from retro.model.lean import NORM_EPSILON
from retro.model.retro.cca import ChunkedCrossAttention, ReadableNeighbors
from retro.model.retro.decoder import DecoderCache, DecoderLayer, EncodedNeighbors
from retro.model.retro.model import RETRO

Array = NDArray[np.float32]
Norm = Callable[[Array], Array]

_MINUS_HALF = np.float32(-0.5)
_TAIL_SCALE = np.float32(0.3275911 * math.sqrt(0.5))
_TAIL_SERIES = [
    np.float32(coefficient / 2)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
]


LARGEST_COPY = 2**31
"""Bytes of weights; of a larger model, most computers have no room for a second copy."""


def suits_token_step(model: RETRO) -> bool:
    """Return whether a model can be read by ``TokenStep``: on a CPU, in float32, not too large."""
    weights = list(model.parameters())
    fits = sum(weight.numel() * weight.element_size() for weight in weights) <= LARGEST_COPY
    return fits and all(
        weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights
    )


class TokenStep:
    """Reads single tokens after those in a cache; see the module's docstring.

    Args:
        model: On a CPU, in float32. Its weights must not be changed afterwards.
    """

    def __init__(self, model: RETRO) -> None:
        config = model.config
        self._model = model
        self._size = config.chunk_size
        self._embedding_VD = _array(model.token_embedding.weight)
        self._scale = np.float32(math.sqrt(config.dec_dim))
        self._layers = [_Layer(layer) for layer in model.decoder.layers]
        self._first_cca = model.decoder.first_cca
        self._output_norm = _norm(model.decoder.output_norm)
        self._logits_DV = _transposed(model.to_logits.weight)
        self._turns = _Turns(config.dim_head, max(config.max_seq_len, 2 * config.chunk_size))

    def take_over(self, cache: DecoderCache) -> "TokenCache":
        """Return what the model has read, for one text, in the form that is read here.

        The cache itself is not extended afterwards.

        Args:
            cache: Of one text.
        """
        return TokenCache(cache, self._size)

    def read(self, token: int, cache: "TokenCache", retrieved: Tensor | None = None) -> Array:
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
            x_D = layer.attend_to_tokens(x_D, cache, number, turn_J)
            if number == self._first_cca:
                cache.keep_unfinished(x_D)
                if after == 0:
                    encoded = self._encode(cache, retrieved)
            if encoded is not None and layer.cca is not None:
                cache.neighbors[number] = _Neighbors.of(layer.cca, encoded, self._size)
            neighbors = cache.neighbors.get(number)
            if neighbors is not None:
                turn_of_cca_J = self._turns.at(after + self._size - 1)
                x_D = layer.read_neighbors(x_D, neighbors, turn_of_cca_J)
            x_D = layer.feed(x_D)
        cache.num_tokens += 1
        return np.dot(self._output_norm(x_D), self._logits_DV)

    def _encode(self, cache: "TokenCache", retrieved: Tensor | None) -> EncodedNeighbors | None:
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
        cache: What the model has read, of one text.
        chunk_size: Tokens per chunk.
    """

    def __init__(self, cache: DecoderCache, chunk_size: int) -> None:
        self.left_padding = cache.left_padding
        self.num_tokens = cache.num_tokens
        self.k_HSP = [_paired(_array(layer.k_BHSP[0])) for layer in cache.layers]
        self.v_HSP = [_array(layer.v_BHSP[0]).copy() for layer in cache.layers]
        self.neighbors = {
            number: _Neighbors(readable, chunk_size) for number, readable in cache.neighbors.items()
        }
        self._unfinished_MD = _array(cache.unfinished_BMD[0]).copy()
        self._num_unfinished = cache.num_unfinished

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


class _Neighbors:
    """The encoded neighbors of a chunk, as one CCA layer reads them: real tokens only."""

    def __init__(self, readable: ReadableNeighbors, chunk_size: int) -> None:
        valid_W = readable.valid_BLW[0, 0].numpy()
        self.k_HWP = _paired(_array(readable.k_BLHWP[0, 0])[:, valid_W])
        self.v_HWP = np.ascontiguousarray(_array(readable.v_BLHWP[0, 0])[:, valid_W])
        self.weight_W = np.zeros(self.k_HWP.shape[1], dtype=np.float32)
        """How much the last token read of each place, as a mean over heads."""
        self.num_parts = 2 * readable.num_neighbors
        self.part_W = _parts(len(valid_W), readable.num_neighbors, chunk_size)[valid_W]

    @classmethod
    def of(
        cls, cca: ChunkedCrossAttention, encoded: EncodedNeighbors, chunk_size: int
    ) -> "_Neighbors":
        """Project encoded neighbors for a layer."""
        return cls(cca.readable(encoded.x_BLKRE, encoded.valid_BLKR), chunk_size)


def _parts(num_places: int, num_neighbors: int, chunk_size: int) -> NDArray[np.int64]:
    """Return for each place to which neighbor, and which part of it, it belongs."""
    place_W = np.arange(num_places)
    neighbor_W, inner_W = np.divmod(place_W, num_places // num_neighbors)
    return 2 * neighbor_W + (inner_W >= chunk_size)


class _Layer:
    """One decoder layer."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, DecoderLayer)
        self.cca = layer.cca
        self._attention = _SelfAttention(layer.attention)
        self._attention_residual = _Residual(layer.attention_residual)
        if layer.cca is not None:
            self._cross = _CrossAttention(layer.cca.attention)
            self._cross_residual = _Residual(layer.cca_residual)
        self._feed_forward = _FeedForward(layer.feed_forward)
        self._feed_forward_residual = _Residual(layer.feed_forward_residual)

    def attend_to_tokens(
        self, x_D: Array, cache: TokenCache, number: int, turn_J: NDArray[np.complex64]
    ) -> Array:
        """Return the stream after self-attention; the cache has the token afterwards."""
        residual = self._attention_residual
        k_HSP, v_HSP = cache.k_HSP[number], cache.v_HSP[number]
        update_D = self._attention(residual.prepare(x_D), k_HSP, v_HSP, cache.num_tokens, turn_J)
        return residual.combine(x_D, update_D)

    def read_neighbors(
        self, x_D: Array, neighbors: _Neighbors, turn_J: NDArray[np.complex64]
    ) -> Array:
        """Return the stream after chunked cross-attention."""
        if not neighbors.k_HWP.shape[1]:
            return x_D
        residual = self._cross_residual
        return residual.combine(x_D, self._cross(residual.prepare(x_D), neighbors, turn_J))

    def feed(self, x_D: Array) -> Array:
        """Return the stream after the feed-forward layer."""
        residual = self._feed_forward_residual
        return residual.combine(x_D, self._feed_forward(residual.prepare(x_D)))


class _Residual:
    """``retro.model.layers.Residual`` for one token."""

    def __init__(self, residual: Residual) -> None:
        self._norm = _norm(residual.norm)
        self._alpha = None if residual.alpha is None else np.float32(residual.alpha)

    def prepare(self, x_D: Array) -> Array:
        return self._norm(x_D) if self._alpha is None else x_D

    def combine(self, x_D: Array, update_D: Array) -> Array:
        if self._alpha is None:
            update_D += x_D
            return update_D
        return self._norm(self._alpha * x_D + update_D)


class _SelfAttention:
    """``retro.model.attention.SelfAttention`` for one token."""

    def __init__(self, attention: SelfAttention) -> None:
        self._num_heads = attention.num_heads
        self._head_width = attention.head_width
        scale = attention.head_width**-0.5
        q_DI, k_DI = (
            _paired_heads(part.weight, attention.num_heads)
            for part in (attention.q_proj, attention.k_proj)
        )
        parts = (q_DI * np.float32(scale), k_DI, _transposed(attention.v_proj.weight))
        self._qkv = np.ascontiguousarray(np.concatenate(parts, axis=1))
        self._out = _transposed(attention.out_proj.weight)

    def __call__(
        self, x_D: Array, k_HSP: Array, v_HSP: Array, before: int, turn_J: NDArray[np.complex64]
    ) -> Array:
        heads = self._num_heads
        qkv_3HP = np.dot(x_D, self._qkv).reshape(3 * heads, self._head_width)
        _rotate(qkv_3HP[: 2 * heads], turn_J)
        k_HSP[:, before] = qkv_3HP[heads : 2 * heads]
        v_HSP[:, before] = qkv_3HP[2 * heads :]
        weight_HS = _softmax(_scores(qkv_3HP[:heads], k_HSP[:, : before + 1]))
        return np.dot(_mix(weight_HS, v_HSP[:, : before + 1]), self._out)


class _CrossAttention:
    """``retro.model.retro.cca.ChunkedCrossAttention`` for one token."""

    def __init__(self, attention: CrossAttention) -> None:
        self._num_heads = attention.num_heads
        q_DI = _paired_heads(attention.q_proj.weight, attention.num_heads)
        self._query = np.ascontiguousarray(q_DI * np.float32(attention.head_width**-0.5))
        self._out = _transposed(attention.out_proj.weight)

    def __call__(self, x_D: Array, neighbors: _Neighbors, turn_J: NDArray[np.complex64]) -> Array:
        q_HP = np.dot(x_D, self._query).reshape(self._num_heads, -1)
        _rotate(q_HP, turn_J)
        weight_HW = _softmax(_scores(q_HP, neighbors.k_HWP))
        neighbors.weight_W = np.add.reduce(weight_HW, axis=0) / np.float32(self._num_heads)
        return np.dot(_mix(weight_HW, neighbors.v_HWP), self._out)


class _FeedForward:
    """``retro.model.layers.FeedForward`` for one token."""

    def __init__(self, feed_forward: FeedForward) -> None:
        self._up = _transposed(feed_forward.up_proj.weight)
        self._down = _transposed(feed_forward.down_proj.weight)

    def __call__(self, x_D: Array) -> Array:
        return np.dot(gelu(np.dot(x_D, self._up)), self._down)


def gelu(x_I: Array) -> Array:
    """Return x times the normal distribution's probability of being below x, float32.

    That is max(x, 0) - |x| Q(|x|), with the upper tail Q from formula 7.1.26 of Abramowitz and
    Stegun, Handbook of Mathematical Functions, whose error is below 1e-7. NumPy has no error
    function, and torch's wakes all threads for it, which on a busy machine takes milliseconds.
    """
    size_I = np.abs(x_I)
    t_I = size_I * _TAIL_SCALE
    t_I += 1
    np.reciprocal(t_I, out=t_I)
    tail_I = t_I * _TAIL_SERIES[0]
    for coefficient in _TAIL_SERIES[1:]:
        tail_I += coefficient
        tail_I *= t_I
    tail_I *= np.exp(size_I * size_I * _MINUS_HALF)
    tail_I *= size_I
    gelu_I = np.maximum(x_I, 0)
    gelu_I -= tail_I
    return gelu_I


def _norm(module: nn.Module) -> Norm:
    """Return the function of a norm layer."""
    if isinstance(module, RMSNorm):
        return _rms_norm(module)
    if isinstance(module, nn.LayerNorm):
        scale_D, bias_D, epsilon = _array(module.weight), _array(module.bias), module.eps

        def layer_norm(x_D: Array) -> Array:
            centered_D = x_D - x_D.mean()
            variance = float(np.dot(centered_D, centered_D)) / len(x_D)
            centered_D *= scale_D * np.float32(1 / math.sqrt(variance + epsilon))
            centered_D += bias_D
            return centered_D

        return layer_norm
    assert isinstance(module, nn.Identity)
    return lambda x_D: x_D


def _rms_norm(module: RMSNorm) -> Norm:
    weight_D, width = _array(module.weight), module.width

    def rms_norm(x_D: Array) -> Array:
        mean = float(np.dot(x_D, x_D)) / width
        normed_D = weight_D * np.float32(1 / math.sqrt(mean + NORM_EPSILON))
        normed_D *= x_D
        return normed_D

    if module.gate is None:
        return rms_norm
    gate_D = _array(module.gate)
    return lambda x_D: rms_norm(x_D) / (1 + np.exp(-x_D * gate_D))


def _array(weight: Tensor) -> Array:
    array: Array = weight.detach().numpy()
    return array


def _transposed(weight: Tensor) -> Array:
    """Return a weight as (inputs, outputs), in the order that suits a single row of inputs."""
    return np.ascontiguousarray(_array(weight).T)


def _paired_heads(weight: Tensor, num_heads: int) -> Array:
    """Return a weight of queries or keys, (inputs, outputs), with its outputs in pairs."""
    weight_HPD = _array(weight).reshape(num_heads, -1, weight.shape[1])
    paired_HPD = _paired(np.ascontiguousarray(weight_HPD.transpose(0, 2, 1)))
    return paired_HPD.transpose(1, 0, 2).reshape(weight.shape[1], -1)


def _paired(x_HSP: Array) -> Array:
    """Return heads with the two numbers that are rotated together side by side.

    The model has the first of all pairs, then the second of all, then what is not rotated. Side
    by side they are one complex number. Products of queries and keys are the same either way.
    """
    pairs = x_HSP.shape[-1] // 4
    order_P = np.arange(x_HSP.shape[-1])
    order_P[: 2 * pairs] = order_P[: 2 * pairs].reshape(2, pairs).T.reshape(-1)
    return np.ascontiguousarray(x_HSP[..., order_P])


def _rotate(x_HP: Array, turn_J: NDArray[np.complex64]) -> None:
    """Rotate the pairs of each head in place."""
    pair_HJ = x_HP[:, : 2 * len(turn_J)].view(np.complex64)
    pair_HJ *= turn_J


def _scores(q_HP: Array, k_HSP: Array) -> Array:
    scores: Array = np.matmul(k_HSP, q_HP[:, :, None])[:, :, 0]
    return scores


def _mix(weight_HS: Array, v_HSP: Array) -> Array:
    """Return the weighted values of all heads side by side."""
    mixed: Array = np.matmul(weight_HS[:, None], v_HSP)
    return mixed.reshape(-1)


def _softmax(score_HS: Array) -> Array:
    weight_HS = np.exp(score_HS - score_HS.max(-1, keepdims=True))
    weight_HS /= weight_HS.sum(-1, keepdims=True)
    return weight_HS
