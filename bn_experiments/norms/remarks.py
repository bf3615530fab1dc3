"""Remarks: what an existing network with the norm of an arm differs in from what it was, beside its norms."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bn_experiments.norms.kinds import OF_TORCH
from bn_experiments.norms.slot import Slot

SCALES = ("weight", "gamma", "scale", "g")
SHIFTS = ("bias", "beta", "shift", "b")
SETTINGS = ("eps", "momentum", "affine", "track_running_stats")


def scale_of(norm: nn.Module) -> Tensor | None:
    """The scale of a norm, by the names that it has in practice; None if it has none."""
    return next((one for name in SCALES if isinstance(one := getattr(norm, name, None), Tensor)), None)


def shift_of(norm: nn.Module) -> Tensor | None:
    """The shift that a norm learns, by the names that it has in practice; None if it has none."""
    return next((one for name in SHIFTS if isinstance(one := getattr(norm, name, None), nn.Parameter)), None)


def effective_scale(norm: nn.Module) -> Tensor | None:
    """What a norm multiplies by: its scale, or 1 + its scale, as in Gemma's RMSNorm; None if it has none.

    Which one shows where the scale is set to zeros: what the first gives is then zero.
    """
    scale = scale_of(norm)
    if scale is None or scale.is_meta or isinstance(norm, OF_TORCH):
        return scale
    made = copy.deepcopy(norm).cpu().eval()
    x = torch.linspace(-1, 1, 2 * scale.numel(), device="cpu", dtype=scale.dtype).view(2, -1)
    with torch.no_grad():
        for one in (scale_of(made), shift_of(made)):
            if one is not None:
                one.zero_()
        try:
            return 1 + scale if bool(made(x).any()) else scale
        except Exception:  # of one that takes no (B, C)
            return scale


def remarks(
    norm: Slot, pairs: Sequence[tuple[nn.Module, nn.Module]], spread: Mapping[str, str], without_layer: int
) -> list[str]:
    """What to know of a network whose norms were replaced, in sentences.

    Args:
        norm: The slot of the arm.
        pairs: Each norm that was removed, with what stands in its place.
        spread: The modules that take a spread outside a norm, each with the operation.
        without_layer: The number of removed norms that have no layer before them which a parametrization could go on.
    """
    found = [_of_zeros(norm, [removed for removed, _ in pairs]), *_of_settings(norm, pairs)]
    frozen = sum(any(not one.requires_grad for one in removed.parameters()) for removed, _ in pairs)
    if frozen:
        found.append(
            f"{frozen} of the {len(pairs)} norms that were replaced were frozen, and those in their place are trained"
        )
    if without_layer and norm.target is not None and norm.width_argument == "module":
        found.append(
            f"{without_layer} of the {len(pairs)} norms that were replaced do not directly follow a layer with weights "
            "of its own, so nothing stands in their place"
        )
    counts = Counter(id(one) for removed, _ in pairs for one in removed.parameters())
    if shared := sum(count > 1 for count in counts.values()):
        found.append(f"the norms that were replaced shared {shared} scales or shifts, which are now apart")
    for where, operation in spread.items():
        found.append(
            f"{where or 'the network'} takes {operation} outside a norm; where that normalizes, every arm does"
        )
    return [remark for remark in found if remark]


def _of_zeros(norm: Slot, removed: Sequence[nn.Module]) -> str:
    scales = [scale for one in removed if (scale := effective_scale(one)) is not None and not scale.is_meta]
    zeros = sum(not scale.any() for scale in scales)
    if not zeros or norm.scale_init == "kept":
        return ""
    instead = "norm=none has no scale" if norm.target is None else "they start at norm.scale_init"
    return f"{zeros} of the {len(removed)} norms that were replaced had scales of zeros; {instead}"


def _of_settings(norm: Slot, pairs: Sequence[tuple[nn.Module, nn.Module]]) -> list[str]:
    """The settings that differ where a norm is replaced by one of the same class, or of a class derived from it."""
    alike = [(old, new) for old, new in pairs if isinstance(old, type(new))]
    differing = {(key, getattr(old, key, None), getattr(new, key, None)) for old, new in alike for key in SETTINGS}
    return [
        f"norms of the same kind had {key}={old} and have {key}={new}" + f" (norm.{key})" * (key in norm.options)
        for key, old, new in sorted(differing, key=str)
        if old != new
    ]
