"""Attention over heads, and self-attention with a cache.

Shape suffixes: B batch, T tokens, S tokens that are read, D width, H heads, P width of
one head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from retro.model.layers import rotary_angles, rotate
from retro.model.linear import Linear, linear


def attend(
    q_BHTP: Tensor,
    k_BHSP: Tensor,
    v_BHSP: Tensor,
    *,
    mask: Tensor | None = None,
    is_causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Return softmax(q k / sqrt(P)) v.

    On the CPU in bfloat16, explicit products are faster than the fused kernel (see
    ``bench/RESULTS.md``); everywhere else the fused kernel is used.

    Args:
        q_BHTP: Queries, (batch, heads, tokens, head_width).
        k_BHSP: Keys, (batch, heads, read tokens, head_width).
        v_BHSP: Values, of the shape of the keys.
        mask: True where a token may be read, broadcastable to (batch, heads, tokens, read
            tokens). A row without any True gets some finite value.
        is_causal: A token reads itself and those before it; needs as many queries as keys.
        dropout: Share of attention weights dropped.

    Returns:
        (batch, heads, tokens, head_width).
    """
    if mask is not None:
        # Some attention backends return NaN for a fully masked row.
        mask = mask | ~mask.any(dim=-1, keepdim=True)
    if q_BHTP.device.type != "cpu" or q_BHTP.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(
            q_BHTP,
            k_BHSP,
            v_BHSP,
            attn_mask=None if mask is None else _bias(mask, q_BHTP.dtype),
            is_causal=is_causal,
            dropout_p=dropout,
        )
    score_BHTS = (q_BHTP * q_BHTP.shape[-1] ** -0.5) @ k_BHSP.transpose(-1, -2)
    if is_causal:
        size = q_BHTP.shape[-2]
        mask = torch.ones(size, size, dtype=torch.bool, device=q_BHTP.device).tril()
    if mask is not None:
        # In place and added: neither this nor its gradient is one more copy of all scores.
        score_BHTS += _bias(mask, score_BHTS.dtype)
    weight_BHTS = score_BHTS.softmax(dim=-1)
    if dropout:
        weight_BHTS = F.dropout(weight_BHTS, dropout)
    return weight_BHTS @ v_BHSP


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what to add to scores: zero where they may be read, minus infinity elsewhere."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, float("-inf"))


def project_jointly(x_BTD: Tensor, *projections: nn.Linear) -> Tensor:
    """Return the outputs of several linear layers side by side.

    In training it is one matrix product: less to copy on the way back. For a single token, as in
    generation, putting the weights together would cost more than the products.
    """
    if not torch.is_grad_enabled():
        return torch.cat([projection(x_BTD) for projection in projections], dim=-1)
    return linear(x_BTD, torch.cat([projection.weight for projection in projections]))


def split_heads(x_BTD: Tensor, num_heads: int) -> Tensor:
    """Return (batch, heads, tokens, head_width) from (batch, tokens, heads * head_width)."""
    return rearrange(x_BTD, "... t (h p) -> ... h t p", h=num_heads)


def merge_heads(x_BHTP: Tensor) -> Tensor:
    """Undo ``split_heads``."""
    return rearrange(x_BHTP, "... h t p -> ... t (h p)")


