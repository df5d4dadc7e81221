"""Rows to codes and back: between units, through the network, in bounded memory."""

from __future__ import annotations

import copy
from abc import ABCMeta
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skae._data.array_api import array_api, empty_like, in_type_of, like, product
from skae._data.dtypes_and_batch_sizes import SMALLEST_BATCH, rows_per_batch
from skae._data.frames import check_code_names, wrap_in_frame
from skae._data.input_checks import as_dense, check_codes, check_rows
from skae._data.sample_weight import check_weights
from skae._data.scores import explained_share
from skae.networks.inference import Affine, Cast, Standardize, decoder_of, encoder_of, rules_of


class LatentTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, metaclass=ABCMeta
):
    """`transform` and its inverse, for a trained net and the affine maps around it.

    A row x is standardized to ``(x - center) / scale``, encoded by the network, and its code
    is centred, rotated and scaled. `inverse_transform` goes the same way back.
    """

    mean_: np.ndarray
    n_components_: int
    n_samples_: int
    net_: Any
    _center: np.ndarray  # (n_features,)
    _scale: float
    _code_mean: np.ndarray  # (n_components,)
    _rotation: np.ndarray  # (n_components, n_components)
    _code_scale: np.ndarray  # (n_components,)
    _sparse_codes: ClassVar[str | bool] = False  # format of sparse codes that can be decoded

    # -- seams for kinds -----------------------------------------------------------

    def _check_rows(self, X: Any, *, reset: bool = False) -> Any:
        """Validate rows; a kind may read images, or frames with gaps, and return 2-D numbers."""
        if not reset:
            check_is_fitted(self)
        return check_rows(self, X, reset=reset)

    def _decodes_logits(self) -> bool:
        """Whether rows lie in [0, 1] and the decoder returns logits."""
        return False

    def _output_activation(self, decoded: Tensor) -> Tensor:
        """Turn what the decoder returns into standardized rows."""
        return decoded.sigmoid() if self._decodes_logits() else decoded

    def _differences(self, rows: Any, others: Any) -> Any:
        """Rows minus others; a kind whose rows have gaps returns zeros there."""
        return rows - others

    # -- rows, standardized rows, codes of the network, ordered codes -----------------

    def _standardize(self, X: Any) -> Any:
        rows = in_type_of(X - like(self._center, X), X)
        rows /= self._scale
        return rows

    def _unstandardize(self, rows: Any) -> Any:
        return in_type_of(rows * self._scale + like(self._center, rows), rows)

    def _encode(self, rows: Any) -> Any:
        return self.net_.infer_rows("encode", rows)

    def _rotate_codes(self, raw: Any) -> Any:
        codes = product(raw - like(self._code_mean, raw), self._rotation * self._code_scale)
        return in_type_of(codes, raw)

    def _codes(self, rows: Any) -> Any:
        """Ordered codes of standardized rows."""
        return self._rotate_codes(self._encode(rows))

    def _decode(self, codes: Any, given: Any = None) -> Any:
        """Standardized rows of ordered codes.

        `given` are the standardized rows that the codes belong to, where there are any. A kind
        whose decoder is told some columns, such as a condition, reads them there.
        """
        raw = product(codes, (self._rotation / self._code_scale).T)
        raw = in_type_of(raw + like(self._code_mean, raw), codes)
        return self.net_.infer_rows("decode", raw, self._output_activation)

    def _reconstruct(self, rows: Any) -> Any:
        """Encode and decode standardized rows."""
        return self._decode(self._codes(rows), given=rows)

    def _batch_slices(self, n_rows: int, n_columns: int = 0) -> Iterator[slice]:
        """Slices of rows small enough for arrays of some width in bounded memory."""
        if n_rows <= SMALLEST_BATCH:
            return iter([slice(0, n_rows)])
        widest = max(n_columns, self.n_features_in_, self.net_.widest_layer())
        return gen_batches(n_rows, rows_per_batch(widest))

    def _map_batches(
        self,
        function: Callable[[Any], Any],
        X: Any,
        n_columns: int,
        dtype: Any = None,
        n_columns_inside: int = 0,
    ) -> Any:
        """Apply a function of rows, batch by batch; in X's dtype unless another is given."""
        n_rows = X.shape[0]
        result = empty_like(as_dense(X[:1]), (n_rows, n_columns), dtype)
        for part in self._batch_slices(n_rows, n_columns_inside):
            result[part] = function(as_dense(X[part]))
        return result

    # -- transform and back --------------------------------------------------------

    @array_api
    def transform(self, X: Any) -> np.ndarray:
        """Encode rows.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_), dtype of X
            Codes: centred on the training rows, uncorrelated there, the component of
            largest variance first; of unit variance if `whiten`.
        """
        X = self._check_rows(X)
        return self._map_batches(
            lambda part: self._codes(self._standardize(part)),
            X,
            self.n_components_,
        )

    @wrap_in_frame
    @array_api
    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes as `transform` returns them; a frame must have its column names.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features_in_), dtype of the codes
            Rows in input units. A frame with the names of the features if `set_output` asks
            for frames.
        """
        check_is_fitted(self)
        check_code_names(self, X)
        codes = check_codes(X, self.n_components_, accept_sparse=self._sparse_codes)
        return self._map_batches(
            lambda part: self._unstandardize(self._decode(part)), codes, self.n_features_in_
        )

    @wrap_in_frame
    @array_api
    def reconstruct(self, X: Any) -> np.ndarray:
        """Encode and decode rows.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features), dtype of X
            A frame with the names of the features if `set_output` asks for frames.
        """
        X = self._check_rows(X)
        return self._map_batches(
            lambda part: self._unstandardize(self._reconstruct(self._standardize(part))),
            X,
            self.n_features_in_,
        )

    @array_api
    def reconstruction_error(self, X: Any, per_feature: bool = False) -> np.ndarray:
        """Squared differences between rows and their reconstructions, whatever the loss.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
        per_feature : bool, default=False
            Return one value a feature instead of their sum over features.

        Returns
        -------
        errors : ndarray of shape (n_samples,) or (n_samples, n_features), dtype of X
            In squared input units.
        """
        errors = self._squared_errors(self._check_rows(X), per_feature)
        return errors if per_feature else errors[:, 0]

    def _squared_errors(self, X: Any, per_feature: bool = False) -> np.ndarray:
        """Errors of rows that are checked, in one column unless of each feature."""

        def errors(part: np.ndarray) -> np.ndarray:
            # In network units: float32 rows of a large offset lose nothing in the difference.
            rows = self._standardize(part)
            squares = self._differences(rows, self._reconstruct(rows)) ** 2 * self._scale**2
            return squares if per_feature else squares.sum(axis=1, keepdims=True)

        return self._map_batches(errors, X, self.n_features_in_ if per_feature else 1)

    @array_api
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Fraction of variance explained by the reconstruction.

        ``1 - SSE / SST``: the squared error of the reconstruction over the squared
        distance to the *training* mean, both summed over rows and features. It rises
        with `n_components`, so that it cannot choose a dimension alone.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows in both sums.

        Returns
        -------
        score : float
            1 is perfect, 0 is what the training mean reaches; rows that all equal the
            training mean score 1 if reconstructed exactly, else 0.
        """
        X, weights = check_weights(sample_weight, self._check_rows(X))
        distances = self._map_batches(
            lambda part: (self._differences(part, like(self.mean_, part)) ** 2).sum(
                axis=1, keepdims=True
            ),
            X,
            1,
            np.float64,
        )[:, 0]
        errors = in_type_of(self._squared_errors(X)[:, 0], distances)
        return explained_share(weighted_sum(errors, weights), weighted_sum(distances, weights))

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _as_module(self, method: str, dtype: torch.dtype = torch.float32) -> nn.Sequential:
        """All of "transform", "inverse_transform" or "reconstruct" as one module, on the CPU.

        It takes and returns `dtype`, of which the network is too; the rest is float64.
        """
        network = copy.deepcopy(self.net_.module_).cpu().requires_grad_(False)
        tensor = partial(torch.tensor, dtype=torch.float64)
        arrange = self._rotation * self._code_scale
        steps: list[nn.Module] = [Cast(torch.float64)]
        if method == "inverse_transform":
            back = (self._rotation / self._code_scale).T
            steps.append(Affine(tensor(back), tensor(self._code_mean)))
        else:
            steps.append(Standardize(tensor(self._center), tensor(self._scale)))
            steps.append(encoder_of(network, dtype, self.n_components_))
            steps += rules_of(network)
        if method == "transform":
            steps.append(Affine(tensor(arrange), tensor(-self._code_mean @ arrange)))
        else:
            steps.append(decoder_of(network, dtype, self.n_features_in_))
            steps += [nn.Sigmoid()] if self._decodes_logits() else []
            steps.append(Affine(tensor(self._scale), tensor(self._center)))
        return nn.Sequential(*steps, Cast(dtype)).eval()


def weighted_sum(values: Any, weights: np.ndarray | None) -> float:
    """Sum of numbers, of shape (n_rows,) or (n_rows, n_columns), each row times its weight."""
    return float(values.sum() if weights is None else (like(weights, values) @ values).sum())
