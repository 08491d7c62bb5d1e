"""Distribution focal loss."""

from __future__ import annotations

from torch import Tensor


def distribution_focal_loss(log_probabilities: Tensor, distances: Tensor) -> Tensor:
    """Cross entropy to the two bins around each distance (Generalized Focal Loss, arXiv:2006.04388, equation 6).

    Args:
        log_probabilities: ``[P, 4, bins]``, log-softmax over the bins 0, 1, 2, ...
        distances: ``[P, 4]`` in strides; limited to 0 and just below the last bin.

    Returns:
        ``[P]``: mean of the four sides.
    """
    last = log_probabilities.shape[-1] - 1
    distances = distances.clamp(0, last - 0.01)
    lower = distances.long()
    above = distances - lower
    near = log_probabilities.gather(-1, lower[..., None]).squeeze(-1)
    far = log_probabilities.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -(near * (1 - above) + far * above).mean(dim=-1)