@dataclass(slots=True)
class KeyValueCache:
    """Rotated keys and values of the tokens one self-attention layer has read."""

    k_BHSP: Tensor
    v_BHSP: Tensor
    length: int = 0

    def append(self, k_BHTP: Tensor, v_BHTP: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of new tokens; return those of all tokens."""
        end = self.length + k_BHTP.shape[2]
        self.k_BHSP[:, :, self.length : end] = k_BHTP
        self.v_BHSP[:, :, self.length : end] = v_BHTP
        self.length = end
        return self.k_BHSP[:, :, :end], self.v_BHSP[:, :, :end]


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions, causal or in both directions."""

    def __init__(
        self, width: int, num_heads: int, head_width: int, dropout: float, *, causal: bool
    ) -> None:
        super().__init__()
        inner = num_heads * head_width
        self.num_heads = num_heads
        self.head_width = head_width
        self.dropout = dropout
        self.causal = causal
        self.q_proj = Linear(width, inner)
        self.k_proj = Linear(width, inner)
        self.v_proj = Linear(width, inner)
        self.out_proj = Linear(inner, width)

    def forward(
        self, x_BTD: Tensor, mask: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Let every token read the tokens it may.

        Args:
            x_BTD: States, (batch, tokens, width).
            mask: True where a token may be read, broadcastable to (batch, heads, tokens, read
                tokens); it takes the place of ``causal``. None means that all tokens exist.
            cache: Earlier tokens, which the new ones read too and are added to. Only with
                ``causal``.

        Returns:
            The update to add to ``x_BTD``.
        """
        num_tokens = x_BTD.shape[1]
        before = 0 if cache is None else cache.length
        positions_T = torch.arange(before, before + num_tokens, device=x_BTD.device)
        angles_TJ = rotary_angles(positions_T, self.head_width)
        projected = project_jointly(x_BTD, self.q_proj, self.k_proj, self.v_proj)
        qk_BHTP, v_BHSP = torch.split(
            split_heads(projected, 3 * self.num_heads), [2 * self.num_heads, self.num_heads], dim=1
        )
        q_BHTP, k_BHSP = rotate(qk_BHTP, angles_TJ).chunk(2, dim=1)
        if cache is not None:
            k_BHSP, v_BHSP = cache.append(k_BHSP, v_BHSP)
        is_causal = self.causal and mask is None and not before
        if self.causal and before and num_tokens > 1:
            read_S = torch.arange(before + num_tokens, device=x_BTD.device)
            mask = read_S[None, :] <= positions_T[:, None]
        out_BHTP = attend(
            q_BHTP,
            k_BHSP,
            v_BHSP,
            mask=mask,
            is_causal=is_causal,
            dropout=self.dropout if self.training else 0.0,
        )
        return self.out_proj(merge_heads(out_BHTP))


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another, with rotary positions for both."""

    def __init__(
        self, width: int, read_width: int, num_heads: int, head_width: int, dropout: float
    ) -> None:
        super().__init__()
        inner = num_heads * head_width
        self.num_heads = num_heads
        self.head_width = head_width
        self.dropout = dropout
        self.q_proj = Linear(width, inner)
        self.k_proj = Linear(read_width, inner)
        self.v_proj = Linear(read_width, inner)
        # No bias: whoever has nothing to read must receive exactly zero.
        self.out_proj = Linear(inner, width)

    def keys_values(self, read_BSD: Tensor, positions_S: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotated keys and values of what is read, each (batch, heads, read, head_width)."""
        angles_SJ = rotary_angles(positions_S, self.head_width)
        projected = project_jointly(read_BSD, self.k_proj, self.v_proj)
        k_BHSP, v_BHSP = split_heads(projected, 2 * self.num_heads).chunk(2, dim=1)
        return rotate(k_BHSP, angles_SJ), v_BHSP

    def forward(
        self,
        x_BTD: Tensor,
        positions_T: Tensor,
        keys_values: tuple[Tensor, Tensor],
        mask: Tensor | None,
    ) -> Tensor:
        """Read the keys and values.

        Args:
            x_BTD: States that read, (batch, tokens, width).
            positions_T: Their positions, relative to those given to ``keys_values``.
            keys_values: What ``keys_values`` returned.
            mask: True where it may be read, broadcastable to (batch, heads, tokens, read).

        Returns:
            The update to add to ``x_BTD``.
        """
        q_BHTP = self._queries(x_BTD, positions_T)
        k_BHSP, v_BHSP = keys_values
        dropout = self.dropout if self.training else 0.0
        return self.out_proj(
            merge_heads(attend(q_BHTP, k_BHSP, v_BHSP, mask=mask, dropout=dropout))
        )

    def weights(
        self, x_BTD: Tensor, positions_T: Tensor, k_BHSP: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Return how much each head reads of each place, (batch, heads, tokens, read).

        The arguments are those of ``forward``; a row without any True gets some finite values.
        """
        q_BHTP = self._queries(x_BTD, positions_T)
        score_BHTS = (q_BHTP * self.head_width**-0.5) @ k_BHSP.transpose(-1, -2)
        if mask is not None:
            mask = mask | ~mask.any(dim=-1, keepdim=True)
            score_BHTS += _bias(mask, score_BHTS.dtype)
        return score_BHTS.softmax(dim=-1)

    def _queries(self, x_BTD: Tensor, positions_T: Tensor) -> Tensor:
        angles_TJ = rotary_angles(positions_T, self.head_width)
        return rotate(split_heads(self.q_proj(x_BTD), self.num_heads), angles_TJ)
