"""How much there is to see: the entropy of an image's own features, as a vision tower gives them.

The n feature vectors of an image (one a visual token), centred, have a covariance with eigenvalues l_1, l_2, …. With
q_k = l_k / sum(l) the spectral entropy

    H = - sum_k q_k log q_k / log min(n - 1, d),      in [0, 1],

is 0 where all tokens vary along one direction and 1 where they vary equally along all that there are. The paper on BIS
(arXiv 2602.04145) names visual complexity as what its score leaves out; this is a measure that needs no label.
"""

from __future__ import annotations

import math
from typing import Any

import torch


def feature_entropy(features: torch.Tensor) -> float:
    """H of n feature vectors (n, d); 0 for fewer than three of them, or if they are all equal."""
    centred = features.double() - features.double().mean(0)
    directions = min(len(features) - 1, features.shape[1])
    variance = torch.linalg.svdvals(centred) ** 2
    total = variance.sum().item()
    if directions < 2 or total <= 1e-12 * features.double().square().sum().item():
        return 0.0
    share = variance / total
    entropy = -torch.special.xlogy(share, share).sum().item()
    return min(max(entropy / math.log(directions), 0.0), 1.0)


def image_features(model: Any, images: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the vision tower of a Transformers image-text-to-text model makes of one prompt's images, (n, d).

    Args:
        model: The model, with its language head.
        images: The processor's tensors of these images.
    """
    features = model.base_model.get_image_features(**images).pooler_output
    parts = features if isinstance(features, list | tuple) else [features]
    return torch.cat([part.flatten(0, -2) for part in parts])
