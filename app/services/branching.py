"""What a text that goes on from another one is written with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from app.errors import ChangeRefusedError
from app.services.live import split_variant, variants_of
from app.services.views.base import Json
from jobs.store.rows import GenerationRow
from jobs.store.states import GenerationState
from retro.config.checks import LARGEST_INTEGER, config_from_dict, config_to_dict
from retro.config.sampling import SamplingConfig
from retro.errors import ConfigError, shown
from retro.generation.events import OutputChunk
from retro.generation.steering import (
    GivenNeighbor,
    Steering,
    given_from_list,
    steering_from_dict,
)

Given = dict[int, tuple[GivenNeighbor, ...]]
ENDED_BY_ITSELF = {"end": "the model wrote the end of the text", "stop": "a stop string appeared"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A text to be written after the first chunks of another one."""

    mode: str
    """Retrieval: ``on`` or ``off``."""
    config: SamplingConfig
    steering: Steering
    inherited: list[Json]
    """The chunks it takes over; the last one may be unfinished."""
    branch_index: int
    """First chunk that is not wholly taken over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What a branch does otherwise than its parent; None and empty leave it as it is."""

    seed: int | None = None
    exclude_chunks: Sequence[int] = ()
    exclude_documents: Sequence[str] = ()
    neighbors: Sequence[Mapping[str, Any]] | None = None
    """Those given by hand to the first chunk of the branch."""
    retrieval: str | None = None
    sampling: Mapping[str, Any]
    """Other fields of ``SamplingConfig``."""


def plan_branch(
    parent: GenerationRow,
    chunk_index: int,
    variant: str | None,
    changes: Changes,
    chunk_size: int,
) -> Plan:
    """Plan a text that takes another way from a chunk on.

    Without a seed, it has that of its parent if retrieval or sampling was changed, so that
    only the change shows, and otherwise the next one. Without a length, it may become as
    long as its parent was meant to become.

    Raises:
        ConfigError: The parent has no such text or chunk, or a change is out of range.
        ChangeRefusedError: The parent has no chunks yet.
    """
    name = _choose_variant(parent, variant)
    mode, sample = split_variant(name)
    chunks = chunks_of(parent, name)
    _check_chunk_index(parent, chunks, chunk_index)
    if changes.retrieval not in (None, "on", "off"):
        raise ConfigError(
            f"retrieval of a branch must be 'on' or 'off', got {shown(changes.retrieval)}."
        )
    _check_tokens(chunks[:chunk_index])
    before = steering_of(parent)
    steering = _steer(before, chunks, chunk_index, changes)
    reads_otherwise = (
        steering != replace(before, given=_given_from(before, chunk_index))
        or (changes.retrieval or mode) != mode
    )
    return Plan(
        mode=changes.retrieval or mode,
        config=_branch_config(
            parent,
            sample,
            changes,
            reads_otherwise=reads_otherwise,
            length=_length_left(parent, chunks, chunk_index),
        ),
        steering=steering,
        inherited=parent.chunks[name][:chunk_index],
        branch_index=_first_open(chunks[:chunk_index], chunk_size),
    )


def _branch_config(
    parent: GenerationRow, sample: int, changes: Changes, *, reads_otherwise: bool, length: int
) -> SamplingConfig:
    settings = _sampling_of(parent)
    given = {name: value for name, value in changes.sampling.items() if value is not None}
    # A length or a number of texts is no other way of writing.
    sizes = {"num_samples": 1, "max_new_tokens": length}
    sizes |= {name: given[name] for name in sizes if name in given}
    changed = config_from_dict(SamplingConfig, {**settings, **given, **sizes})
    is_changed = changed != config_from_dict(SamplingConfig, {**settings, **sizes})
    seed = changes.seed
    if seed is None:
        same = reads_otherwise or is_changed
        seed = _seed(settings, sample if same else int(settings["num_samples"]))
    return config_from_dict(SamplingConfig, {**config_to_dict(changed), "seed": seed})


def _seed(settings: Mapping[str, Any], sample: int) -> int:
    """Return the seed of a sample, or of one beyond the last."""
    return int(settings["seed"] + sample) % (LARGEST_INTEGER + 1)


def plan_continuation(
    parent: GenerationRow, variant: str | None, max_new_tokens: int | None, chunk_size: int
) -> Plan:
    """Plan a text that goes on after the last token of another one, with the same seed.

    Raises:
        ConfigError: The parent has no such text, or the length is out of range.
        ChangeRefusedError: The parent is still being written, or came to its own end.
    """
    name = _choose_variant(parent, variant)
    mode, sample = split_variant(name)
    if parent.state is GenerationState.RUNNING:
        raise ChangeRefusedError(
            f"Only a text that has ended can be continued, generation {parent.id} is being "
            f"written. Wait for it, or stop it."
        )
    chunks = chunks_of(parent, name)
    if not chunks:
        raise ChangeRefusedError(
            f"A text must have at least one chunk to be continued, generation {parent.id} has "
            f"none. Generate it again."
        )
    reason = ((parent.result or {}).get(name) or {}).get("reason")
    if reason in ENDED_BY_ITSELF:
        raise ChangeRefusedError(
            f"A text can be continued where it was cut off, but here {ENDED_BY_ITSELF[reason]}, "
            f"and with the same seed it would again. Branch from its last chunk instead."
        )
    settings = _sampling_of(parent)
    config = config_from_dict(
        SamplingConfig,
        {
            **settings,
            "seed": _seed(settings, sample),
            "num_samples": 1,
            "max_new_tokens": settings["max_new_tokens"]
            if max_new_tokens is None
            else max_new_tokens,
        },
    )
    _check_tokens(chunks)
    branch_index = _first_open(chunks, chunk_size)
    steering = steering_of(parent)
    return Plan(
        mode=mode,
        config=config,
        steering=replace(steering, given=_given_from(steering, branch_index)),
        inherited=parent.chunks[name],
        branch_index=branch_index,
    )


