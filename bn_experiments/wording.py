"""Wording: keys, values and types, as a line for a person shows them."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

BOUNDS = {"exclusiveMinimum": "above", "minimum": "of at least", "exclusiveMaximum": "below", "maximum": "of at most"}


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The line for a key that does not exist.

    >>> unknown_key("data.batchsize", ["data.batch_size", "data.root"])
    'data.batchsize: no such key; allowed: data.batch_size, data.root; did you mean data.batch_size?'
    """
    by_leaf = {name.rpartition(".")[2]: name for name in sorted(known)}
    near = difflib.get_close_matches(key.rpartition(".")[2], by_leaf, n=1)
    mend = f"did you mean {by_leaf[near[0]]}?" if near else "leave it out"
    return f"{key}: no such key; allowed: {', '.join(by_leaf.values())}; {mend}"


def allowed(hint: Any) -> str:
    """The values of a type, in words.

    >>> from typing import Annotated, Literal
    >>> from pydantic import Field
    >>> allowed(Annotated[int, Field(gt=0)]), allowed(Literal["auto"] | bool), allowed(float | list[float])
    ('a whole number above 0', 'auto, true or false', 'a number or a list of numbers')
    """
    adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    *most, last = _alternatives(adapter.json_schema(schema_generator=_Schema)) or ["what its class takes"]
    return f"{', '.join(most)} or {last}" if most else last


class _Schema(GenerateJsonSchema):
    """JSON schema in which a type that no config can hold, such as a tensor, stands as one that nothing fits."""

    def handle_invalid_for_json_schema(self, *_: Any) -> dict[str, Any]:
        return {"not": {}}


def _alternatives(schema: Mapping[str, Any]) -> list[str]:
    """A JSON schema in words, each alternative apart."""
    if "description" in schema:
        return [schema["description"]]
    if "anyOf" in schema:
        return [words for part in schema["anyOf"] for words in _alternatives(part)]
    if "enum" in schema or "const" in schema:
        return [str(value) for value in schema.get("enum", [schema.get("const")])]
    kind = schema.get("type")
    if kind == "array":
        return [_list(schema)]
    if kind in ("integer", "number"):
        bounds = " and ".join(f"{words} {schema[bound]}" for bound, words in BOUNDS.items() if bound in schema)
        return [f"a {'whole ' * (kind == 'integer')}number {bounds}".rstrip()]
    plain = {"null": ["null"], "boolean": ["true", "false"], "object": ["keys with values"]}
    plain["string"] = ["text that is not empty" if schema.get("minLength") else "text"]
    return plain.get(str(kind), [])


def _list(schema: Mapping[str, Any]) -> str:
    item = (schema.get("prefixItems") or [schema.get("items", {})])[0]
    items = re.sub(r"\ba ((whole )?number)", r"\1s", " or ".join(_alternatives(item))) or "values"
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    count = f"{least} " if least == most else f"{least} or more " if least else ""
    return f"a list of {count}{items}"


def shown(value: Any) -> str:
    """A value as one types it, on one line and not too long.

    >>> shown([64, 64]), shown(None), shown("a b"), shown(float("nan"))
    ('[64,64]', 'null', "'a b'", 'nan')
    """
    if isinstance(value, str):
        text = value if re.fullmatch(r"[\w./+-]+", value) else repr(value)
    elif isinstance(value, float):
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= 80 else text[:77] + "..."
