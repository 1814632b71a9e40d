"""Single tokens of one text, for models built like Llama, without the overhead of modules.

A model of this size reads half a gigabyte of weights for a token; transformers spends most of the
time between the products. Here the matrices that take the same input are one, keys and values
have room for the whole window, and nothing is looked up.

Shape suffixes: D width, H key heads, G heads that share keys, S tokens of the own past, R tokens
of the neighbors, E width of a head, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from retro.model.language_model import Retrieved, TextCache
from retro.model.pretrained.attention import Reading
from retro.model.pretrained.states import layers_of

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

    first_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None
    second_norm: Tensor
    gate_up: Tensor
    down: Tensor

    @classmethod
    def of(cls, layer: Any) -> "Layer":
        """Return the weights of a layer of transformers."""
        attention, mlp = layer.self_attn, layer.mlp
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        has_bias = parts[0].bias is not None
        return cls(
            first_norm=layer.input_layernorm.weight.detach(),
            qkv=torch.cat([part.weight.detach() for part in parts]),
            qkv_bias=torch.cat([part.bias.detach() for part in parts]) if has_bias else None,
            out=attention.o_proj.weight.detach(),
            out_bias=None if attention.o_proj.bias is None else attention.o_proj.bias.detach(),
            second_norm=layer.post_attention_layernorm.weight.detach(),
            gate_up=torch.cat([mlp.gate_proj.weight.detach(), mlp.up_proj.weight.detach()]),
            down=mlp.down_proj.weight.detach(),
        )


class TokenStep:
    """Reads single tokens of one text.

    Args:
        model: The ``PretrainedModel``, of one of ``KINDS``, on a CPU.
    """

    def __init__(self, model: Any) -> None:
        base = model.base
        config = base.config
        self.model = model
        self.layers = [Layer.of(layer) for layer in base.base_model.layers]
        self.embedding = base.get_input_embeddings().weight.detach()
        self.last_norm = base.base_model.norm.weight.detach()
        self.to_logits = base.get_output_embeddings().weight.detach()
        self.epsilon = float(config.rms_norm_eps)
        self.key_heads = int(config.num_key_value_heads)
        self.heads = int(config.num_attention_heads)
        self.width = self.layers[0].qkv.shape[0] // (self.heads + 2 * self.key_heads)
        self.capacity = model.window + 1
        positions = torch.arange(model.first_position + self.capacity)[None]
        cos, sin = base.base_model.rotary_emb(self.embedding[:1], position_ids=positions)
        self.cos, self.sin = cos[0], sin[0]

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
        self._shares: Tensor | None = None

    def read(self, token: int, retrieved: Retrieved | None = None) -> NDArray[np.float32]:
        """Read the next token; see ``retro.model.language_model.TokenText``."""
        step, cache = self._step, self._cache
        reading = step.model.reading(1, cache, retrieved)
        place = cache.num_tokens
        cos_E, sin_E = (table[cache.first_position + place] for table in (step.cos, step.sin))
        x_D = step.embedding[token]
        shares = []
        for number, layer in enumerate(step.layers):
            heads = functional.linear(_normed(x_D, layer.first_norm, step.epsilon), layer.qkv)
            if layer.qkv_bias is not None:
                heads = heads + layer.qkv_bias
            heads = heads.view(-1, step.width)
            turned = heads[: step.heads + step.key_heads]
            turned = turned * cos_E + _half_turned(turned) * sin_E
            self._keys[number][:, place] = turned[step.heads :]
            self._values[number][:, place] = heads[step.heads + step.key_heads :]
            query_HGE = turned[: step.heads].view(step.key_heads, -1, step.width)
            out_HGE, share = self._attend(query_HGE, number, place + 1, reading)
            if share is not None:
                shares.append(share)
            x_D = x_D + functional.linear(out_HGE.flatten(), layer.out, layer.out_bias)
            gate, up = functional.linear(
                _normed(x_D, layer.second_norm, step.epsilon), layer.gate_up
            ).chunk(2)
            x_D = x_D + functional.linear(functional.silu(gate) * up, layer.down)
        cache.num_tokens += 1
        if reading is not None:
            cache.neighbors = reading.states.groups(reading.states.exists_NLR.shape[1] - 1)
        self._shares = torch.stack(shares).mean(0) if shares else None
        logits_V = functional.linear(_normed(x_D, step.last_norm, step.epsilon), step.to_logits)
        made: NDArray[np.float32] = logits_V.numpy()
        return made

    def _attend(
        self, query_HGE: Tensor, layer: int, num_own: int, reading: Reading | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return what the heads read, and the share of attention of each neighbor's parts."""
        query_HGE = query_HGE * self._step.width**-0.5
        own_HGS = query_HGE @ self._keys[layer][:, :num_own].transpose(1, 2)
        values_HSE = self._values[layer][:, :num_own]
        if reading is None:
            return own_HGS.softmax(-1) @ values_HSE, None
        states = reading.states
        read_HGR = query_HGE @ states.keys[layer][0, 0].transpose(1, 2)
        read_HGR = read_HGR.masked_fill(~states.exists_NLR[0, 0], -torch.inf)
        weights = torch.cat([own_HGS, read_HGR], dim=-1).softmax(-1)
        own, read = weights[..., :num_own], weights[..., num_own:]
        out_HGE = own @ values_HSE + read @ states.values[layer][0, 0]
        if not reading.num_neighbors:
            return out_HGE, None
        parts_K2 = read.mean((0, 1)).view(reading.num_neighbors, 2, -1).sum(-1)
        return out_HGE, parts_K2

    def shares(self) -> NDArray[np.float32] | None:
        """Return the share of attention that the last token gave to each neighbor's parts."""
        return None if self._shares is None else self._shares.numpy()


def _with_room(states_HSE: Tensor, shape: tuple[int, int, int]) -> Tensor:
    made = states_HSE.new_empty(shape)
    made[:, : states_HSE.shape[1]] = states_HSE
    return made


def _normed(x_D: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    return functional.rms_norm(x_D, x_D.shape, weight_D, epsilon)


def _half_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)
