"""Findings: what a norm of one's own does, found by trying it, before a network is trained with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bn_experiments.norms.examine import trials
from bn_experiments.norms.examine.cost import Cost
from bn_experiments.norms.examine.perturbation import Others
from bn_experiments.norms.examine.trials import MODES, SHAPES, Subject, tried
from bn_experiments.training.agreement import Agreement

COSTS = {"(100, 100)": (100, 100), "(64, 16, 28, 28)": (64, 16, 28, 28)}


@dataclass(frozen=True)
class Findings:
    """What was found of a norm. Where a reason in words stands, None says that it works.

    Args:
        takes: The reason for which it does not take an input, by shape and mode.
        notes: What else is to be said of a shape: a warning, or that an evaluation needs a training step before it.
        parameters: The shapes of its parameters; the bench knows the scale by `weight`, the shift by `bias`.
        made_buffers: The plain attributes with tensors that the bench makes buffers.
        draws: The global generators from which it draws, in the constructor and by mode.
        sizes: The reason for which it does not take another number of examples, by mode and number.
        state: The buffers and plain attributes that change, by mode; or why that is not known.
        left_behind: The attributes with tensors that stay where they were as the norm moves to another device.
        depends: On how many others an output depends, by shape, mode and axis; or why that is not known.
        repeats: Whether the same input gives the same output twice, by mode; or why that is not known.
        gradients: Why a gradient is not a derivative, by mode and parameter; or why that is not known.
        moves: The reason for which it does not work in another dtype or on another device.
        agreements: Whether networks with it become in a stack, or cut, what they become alone, by shape; or the reason
            for which they cannot be trained.
        costs: Its time over that of torch's batch norm, by shape and direction; or why that is not known.
    """

    takes: dict[str, dict[str, str | None]]
    notes: dict[str, str]
    parameters: dict[str, tuple[int, ...]]
    made_buffers: list[str]
    draws: dict[str, list[str]]
    sizes: dict[str, dict[int, str | None]] = field(default_factory=dict)
    state: dict[str, list[str] | str] = field(default_factory=dict)
    left_behind: list[str] = field(default_factory=list)
    depends: dict[str, dict[str, dict[str, Others] | str]] = field(default_factory=dict)
    repeats: dict[str, bool | str] = field(default_factory=dict)
    gradients: dict[str, dict[str, str | None] | str] = field(default_factory=dict)
    moves: dict[str, str | None] = field(default_factory=dict)
    agreements: dict[str, Agreement | str] = field(default_factory=dict)
    costs: dict[str, dict[str, Cost] | str] = field(default_factory=dict)

    @property
    def usable(self) -> list[str]:
        """The shapes in which the bench can train it."""
        return [shape for shape, found in self.agreements.items() if not isinstance(found, str)]


def examine(path: str, options: Mapping[str, Any], width: int, batch_size: int) -> Findings:
    """Tries a norm.

    Args:
        path: The import path of its class, with `{dim}` for the number of spatial axes.
        options: Its options, and keys of the slot such as `layers`.
        width: The number of features.
        batch_size: The number of examples.

    Raises:
        Refusal: The class cannot be imported, or cannot be made with these options.
    """
    subject = Subject(path, options, width, batch_size)
    shapes = SHAPES[subject.slot.layers]
    parameters = {name: tuple(parameter.shape) for name, parameter in subject.norm(shapes[0]).named_parameters()}
    notes: dict[str, str] = {}
    takes = {shape: {mode: trials.taken(subject, shape, mode, notes) for mode in MODES} for shape in shapes}
    constructor, made_buffers = trials.constructor(subject)
    taken = [shape for shape in shapes if not any(takes[shape].values())]
    if not taken:
        return Findings(takes, notes, parameters, made_buffers, {"constructor": constructor})
    main = "(B, F, L)" if "(B, F, L)" in taken else taken[0]
    return Findings(
        takes,
        notes,
        parameters,
        made_buffers,
        draws={"constructor": constructor} | {mode: trials.draws(subject, main, mode) for mode in MODES},
        sizes={mode: {n: trials.takes_size(subject, taken[0], mode, n) for n in (batch_size - 1, 1)} for mode in MODES},
        state={mode: tried(partial(trials.changes, subject, main, mode)) for mode in MODES},
        left_behind=trials.left_behind(subject.trained(main)),
        depends={s: {mode: tried(partial(trials.depends, subject, s, mode)) for mode in MODES} for s in taken},
        repeats={mode: tried(partial(trials.repeats, subject, main, mode)) for mode in MODES},
        gradients={mode: tried(partial(trials.derivatives, subject, main, mode)) for mode in MODES},
        moves=trials.moves(subject, main),
        agreements={shape: tried(partial(trials.agreement_in, subject, shape)) for shape in taken},
        costs={name: tried(partial(trials.costs_on, subject, shape)) for name, shape in COSTS.items()},
    )
