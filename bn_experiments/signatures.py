"""Signatures: which arguments a function accepts, in words, and which of the given options are wrong."""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_origin

from pydantic import ConfigDict, Strict, TypeAdapter, ValidationError, create_model
from pydantic.json_schema import GenerateJsonSchema

from bn_experiments.refusal import Refusal, unknown_key

BOUNDS = {"exclusiveMinimum": "above", "minimum": "of at least", "exclusiveMaximum": "below", "maximum": "of at most"}


def accepted(target: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are arguments of `target`.

    >>> accepted(lambda a, b: 0, {"b": 1, "c": 2})
    {'b': 1}
    """
    return {name: options[name] for name in inspect.signature(target).parameters if name in options}


def problems(
    options: Mapping[str, Any],
    group: str,
    *targets: Callable[..., Any],
    given: Iterable[str] = (),
    narrowed: Mapping[str, tuple[Any, Any]] | None = None,
    elsewhere: Iterable[str] = (),
) -> list[Refusal]:
    """A refusal for each option that its target does not accept, and for each that is missing.

    Args:
        options: The values by key, without `_target_` and `_partial_`.
        group: The prefix of the keys in the config, for the refusals; "" at the top level.
        *targets: The functions or classes that get the options; a key that several have is checked against the last.
        given: The arguments that the caller passes; a config cannot set them.
        narrowed: The type and default (`...` if it has none) of arguments with a too wide type in the signature.
        elsewhere: Other keys that exist in the config, for the refusals.

    >>> print(*problems({"lr": 0.1, "b": 1}, "optimizer", lambda lr: 0))
    optimizer.b: no such key; allowed: optimizer.lr; leave it out
    """
    parameters = {
        name: parameter
        for target in targets
        for name, parameter in _signature(target).parameters.items()
        if name not in given and parameter.kind is not parameter.VAR_POSITIONAL
    }
    any_name = [name for name, parameter in parameters.items() if parameter.kind is parameter.VAR_KEYWORD]
    fields = {name: _field(parameter) for name, parameter in parameters.items() if name not in any_name}
    fields.update({name: field for name, field in (narrowed or {}).items() if name in fields})
    settings = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False, extra="ignore" if any_name else "forbid")
    model = create_model("options", __config__=settings, **fields)
    try:
        model.model_validate_json(json.dumps(dict(options)), strict=True)
    except ValidationError as error:
        known = [f"{group}.{name}".lstrip(".") for name in (*fields, *elsewhere)]
        names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors(include_url=False))
        return [_problem(f"{group}.{name}".lstrip("."), name, options, fields, known) for name in names]
    return []


def _problem(key: str, name: str, options: Mapping[str, Any], fields: Mapping[str, Any], known: list[str]) -> Refusal:
    if name not in fields:
        return unknown_key(key, known)
    hint, _ = fields[name]
    if name not in options:
        return Refusal(key, "is missing", allowed(hint), f"set it with +{key}=..., or leave out what deletes it")
    remedy = "change it, or leave it out for the default"
    return Refusal(key, "wrong value", allowed(hint), remedy, value=options[name])


def _field(parameter: inspect.Parameter) -> Any:
    """The type of an argument and its default, `...` where it has none, as pydantic takes them."""
    hint = Any if parameter.annotation is parameter.empty else parameter.annotation
    if get_origin(hint) is tuple:
        hint = Annotated[hint, Strict(False)]
    return hint, ... if parameter.default is parameter.empty else parameter.default


def _signature(target: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(target, eval_str=True)
    except (NameError, TypeError):  # a class of another package has annotations that cannot be evaluated
        return inspect.signature(target)


def allowed(hint: Any) -> str:
    """The allowed values of a type, in words.

    >>> from typing import Annotated, Literal
    >>> from pydantic import Field
    >>> allowed(Annotated[int, Field(gt=0)]), allowed(Literal["auto"] | bool), allowed(float | list[float])
    ('a whole number above 0', 'auto, true or false', 'a number or a list of numbers')
    """
    adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    *most, last = _alternatives(adapter.json_schema(schema_generator=_Schema)) or ["what its class takes"]
    return f"{', '.join(most)} or {last}" if most else last


class _Schema(GenerateJsonSchema):
    """A JSON schema in which no value fits a type that a config cannot hold, such as a tensor."""

    def handle_invalid_for_json_schema(self, *_: Any) -> dict[str, Any]:
        return {"not": {}}


def _alternatives(schema: Mapping[str, Any]) -> list[str]:
    """The alternatives of a JSON schema, each in words."""
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
