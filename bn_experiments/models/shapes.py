"""Input shapes: the axes of positions of an example, for the networks that read signals and images."""

from collections.abc import Sequence

from bn_experiments.refusal import Refusal


def position_axes(input_shape: Sequence[int], model: str) -> list[int]:
    """The number of positions on each axis of an example, (L,) of a signal or (H, W) of an image.

    Args:
        input_shape: The shape of one example, (C, L) or (C, H, W).
        model: The option of the model, for the refusal.

    Raises:
        Refusal: The example is neither a signal nor an image.

    >>> position_axes((3, 32, 24), "lenet")
    [32, 24]
    """
    if len(input_shape) not in (2, 3):
        allowed, remedy = "channels x length or channels x height x width", "choose model=mlp, or data with positions"
        raise Refusal(f"model={model}", f"got examples of shape {shown_shape(input_shape)}", allowed, remedy)
    return list(input_shape[1:])


def shown_shape(shape: Sequence[int]) -> str:
    """A shape in words.

    >>> shown_shape((3, 32, 32))
    '3x32x32'
    """
    return "x".join(map(str, shape))
