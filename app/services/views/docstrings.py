"""Makes JSON schemas in which the docstring below a field is its description.

pydantic can do so too, but while a class is made, which would delay every start of the app.
"""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema


class DocstringSchemas(GenerateJsonSchema):
    """Describes the fields of models and of dataclasses."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Return the schema of a model."""
        return _described(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        """Return the schema of a dataclass."""
        return _described(super().dataclass_schema(schema), schema["cls"])


def _described(schema: JsonSchemaValue, kind: type[Any]) -> JsonSchemaValue:
    fields = getattr(kind, "model_fields", {})
    for base in kind.__mro__:
        for name, text in _docstrings(base.__module__).get(base.__name__, {}).items():
            alias = fields[name].alias if name in fields else None
            if (field := schema["properties"].get(alias or name)) is not None:
                field.setdefault("description", text)
    return schema


def docstrings_of(kind: type[Any]) -> dict[str, str]:
    """Return the docstrings below the fields of a class, by field."""
    return _docstrings(kind.__module__)[kind.__name__]


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """Return the docstrings below the fields of a module's classes, by class and field."""
    if module.partition(".")[0] not in ("app", "retro"):
        return {}
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: {
            field.target.id: " ".join(below.value.value.split())
            for field, below in pairwise(node.body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            if isinstance(below.value.value, str)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }
