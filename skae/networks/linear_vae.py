"""Closed form of the best linear variational autoencoder, from which training starts."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from skae.networks.dense import LOG_VAR_BOUNDS, SMALLEST_NOISE_VARIANCE


class LinearOptimum(NamedTuple):
    """The best linear variational autoencoder, for known principal components of the rows.

    With τ = β σ², a component along which rows have variance λ is decoded with
    ``w² = λ - τ``, and its posterior has mean ``w / λ`` times the row's coordinate and
    variance ``τ / λ``; it is active if λ > τ. The best σ² is the residual variance of the m
    active components, divided by ``d - β m``. For β = 1 this is probabilistic PCA.

    Attributes
    ----------
    variances : ndarray of shape (n_components,)
        Of the rows along the components.
    n_active : int
    noise_variance : float
    beta : float

    References
    ----------
    Tipping and Bishop (1999). Probabilistic principal component analysis.
    https://doi.org/10.1111/1467-9868.00196
    """

    variances: np.ndarray
    n_active: int
    noise_variance: float
    beta: float

    @classmethod
    def find(
        cls, variances: np.ndarray, left: float, n_dimensions: int, beta: float
    ) -> LinearOptimum:
        """Choose the number of active components and the variance around them.

        Parameters
        ----------
        variances : ndarray of shape (n_components,)
            Decreasing.
        left : float
            Residual: sum of the variances orthogonal to the components.
        n_dimensions : int
            Dimensions along which rows vary.
        beta : float

        Returns
        -------
        LinearOptimum
        """
        candidates = []
        for m in range(min(len(variances), n_dimensions) + 1):
            off, free = left + variances[m:].sum(), n_dimensions - beta * m
            if free > 0:
                noise = max(off / free, SMALLEST_NOISE_VARIANCE)
            elif off <= SMALLEST_NOISE_VARIANCE:
                noise = SMALLEST_NOISE_VARIANCE
            else:
                continue  # the loss falls with the noise: fewer components should be active
            if m > 0 and variances[m - 1] <= beta * noise:
                continue
            active = np.log(np.maximum(variances[:m], 1e-300) / max(beta * noise, 1e-300))
            loss = n_dimensions * math.log(noise) + off / noise + beta * (1 + active).sum()
            candidates.append((loss, m, noise))
        _, m, noise = min(candidates)
        return cls(variances, m, noise, beta)

    def decoding(self) -> np.ndarray:
        """Lengths of the decoder's columns: w."""
        lengths, active = np.zeros(len(self.variances)), slice(self.n_active)
        lengths[active] = np.sqrt(self.variances[active] - self.beta * self.noise_variance)
        return lengths

    def encoding(self) -> np.ndarray:
        """Factors of the coordinates in the posterior means: w / λ."""
        factors, active = self.decoding(), slice(self.n_active)
        factors[active] /= self.variances[active]
        return factors

    def log_variances(self) -> np.ndarray:
        """Log-variances of the posteriors: of τ / λ, or of the prior's 1."""
        shares, active = np.ones(len(self.variances)), slice(self.n_active)
        shares[active] = self.beta * self.noise_variance / self.variances[active]
        return np.log(np.maximum(shares, math.exp(LOG_VAR_BOUNDS[0])))
