"""Reads one more token of each text on a CPU: the same network as ``RETRO.read``, in NumPy.

A single token needs many small operations and products of a matrix with a vector. There, what
torch does around each operation takes longer than the operation, and MKL, which torch uses, is
slow on some makes of CPU (``bench/RESULTS.md`` has figures). The weights are those of the model,
in its memory, except that queries, keys and values are projected by one matrix.

Shape suffixes: N texts side by side, D width, H heads, S tokens that are read, P width of one
head, J rotated pairs of one head, K neighbors, W places of all neighbors, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retro.config import ModelConfig
from retro.model.attention import CrossAttention, SelfAttention
from retro.model.cca import ReadableNeighbors
from retro.model.decoder import DecoderCache, DecoderLayer
from retro.model.layers import FeedForward, Residual, RMSNorm, rotary_angles
from retro.model.lean import NORM_EPSILON
from retro.model.retro import RETRO

Array = NDArray[np.float32]
Norm = Callable[[Array], Array]

_SQRT_HALF = np.float32(math.sqrt(0.5))


def suits_token_step(model: RETRO) -> bool:
    """Return whether a model can be read by ``TokenStep``: on a CPU, in float32."""
    weight = model.token_embedding.weight
    return weight.device.type == "cpu" and all(
        parameter.dtype == torch.float32 for parameter in model.parameters()
    )


class TokenStep:
    """Reads single tokens after those in a cache; see the module's docstring.

    Args:
        model: On a CPU, in float32. Its weights must not be changed afterwards.
    """

    def __init__(self, model: RETRO) -> None:
        config = model.config
        self._config = config
        self._embedding_VD = _array(model.token_embedding.weight)
        self._scale = np.float32(math.sqrt(config.dec_dim))
        self._layers = [_Layer(layer) for layer in model.decoder.layers]
        self._first_cca = model.decoder.first_cca
        self._output_norm = _norm(model.decoder.output_norm)
        self._logits_VD = _array(model.to_logits.weight)
        self._angles = _Angles(config)

    def can_read(self, cache: DecoderCache, *, with_neighbors: bool) -> bool:
        """Return whether the next token can be read here.

        The neighbors of a chunk are encoded when its last token is read; that is left to the
        model.

        Args:
            cache: The tokens before.
            with_neighbors: Whether the chunk that this token may complete has neighbors.
        """
        place = cache.left_padding + cache.num_tokens
        return not with_neighbors or (place + 1) % self._config.chunk_size != 0

    def read(self, tokens_N: Sequence[int], cache: DecoderCache) -> Array:
        """Read one token of each text.

        Args:
            tokens_N: Token ids.
            cache: The tokens before, with room for one more; it is extended.

        Returns:
            Logits, (texts, vocabulary).
        """
        position = cache.num_tokens
        place = cache.left_padding + position
        size = self._config.chunk_size
        if (place + 1) % size == 0:
            # The chunk is complete, and nothing was found for it.
            cache.neighbors.clear()
        x_ND = self._embedding_VD[list(tokens_N)] * self._scale
        turn = self._angles.at(position)
        shares: list[Array] = []
        for number, layer in enumerate(self._layers):
            x_ND = layer.attend_to_tokens(x_ND, cache, number, turn)
            if number == self._first_cca:
                self._keep_unfinished(x_ND, cache, (place + 1) % size)
            readable = cache.neighbors.get(number)
            if readable is not None:
                cca_turn = self._angles.at((place + 1) % size + size - 1)
                x_ND, share_NK2 = layer.read_neighbors(x_ND, readable, cca_turn, size)
                shares.append(share_NK2)
            x_ND = layer.feed(x_ND)
        cache.share_BTK2 = None
        if shares and cache.keeps_shares:
            cache.share_BTK2 = torch.from_numpy(np.mean(shares, axis=0)[:, None])
        return _times(self._output_norm(x_ND), self._logits_VD)

    def _keep_unfinished(self, x_ND: Array, cache: DecoderCache, num_after: int) -> None:
        """Keep the states of the unfinished chunk, which the neighbor encoder will read."""
        if num_after == 0:
            cache.num_unfinished = 0
            return
        cache.unfinished_BMD.numpy()[:, cache.num_unfinished] = x_ND
        cache.num_unfinished += 1


@dataclass(frozen=True, slots=True)
class _Turn:
    """Rotation of one position."""

    cos_J: Array
    sin_J: Array


class _Angles:
    """Rotations by position, computed once for each."""

    def __init__(self, config: ModelConfig) -> None:
        self._head_width = config.dim_head
        self._turns: list[_Turn] = []
        self._grow(max(config.max_seq_len, 2 * config.chunk_size))

    def at(self, position: int) -> _Turn:
        """Return the rotation of a position."""
        if position >= len(self._turns):
            self._grow(2 * position)
        return self._turns[position]

    def _grow(self, size: int) -> None:
        angles_SJ = rotary_angles(torch.arange(size), self._head_width)
        cos_SJ, sin_SJ = angles_SJ.cos().numpy(), angles_SJ.sin().numpy()
        self._turns = [_Turn(*pair) for pair in zip(cos_SJ, sin_SJ, strict=True)]


class _Layer:
    """One decoder layer."""

    def __init__(self, layer: nn.Module) -> None:
        assert isinstance(layer, DecoderLayer)
        self._attention = _SelfAttention(layer.attention)
        self._attention_residual = _Residual(layer.attention_residual)
        self._cross: _CrossAttention | None = None
        if layer.cca is not None:
            self._cross = _CrossAttention(layer.cca.attention)
            self._cross_residual = _Residual(layer.cca_residual)
        self._feed_forward = _FeedForward(layer.feed_forward)
        self._feed_forward_residual = _Residual(layer.feed_forward_residual)

    def attend_to_tokens(self, x_ND: Array, cache: DecoderCache, number: int, turn: _Turn) -> Array:
        """Return the stream after self-attention; the cache has the token afterwards."""
        residual = self._attention_residual
        return residual.combine(x_ND, self._attention(residual.prepare(x_ND), cache, number, turn))

    def read_neighbors(
        self, x_ND: Array, readable: ReadableNeighbors, turn: _Turn, chunk_size: int
    ) -> tuple[Array, Array]:
        """Return the stream after chunked cross-attention, and the share of each neighbor."""
        assert self._cross is not None
        residual = self._cross_residual
        update_ND, share_NK2, any_N = self._cross(
            residual.prepare(x_ND), readable, turn, chunk_size
        )
        changed_ND = residual.combine(x_ND, update_ND)
        if not any_N.all():
            changed_ND = np.where(any_N[:, None], changed_ND, x_ND)
        return changed_ND, share_NK2

    def feed(self, x_ND: Array) -> Array:
        """Return the stream after the feed-forward layer."""
        residual = self._feed_forward_residual
        return residual.combine(x_ND, self._feed_forward(residual.prepare(x_ND)))


class _Residual:
    """``retro.model.layers.Residual`` for one token."""

    def __init__(self, residual: Residual) -> None:
        self._norm = _norm(residual.norm)
        self._alpha = None if residual.alpha is None else np.float32(residual.alpha)

    def prepare(self, x_ND: Array) -> Array:
        return self._norm(x_ND) if self._alpha is None else x_ND

    def combine(self, x_ND: Array, update_ND: Array) -> Array:
        if self._alpha is None:
            return x_ND + update_ND
        return self._norm(self._alpha * x_ND + update_ND)


class _SelfAttention:
    """``retro.model.attention.SelfAttention`` for one token."""

    def __init__(self, attention: SelfAttention) -> None:
        self._num_heads = attention.num_heads
        self._scale = np.float32(attention.head_width**-0.5)
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._qkv = np.concatenate([_array(part.weight) for part in parts])
        self._out = _array(attention.out_proj.weight)

    def __call__(self, x_ND: Array, cache: DecoderCache, number: int, turn: _Turn) -> Array:
        heads = self._num_heads
        qkv_N3HP = _times(x_ND, self._qkv).reshape(len(x_ND), 3 * heads, -1)
        _rotate(qkv_N3HP[:, : 2 * heads], turn)
        kept = cache.layers[number]
        k_NHSP, v_NHSP = kept.k_BHSP.numpy(), kept.v_BHSP.numpy()
        k_NHSP[:, :, kept.length] = qkv_N3HP[:, heads : 2 * heads]
        v_NHSP[:, :, kept.length] = qkv_N3HP[:, 2 * heads :]
        kept.length += 1
        q_NHP = qkv_N3HP[:, :heads] * self._scale
        weight_NHS = _softmax(_scores(q_NHP, k_NHSP[:, :, : kept.length]))
        return _times(_mix(weight_NHS, v_NHSP[:, :, : kept.length]), self._out)


class _CrossAttention:
    """``retro.model.cca.ChunkedCrossAttention`` for one token."""

    def __init__(self, attention: CrossAttention) -> None:
        self._num_heads = attention.num_heads
        self._scale = np.float32(attention.head_width**-0.5)
        self._query = _array(attention.q_proj.weight)
        self._out = _array(attention.out_proj.weight)

    def __call__(
        self, x_ND: Array, readable: ReadableNeighbors, turn: _Turn, chunk_size: int
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        q_NHP = _times(x_ND, self._query).reshape(len(x_ND), self._num_heads, -1)
        _rotate(q_NHP, turn)
        score_NHW = _scores(q_NHP * self._scale, readable.k_BLHWP[:, 0].numpy())
        valid_NW = readable.valid_BLW[:, 0].numpy()
        any_N: NDArray[np.bool_] = np.any(valid_NW, axis=-1, keepdims=False)
        if not valid_NW.all():
            score_NHW = np.where((valid_NW | ~any_N[:, None])[:, None], score_NHW, -np.inf)
        weight_NHW = _softmax(score_NHW)
        update_ND = _times(_mix(weight_NHW, readable.v_BLHWP[:, 0].numpy()), self._out)
        share_NW = weight_NHW.mean(1)
        if not any_N.all():
            update_ND, share_NW = update_ND * any_N[:, None], share_NW * any_N[:, None]
        share_NKR = share_NW.reshape(len(x_ND), readable.num_neighbors, -1)
        parts = (share_NKR[..., :chunk_size].sum(-1), share_NKR[..., chunk_size:].sum(-1))
        return update_ND, np.stack(parts, axis=-1), any_N


class _FeedForward:
    """``retro.model.layers.FeedForward`` for one token."""

    def __init__(self, feed_forward: FeedForward) -> None:
        self._up = _array(feed_forward.up_proj.weight)
        self._down = _array(feed_forward.down_proj.weight)

    def __call__(self, x_ND: Array) -> Array:
        return _times(gelu(_times(x_ND, self._up)), self._down)


def gelu(x_ND: Array) -> Array:
    """Return x times the normal distribution's probability of being below x.

    NumPy has no error function. Torch's own GELU prepares a call of another library, which for
    so few numbers takes ten times as long as its error function.
    """
    half_ND = x_ND * _SQRT_HALF
    torch.erf_(torch.from_numpy(half_ND))
    half_ND += 1
    half_ND *= x_ND
    half_ND *= np.float32(0.5)
    return half_ND


def _norm(module: nn.Module) -> Norm:
    """Return the function of a norm layer."""
    if isinstance(module, RMSNorm):
        weight_D, width = _array(module.weight), np.float32(module.width)
        gate_D = None if module.gate is None else _array(module.gate)

        def rms_norm(x_ND: Array) -> Array:
            mean_N1 = np.einsum("nd,nd->n", x_ND, x_ND)[:, None] / width
            normed_ND = x_ND * (weight_D / np.sqrt(mean_N1 + np.float32(NORM_EPSILON)))
            return normed_ND if gate_D is None else normed_ND / (1 + np.exp(-x_ND * gate_D))

        return rms_norm
    if isinstance(module, nn.LayerNorm):
        scale_D, bias_D = _array(module.weight), _array(module.bias)
        epsilon = np.float32(module.eps)

        def layer_norm(x_ND: Array) -> Array:
            centered_ND = x_ND - x_ND.mean(-1, keepdims=True)
            variance_N1 = np.square(centered_ND).mean(-1, keepdims=True)
            return centered_ND / np.sqrt(variance_N1 + epsilon) * scale_D + bias_D

        return layer_norm
    assert isinstance(module, nn.Identity)
    return lambda x_ND: x_ND


def _array(weight: Tensor) -> Array:
    array: Array = weight.detach().numpy()
    return array


def _times(x_ND: Array, weight: Array) -> Array:
    """Return ``x_ND @ weight.T``."""
    if len(x_ND) == 1:
        return (weight @ x_ND[0])[None]
    product: Array = x_ND @ weight.T
    return product


def _rotate(x_NHP: Array, turn: _Turn) -> None:
    """Rotate the first half of each head in place."""
    pairs = len(turn.cos_J)
    first, second = x_NHP[..., :pairs], x_NHP[..., pairs : 2 * pairs]
    turned = first * turn.cos_J - second * turn.sin_J
    second[...] = second * turn.cos_J + first * turn.sin_J
    first[...] = turned


def _scores(q_NHP: Array, k_NHSP: Array) -> Array:
    scores: Array = np.matmul(k_NHSP, q_NHP[..., None])[..., 0]
    return scores


def _mix(weight_NHS: Array, v_NHSP: Array) -> Array:
    """Return the weighted values of all heads side by side, (texts, heads * head_width)."""
    mixed: Array = np.matmul(weight_NHS[:, :, None], v_NHSP)
    return mixed.reshape(len(mixed), -1)


def _softmax(score_NHS: Array) -> Array:
    weight_NHS = np.exp(score_NHS - score_NHS.max(-1, keepdims=True))
    weight_NHS /= weight_NHS.sum(-1, keepdims=True)
    return weight_NHS
