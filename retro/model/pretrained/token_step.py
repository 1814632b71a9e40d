"""Single tokens of one text, for models built like Llama, without the overhead of modules.

A model of this size reads half a gigabyte of weights for a token, and NumPy's product of a matrix
with one vector reads them twice as fast as torch's, which uses one thread. The matrices that take
the same input are one, and keys and values have room for the whole window.

Shape suffixes: D width, H key heads, G heads that share keys, S tokens of the own past, R tokens
of the neighbors, E width of a head, V vocabulary.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retro.model.language_model import Retrieved, TextCache
from retro.model.pretrained.attention import GroupStates
from retro.model.pretrained.states import layers_of
from retro.model.pretrained.trained import GATE_SCALE, effective_weight

Array = NDArray[np.float32]
KINDS = ("llama", "mistral", "qwen2")
"""Model types whose layers are these, whatever their sizes."""


def suits(config: Any) -> bool:
    """Return whether a model of transformers has only what is computed here."""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in KINDS
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") == "default"
        and rope.get("partial_rotary_factor", 1.0) == 1.0
    )


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of a layer; what takes the same input is one matrix."""

    first_norm: Array
    qkv: "Matrix"
    qkv_bias: Array | None
    out: "Matrix"
    out_bias: Array | None
    second_norm: Array
    gate_up: "Matrix"
    down: "Matrix"

    @classmethod
    def of(cls, layer: Any, matrix: Callable[[Tensor], "Matrix"]) -> "Layer":
        """Return the weights of a layer of transformers.

        Args:
            layer: The layer.
            matrix: Makes what multiplies a vector.
        """
        attention, mlp = layer.self_attn, layer.mlp
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        has_bias = parts[0].bias is not None
        return cls(
            first_norm=_array(layer.input_layernorm.weight),
            qkv=matrix(torch.cat([effective_weight(part) for part in parts])),
            qkv_bias=_array(torch.cat([part.bias for part in parts])) if has_bias else None,
            out=matrix(effective_weight(attention.o_proj)),
            out_bias=None if attention.o_proj.bias is None else _array(attention.o_proj.bias),
            second_norm=_array(layer.post_attention_layernorm.weight),
            gate_up=matrix(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])),
            down=matrix(mlp.down_proj.weight),
        )


class Matrix(Protocol):
    """Multiplies a vector."""

    def __matmul__(self, x_D: Array) -> Any:
        """Return the product, a vector."""
        ...


class RoundedMatrix:
    """A matrix of 8 bits per number, with a scale for each row.

    A quarter of the bytes is read for each token, which is what takes the time.
    """

    def __init__(self, weight: Tensor) -> None:
        weight = weight.detach()
        scales = (weight.abs().amax(1) / 127).clamp(min=1e-12).double()
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():
            # The package that is to replace it quantizes whole models only.
            warnings.simplefilter("ignore")
            rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self._packed = torch.ops.quantized.linear_prepack(rounded, None)

    def __matmul__(self, x_D: Array) -> Array:
        """Return the product; the vector is rounded to 7 bits, which no processor overflows."""
        x_1D = torch.from_numpy(np.ascontiguousarray(x_D, dtype=np.float32))[None]
        made: Array = torch.ops.quantized.linear_dynamic(x_1D, self._packed, True)[0].numpy()
        return made


class TokenStep:
    """Reads single tokens of one text.

    Args:
        model: The ``PretrainedModel``, of one of ``KINDS``, on a CPU, in float32.
        fast: Round the weights to 8 bits.
    """

    uses_all_threads = True

    def __init__(self, model: Any, *, fast: bool = False) -> None:
        base = model.base
        matrix = RoundedMatrix if fast else _array
        config = base.config
        self.model = model
        self.layers = [Layer.of(layer, matrix) for layer in base.base_model.layers]
        self.embedding = _array(base.get_input_embeddings().weight)
        self.last_norm = _array(base.base_model.norm.weight)
        self.to_logits = matrix(base.get_output_embeddings().weight)
        gate_LH = model.gate_LH
        self.gate_LH = None if gate_LH is None else _array(gate_LH * GATE_SCALE)
        self.epsilon = np.float32(config.rms_norm_eps)
        self.key_heads = int(config.num_key_value_heads)
        self.heads = int(config.num_attention_heads)
        rows = base.base_model.layers[0].self_attn.q_proj.weight.shape[0]
        self.width = int(rows) // self.heads
        self.capacity = model.window + 1
        positions = torch.arange(model.first_position + self.capacity)[None]
        tables = base.base_model.rotary_emb(torch.zeros(1), position_ids=positions)
        self.cos, self.sin = (_array(table[0]) for table in tables)

    def take_over(self, cache: TextCache) -> "TokenText":
        """Return the one text of a cache, to be read on."""
        return TokenText(self, cache)


