"""The page of one screen that says what was found of a norm, in words."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from inspect import getfullargspec
from typing import Any

from bn_experiments.norms.examine.cost import Cost
from bn_experiments.norms.examine.findings import Findings
from bn_experiments.norms.examine.perturbation import WRONG, Others
from bn_experiments.norms.examine.trials import MODES, words
from bn_experiments.norms.slot import Slot
from bn_experiments.training.agreement import Agreement

WIDTH, LABEL = 80, 22  # characters of a line, and of the words at its start
PLACES = {"(B, F)": "linear layers", "(B, F, L)": "1-D convolutions", "(B, F, H, W)": "2-D convolutions"}
STACKED = "yes, replicas trained as one become what each becomes alone"
CUT = "yes, a run goes on from a checkpoint to the same numbers"
Row = tuple[str, str]  # what a line is about, or "" where it goes on, and what is said of it


def page(path: str, options: Sequence[str], features: int, batch_size: int, findings: Findings) -> str:
    """The findings as a page of one screen."""
    lines = [
        *textwrap.wrap(
            f"{' '.join([path, *options])}, tried on B = {batch_size} examples of F = {features} features", WIDTH
        ),
        "(B, F) comes from a linear layer, (B, F, L) and (B, F, H, W) from convolutions",
        "",
    ]
    for label, text in [*_inputs(findings), *(_behaviour(findings) if findings.depends else [])]:
        lines += textwrap.wrap(text, WIDTH, initial_indent=label.ljust(LABEL), subsequent_indent=" " * LABEL)
    lines += ["", *textwrap.wrap(verdict(findings), WIDTH)]
    return "\n".join([*lines, *(f"  {one}" for one in command(path, options, findings))])


def _inputs(findings: Findings) -> Iterator[Row]:
    """What the norm takes."""
    for shape, modes in findings.takes.items():
        note = findings.notes.get(shape)
        yield f"takes {shape}", _yes(modes) + (f"; {note}" if note else "")
    for size in findings.sizes.get("training", ()):
        yield f"a batch of {size}", _yes({mode: found[size] for mode, found in findings.sizes.items()})


def _behaviour(findings: Findings) -> Iterator[Row]:
    """What the norm does with what it takes."""
    yield "parameters", _parameters(findings.parameters)
    yield "state", _state(findings)
    for mode in MODES:
        texts = {shape: _depends(found, mode) for shape, found in _told_apart(findings.depends, mode).items()}
        for text in dict.fromkeys(texts.values()):
            shapes = " and ".join(shape for shape, own in texts.items() if own == text)
            about = f"on {shapes} " if len(set(texts.values())) > 1 else ""
            yield f"in {mode}", f"{about}y depends on {text}"
    yield "randomness", _randomness(findings)
    yield "derivatives", _by_mode({mode: _gradients(found) for mode, found in findings.gradients.items()})
    moves = [f"{name} {_yes({'training': reason})}" for name, reason in findings.moves.items()]
    behind = ", ".join(findings.left_behind)
    moves.append(
        f"{behind} stays behind on a move to another device"
        if behind
        else "all its tensors move to another device with it"
    )
    yield "dtype, device", "; ".join(moves)
    agreements = {shape: found for shape, found in findings.agreements.items() if isinstance(found, Agreement)}
    yield from _by_shape("stacked", {s: _without_place(found.alone) for s, found in agreements.items()}, STACKED)
    yield from _by_shape("cut, continued", {s: _without_place(found.anew) for s, found in agreements.items()}, CUT)
    for shape, found in findings.agreements.items():
        if isinstance(found, str):
            yield "training", f"in {PLACES[shape]} no ({found})"
    for name, cost in findings.costs.items():
        yield f"time {name}", f"not known ({cost})" if isinstance(cost, str) else _cost(cost)
    if rounds := [cost["forward"].n for cost in findings.costs.values() if not isinstance(cost, str)]:
        yield "", f"as multiples of torch's batch norm, median [least, most] of n = {rounds[0]}"


def _by_mode(texts: Mapping[str, str]) -> str:
    """One text where both modes have the same, or a text for each."""
    one, *others = dict.fromkeys(texts.values())
    return "; ".join(f"in {mode} {text}" for mode, text in texts.items()) if others else one


def _yes(reasons: Mapping[str, str | None]) -> str:
    return _by_mode({mode: "yes" if reason is None else f"no ({reason})" for mode, reason in reasons.items()})


def _by_shape(label: str, reasons: Mapping[str, str | None], good: str) -> Iterator[Row]:
    """A line for each reason, with the layers that it is about where it is not about all."""
    for reason in dict.fromkeys(reasons.values()):
        about = (
            f"in {_places([shape for shape, own in reasons.items() if own == reason])} "
            if len(set(reasons.values())) > 1
            else ""
        )
        yield label, about + (good if reason is None else f"no ({reason})")


def _without_place(reason: str | None) -> str | None:
    """A reason without the layer of the trial network in it."""
    return reason and re.sub(r"\b(hidden|features)\.0\.norm\.", "", words(ValueError(reason)))


def _parameters(shapes: Mapping[str, tuple[int, ...]]) -> str:
    known = {"weight": "scale", "bias": "shift"}
    parts = [
        f"{name} {shapes[name]} is the {word}" if name in shapes else f"no {word} (named {name})"
        for name, word in known.items()
    ]
    others = ", ".join(f"{name} {shape}" for name, shape in shapes.items() if name not in known)
    return ", ".join(parts) + (f"; others, which the bench takes for neither: {others}" if others else "")


def _state(findings: Findings) -> str:
    texts = []
    for act, names in zip(("a training step", "an evaluation"), findings.state.values(), strict=True):
        what = f"what is not known ({names})" if isinstance(names, str) else ", ".join(names) or "nothing"
        texts.append(f"{act} changes {what}")
    if findings.made_buffers:
        texts.append(f"the bench makes {', '.join(findings.made_buffers)}, which are plain attributes, buffers")
    return "; ".join(texts)


def _told_apart(depends: Mapping[str, Mapping[str, Any]], mode: str) -> dict[str, Any]:
    """What was found by shape, without that of (B, F) where it says no more than that of another shape."""
    found = {shape: modes[mode] for shape, modes in depends.items()}
    flat, *others = found.values()
    if others and not isinstance(flat, str) and not isinstance(others[0], str) and flat.items() <= others[0].items():
        del found[next(iter(found))]
    return found


def _depends(found: Mapping[str, Others] | str, mode: str) -> str:
    if isinstance(found, str):
        return f"what is not known ({found})"
    some = [_count(others, axis) for axis, others in found.items() if others.high]
    none = [axis for axis, others in found.items() if not others.high]
    if not some:
        return "its own input alone"
    text = f"{' and '.join(some)}" + (f", on no other {' or '.join(none)}" if none else "")
    if mode == "evaluation" and "example" in found and found["example"].high:
        text += ": the answer for an example changes with the batch it is in"
    return text


def _count(others: Others, axis: str) -> str:
    low, high, of = others
    if low == of:
        return f"all other {axis}s"
    return f"{high if low == high else f'{low} to {high}'} of the {of} other {axis}s"


def _randomness(findings: Findings) -> str:
    draws = {place: " and ".join(f"{name}'s" for name in names) for place, names in findings.draws.items()}
    made = draws.pop("constructor")
    again = {True: "the same input gives the same output", False: "the same input gives another output each time"}
    texts = {}
    for mode, repeats in findings.repeats.items():
        drawn = f"draws from {draws[mode]} generator" if draws[mode] else "draws nothing"
        texts[mode] = (
            f"{drawn}, {f'not known if twice the same ({repeats})' if isinstance(repeats, str) else again[repeats]}"
        )
    return _by_mode(texts) + (f"; its constructor draws from {made} generator" if made else "")


def _gradients(found: Mapping[str, str | None] | str) -> str:
    if isinstance(found, str):
        return f"not known ({found})"
    wrong = [name if reason == WRONG else f"{name} ({reason})" for name, reason in found.items() if reason]
    if not wrong:
        return f"right for {', '.join(found)} (compared with differences of outputs)"
    return f"wrong for {', '.join(wrong)}, unless stopped there on purpose"


def _cost(cost: Mapping[str, Cost]) -> str:
    return ", ".join(f"{c.median:.2g} [{c.low:.2g}, {c.high:.2g}] {name}" for name, c in cost.items())


def verdict(findings: Findings) -> str:
    """Whether the bench will train the norm, in one sentence."""
    if not findings.usable:
        return "The bench cannot train it."
    agreements = {shape: found for shape, found in findings.agreements.items() if isinstance(found, Agreement)}
    stacked = [shape for shape, found in agreements.items() if found.alone is None]
    alone = [shape for shape in findings.usable if shape not in stacked]
    ways = {"stacked, all replicas at once,": stacked, "one replica after the other": alone}
    texts = [f"{way} in {_places(shapes)}" for way, shapes in ways.items() if shapes]
    never = [shape for shape in findings.takes if shape not in findings.usable]
    return f"The bench will train it {', and '.join(texts)}" + (f", not in {_places(never)}" if never else "") + "."


def _places(shapes: Sequence[str]) -> str:
    """The layers that give inputs of these shapes."""
    *most, last = (PLACES[shape] for shape in shapes)
    return f"{', '.join(most)} and {last}" if most else last


def command(path: str, options: Sequence[str], findings: Findings) -> list[str]:
    """The command that trains networks with the norm and without; two, where the norm has options that none has not."""
    if not findings.usable:
        return []
    own = dict(text.lstrip("+").removeprefix("norm.").split("=", 1) for text in options)
    model = []
    if "(B, F)" not in findings.usable:
        own.setdefault("layers", "conv")
        model = ["model=lenet"] if "(B, F, L)" in findings.usable else ["model=lenet", "data=mnist"]
    place = [f"norm.{key}={own.pop(key)}" for key in getfullargspec(Slot).kwonlyargs if key in own]
    norm = f"norm={'' if own else 'none,'}" + (f'"{path}"' if "{" in path else path)
    train = ["python train.py -m", f"'{norm}'" if "{" in path else norm, *model, *place]
    with_norm = " ".join([*train, *(f"+norm.{key}={text}" for key, text in own.items())])
    return [with_norm, " ".join(["python train.py -m norm=none", *model])] if own else [with_norm]
