"""What all bodies of REST requests have in common: unknown fields are refused."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

T = TypeVar("T")
Items = Annotated[list[T], Field(fail_fast=True)]
"""A list of which only the first wrong item is described."""


class Body(BaseModel):
    """Base of all bodies: no field is ignored, no value is bent into another type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_half_characters(cls, values: Any) -> Any:
        # JSON can spell them, but neither the database nor a file can hold them.
        if not _is_storable(values):
            raise ValueError("free of halves of surrogate pairs")
        return values


def _is_storable(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item):
            return False
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item
    return True
