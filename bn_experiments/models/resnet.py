"""The residual convolutional network, for signals and for images."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from bn_experiments.models.branch import Fixup, Layer, ScaleStart, Scaling, entrance, followed, scale_of
from bn_experiments.models.hidden import ActivationName, named_activation
from bn_experiments.models.shapes import position_axes
from bn_experiments.norms.slot import Slot
from bn_experiments.refusal import Refusal

LAYERS_OF_A_BLOCK = 2


class Subsampling(nn.Module):
    """The shortcut without parameters: every second position, and channels of zeros after those that there are.

    Shapes: h (B, C_in, L) or (B, C_in, H, W) to (B, C_out, ceil(L / stride)) or the same in two dimensions.

    Args:
        more: The number C_out - C_in of channels of zeros.
        stride: The distance between the positions that are kept.

    Source: He et al. 2015, arXiv:1512.03385, section 3.3, option A.
    """

    def __init__(self, more: int, stride: int):
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, h: Tensor) -> Tensor:
        """Maps h (B, C_in, ...) to (B, C_out, ...)."""
        dim = h.dim() - 2
        every = slice(None, None, self.stride)
        kept = h[:, :, every, every] if dim == 2 else h[:, :, every]
        return F.pad(kept, (0, 0) * dim + (0, self.more))


class Block(nn.Module):
    """One residual block of two convolutions W_1 and W_2 of kernel size 3.

    With the activation f after the addition it is f(s(h) + N W_2 f(N W_1 h)). With the pre-activation a = f(N h) it is
    s + W_2 f(N W_1 a), where the shortcut s reads h if it has no parameters, and a if it has. Each f(N ...) is N f(...)
    with `norm.placement=post`; the norm after W_2 has no activation in its branch, and stays there.

    Shapes: h (B, C_in, ...) to (B, C_out, ...), with every second position where the stride is 2.

    Args:
        convolutions: W_1 and W_2.
        norm: The slot.
        activation: The name of f.
        shortcut: The shortcut s: the identity, the subsampling, or a convolution of kernel size 1.
        scale: What scales the branch.
        pre_activation: Whether f comes before the convolutions.
        entrance: The pre-activation of h. None: the stem, or the block before, has f at its end.
    """

    def __init__(
        self,
        convolutions: tuple[Layer, Layer],
        norm: Slot,
        activation: ActivationName,
        shortcut: nn.Module,
        scale: nn.Module,
        pre_activation: bool,
        entrance: nn.Module | None,
    ):
        super().__init__()
        first, second = convolutions
        self.entrance = nn.Identity() if entrance is None else entrance
        self.first = norm.around(first, named_activation(activation))
        # with pre-activation the norm of what W_2 puts out stands after the addition, in the next entrance
        self.second = nn.Sequential(OrderedDict(layer=second)) if pre_activation else followed(norm, second)
        self.projects = isinstance(shortcut, nn.Conv1d | nn.Conv2d)
        if self.projects:
            shortcut = nn.Sequential(OrderedDict(layer=shortcut)) if pre_activation else followed(norm, shortcut)
        self.shortcut = shortcut
        self.scale = scale
        if not pre_activation:
            self.activation = named_activation(activation)
        self.pre_activation = pre_activation

    def forward(self, h: Tensor) -> Tensor:
        """Maps h (B, C_in, ...) to (B, C_out, ...)."""
        a = self.entrance(h)
        h = self.shortcut(a if self.projects else h) + self.scale(self.second(self.first(a)))
        return h if self.pre_activation else self.activation(h)


class ResNet(nn.Module):
    """A convolution, stages of residual blocks, the mean over positions, and a linear map to the classes.

    The first block of each stage but the first has the stride 2. All convolutions have the kernel size 3, but those of
    shortcuts, which have 1. With the pre-activation, the first block finds it done after the stem, and the last one is
    followed by a norm and an activation.

    Shapes: x (B, C_in, L) or (B, C_in, H, W) to logits (B, C).

    Args:
        input_shape: The shape of one example, (C_in, L) or (C_in, H, W).
        num_classes: The number C of classes.
        norm: The slot after each convolution, or with pre-activation before each activation.
        depth: The number of layers with weights on the longest path, shortcuts not counted: 2 n S + 2 with S stages of
            n blocks.
        channels: The number of channels of each stage.
        shortcut: The shortcut where the shape changes: A, subsampling with channels of zeros, or B, a convolution of
            kernel size 1, and a norm after it unless there is pre-activation.
        pre_activation: Whether norm and activation come before the convolutions of a block.
        activation: The name of the activation.
        branch_scale: What scales each branch at its end (see `branch.scale_of`); fixup also sets how layers start (see
            `branch.Fixup`).
        branch_scale_start: What the scales of skipinit and layer_scale start at.

    Raises:
        Refusal: The input has no positions, the stages cannot have the depth, or a stage with shortcut A has fewer
            channels than the one before.

    Source: He et al. 2015, arXiv:1512.03385, section 4.2, where the norms follow the convolutions; pre-activation: He
    et al. 2016, arXiv:1603.05027, section 4 and appendix.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_classes: int,
        norm: Slot,
        *,
        depth: PositiveInt,
        channels: Annotated[list[PositiveInt], Field(min_length=1)],
        shortcut: Literal["A", "B"],
        pre_activation: bool,
        activation: ActivationName,
        branch_scale: Scaling | Literal["fixup"],
        branch_scale_start: ScaleStart,
    ):
        super().__init__()
        dim, blocks = len(position_axes(input_shape, "resnet")), _blocks_in_a_stage(depth, len(channels))
        self.stem = norm.around(_convolution(dim, input_shape[0], channels[0]), named_activation(activation))
        self.blocks = nn.Sequential()
        inputs, entered, branches = channels[0], None, []
        for stage, outputs in enumerate(channels):
            for i in range(blocks):
                stride = 2 if stage > 0 and i == 0 else 1
                convolutions = _convolution(dim, inputs, outputs, stride), _convolution(dim, outputs, outputs)
                scale = scale_of(branch_scale, branch_scale_start, outputs, blocks * len(channels))
                way = _shortcut(shortcut, dim, inputs, outputs, stride)
                self.blocks.append(Block(convolutions, norm, activation, way, scale, pre_activation, entered))
                if pre_activation:
                    entered = entrance(norm, convolutions[1], named_activation(activation))
                inputs = outputs
                branches.append(convolutions)
        self.exit = nn.Identity() if entered is None else entered
        self.output = nn.Linear(channels[-1], num_classes)
        if branch_scale == "fixup":
            self.start = Fixup(branches, self.output)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, C_in, L) or (B, C_in, H, W) to logits (B, C)."""
        h = self.exit(self.blocks(self.stem(x)))
        return self.output(h.flatten(2).mean(2))


def _convolution(dim: int, inputs: int, outputs: int, stride: int = 1, kernel_size: int = 3) -> Layer:
    return getattr(nn, f"Conv{dim}d")(inputs, outputs, kernel_size, stride=stride, padding=kernel_size // 2)


def _shortcut(kind: str, dim: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs == outputs and stride == 1:
        return nn.Identity()
    if kind == "B":
        return _convolution(dim, inputs, outputs, stride, kernel_size=1)
    if outputs < inputs:
        got = f"cannot go from {inputs} to {outputs} channels by channels of zeros"
        raise Refusal("model.shortcut=A", got, "stages with as many channels or more", "set model.shortcut=B")
    return Subsampling(outputs - inputs, stride)


def _blocks_in_a_stage(depth: int, stages: int) -> int:
    blocks, rest = divmod(depth - 2, LAYERS_OF_A_BLOCK * stages)
    if blocks < 1 or rest:
        each = LAYERS_OF_A_BLOCK * stages
        got, allowed = f"is no depth of {stages} stages", f"{each + 2}, {2 * each + 2}, {3 * each + 2} and so on"
        raise Refusal("model.depth", got, allowed, "choose one, or change model.channels", value=depth)
    return blocks
