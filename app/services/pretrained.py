"""Pretrained models that people can write with at once, from any corpus."""

from dataclasses import dataclass

from retro.model.pretrained.bundled import BUNDLED_NAME, About, is_converted, is_installed


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainedModel:
    """A pretrained model, as people choose it."""

    name: str
    """What stands in the place of a run."""
    title: str
    parameters: int
    licence: str
    origin: str
    is_converted: bool
    """Whether it is ready; otherwise the first text converts it."""


def is_pretrained(run_id: str) -> bool:
    """Return whether what stands in the place of a run is a pretrained model.

    That is the bundled one, a name on the Hub, or a folder; ids of runs have no slash.
    """
    return run_id == BUNDLED_NAME or "/" in run_id


def pretrained_models() -> list[PretrainedModel]:
    """Return the models that are here, or that the first text converts."""
    if not (is_installed() or is_converted()):
        return []
    about = About()
    return [
        PretrainedModel(
            name=BUNDLED_NAME,
            title=about.title,
            parameters=about.parameters,
            licence=about.licence,
            origin=about.origin,
            is_converted=is_converted(),
        )
    ]
