"""The model card of RETRO."""

from retro.config.checks import config_to_dict
from retro.config.model import ModelConfig
from retro.model.card import PAPER_URL, WITH_TOKENIZER, card_text
from retro.model.origin import ModelOrigin

WITHOUT_TOKENIZER = """\
```python
import torch
from retro import RETRO

model = RETRO.from_pretrained("MODEL")  # this folder, or its name on the Hub
sequence = torch.randint(1, model.config.num_tokens, (1, model.chunk_size))
print(model(sequence).argmax(-1))
```

The model was saved without a tokenizer: it reads and writes token ids.
"""


def card_of(config: ModelConfig, num_parameters: int, origin: ModelOrigin | None) -> str:
    """Return the body of a model card.

    Args:
        config: Sizes of the model.
        num_parameters: Weights, tied ones counted once.
        origin: Where the model comes from; None says that nothing is known.
    """
    has_tokenizer = origin is not None and origin.tokenizer is not None
    return card_text(
        f"RETRO with {num_parameters / 1e6:.1f} M parameters",
        f"A retrieval-enhanced transformer ([Borgeaud et al., arXiv:2112.04426]({PAPER_URL})): for "
        f"each chunk of {config.chunk_size} tokens it reads the neighbors of the chunk before, "
        f"which are the nearest chunks of a retrieval database, and their continuations.",
        WITH_TOKENIZER if has_tokenizer else WITHOUT_TOKENIZER,
        size=f"{num_parameters:,} parameters",
        settings=config_to_dict(config),
        origin=origin,
    )
