"""Options: what each key of a config may be, read off the signatures of what the config names."""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_origin

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, Strict, ValidationError, create_model

from bn_experiments.wording import allowed, shown, unknown_key


@dataclass(frozen=True)
class CellOptions:
    """The keys of a config that belong to no group, less `init`."""

    name: Annotated[
        str,
        Field(
            pattern=r"^\w[\w.+=,-]*$",
            description="a folder's name: letters, digits and . + = , - _, the first a letter, a digit or _",
        ),
    ]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    replicas: PositiveInt


@dataclass(frozen=True)
class PathOptions:
    """Where things lie."""

    data_dir: Annotated[str, Field(min_length=1)]
    output_dir: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class TrainerOptions:
    """How a cell is trained; `conf/trainer/default.yaml` says what each key means."""

    max_epochs: NonNegativeInt
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    threads: PositiveInt
    cuda_graph: bool
    precision: Literal["32-true", "64-true", "bf16-mixed"]
    steps_per_execution: PositiveInt
    stack_replicas: Literal["auto"] | bool
    gradient_clip_norm: Annotated[float, Field(gt=0)] | None
    deterministic: Literal["warn"] | bool
    log_every_n_steps: PositiveInt
    checkpoint_every_n_steps: PositiveInt
    progress_bar: Literal["auto"] | bool


def accepted(target: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that `target` takes by name.

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
) -> list[str]:
    """Every way in which options do not fit what they are for, a line each.

    Args:
        options: Key to value, without `_target_` and `_partial_`.
        group: The keys' prefix in the config, for the lines; "" for the top level.
        *targets: The functions or classes that take the options; a key of several goes to the last.
        given: Arguments that the caller passes, which no config sets.
        narrowed: Type and default (`...`: none) of arguments, where the signature's are too wide.
        elsewhere: Keys that exist beside these, for the lines.

    >>> problems({"lr": 0.1, "b": 1}, "optimizer", lambda lr: 0)[0]
    'optimizer.b: no such key; allowed: optimizer.lr; leave it out'
    """
    fields, takes_any = _fields(targets, set(given))
    fields.update({name: field for name, field in (narrowed or {}).items() if name in fields})
    model = create_model(
        "options",
        __config__=ConfigDict(
            extra="ignore" if takes_any else "forbid", arbitrary_types_allowed=True, allow_inf_nan=False
        ),
        **fields,
    )
    try:
        model.model_validate_json(json.dumps(dict(options)), strict=True)
    except ValidationError as error:
        known = [f"{group}.{name}".lstrip(".") for name in (*fields, *elsewhere)]
        names = dict.fromkeys(str(problem["loc"][0]) for problem in error.errors(include_url=False))
        return [_problem(f"{group}.{name}".lstrip("."), name, options, fields, known) for name in names]
    return []


def _problem(key: str, name: str, options: Mapping[str, Any], fields: Mapping[str, Any], known: list[str]) -> str:
    if name not in fields:
        return unknown_key(key, known)
    hint, _ = fields[name]
    if name not in options:
        return f"{key}: is missing; allowed: {allowed(hint)}; set it with +{key}=..., or leave out what deletes it"
    value = shown(options[name])
    return f"{key}={value}: wrong value; allowed: {allowed(hint)}; change it, or leave it out for the default"


def _fields(targets: Iterable[Callable[..., Any]], given: set[str]) -> tuple[dict[str, Any], bool]:
    """(Type, default) by argument, and whether a target takes any keyword."""
    fields: dict[str, Any] = {}
    takes_any = False
    for target in targets:
        for name, parameter in _signature(target).parameters.items():
            if name in given:
                continue
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                takes_any = True
            elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
                hint = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
                if get_origin(hint) is tuple:
                    hint = Annotated[hint, Strict(False)]
                fields[name] = (
                    hint,
                    ... if parameter.default is inspect.Parameter.empty else parameter.default,
                )
    return fields, takes_any


def _signature(target: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(target, eval_str=True)
    except (NameError, TypeError):  # annotations of other people's classes that cannot be evaluated
        return inspect.signature(target)
