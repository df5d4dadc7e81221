"""Transform rows to codes and back, batch by batch."""

from __future__ import annotations

import copy
from abc import ABCMeta
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skae._data.array_api import array_api, empty_like, in_type_of, like, product
from skae._data.dtypes_and_batch_sizes import SMALLEST_BATCH, rows_per_batch
from skae._data.frames import FramesOut, check_code_names, wrap_in_frame
from skae._data.input_checks import as_dense, check_codes, check_rows
from skae._data.input_errors import check_standardized
from skae._data.partitions import by_partition, computed, is_lazy, sample_of, sum_of_partitions
from skae._data.sample_weight import check_weights
from skae._data.spooled_rows import check_partitions
from skae._data.statistics import explained_share
from skae._data.threads import threads_of_batches
from skae.networks.inference import (
    Affine,
    Cast,
    Standardize,
    decoder_of,
    encoder_of,
    rules_of,
    shifts_of,
)


class LatentTransformer(FramesOut, BaseEstimator, metaclass=ABCMeta):
    """Transforms rows by a trained network and by affine maps before and after it.

    A row x is standardized to ``(x - center) / scale`` and encoded by the network. Then its code
    is centred, rotated and scaled. `inverse_transform` does the inverse steps.
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
    _sparse_codes: ClassVar[str | bool] = False  # sparse format that inverse_transform accepts
    _keeps_type: ClassVar[bool] = False  # whether rows of integers are not converted as a whole

    # -- what a kind may override --------------------------------------------------

    def _check_rows(self, X: Any, *, reset: bool = False) -> Any:
        """Validate rows. A kind may accept images or missing values, and return 2-D numbers."""
        if not reset:
            check_is_fitted(self)
        if is_lazy(X):
            return check_partitions(self, X, reset=reset, allow_nan=self._takes_nan())
        options: Any = {"keep_type": self._keeps_type, "allow_nan": self._takes_nan()}
        return check_rows(self, X, reset=reset, **options)

    def _takes_nan(self) -> bool:
        """Whether rows may have missing values, so that `_check_rows` allows NaN."""
        return False

    def _decodes_logits(self) -> bool:
        """Whether rows lie in [0, 1] and the decoder returns logits."""
        return False

    def _output_activation(self, decoded: Tensor) -> Tensor:
        """Map outputs of the decoder to standardized rows."""
        return decoded.sigmoid() if self._decodes_logits() else decoded

    def _differences(self, rows: Any, others: Any) -> Any:
        """Rows minus others. A kind whose rows have missing values returns zeros there."""
        return rows - others

    # -- one batch -------------------------------------------------------------------

    def _standardize(self, X: Any) -> Any:
        with np.errstate(over="ignore"):
            rows = in_type_of(X - like(self._center, X), X)
            rows /= self._scale
        check_standardized(rows)
        return rows

    def _unstandardize(self, rows: Any) -> Any:
        return in_type_of(rows * self._scale + like(self._center, rows), rows)

    def _encode(self, rows: Any) -> Any:
        return self.net_.infer_rows("encode", rows)

    def _rotate_codes(self, raw: Any) -> Any:
        codes = product(raw - like(self._code_mean, raw), self._rotation * self._code_scale)
        return in_type_of(codes, raw)

    def _codes(self, rows: Any) -> Any:
        """Codes of standardized rows, in the order and units of `transform`."""
        return self._rotate_codes(self._encode(rows))

    def _decode(self, codes: Any, given: Any = None) -> Any:
        """Decode codes to standardized rows.

        `given` are the standardized rows that were encoded, if any. A kind whose decoder takes
        some columns as a condition reads them there.
        """
        method = self.net_.restoring_method
        return self.net_.infer_rows(method, self._raw_codes(codes), self._output_activation)

    def _raw_codes(self, codes: Any) -> Any:
        """Codes of the network, of codes in the order and units of `transform`."""
        raw = product(codes, (self._rotation / self._code_scale).T)
        return in_type_of(raw + like(self._code_mean, raw), codes)

    def _generate(self, codes: Any) -> Any:
        """Decode codes that were drawn from a density to standardized rows."""
        return self._decode(codes)

    def _reconstruct(self, rows: Any) -> Any:
        """Encode and decode standardized rows."""
        return self._decode(self._codes(rows), given=rows)

    def _batch_slices(self, n_rows: int, n_columns: int = 0) -> Iterator[slice]:
        """Slices of rows, small enough for arrays of `n_columns` columns and for the network."""
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
        """Apply a function to dense rows, batch by batch; the result has X's dtype by default.

        The function returns `n_columns` columns. Its intermediate arrays have at most
        `n_columns_inside` columns.
        """
        n_rows = X.shape[0]
        result = empty_like(as_dense(X[:1]), (n_rows, n_columns), dtype)
        parts = list(self._batch_slices(n_rows, n_columns_inside))
        with threads_of_batches(len(parts)):
            for part in parts:
                result[part] = function(as_dense(X[part]))
        return result

    # -- public methods --------------------------------------------------------------

    @array_api
    def transform(self, X: Any) -> np.ndarray:
        """Encode rows.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_), dtype of X
            Codes. Over the training rows they are centred, uncorrelated and sorted by
            decreasing variance, and have variance one if `whiten`. A Dask collection of the same
            partitions if X is one; so are the results of other methods for rows.
        """
        X = self._check_rows(X)
        return self._map_batches(
            lambda part: self._codes(self._standardize(part)), X, self.n_components_
        )

    @by_partition
    @wrap_in_frame
    @array_api
    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Codes as `transform` returns them. The columns of a frame must have the names of
            `get_feature_names_out`.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features_in_), dtype of the codes
            Rows in input units. A frame with the feature names if `set_output` asks for
            frames.
        """
        check_is_fitted(self)
        check_code_names(self, X)
        codes = check_codes(X, self.n_components_, accept_sparse=self._sparse_codes)
        return self._map_batches(
            lambda part: self._unstandardize(self._decode(part)), codes, self.n_features_in_
        )

    @by_partition
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
            In input units. A frame with the feature names if `set_output` asks for frames.
        """
        X = self._check_rows(X)
        return self._map_batches(
            lambda part: self._unstandardize(self._reconstruct(self._standardize(part))),
            X,
            self.n_features_in_,
        )

    @by_partition
    @array_api
    def reconstruction_error(self, X: Any, per_feature: bool = False) -> np.ndarray:
        """Squared differences between rows and their reconstructions, for every `loss`.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
        per_feature : bool, default=False
            Return one value per feature instead of the sum over features.

        Returns
        -------
        errors : ndarray of shape (n_samples,) or (n_samples, n_features), dtype of X
            In squared input units.
        """
        errors = self._squared_errors(self._check_rows(X), per_feature)
        return errors if per_feature else errors[:, 0]

    def _squared_errors(self, X: Any, per_feature: bool = False) -> np.ndarray:
        """Squared errors of validated rows, per feature or summed to one column."""

        def errors(part: np.ndarray) -> np.ndarray:
            # Errors of standardized rows: if the mean is large, errors of float32 rows lose digits.
            rows = self._standardize(part)
            squares = (self._differences(rows, self._reconstruct(rows)) * self._scale) ** 2
            return squares if per_feature else squares.sum(axis=1, keepdims=True)

        return self._map_batches(errors, X, self.n_features_in_ if per_feature else 1)

    @array_api
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Fraction of variance explained by the reconstruction.

        The score is ``1 - SSE / SST``. SSE is the sum of squared errors of the reconstruction.
        SST is the sum of squared distances to the *training* mean. Both are sums over rows and
        features. The score rises with `n_components`, so it cannot choose that alone.

        Parameters
        ----------
        X : array-like or sparse matrix or array of shape (n_samples, n_features)
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in both sums.

        Returns
        -------
        score : float
            1 is perfect. The training mean as reconstruction scores 0. If all rows equal the
            training mean, the score is 1 if they are reconstructed exactly, else 0.
        """
        if is_lazy(X):
            sums = self._sums_over_partitions(X, sample_weight)
        else:
            sums = self._sums_of_squares(*check_weights(sample_weight, self._check_rows(X)))
        return explained_share(*sums.tolist())

    def _sums_of_squares(self, X: Any, weights: Any) -> np.ndarray:
        """Sums of squared errors, and of squares of distances to the training mean."""
        distances = self._map_batches(
            lambda part: (self._differences(part, like(self.mean_, part)) ** 2).sum(
                axis=1, keepdims=True
            ),
            X,
            1,
            np.float64,
        )[:, 0]
        errors = in_type_of(self._squared_errors(X)[:, 0], distances)
        return np.array([weighted_sum(errors, weights), weighted_sum(distances, weights)])

    def _sums_over_partitions(self, X: Any, sample_weight: Any) -> np.ndarray:
        """The same of a Dask collection, whose partitions are not gathered."""
        self._check_rows(sample_of(X))
        weights = computed(sample_weight)
        if weights is not None:
            weights = np.asarray(weights, dtype=np.float64)
            check_weights(weights, np.empty((len(weights), 0)))
        return sum_of_partitions(_sums_of_partition, self, X, weights)

    def _as_module(self, method: str, dtype: torch.dtype = torch.float32) -> nn.Sequential:
        """The method "transform", "inverse_transform" or "reconstruct" as a module on the CPU.

        Its inputs, outputs and network have `dtype`; the other steps are float64.
        """
        network = copy.deepcopy(self.net_.module_).cpu().requires_grad_(False)
        tensor = partial(torch.tensor, dtype=torch.float64)
        to_code = self._rotation * self._code_scale
        steps: list[nn.Module] = [Cast(torch.float64)]
        if method == "inverse_transform":
            from_code = (self._rotation / self._code_scale).T
            steps.append(Affine(tensor(from_code), tensor(self._code_mean)))
        else:
            steps.append(Standardize(tensor(self._center), tensor(self._scale)))
            steps.append(encoder_of(network, dtype, self.n_components_))
            steps += rules_of(network)
        if method == "transform":
            steps.append(Affine(tensor(to_code), tensor(-self._code_mean @ to_code)))
        else:
            steps += shifts_of(network)
            steps.append(decoder_of(network, dtype, self.n_features_in_))
            steps += [nn.Sigmoid()] if self._decodes_logits() else []
            steps.append(Affine(tensor(self._scale), tensor(self._center)))
        return nn.Sequential(*steps, Cast(dtype)).eval()


def weighted_sum(values: Any, weights: np.ndarray | None) -> float:
    """Sum of values (n_rows,) or (n_rows, n_columns), each row times its weight."""
    return float(values.sum() if weights is None else (like(weights, values) @ values).sum())


def _sums_of_partition(estimator: LatentTransformer, part: Any, weights: Any) -> np.ndarray:
    return estimator._sums_of_squares(estimator._check_rows(part), weights)
