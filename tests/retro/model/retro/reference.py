"""RETRO written out with loops over tokens and chunks, from the paper's definitions.

Nothing here is shared with ``retro.model``: weights are read by name from a state dict, and
every rule (who reads whom, at which distance) is a condition inside a loop. Slow on purpose.

Names: x[t] is the state of token t, counted from 0; chunk u, counted from 0, holds the tokens
u * m to u * m + m - 1 of the grid, whose first ``left_padding`` places are empty.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from retro.config.model import ModelConfig

Weights = dict[str, Tensor]


def norm(x: Tensor, weights: Weights, name: str) -> Tensor:
    scale = weights[f"{name}.weight"]
    if f"{name}.bias" in weights:
        centered = x - x.mean()
        normed = centered / torch.sqrt((centered * centered).mean() + 1e-5)
        return normed * scale + weights[f"{name}.bias"]
    result = x / torch.sqrt((x * x).mean() + 1e-6) * scale
    if f"{name}.gate" in weights:
        result = result * torch.sigmoid(x * weights[f"{name}.gate"])
    return result


def rotated(vector: Tensor, position: int) -> Tensor:
    pairs = len(vector) // 4
    result = vector.clone()
    for j in range(pairs):
        angle = torch.tensor(float(position) * 10_000.0 ** (-j / pairs), dtype=torch.float64)
        a, b = vector[j], vector[pairs + j]
        result[j] = a * torch.cos(angle) - b * torch.sin(angle)
        result[pairs + j] = b * torch.cos(angle) + a * torch.sin(angle)
    return result


def attention(
    query: Tensor,
    query_position: int,
    read: list[tuple[Tensor, int]],
    weights: Weights,
    name: str,
    config: ModelConfig,
) -> Tensor:
    """One token reads (state, position) pairs; only position differences matter."""
    width = config.dim_head
    q = weights[f"{name}.q_proj.weight"] @ query
    heads = []
    for h in range(config.heads):
        part = slice(h * width, (h + 1) * width)
        scores, values = [], []
        for state, position in read:
            k = (weights[f"{name}.k_proj.weight"] @ state)[part]
            scores.append(
                rotated(q[part], query_position) @ rotated(k, position) / math.sqrt(width)
            )
            values.append((weights[f"{name}.v_proj.weight"] @ state)[part])
        shares = torch.softmax(torch.stack(scores), 0)
        heads.append(sum(share * value for share, value in zip(shares, values, strict=True)))
    return weights[f"{name}.out_proj.weight"] @ torch.cat(heads)


def feed_forward(x: Tensor, weights: Weights, name: str) -> Tensor:
    inner = torch.nn.functional.gelu(weights[f"{name}.up_proj.weight"] @ x)
    return weights[f"{name}.down_proj.weight"] @ inner


@dataclass
class Stream:
    """The two ways a sublayer joins the residual stream."""

    weights: Weights
    alpha: float | None

    def reads(self, x: Tensor, name: str) -> Tensor:
        return norm(x, self.weights, f"{name}_residual.norm") if self.alpha is None else x

    def joins(self, x: Tensor, update: Tensor, name: str) -> Tensor:
        if self.alpha is None:
            return x + update
        return norm(self.alpha * x + update, self.weights, f"{name}_residual.norm")


def encode_neighbor(
    ids: list[int],
    chunk: list[tuple[Tensor, int]],
    weights: Weights,
    config: ModelConfig,
    alpha: float | None,
) -> list[Tensor]:
    """ENC of section 2.4: one retrieved value, conditioned on the states of its chunk."""
    stream = Stream(weights, alpha)
    states = []
    for token in ids:
        state = weights["token_embedding.weight"][token] * math.sqrt(config.dec_dim)
        if "encoder_embedding.weight" in weights:
            state = weights["encoder_embedding.weight"][token]
        elif "to_encoder_width.weight" in weights:
            state = weights["to_encoder_width.weight"] @ state
        states.append(state)
    exists = [i for i, token in enumerate(ids) if token != config.pad_id]
    if alpha is None:
        chunk = [(norm(s, weights, "decoder.encoder.chunk_norm"), i) for s, i in chunk]
    for number in range(1, config.enc_depth + 1):
        name = f"decoder.encoder.layers.{number - 1}"
        read = [stream.reads(s, f"{name}.attention") for s in states]
        updates = {
            i: attention(
                read[i], i, [(read[j], j) for j in exists], weights, f"{name}.attention", config
            )
            for i in exists
        }
        for i in exists:
            states[i] = stream.joins(states[i], updates[i], f"{name}.attention")
        if number in config.encoder_cross_layers:
            for i in exists:
                update = attention(
                    stream.reads(states[i], f"{name}.cross"),
                    i,
                    chunk,
                    weights,
                    f"{name}.cross",
                    config,
                )
                states[i] = stream.joins(states[i], update, f"{name}.cross")
        for i in exists:
            update = feed_forward(
                stream.reads(states[i], f"{name}.feed_forward"), weights, f"{name}.feed_forward"
            )
            states[i] = stream.joins(states[i], update, f"{name}.feed_forward")
    if alpha is None:
        states = [norm(s, weights, "decoder.encoder.output_norm") for s in states]
    return states


def reference_logits(
    weights: Weights,
    config: ModelConfig,
    tokens: list[int],
    retrieved: list[list[list[int]]] | None,
    left_padding: int = 0,
) -> Tensor:
    """Logits of one sequence, (tokens, vocabulary), in float64.

    Args:
        weights: State dict in float64.
        config: Sizes.
        tokens: Token ids.
        retrieved: Per complete chunk, per neighbor, its token ids; None is retrieval off.
        left_padding: Empty places before the first token.
    """
    m = config.chunk_size
    sublayers = 2 * config.dec_depth + len(config.dec_cross_attn_layers)
    deepnet = config.use_deepnet
    decoder_stream = Stream(weights, sublayers**0.25 if deepnet else None)
    encoder_scale = 0.81 * (config.enc_depth**4 * config.dec_depth) ** 0.0625 if deepnet else None
    x = [weights["token_embedding.weight"][t] * math.sqrt(config.dec_dim) for t in tokens]
    encoded: dict[int, list[list[tuple[Tensor, int]]]] = {}
    for number in range(1, config.dec_depth + 1):
        name = f"decoder.layers.{number - 1}"
        read = [decoder_stream.reads(state, f"{name}.attention") for state in x]
        for t in range(len(x)):
            before = [(read[s], s) for s in range(t + 1)]
            update = attention(read[t], t, before, weights, f"{name}.attention", config)
            x[t] = decoder_stream.joins(x[t], update, f"{name}.attention")
        if number in config.dec_cross_attn_layers and retrieved is not None:
            if number == min(config.dec_cross_attn_layers):
                for u, neighbors in enumerate(retrieved):
                    chunk = [
                        (x[u * m + i - left_padding], i)
                        for i in range(m)
                        if u * m + i >= left_padding
                    ]
                    encoded[u] = []
                    for ids in neighbors:
                        states = encode_neighbor(ids, chunk, weights, config, encoder_scale)
                        encoded[u].append(
                            [(s, i) for i, s in enumerate(states) if ids[i] != config.pad_id]
                        )
            for t in range(len(x)):
                place = t + left_padding
                # Paper: H_u^+ holds tokens um + i - 1 for i = 1..m, counted from 1; so the
                # token at `place` (from 0) is the i-th, from 1, of attending chunk u (from 0).
                u, i = (place + 1) // m - 1, (place + 1) % m + 1
                if u < 0:
                    continue
                # Distance i - i' + m - 1 for i' from 1 is query i + m - 1 against key i'.
                pairs = [(state, j + 1) for neighbor in encoded[u] for state, j in neighbor]
                if not pairs:
                    continue
                update = attention(
                    decoder_stream.reads(x[t], f"{name}.cca"),
                    i + m - 1,
                    pairs,
                    weights,
                    f"{name}.cca.attention",
                    config,
                )
                x[t] = decoder_stream.joins(x[t], update, f"{name}.cca")
        for t in range(len(x)):
            update = feed_forward(
                decoder_stream.reads(x[t], f"{name}.feed_forward"),
                weights,
                f"{name}.feed_forward",
            )
            x[t] = decoder_stream.joins(x[t], update, f"{name}.feed_forward")
    if not deepnet:
        x = [norm(state, weights, "decoder.output_norm") for state in x]
    return torch.stack([weights["to_logits.weight"] @ state for state in x])
