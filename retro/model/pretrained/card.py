"""The model card of what was trained in a pretrained model."""

from pathlib import Path

from retro.config.checks import config_to_dict
from retro.config.pretrained import PretrainedConfig, TrainingMode
from retro.model.card import PAPER_URL, WITH_TOKENIZER, card_text
from retro.model.origin import ModelOrigin

PARTS = {
    TrainingMode.NONE: "nothing",
    TrainingMode.GATES: "one number per layer and head, added to the scores of neighbors",
    TrainingMode.LORA: "low-rank matrices beside those of the attention, and one number per layer "
    "and head, added to the scores of neighbors",
    TrainingMode.FULL: "all weights, and one number per layer and head, added to the scores of "
    "neighbors",
}


def card_of(config: PretrainedConfig, num_trained: int, origin: ModelOrigin | None) -> str:
    """Return the body of a model card.

    Args:
        config: Settings of the model.
        num_trained: Numbers that were trained.
        origin: Where it comes from; None says that nothing is known.
    """
    base = Path(config.base).name if Path(config.base).is_absolute() else config.base
    revision = "" if config.revision is None else f", revision `{config.revision}`"
    sha256 = "" if config.base_sha256 is None else f", sha256 of its tensors `{config.base_sha256}`"
    return card_text(
        f"{base} that reads neighbors",
        f"What was trained in the pretrained model `{base}`{revision}{sha256}: "
        f"{PARTS[config.mode]}. For each chunk of {config.chunk_size} tokens the model attends to "
        f"the neighbors of the chunk before, which are the nearest chunks of a retrieval database, "
        f"and to their continuations, as in RETRO ([Borgeaud et al., arXiv:2112.04426]"
        f"({PAPER_URL})). The base is not part of this folder; it is opened by its name.",
        WITH_TOKENIZER,
        size=f"{num_trained:,} numbers were trained",
        settings={**config_to_dict(config), "base": base},
        origin=origin,
    )
