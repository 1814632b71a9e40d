"""Norms, feed-forward layer, rotary positions and the residual connection.

Shape suffixes: B batch, T tokens, D width, H heads, P width of one head, J rotated
pairs of one head, N any number of rows.

Sources: RMSNorm arXiv:1910.07467, gated RMSNorm arXiv:2104.07012, rotary positions
arXiv:2104.09864, DeepNorm arXiv:2203.00555.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from retro.config.model import ModelConfig
from retro.model.lean import NORM_EPSILON, gelu_linear, rms_norm
from retro.model.linear import Linear

OutputT = TypeVar("OutputT")

ROTARY_BASE = 10_000.0


class RMSNorm(nn.Module):
    """Divides by the root mean square and scales; gated, it also multiplies by a sigmoid gate."""

    def __init__(self, width: int, *, gated: bool = False) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.ones(width))
        self.gate = nn.Parameter(torch.ones(width)) if gated else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the normalised states, in the number format of ``x_BTD``."""
        weight = self.weight.to(x_BTD.dtype)
        if x_BTD.device.type == "cpu" and not torch.compiler.is_compiling():
            normed_BTD = rms_norm(x_BTD, weight)
        else:
            normed_BTD = F.rms_norm(x_BTD, (self.width,), weight, eps=NORM_EPSILON)
        if self.gate is None:
            return normed_BTD
        return normed_BTD * torch.sigmoid(x_BTD * self.gate.to(x_BTD.dtype))


class FeedForward(nn.Module):
    """Two matrices with a GELU between them; the inner width is four times the outer."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.up_proj = Linear(width, 4 * width)
        self.down_proj = Linear(4 * width, width)
        self.dropout = dropout

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Return the update to add to the residual stream."""
        inner = self.up_proj(x_BTD)
        if self.dropout and self.training:
            return self.down_proj(F.dropout(F.gelu(inner), self.dropout))
        return gelu_linear(inner, self.down_proj.weight)


class Residual(nn.Module):
    """Adds a sublayer's update to the stream, before (pre) or inside (post) a norm.

    Pre-norm: ``x + G(RMSNorm(x))``. Post-norm with DeepNorm: ``LayerNorm(alpha x + G(x))``, with
    a gated RMSNorm in its place where that was asked for.
    """

    def __init__(self, width: int, alpha: float | None, *, gated: bool) -> None:
        super().__init__()
        self.alpha = alpha
        self.norm: nn.Module = RMSNorm(width, gated=gated)
        if alpha is not None and not gated:
            self.norm = nn.LayerNorm(width)

    def prepare(self, x: Tensor) -> Tensor:
        """Return what the sublayer reads."""
        if self.alpha is not None:
            return x
        normed: Tensor = self.norm(x)
        return normed

    def combine(self, x: Tensor, update: Tensor, changed: Tensor | None = None) -> Tensor:
        """Return the stream after the sublayer.

        Args:
            x: The stream before the sublayer, (..., width).
            update: What the sublayer returned, of the same shape.
            changed: True where the sublayer had something to read, (..., 1). Elsewhere
                the stream passes unchanged, which post-norm alone would not do.
        """
        if self.alpha is None:
            return x + update
        normed: Tensor = self.norm(self.alpha * x + update)
        return normed if changed is None else torch.where(changed, normed, x)


class KeepOrRecompute:
    """Calls a part of the network; if asked, its inner states are not kept for the gradient.

    They are computed a second time on the way back (gradient checkpointing,
    arXiv:1604.06174): less memory for about a third more time, and the same result.
    """

    def __init__(self) -> None:
        self.recompute = False

    def __call__(self, part: Callable[..., OutputT], *inputs: Any) -> OutputT:
        """Return what the part returns for these inputs."""
        if self.recompute and torch.is_grad_enabled():
            output: OutputT = checkpoint(part, *inputs, use_reentrant=False)
            return output
        return part(*inputs)


def encoder_alpha(config: ModelConfig) -> float | None:
    """Return DeepNorm's residual scale of the neighbor encoder; None with pre-norm."""
    if not config.use_deepnet:
        return None
    return 0.81 * (config.enc_depth**4 * config.dec_depth) ** (1 / 16)


def encoder_beta(config: ModelConfig) -> float:
    """Return DeepNorm's gain of feed-forward, value and output matrices of the encoder."""
    return 0.87 * (config.enc_depth**4 * config.dec_depth) ** (-1 / 16)


def decoder_sublayers(config: ModelConfig) -> int:
    """Return the number of residual connections in the decoder.

    DeepNorm's constants for a decoder of M layers assume three in each, of which ours has
    two and one more in each layer with chunked cross-attention: S = 2M + P takes the place of
    3M in its formulas, so that they hold for any choice of layers.
    """
    return 2 * config.dec_depth + len(config.dec_cross_attn_layers)


def decoder_alpha(config: ModelConfig) -> float | None:
    """Return DeepNorm's residual scale of the decoder, S**(1/4); None with pre-norm."""
    return decoder_sublayers(config) ** 0.25 if config.use_deepnet else None


def decoder_beta(config: ModelConfig) -> float:
    """Return DeepNorm's gain of the decoder, (4S)**(-1/4)."""
    return (4 * decoder_sublayers(config)) ** -0.25


def rotary_angles(positions_N: Tensor, head_width: int) -> Tensor:
    """Return the rotation angle of each position and pair.

    Half of each head is rotated, the other half carries no position.

    Args:
        positions_N: Positions, (rows,).
        head_width: Width of one head, a multiple of 4.

    Returns:
        Angles in radians, (rows, head_width / 4), float32.
    """
    pairs = head_width // 4
    exponent_J = torch.arange(pairs, device=positions_N.device, dtype=torch.float32) / pairs
    return positions_N.float()[:, None] * ROTARY_BASE**-exponent_J


def rotate(x_BHTP: Tensor, angles_TJ: Tensor) -> Tensor:
    """Rotate the first half of each head by its position's angles.

    Args:
        x_BHTP: Queries or keys, (..., tokens, head_width).
        angles_TJ: Angles of the tokens, (tokens, head_width / 4).

    Returns:
        The rotated queries or keys, of the same shape and number format.
    """
    pairs = angles_TJ.shape[-1]
    dtype = torch.promote_types(x_BHTP.dtype, torch.float32)
    cos, sin = angles_TJ.cos().to(dtype), angles_TJ.sin().to(dtype)
    first, second, rest = torch.split(x_BHTP, [pairs, pairs, x_BHTP.shape[-1] - 2 * pairs], dim=-1)
    rotated = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat((*(part.to(x_BHTP.dtype) for part in rotated), rest), dim=-1)
