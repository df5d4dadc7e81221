"""Figures of fitted estimators, as scikit-learn's displays.

Each has a method `from_estimator`, which computes what is shown and draws it, and a method
`plot`, which draws it again. They need matplotlib: ``pip install 'skae[plot]'``.
"""

from skae._display_codes import LatentSpaceDisplay
from skae._display_curves import ExplainedVarianceDisplay, LossCurveDisplay
from skae._display_grid import LatentGridDisplay
from skae._display_rows import ReconstructionDisplay
from skae._display_search import DimensionSearchDisplay

__all__ = [
    "DimensionSearchDisplay",
    "ExplainedVarianceDisplay",
    "LatentGridDisplay",
    "LatentSpaceDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
]