class TokenText:
    """One text that is read token by token.

    Args:
        step: The weights.
        cache: The ``OwnStates`` of the text, which go on here.
    """

    def __init__(self, step: TokenStep, cache: Any) -> None:
        self._step = step
        self._cache = cache
        shape = (step.key_heads, step.capacity, step.width)
        self._keys, self._values = (
            [_with_room(layer[0], shape) for layer in layers] for layers in layers_of(cache.layers)
        )
        self._neighbors = _Neighbors.of(cache.neighbors)
        self._shares: Array | None = None

    def read(self, token: int, retrieved: Retrieved | None = None) -> Array:
        """Read the next token; see ``retro.model.language_model.TokenText``."""
        step, cache = self._step, self._cache
        reading = step.model.reading(1, cache, retrieved)
        if reading is not None and reading.states is not cache.neighbors:
            cache.neighbors = reading.states
            self._neighbors = _Neighbors.of(reading.states)
        neighbors = None if reading is None else self._neighbors
        place = cache.num_tokens
        cos_E, sin_E = (table[cache.first_position + place] for table in (step.cos, step.sin))
        x_D = step.embedding[token]
        shares = []
        for number, layer in enumerate(step.layers):
            heads = layer.qkv @ _normed(x_D, layer.first_norm, step.epsilon)
            if layer.qkv_bias is not None:
                heads = heads + layer.qkv_bias
            heads = heads.reshape(-1, step.width)
            turned = heads[: step.heads + step.key_heads]
            turned = turned * cos_E + _half_turned(turned) * sin_E
            self._keys[number][:, place] = turned[step.heads :]
            self._values[number][:, place] = heads[step.heads + step.key_heads :]
            query_HGE = turned[: step.heads].reshape(step.key_heads, -1, step.width)
            out_HGE, weights_HGR = self._attend(query_HGE, number, place + 1, neighbors)
            if weights_HGR is not None and reading is not None and reading.num_neighbors:
                parts = weights_HGR.mean((0, 1)).reshape(reading.num_neighbors, 2, -1)
                shares.append(parts.sum(-1))
            out_D = layer.out @ out_HGE.reshape(-1)
            x_D = x_D + (out_D if layer.out_bias is None else out_D + layer.out_bias)
            gate_up = layer.gate_up @ _normed(x_D, layer.second_norm, step.epsilon)
            gate, up = np.split(gate_up, 2)
            x_D = x_D + layer.down @ (gate / (1 + np.exp(-gate)) * up)
        cache.num_tokens += 1
        self._shares = np.mean(shares, axis=0) if shares else None
        logits_V: Array = step.to_logits @ _normed(x_D, step.last_norm, step.epsilon)
        return logits_V

    def _attend(
        self, query_HGE: Array, layer: int, num_own: int, neighbors: "_Neighbors | None"
    ) -> tuple[Array, Array | None]:
        """Return what the heads read, and their attention to each token of the neighbors."""
        query_HGE = query_HGE * np.float32(self._step.width**-0.5)
        scores = query_HGE @ self._keys[layer][:, :num_own].transpose(0, 2, 1)
        values_HSE = self._values[layer][:, :num_own]
        if neighbors is None:
            return _softmax(scores) @ values_HSE, None
        read_HGR = query_HGE @ neighbors.keys[layer].transpose(0, 2, 1)
        if self._step.gate_LH is not None:
            gate_HG1 = self._step.gate_LH[layer].reshape(*read_HGR.shape[:2], 1)
            read_HGR = read_HGR + gate_HG1
        read_HGR = np.where(neighbors.exists_R, read_HGR, -np.inf).astype(np.float32)
        weights = _softmax(np.concatenate([scores, read_HGR], axis=-1))
        own, read = weights[..., :num_own], weights[..., num_own:]
        return own @ values_HSE + read @ neighbors.values[layer], read

    def shares(self) -> Array | None:
        """Return the share of attention that the last token gave to each neighbor's parts."""
        return self._shares


@dataclass(frozen=True, slots=True)
class _Neighbors:
    """The neighbors of the group that is being written."""

    keys: list[Array]
    values: list[Array]
    exists_R: NDArray[np.bool_]

    @classmethod
    def of(cls, states: GroupStates | None) -> "_Neighbors | None":
        """Return those of the one group of a text."""
        if states is None:
            return None
        return cls(
            [_array(layer[0, -1]) for layer in states.keys],
            [_array(layer[0, -1]) for layer in states.values],
            states.exists_NLR[0, -1].numpy(),
        )


def _array(weights: Tensor) -> Array:
    made: Array = weights.detach().contiguous().numpy()
    return made


def _with_room(states_HSE: Tensor, shape: tuple[int, int, int]) -> Array:
    made = np.empty(shape, dtype=np.float32)
    made[:, : states_HSE.shape[1]] = states_HSE.numpy()
    return made


def _normed(x_D: Array, weight_D: Array, epsilon: np.float32) -> Array:
    made: Array = x_D * weight_D / np.sqrt(x_D @ x_D / np.float32(len(x_D)) + epsilon)
    return made


def _half_turned(x: Array) -> Array:
    half = x.shape[-1] // 2
    return np.concatenate([-x[..., half:], x[..., :half]], axis=-1)


def _softmax(scores: Array) -> Array:
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    made: Array = scores / scores.sum(-1, keepdims=True)
    return made
