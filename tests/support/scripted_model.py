"""A language model that writes a given script, for tests of the writing logic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from retro.data.byte_level import ByteLevelTokenizer
from retro.generation.generate import Generator
from retro.model.language_model import Prediction, Retrieved

LIKELY = 30.0


@dataclass
class ScriptedCache:
    num_tokens: int

    def rows(self, rows_N: Tensor) -> "ScriptedCache":
        del rows_N
        return ScriptedCache(self.num_tokens)


class ScriptedModel:
    """Says the tokens of a script, one after the other, whatever it has read.

    Args:
        script: Token ids, said from the first place of the text on.
        tokenizer: Of the script.
        chunk_size: Tokens per chunk.
    """

    starts_trained = False
    origin = None
    gradient_checkpointing = False
    window = 512
    device = torch.device("cpu")

    def __init__(
        self, script: Sequence[int], tokenizer: ByteLevelTokenizer, chunk_size: int = 8
    ) -> None:
        self.script = list(script)
        self.vocab_size = tokenizer.vocab_size
        self.chunk_size = chunk_size

    def new_cache(self, batch_size: int, **_: Any) -> ScriptedCache:
        del batch_size
        return ScriptedCache(0)

    def predict(
        self,
        tokens_NT: Tensor,
        cache: ScriptedCache,
        retrieved: Retrieved | None,
        *,
        num_scored: int = 0,
    ) -> Prediction:
        del retrieved
        first, number = cache.num_tokens, tokens_NT.shape[1]
        cache.num_tokens += number
        logits_TV = torch.zeros(number, self.vocab_size)
        said = torch.tensor([self._token(first + place + 1) for place in range(number)])
        logits_TV[torch.arange(number), said] = LIKELY
        logprobs_TV = logits_TV.log_softmax(-1)
        scored = torch.arange(number - num_scored, number)
        known = [logprobs_TV[scored - 1, row[scored]] for row in tokens_NT]
        return Prediction(logits_TV[-1].expand(len(tokens_NT), -1), torch.stack(known), None)

    def _token(self, place: int) -> int:
        return self.script[place] if place < len(self.script) else self.script[-1]

    def token_reader(self, *, fast: bool = False) -> None:
        """Read every token by ``predict``."""


def scripted(tokenizer: ByteLevelTokenizer, prompt: str, text: str) -> Generator:
    """Return a generator that continues the prompt with a text and then ends."""
    script = [*tokenizer.encode(prompt), *tokenizer.encode(text), tokenizer.eos_id]
    return Generator(ScriptedModel(script, tokenizer), tokenizer, None)  # type: ignore[arg-type]  # has what writing needs