def chunks_of(row: GenerationRow, variant: str) -> list[OutputChunk]:
    """Return the finished chunks of one text of a generation."""
    return [OutputChunk.from_dict(chunk) for chunk in row.chunks.get(variant, [])]


def steering_of(row: GenerationRow) -> Steering:
    """Return the steering that a text was written with."""
    return steering_from_dict(row.settings.get("steering") or {})


def _sampling_of(row: GenerationRow) -> dict[str, Any]:
    """Return the settings of a text that were not left to their defaults of today."""
    known = [item.name for item in fields(SamplingConfig)]
    settings = {name: row.settings[name] for name in known if name in row.settings}
    return {**config_to_dict(SamplingConfig()), **settings}


def _choose_variant(parent: GenerationRow, wanted: str | None) -> str:
    variants = variants_of(parent.settings)
    if wanted is None:
        return variants[0]
    if wanted not in variants:
        have = ", ".join(variants)
        raise ConfigError(
            f"variant must be one of {have} for generation {parent.id}, got {shown(wanted)}."
        )
    return wanted


def _check_chunk_index(
    parent: GenerationRow, chunks: Sequence[OutputChunk], wanted: object
) -> None:
    if not chunks:
        raise ChangeRefusedError(
            f"A branch needs the chunks before it, and generation {parent.id} has none yet. "
            f"Wait until its first chunk is written."
        )
    first = sum(chunk.is_prompt for chunk in chunks)
    whole = isinstance(wanted, int) and not isinstance(wanted, bool)
    if not whole or not first <= wanted <= len(chunks):  # type: ignore[operator]  # a number here
        raise ConfigError(
            f"chunk_index must be a chunk that was written, or the one after the last, between "
            f"{first} and {len(chunks)}, got {shown(wanted)}."
        )


def _check_tokens(chunks: Sequence[OutputChunk]) -> None:
    if not all(neighbor.has_tokens for chunk in chunks for neighbor in chunk.neighbors):
        raise ChangeRefusedError(
            "A text can go on only if the tokens of its neighbors were kept, and this one was "
            "written before they were. Generate it again."
        )


def _steer(
    before: Steering, chunks: Sequence[OutputChunk], chunk_index: int, changes: Changes
) -> Steering:
    """Add to the exclusions of the parent; replace the neighbors given to the first chunk.

    What is now excluded is no longer given either, unless it is given again.
    """
    extra = steering_from_dict(
        {
            "exclude_chunks": list(changes.exclude_chunks),
            "exclude_documents": list(changes.exclude_documents),
        }
    )
    given = _without(_given_from(before, chunk_index), extra, chunks)
    if changes.neighbors is not None:
        given[chunk_index] = given_from_list(list(changes.neighbors))
    return Steering(
        exclude_chunks=tuple(dict.fromkeys((*before.exclude_chunks, *extra.exclude_chunks))),
        exclude_documents=tuple(
            dict.fromkeys((*before.exclude_documents, *extra.exclude_documents))
        ),
        given=given,
    )


def _given_from(steering: Steering, first: int) -> Given:
    # What was given to earlier chunks is in the chunks that are taken over.
    return {index: given for index, given in steering.given.items() if index >= first}


def _without(given: Given, excluded: Steering, chunks: Sequence[OutputChunk]) -> Given:
    """Return given neighbors without the excluded ones.

    A chunk that would be left with none retrieves its own again.
    """
    gone = set(excluded.exclude_chunks)
    for chunk in chunks:
        for neighbor in chunk.neighbors:
            if neighbor.document in excluded.exclude_documents and neighbor.chunk_id is not None:
                gone.add(neighbor.chunk_id)
    kept: Given = {}
    for index, neighbors in given.items():
        rest = tuple(one for one in neighbors if one.chunk_id is None or one.chunk_id not in gone)
        if rest or not neighbors:
            kept[index] = rest
    return kept


def _num_written(chunks: Sequence[OutputChunk]) -> int:
    return sum(len(chunk.token_ids) for chunk in chunks if not chunk.is_prompt)


def _length_left(parent: GenerationRow, chunks: Sequence[OutputChunk], chunk_index: int) -> int:
    """Return the tokens between a chunk and the length that the parent was meant to have."""
    asked = int(parent.settings.get("max_new_tokens", SamplingConfig().max_new_tokens))
    begun_with = _num_written(chunks[: parent.branch_index or 0])
    meant = max(begun_with + asked, _num_written(chunks))
    left = meant - _num_written(chunks[:chunk_index])
    return left if left > 0 else asked


def _first_open(chunks: Sequence[OutputChunk], chunk_size: int) -> int:
    """Return the index of the first chunk that is not complete."""
    last = chunks[-1]
    is_open = not last.is_prompt and len(last.token_ids) < chunk_size
    return len(chunks) - 1 if is_open else len(chunks)
