"""The model card: what a person who finds a saved model should know, as Markdown."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from retro.model.origin import CorpusOrigin, ModelOrigin

PAPER_URL = "https://arxiv.org/abs/2112.04426"

WITH_TOKENIZER = """\
```python
from retro.config.sampling import SamplingConfig
from retro.generation.events import ChunkEvent
from retro.generation.generate import Generator

generator = Generator.open("MODEL", with_corpus=False)
for event in generator.generate("How it begins", SamplingConfig(), retrieval=False):
    print(event.chunk.text if isinstance(event, ChunkEvent) else "", end="")
```

On the command line, without and with retrieval:

```bash
python -m retro generate MODEL --prompt "How it begins" --retrieval off
python -m retro generate MODEL --prompt "How it begins" --corpus CORPUS
```

`MODEL` is this folder or its name on the Hub; `CORPUS` is a corpus that was cut into chunks by the
tokenizer of this model.
"""


def card_text(
    title: str,
    about: str,
    use: str,
    *,
    size: str,
    settings: Mapping[str, Any],
    origin: ModelOrigin | None,
) -> str:
    """Return the body of a model card.

    Args:
        title: First words of the heading; the corpus follows where it is known.
        about: What kind of model it is, a paragraph.
        use: How to use it, Markdown.
        size: How large it is, the begin of a sentence.
        settings: All settings of the model.
        origin: Where the model comes from; None says that nothing is known.
    """
    known = ModelOrigin() if origin is None else origin
    trained = "" if known.corpus is None else f", trained on {plain(known.corpus.name)}"
    parts = [
        f"# {title}{trained}",
        about,
        "## Use",
        use.strip(),
        "## Losses",
        _losses(known),
        "## Corpus",
        _corpus(known.corpus),
        "## Model",
        size + ("." if known.preset is None else f"; preset `{plain(known.preset)}`."),
        _table(["setting", "value"], _rows(settings)),
        "## Training",
        _table(["setting", "value"], _rows(known.training))
        if known.training
        else "Its training settings were not saved with it.",
    ]
    return "\n\n".join(parts)


def _losses(origin: ModelOrigin) -> str:
    if origin.step is None:
        return "Its training was not recorded with it."
    tokens = "" if origin.tokens_seen is None else f" and {origin.tokens_seen:,} tokens"
    trained = f"After {origin.step:,} optimizer steps{tokens}"
    if origin.val_loss_on is None or origin.val_loss_off is None:
        return f"{trained}. The validation loss was not measured at this step."
    rows = [("on", f"{origin.val_loss_on:.4f}"), ("off", f"{origin.val_loss_off:.4f}")]
    if origin.val_loss_base is not None:
        rows.append(("off, before this training", f"{origin.val_loss_base:.4f}"))
    table = _table(["retrieval", "validation loss (nats per token)"], rows)
    return f"{trained}:\n\n{table}"


def _corpus(corpus: CorpusOrigin | None) -> str:
    if corpus is None:
        return "What it was trained on was not saved with it."
    excluded = corpus.exclusion
    if excluded == "window" and corpus.exclusion_window is not None:
        excluded = f"same document within {corpus.exclusion_window} tokens"
    elif excluded == "document":
        excluded = "same document"
    rows = [
        ("name", corpus.name),
        ("documents", _count(corpus.num_documents)),
        ("chunks", _count(corpus.num_chunks)),
        ("tokens", _count(corpus.num_tokens)),
        ("neighbors stored for each chunk", _count(corpus.num_neighbors)),
        ("neighbors never come from", excluded),
        ("encoder for keys", corpus.encoder),
        ("fingerprint", corpus.fingerprint),
    ]
    return _table(["fact", "value"], [(name, value or "not known") for name, value in rows])


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(f"`{name}`", json.dumps(value)) for name, value in settings.items()]


def _table(head: Sequence[str], rows: Sequence[tuple[str, str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(plain(cell) for cell in line)} |" for line in lines)


def plain(text: str) -> str:
    """Return a text that cannot break out of its line or its cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
