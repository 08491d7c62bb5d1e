"""What decays and what does not, in every network of the zoo."""

from __future__ import annotations

import pytest
import torch

from yolo.core.models import build_model, zoo_names
from yolo.training.optim.groups import split_parameters


@pytest.mark.parametrize("name", zoo_names())
def test_only_kernels_decay(name: str) -> None:
    """Each trainable parameter is in one group; kernels are those of convolutions, of one class, too."""
    with torch.device("meta"):
        network = build_model(name, 1)
    groups = split_parameters(network)
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    found = [names[id(parameter)] for group in vars(groups).values() for parameter in group]
    assert sorted(found) == sorted(key for key, p in network.named_parameters() if p.requires_grad)
    kernels = {f"{key}.weight" for key, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert {names[id(parameter)] for parameter in groups.weights} == kernels
    assert all(names[id(parameter)].endswith(".bias") for parameter in groups.biases)
    implicit = [key for key in names.values() if key.endswith(".implicit")]
    assert len(implicit) == (6 if name == "v7" else 0)
    assert set(implicit) <= {names[id(parameter)] for parameter in groups.norms}
