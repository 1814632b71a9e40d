"""Validate a generation request without loading the model."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from app.errors import MissingError
from jobs.home import Home
from retro.checkpoints import list_checkpoints
from retro.corpus.corpus import Corpus
from retro.data.tokenizer import Tokenizer, open_tokenizer
from retro.errors import ArtifactMismatchError, ArtifactMissingError, InputError
from retro.generation.steering import GivenNeighbor, Steering
from retro.run import open_run

MOST_PROMPT_CHARACTERS = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What must be known of a run's model before it writes."""

    run_id: str
    run_name: str
    chunk_size: int
    window: int
    """Tokens it reads at once."""
    tokenizer_dir: Path

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer it reads."""
        return load_tokenizer(self.tokenizer_dir)


@lru_cache(maxsize=4)
def load_tokenizer(folder: Path) -> Tokenizer:
    """Open the tokenizer of a run, which never changes; the last few are kept."""
    return open_tokenizer(folder)


def read_model(home: Home, run_id: str, run_name: str) -> ModelFacts:
    """Read what is known of a run's model.

    Raises:
        ArtifactMissingError: The run has not started, or its folder is gone.
    """
    run = open_run(home.run_dir(run_id))
    if run.model is None:
        raise ArtifactMissingError(
            f"Run {run_name!r} has no checkpoint yet. Wait until training has written one."
        )
    return ModelFacts(
        run_id=run_id,
        run_name=run_name,
        chunk_size=run.model.chunk_size,
        window=run.model.max_seq_len,
        tokenizer_dir=run.tokenizer_dir,
    )


def choose_step(home: Home, run_id: str, run_name: str, wanted: int | None) -> int:
    """Return the step of a checkpoint that is there, the newest one if none is asked for.

    Raises:
        ArtifactMissingError: The run has no checkpoint.
        MissingError: It has none of this step.
    """
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
    num_tokens = len(model.tokenizer.encode(prompt))
    if num_tokens > model.window:
        raise InputError(
            f"The prompt must fit into the model's window of {model.window} tokens, "
            f"got {num_tokens}. Shorten it, or train with a longer sequence_length."
        )


def check_corpus(corpus: Corpus, corpus_name: str, model: ModelFacts) -> None:
    """Refuse a corpus that the model cannot read.

    Raises:
        ArtifactMismatchError: It was cut with another tokenizer or into other chunks.
    """
    found, needed = corpus.tokenizer.fingerprint, model.tokenizer.fingerprint
    advice = (
        "Choose a copy of the corpus that was built for this model ('Copy for another model' on "
        "the corpus page), or switch retrieval off."
    )
    if found != needed:
        raise ArtifactMismatchError(
            f"The model of run {model.run_name!r} reads tokenizer {needed[:12]}, but corpus "
            f"{corpus_name!r} was cut with {found[:12]}. {advice}"
        )
    if corpus.database.chunk_size != model.chunk_size:
        raise ArtifactMismatchError(
            f"The model of run {model.run_name!r} reads chunks of {model.chunk_size} tokens, but "
            f"corpus {corpus_name!r} was cut into chunks of {corpus.database.chunk_size}. {advice}"
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
    size, encode = model.chunk_size, model.tokenizer.encode
    own, rest = len(encode(neighbor.text or "")), len(encode(neighbor.continuation))
    # A text alone may be as long as a chunk and its continuation.
    limits = {"text": (own, size if rest else 2 * size), "continuation": (rest, size)}
    for name, (found, limit) in limits.items():
        if found > limit:
            raise InputError(
                f"The {name} of a neighbor may have at most {limit} tokens, got {found}. "
                f"Shorten it."
            )
