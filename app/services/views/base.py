"""What all answers have in common, and the answer of every error."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, create_model

from app.services.views.docstrings import DocstringSchemas

Json = dict[str, Any]


class View(BaseModel):
    """Base of all answers: more fields may come."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    @classmethod
    def of(cls, row: object) -> Self:
        """Return the view of a row, which has the fields of the view as attributes."""
        return cls.model_validate(row, from_attributes=True)


class Problem(View):
    """Every error: one sentence with the rule, the value found and the next step."""

    detail: str
    """The sentence, for people."""


def plain(value: Any) -> Any:
    """Return what a service returned as JSON values: views, also in lists and under names.

    Fields of a view that were never set are left out.
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def left_out() -> Any:
    """Return a field that some answers do not have; its docstring says which."""

    def without_default(schema: Json) -> None:
        del schema["default"]

    return Field(default=None, json_schema_extra=without_default)


def with_fields_of(kind: type) -> ConfigDict:
    """Return the config of an answer that also has the fields of a dataclass.

    None of them is required: what an earlier version stored may lack some.
    """

    def add_fields(schema: Json) -> None:
        holder = create_model("Holder", __base__=View, value=(kind, ...))
        made = holder.model_json_schema(mode="serialization", schema_generator=DocstringSchemas)
        found = made["$defs"][kind.__name__]
        schema["properties"] = {**found["properties"], **schema.get("properties", {})}

    return ConfigDict(json_schema_extra=add_fields)
