"""Writes several sequences side by side, retrieving at every chunk's end.

Shape suffixes: B sequences, T tokens, L chunks, M tokens per chunk, K neighbors per chunk, R
tokens per retrieved value, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from retro.errors import ConfigError, InputError, ShapeError, shown
from retro.model.retro.model import RETRO
from retro.retro_pytorch.filters import FORBIDDEN, tempered

Filter = Callable[..., Tensor]
"""Called as ``filter_fn(logits, thres=...)``; returns logits, -inf where a token is out."""
Search = Callable[[NDArray[Any]], NDArray[np.int64]]
"""Maps chunks, (chunks, chunk_size), to retrieved values, (chunks, neighbors, tokens)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampler:
    """How the next token is drawn."""

    filter_fn: Filter
    """Leaves out unlikely tokens."""

    filter_thres: float
    """What the filter is given."""

    temperature: float
    """Divides the logits; 0 always takes the likeliest token."""

    generator: torch.Generator | None
    """Source of randomness; None is torch's own."""

    def __post_init__(self) -> None:
        """Refuse values outside their range, those that the filter refuses included."""
        value = self.temperature
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise ConfigError(f"temperature must be a number of at least 0, got {shown(value)}.")
        if not callable(self.filter_fn):
            raise ConfigError(
                f"filter_fn must be a function like top_p or top_k, got {shown(self.filter_fn)}."
            )
        self.filter_fn(torch.zeros(1, 2), thres=self.filter_thres)

    def draw(self, logits_BV: Tensor) -> Tensor:
        """Return one token id per sequence, (batch,), on the device of the logits."""
        filtered_BV = self.filter_fn(tempered(logits_BV, self.temperature), thres=self.filter_thres)
        place = torch.device("cpu") if self.generator is None else self.generator.device
        probability_BV = filtered_BV.softmax(-1).to(place)
        drawn_B1 = torch.multinomial(probability_BV, 1, generator=self.generator)
        return drawn_B1[:, 0].to(logits_BV.device)


@torch.no_grad()
def generate_batch(
    model: RETRO,
    prompt_BT: Tensor,
    search: Search,
    sampler: Sampler,
    *,
    eos_id: int,
    vocab_size: int,
    retrieved: Tensor | None = None,
    pads_left: bool = True,
) -> Tensor:
    """Continue prompts until each has ended or the model's window is full.

    Args:
        model: Writes.
        prompt_BT: Token ids, (batch, tokens), on the model's device.
        search: Finds the neighbors of complete chunks, each once.
        sampler: Draws tokens.
        eos_id: Ends a sequence when it is drawn; in a prompt it is a token like any other.
        vocab_size: Tokens of the tokenizer; a model may have room for more, which are never
            drawn.
        retrieved: Retrieved values of the prompt's complete chunks, (batch, chunks,
            neighbors, tokens), instead of searching for them.
        pads_left: Pad the prompt on the left so that it ends with a whole chunk.

    Returns:
        Token ids with the prompt, (batch, at most max_seq_len); padding after an end token.
    """
    size, pad_id = model.chunk_size, model.pad_id
    batch, num_tokens = prompt_BT.shape
    padding = -num_tokens % size if pads_left and retrieved is None else 0
    tokens_BT = F.pad(prompt_BT, (padding, model.seq_len - num_tokens), value=pad_id)
    stop = padding + num_tokens
    if retrieved is None:
        retrieved = _search(tokens_BT[:, : stop // size * size], search, size)
    cache = model.new_cache(batch, left_padding=padding)
    logits_BV = model.read(prompt_BT, cache, retrieved)
    ended_B = torch.zeros(batch, dtype=torch.bool, device=prompt_BT.device)
    while stop < tokens_BT.shape[1]:
        logits_BV = logits_BV.float()
        logits_BV[:, pad_id] = FORBIDDEN
        logits_BV[:, vocab_size:] = FORBIDDEN
        next_B = torch.where(ended_B, pad_id, sampler.draw(logits_BV))
        tokens_BT[:, stop] = next_B
        stop += 1
        ended_B = ended_B | (next_B == eos_id)
        if bool(ended_B.all()) or stop == tokens_BT.shape[1]:
            break
        found = None
        if stop % size == 0:
            found = _search(tokens_BT[:, stop - size : stop], search, size)
        logits_BV = model.read(next_B[:, None], cache, found)
    return tokens_BT[:, padding:stop].clone()


def check_prompt(prompt: object, model: RETRO) -> Tensor:
    """Return a prompt as int64 on the model's device.

    Raises:
        ShapeError: It is not (batch, tokens) of integers.
        InputError: It is empty, longer than the model's window, or holds unknown ids.
    """
    if not isinstance(prompt, Tensor) or prompt.ndim != 2 or prompt.is_floating_point():
        got = f"{prompt.dtype} {tuple(prompt.shape)}" if isinstance(prompt, Tensor) else prompt
        raise ShapeError(f"start must be a tensor of integers, (batch, tokens), got {shown(got)}.")
    if not 1 <= prompt.shape[1] <= model.seq_len or prompt.shape[0] == 0:
        raise InputError(
            f"start must hold at least one sequence of 1 to max_seq_len = {model.seq_len} tokens, "
            f"got {tuple(prompt.shape)}. Shorten it."
        )
    prompt = prompt.long()
    low, high = int(prompt.min()), int(prompt.max())
    if low < 0 or high >= model.config.num_tokens:
        raise InputError(
            f"start must hold token ids of at least 0 and below num_tokens = "
            f"{model.config.num_tokens}, got {low if low < 0 else high}. Use tokenize()."
        )
    return prompt.to(model.token_embedding.weight.device)


def check_retrieved(retrieved: object, prompt_BT: Tensor, model: RETRO) -> Tensor:
    """Return given retrieved values with all four dimensions, on the model's device.

    Raises:
        ShapeError: They are not those of the prompt's complete chunks.
    """
    if not isinstance(retrieved, Tensor):
        raise ShapeError(f"retrieved must be a tensor of token ids, got {shown(retrieved)}.")
    if retrieved.ndim == 3:
        retrieved = retrieved[:, :, None]
    wanted = (prompt_BT.shape[0], prompt_BT.shape[1] // model.chunk_size)
    if retrieved.ndim != 4 or retrieved.shape[:2] != wanted:
        raise ShapeError(
            f"retrieved must be (batch, chunks, neighbors, tokens) with batch {wanted[0]} and the "
            f"{wanted[1]} complete chunks of start, got {tuple(retrieved.shape)}. "
            f"Leave it out to search for them."
        )
    return retrieved.to(prompt_BT.device)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off in a model and, at the end, every part back to its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _search(tokens_BT: Tensor, search: Search, size: int) -> Tensor | None:
    """Return the retrieved values of whole chunks, (batch, chunks, neighbors, tokens)."""
    batch, num_tokens = tokens_BT.shape
    if num_tokens == 0:
        return None
    found_LKR = search(tokens_BT.reshape(-1, size).cpu().numpy())
    values = torch.from_numpy(found_LKR).to(tokens_BT.device)
    return values.view(batch, num_tokens // size, *values.shape[1:])
