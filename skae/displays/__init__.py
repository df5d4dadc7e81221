"""Figures of fitted estimators, as scikit-learn's displays.

Each has a method `from_estimator`, which computes what is shown and draws it, and a method
`plot`, which draws it again. They need matplotlib: ``pip install 'skae[plot]'``.
"""

from skae.displays.dimension_search import DimensionSearchDisplay
from skae.displays.explained_variance import ExplainedVarianceDisplay
from skae.displays.latent_grid import LatentGridDisplay
from skae.displays.latent_space import LatentSpaceDisplay
from skae.displays.loss_curve import LossCurveDisplay
from skae.displays.mesh import MeshDisplay
from skae.displays.reconstruction import ReconstructionDisplay

__all__ = [
    "DimensionSearchDisplay",
    "ExplainedVarianceDisplay",
    "LatentGridDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "MeshDisplay",
    "ReconstructionDisplay",
]
