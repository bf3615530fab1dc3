"""What theory says of the directions of examples, for the configuration of an arm."""

from bn_experiments.oracles import Config, bn_cosine, cosines_by_depth, norm_of


def cosine_by_layer(config: Config) -> dict[str, float]:
    """The mean cosine of two examples at each layer, by its number, for the probe `directions` at initialization."""
    layers = len(config["model"]["hidden"]) * config["model"]["repeat"] + 1
    norm, is_behind = norm_of(config), config["norm"]["placement"] == "post"
    if norm == "BatchNorm":
        batch = config["probes"]["directions"]["batch_size"]
        found = [0.0, *[-1 / (batch - 1) if is_behind else bn_cosine(batch)] * (layers - 1)]
    elif norm == "LayerNorm" and is_behind:
        found = [0.0] * layers  # which `centred_correlation` leaves as they are
    else:
        found = cosines_by_depth(layers)
    return {str(i + 1): cosine for i, cosine in enumerate(found)}
