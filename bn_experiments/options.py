"""Options: what each key of a config may be, read off the signatures of what the config names."""

import difflib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_origin

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, Strict, ValidationError, create_model

from bn_experiments.models.initialization import Init


@dataclass(frozen=True)
class CellOptions:
    """The keys of a config that belong to no group."""

    name: Annotated[str, Field(pattern=r"^[\w][\w.+=,-]*$")]
    seed: NonNegativeInt
    replicas: PositiveInt
    init: Init


@dataclass(frozen=True)
class PathOptions:
    """Where things lie."""

    data_dir: Annotated[str, Field(min_length=1)]
    output_dir: Annotated[str, Field(min_length=1)]


@dataclass(frozen=True)
class TrainerOptions:
    """How a cell is trained; `conf/trainer/default.yaml` says what each key means."""

    max_epochs: PositiveInt
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
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
    narrowed: Mapping[str, Any] | None = None,
    elsewhere: Iterable[str] = (),
) -> list[str]:
    """Every way in which options do not fit what they are for, a line each.

    Args:
        options: Key to value, without `_target_` and `_partial_`.
        group: The keys' prefix in the config, for the lines; "" for the top level.
        *targets: The functions or classes that take the options; a key of several goes to the last.
        given: Arguments that the caller passes, which no config sets.
        narrowed: Types that are stricter than the signature's.
        elsewhere: Keys that exist beside these, for the lines.

    >>> problems({"lr": 0.1, "b": 1}, "optimizer", lambda lr: 0)[0]
    'optimizer.b: no such key; allowed: optimizer.lr; leave it out'
    """
    fields, takes_any = _fields(targets, set(given))
    fields.update({name: (hint, ...) for name, hint in (narrowed or {}).items()})
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
        return _lines(error, dict(options), group, [*fields, *elsewhere])
    return []


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


def _lines(error: ValidationError, options: dict[str, Any], group: str, allowed: list[str]) -> list[str]:
    found: dict[str, list[str]] = {}
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0])
        key = f"{group}.{name}" if group else name
        if problem["type"] == "extra_forbidden":
            lines.append(unknown_key(key, [f"{group}.{a}" if group else a for a in allowed]))
        elif problem["type"] == "missing":
            lines.append(f"{key}: is missing; allowed: a value; set {key}=...")
        else:
            found.setdefault(name, []).append(problem["msg"].replace("Input should be ", ""))
    for name, messages in found.items():
        key = f"{group}.{name}" if group else name
        lines.append(
            f"{key}={shown(options[name])}: not allowed; allowed: {' or '.join(dict.fromkeys(messages))}; "
            "change it, or leave it out for the default"
        )
    return lines


def unknown_key(key: str, allowed: Iterable[str]) -> str:
    """The line for a key that does not exist.

    >>> unknown_key("data.batchsize", ["data.batch_size", "data.root"])
    'data.batchsize: no such key; allowed: data.batch_size, data.root; did you mean data.batch_size?'
    """
    allowed = sorted(allowed)
    near = difflib.get_close_matches(key, allowed, n=1)
    mend = f"did you mean {near[0]}?" if near else "leave it out"
    return f"{key}: no such key; allowed: {', '.join(allowed)}; {mend}"


def shown(value: Any) -> str:
    """A value as one types it, on one line and not too long.

    >>> shown([64, 64]), shown(None), shown("a b")
    ('[64, 64]', 'null', "'a b'")
    """
    text = json.dumps(value)
    if isinstance(value, str):
        text = value if value.isidentifier() else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
