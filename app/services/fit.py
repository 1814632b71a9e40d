"""Checks what is to be written without loading the model, of a run or a pretrained one."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.errors import MissingError
from app.services.pretrained import is_pretrained
from jobs.home import Home
from retro.checkpoints import list_checkpoints
from retro.config.pretrained import PretrainedConfig
from retro.corpus.corpus import Corpus
from retro.data.tokenizer import Tokenizer, open_tokenizer
from retro.errors import ArtifactMissingError, InputError
from retro.generation.steering import GivenNeighbor, Steering
from retro.model.kinds import window_of
from retro.model.pretrained.stored import local_folder
from retro.run import open_run

MOST_PROMPT_CHARACTERS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What must be known of a model before it writes."""

    run_id: str
    """Run whose model it is, or the name of a pretrained model."""
    run_name: str
    chunk_size: int
    window: int
    """Tokens it reads at once."""
    tokenizer_dir: Path | None
    """None where the model is not here yet: its first text converts or downloads it."""

    @property
    def is_pretrained(self) -> bool:
        """Whether it is no run's model."""
        return is_pretrained(self.run_id)

    @property
    def fingerprint(self) -> str | None:
        """Identity of its tokenizer; None where that is not known yet."""
        return (
            None if self.tokenizer_dir is None else load_tokenizer(self.tokenizer_dir).fingerprint
        )

    def num_tokens(self, text: str) -> int | None:
        """Return how many tokens a text has; None where that is not known yet."""
        if self.tokenizer_dir is None:
            return None
        return len(load_tokenizer(self.tokenizer_dir).encode(text))


@lru_cache(maxsize=4)
def load_tokenizer(folder: Path) -> Tokenizer:
    """Open the tokenizer of a model, which never changes; the last few are kept."""
    return open_tokenizer(folder)


def read_model(home: Home, run_id: str, run_name: str, chunk_size: int | None = None) -> ModelFacts:
    """Read what is known of a model.

    Args:
        home: Where runs are.
        run_id: A run, or the name of a pretrained model.
        run_name: What people call it.
        chunk_size: Tokens per chunk of a pretrained model, which reads those of any corpus.

    Raises:
        ArtifactMissingError: The run has not started, or its folder is gone.
    """
    if is_pretrained(run_id):
        settings = PretrainedConfig(base=run_id)
        return ModelFacts(
            run_id=run_id,
            run_name=run_name,
            chunk_size=chunk_size or settings.chunk_size,
            window=settings.window,
            tokenizer_dir=local_folder(run_id),
        )
    run = open_run(home.run_dir(run_id))
    if run.model is None:
        raise ArtifactMissingError(
            f"Run {run_name!r} has no checkpoint yet. Wait until training has written one."
        )
    return ModelFacts(
        run_id=run_id,
        run_name=run_name,
        chunk_size=run.model.chunk_size,
        window=window_of(run.model),
        tokenizer_dir=run.tokenizer_dir,
    )


def choose_step(home: Home, run_id: str, run_name: str, wanted: int | None) -> int | None:
    """Return the step of a checkpoint that is there, the newest one if none is asked for.

    A pretrained model has none.

    Raises:
        ArtifactMissingError: The run has no checkpoint.
        MissingError: It has none of this step.
    """
    if is_pretrained(run_id):
        return None
    # The files, not the rows: somebody may have deleted a folder by hand.
    steps = [record.step for record in list_checkpoints(home.run_dir(run_id))]
    if not steps:
        raise ArtifactMissingError(
            f"Run {run_name!r} has no checkpoint yet. Wait until training has written one."
        )
    if wanted is None:
        return steps[-1]
    if wanted not in steps:
        have = ", ".join(f"{step:,}" for step in steps)
        raise MissingError(
            f"Run {run_name!r} has no checkpoint at step {wanted:,}. It has: {have}."
        )
    return wanted


def check_prompt(prompt: str) -> None:
    """Refuse a prompt that no model can continue.

    Raises:
        InputError: It is empty, far too long, or holds NUL, which PostgreSQL cannot store.
    """
    if not prompt.strip():
        raise InputError("The prompt must not be empty. Type the beginning of a text.")
    if len(prompt) > MOST_PROMPT_CHARACTERS:
        raise InputError(
            f"The prompt may have at most {MOST_PROMPT_CHARACTERS:,} characters, "
            f"got {len(prompt):,}. Shorten it."
        )
    if "\0" in prompt:
        raise InputError(
            f"The prompt must not hold the character NUL, got one at position "
            f"{prompt.index(chr(0))}. Remove it."
        )


def check_length(prompt: str, model: ModelFacts) -> None:
    """Refuse a prompt that the model cannot read at once.

    Raises:
        InputError: It has more tokens than the model's window, or cannot be encoded.
    """
    num_tokens = model.num_tokens(prompt)
    if num_tokens is not None and num_tokens > model.window:
        longer = "" if model.is_pretrained else ", or train with a longer sequence_length"
        raise InputError(
            f"The prompt must fit into the model's window of {model.window} tokens, "
            f"got {num_tokens}. Shorten it{longer}."
        )


def check_steering(steering: Steering, corpus: Corpus, model: ModelFacts) -> None:
    """Refuse steering that names what the corpus does not hold, or gives texts too long to read.

    Raises:
        InputError: A chunk, a document or a given neighbor cannot be used.
    """
    given = [neighbor for neighbors in steering.given.values() for neighbor in neighbors]
    chunks = [
        *steering.exclude_chunks,
        *(one.chunk_id for one in given if one.chunk_id is not None),
    ]
    num_chunks = corpus.database.num_chunks
    for chunk_id in chunks:
        if chunk_id >= num_chunks:
            raise InputError(
                f"chunk_id must be between 0 and {num_chunks - 1}, got {chunk_id}. "
                f"Choose a chunk of the corpus that is read."
            )
    paths = (
        {record.path for record in corpus.database.documents}
        if (steering.exclude_documents)
        else set()
    )
    for path in steering.exclude_documents:
        if path not in paths:
            raise InputError(
                f"Each of exclude_documents must be the path of a document of the corpus, "
                f"got {path[:200]!r}. See the corpus page for the paths."
            )
    for neighbor in given:
        _check_given(neighbor, model)


def _check_given(neighbor: GivenNeighbor, model: ModelFacts) -> None:
    size = model.chunk_size
    own = model.num_tokens(neighbor.text or "") or 0
    rest = model.num_tokens(neighbor.continuation) or 0
    # A text alone may be as long as a chunk and its continuation.
    limits = {"text": (own, size if rest else 2 * size), "continuation": (rest, size)}
    for name, (found, limit) in limits.items():
        if found > limit:
            raise InputError(
                f"The {name} of a neighbor may have at most {limit} tokens, got {found}. "
                f"Shorten it."
            )
