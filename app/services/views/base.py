"""What all answers have in common, and the answer of every error."""

from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema, core_schema

from app.services.views.docstrings import DocstringSchemas

Json = dict[str, Any]


class View(BaseModel):
    """Base of all answers: more fields may come."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    @classmethod
    def of(cls, row: object, **others: object) -> Self:
        """Return the view of a row, which has fields of the view as attributes.

        Args:
            row: What is stored.
            others: Fields that the row lacks, or that are to be different.
        """
        if not others:
            return cls.model_validate(row, from_attributes=True)
        own = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls.model_validate({**own, **others}, from_attributes=True)


class Problem(View):
    """Every error: one sentence with the rule, the value found and the next step."""

    detail: str
    """The sentence, for people."""


def plain(value: Any) -> Any:
    """Return what a service returned as JSON values: views, also in lists and under names.

    Fields of a view that were never set are left out.
    """
    if isinstance(value, BaseModel):
        return plain(opened(value))
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    # A long text has tens of thousands of numbers in lists: they need no look at each of them.
    if isinstance(value, list | tuple) and value and isinstance(value[0], BaseModel):
        return [plain(item) for item in value]
    return value


def opened(view: BaseModel) -> Json:
    """Return the fields of a view that were set, by the names they have in JSON."""
    fields = type(view).model_fields
    own = {
        field.alias or name: getattr(view, name)
        for name, field in fields.items()
        if name in view.model_fields_set
    }
    return own | (view.model_extra or {})


def left_out() -> Any:
    """Return a field that some answers do not have; its docstring says which."""

    def without_default(schema: Json) -> None:
        del schema["default"]

    return Field(default=None, json_schema_extra=without_default)


@dataclass(frozen=True, slots=True)
class Stored:
    """Describes a stored object, which is answered as it is: an earlier version made it.

    Used as ``Annotated[Json, Stored(kind)]``.
    """

    kind: type

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return what takes every object and is described as one of its class."""
        # With metadata, a schema keeps its name even where it is used once.
        described: Any = {**handler.generate_schema(self.kind), "metadata": {"kept": True}}
        # The serializer is there to make its parts known where schemas are collected.
        return core_schema.dict_schema(
            metadata={"pydantic_js_annotation_functions": [lambda _, handler: handler(described)]},
            serialization=core_schema.wrap_serializer_function_ser_schema(
                lambda value, _: value, schema=described
            ),
        )


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
