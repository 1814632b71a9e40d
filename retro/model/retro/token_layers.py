"""One decoder layer for one token, in NumPy; ``retro.model.retro.token_step`` says why.

Shape suffixes: D width, I inner width, H heads, S tokens that are read, P width of one head, J
rotated pairs of one head, K neighbors, W places of all neighbors that hold a token.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from retro.model.attention import CrossAttention, SelfAttention
from retro.model.layers import FeedForward, Residual, RMSNorm
from retro.model.lean import NORM_EPSILON
from retro.model.linear import Linear
from retro.model.retro.cca import ChunkedCrossAttention, ReadableNeighbors
from retro.model.retro.decoder import Decoder, DecoderLayer, EncodedNeighbors

Array = NDArray[np.float32]
Norm = Callable[[Array], Array]

_MINUS_HALF = np.float32(-0.5)
_TAIL_SCALE = np.float32(0.3275911 * math.sqrt(0.5))
_TAIL_SERIES = [
    np.float32(coefficient / 2)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
]


KNOWN: dict[type[nn.Module], frozenset[str]] = {
    Decoder: frozenset({"layers", "encoder", "output_norm"}),
    nn.ModuleList: frozenset(),
    DecoderLayer: frozenset(
        {
            "attention",
            "attention_residual",
            "cca",
            "cca_residual",
            "feed_forward",
            "feed_forward_residual",
        }
    ),
    SelfAttention: frozenset({"q_proj", "k_proj", "v_proj", "out_proj"}),
    ChunkedCrossAttention: frozenset({"attention"}),
    CrossAttention: frozenset({"q_proj", "k_proj", "v_proj", "out_proj"}),
    FeedForward: frozenset({"up_proj", "down_proj"}),
    Residual: frozenset({"norm"}),
    Linear: frozenset({"weight"}),
    nn.Embedding: frozenset({"weight"}),
    RMSNorm: frozenset({"weight", "gate"}),
    nn.LayerNorm: frozenset({"weight", "bias"}),
    nn.Identity: frozenset(),
}
"""What is written out here: the kinds of module, and the parts and weights each may have."""


def is_known(module: nn.Module) -> bool:
    """Return whether a module is computed here as torch does: nothing added, replaced or hooked."""
    parts = {name for name, _ in module.named_children()}
    parts |= {name for name, _ in module.named_parameters(recurse=False)}
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    if type(module) is nn.ModuleList:
        return not any(hooks)
    return type(module) in KNOWN and parts <= KNOWN[type(module)] and not any(hooks)


class TokenNeighbors:
    """The encoded neighbors of a chunk, as one CCA layer reads them: real tokens only."""

    def __init__(self, readable: ReadableNeighbors, chunk_size: int) -> None:
        valid_W = readable.valid_BLW[0, 0].numpy()
        self.k_HWP = paired(as_array(readable.k_BLHWP[0, 0])[:, valid_W])
        self.v_HWP = np.ascontiguousarray(as_array(readable.v_BLHWP[0, 0])[:, valid_W])
        self.weight_W = np.zeros(self.k_HWP.shape[1], dtype=np.float32)
        """How much the last token read of each place, as a mean over heads."""
        self.num_parts = 2 * readable.num_neighbors
        self.part_W = _parts(len(valid_W), readable.num_neighbors, chunk_size)[valid_W]

    @classmethod
    def of(
        cls, cca: ChunkedCrossAttention, encoded: EncodedNeighbors, chunk_size: int
    ) -> "TokenNeighbors":
        """Project encoded neighbors for a layer."""
        return cls(cca.readable(encoded.x_BLKRE, encoded.valid_BLKR), chunk_size)


def _parts(num_places: int, num_neighbors: int, chunk_size: int) -> NDArray[np.int64]:
    """Return for each place to which neighbor, and which part of it, it belongs."""
    place_W = np.arange(num_places)
    neighbor_W, inner_W = np.divmod(place_W, num_places // num_neighbors)
    return 2 * neighbor_W + (inner_W >= chunk_size)


class TokenLayer:
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
        self, x_D: Array, k_HSP: Array, v_HSP: Array, before: int, turn_J: NDArray[np.complex64]
    ) -> Array:
        """Return the stream after self-attention.

        Args:
            x_D: The stream.
            k_HSP: Keys of the tokens before; that of this token is added.
            v_HSP: Their values, likewise.
            before: How many tokens there were before.
            turn_J: Rotation of the token's place.
        """
        residual = self._attention_residual
        update_D = self._attention(residual.prepare(x_D), k_HSP, v_HSP, before, turn_J)
        return residual.combine(x_D, update_D)

    def read_neighbors(
        self, x_D: Array, neighbors: TokenNeighbors, turn_J: NDArray[np.complex64]
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
        self._norm = norm_function(residual.norm)
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
        parts = (q_DI * np.float32(scale), k_DI, transposed(attention.v_proj.weight))
        self._qkv = np.ascontiguousarray(np.concatenate(parts, axis=1))
        self._out = transposed(attention.out_proj.weight)

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
        self._out = transposed(attention.out_proj.weight)

    def __call__(
        self, x_D: Array, neighbors: TokenNeighbors, turn_J: NDArray[np.complex64]
    ) -> Array:
        q_HP = np.dot(x_D, self._query).reshape(self._num_heads, -1)
        _rotate(q_HP, turn_J)
        weight_HW = _softmax(_scores(q_HP, neighbors.k_HWP))
        neighbors.weight_W = np.add.reduce(weight_HW, axis=0) / np.float32(self._num_heads)
        return np.dot(_mix(weight_HW, neighbors.v_HWP), self._out)


class _FeedForward:
    """``retro.model.layers.FeedForward`` for one token."""

    def __init__(self, feed_forward: FeedForward) -> None:
        self._up = transposed(feed_forward.up_proj.weight)
        self._down = transposed(feed_forward.down_proj.weight)

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


def norm_function(module: nn.Module) -> Norm:
    """Return the function of a norm layer."""
    if isinstance(module, RMSNorm):
        return _rms_norm(module)
    if isinstance(module, nn.LayerNorm):
        scale_D, bias_D, epsilon = as_array(module.weight), as_array(module.bias), module.eps

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
    weight_D, width = as_array(module.weight), module.width

    def rms_norm(x_D: Array) -> Array:
        mean = float(np.dot(x_D, x_D)) / width
        normed_D = weight_D * np.float32(1 / math.sqrt(mean + NORM_EPSILON))
        normed_D *= x_D
        return normed_D

    if module.gate is None:
        return rms_norm
    gate_D = as_array(module.gate)
    return lambda x_D: rms_norm(x_D) / (1 + np.exp(-x_D * gate_D))


def as_array(weight: Tensor) -> Array:
    """Return the weight itself as an array."""
    array: Array = weight.detach().numpy()
    return array


def transposed(weight: Tensor) -> Array:
    """Return a weight as (inputs, outputs), in the order that suits a single row of inputs."""
    return np.ascontiguousarray(as_array(weight).T)


def _paired_heads(weight: Tensor, num_heads: int) -> Array:
    """Return a weight of queries or keys, (inputs, outputs), with its outputs in pairs."""
    weight_HPD = as_array(weight).reshape(num_heads, -1, weight.shape[1])
    paired_HPD = paired(np.ascontiguousarray(weight_HPD.transpose(0, 2, 1)))
    return paired_HPD.transpose(1, 0, 2).reshape(weight.shape[1], -1)


def paired(x_HSP: Array) -> Array:
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
