"""The region of the training rows, beyond which a trained network fades into its linear part."""

from __future__ import annotations

from typing import Any

import numpy as np

from skae._data.dataset import Dataset
from skae._latent.transform import LatentTransformer
from skae.networks.dense import Anchored

Region = np.ndarray | None


class BoundedTransformer(LatentTransformer):
    """Sets the region of the network: that of all rows that it was trained or validated on."""

    def _row_bounds(self, rows: Dataset) -> np.ndarray:
        """Lowest and highest values (2, n_features) of the standardized rows that are encoded."""
        return rows.bounds()

    def _code_bounds(self, encoded: np.ndarray) -> np.ndarray:
        """Lowest and highest values (2, n_components) of codes, as `_encoded_for_moments`."""
        return np.array([encoded.min(axis=0), encoded.max(axis=0)])

    def _encoded_for_moments(self, rows: np.ndarray) -> np.ndarray:
        """Arrays side by side, (n_rows, n_columns), whose moments `_order` needs: here, codes."""
        return self._encode(rows)

    def _has_region(self) -> bool:
        """Whether the network has corrections that must not be used far from the rows."""
        network = self.net_.module_
        return isinstance(network, Anchored) and not network.is_at_anchor()

    def _region(self) -> tuple[Region, Region]:
        """Region of the rows (2, n_features) and of the codes (3, n_components), or None."""
        network = self.net_.module_
        if not isinstance(network, Anchored):
            return None, None
        regions = network.row_region, network.code_region
        return tuple(None if r is None else r.cpu().numpy() for r in regions)  # type: ignore

    def _set_region(self, row_region: Region, code_region: Region) -> None:
        if isinstance(self.net_.module_, Anchored):
            self.net_.limit(row_region, code_region)

    def _limit_network(self, rows: Dataset, held_out: Dataset | None = None) -> None:
        """Widen the region by training rows, and by the user's validation rows.

        The codes of training rows are added with their moments, see `_limit_codes`.
        """
        if not self._has_region():
            return
        row_region, code_region = self._region()
        row_region = union(row_region, self._row_bounds(rows))
        if held_out is not None:
            row_region = union(row_region, self._row_bounds(held_out))
        self._set_region(row_region, code_region)
        if held_out is not None:
            for part in self._batch_slices(len(held_out)):
                bounds = self._code_bounds(self._encoded_for_moments(held_out[part]))
                self._limit_codes(bounds, np.ones(self.n_components_))

    def _limit_codes(self, bounds: np.ndarray, deviations: np.ndarray) -> None:
        """Widen the region by the bounds of codes, and set the codes' standard deviations."""
        if self._has_region():
            row_region, code_region = self._region()
            # A component without variance has the unit of the one that varies most.
            deviations = np.where(deviations > 0, deviations, deviations.max() or 1.0)
            self._set_region(row_region, np.vstack([union(code_region, bounds), deviations]))


def union(region: Region, bounds: np.ndarray) -> Any:
    """Smallest region that contains both a region, if there is one, and the bounds."""
    if region is None:
        return bounds
    return np.array([np.minimum(region[0], bounds[0]), np.maximum(region[1], bounds[1])])
