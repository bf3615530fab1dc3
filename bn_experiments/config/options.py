"""Options: the keys of a configuration that belong to no class, with their types and ranges."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt


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
