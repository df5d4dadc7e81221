"""Networks of several views: an encoder and a decoder for each group of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae.networks.dense import (
    MLP,
    Anchored,
    Autoencoder,
    Output,
    SelfRunning,
    best_noise_variance,
    errors_of,
    fade,
    outside,
    update_noise_variance,
)

SMALLEST_SUM = 1e-12  # of weights
EXPERT_BOUNDS = -30.0, 25.0  # of an expert's log-variance; the prior has variance 1


class ViewParts(nn.Module):
    """One perceptron a view.

    Parameters
    ----------
    parts : sequence of MLP
    order : Tensor of shape (n_features,), int
        Columns of the first view, then those of the second, and so on.
    """

    order: Tensor

    def __init__(self, parts: Sequence[MLP], order: Tensor):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.register_buffer("order", order)
        self.is_in_order = bool((order == torch.arange(len(order))).all())


class ViewEncoders(ViewParts):
    """One perceptron a view, which is given the columns of its view.

    Parameters
    ----------
    parts : sequence of MLP
        All of them have as many outputs.
    order : Tensor of shape (n_features,), int
        Columns of the first view, then those of the second, and so on.

    Shape
    -----
    Input (n_rows, n_features), output (n_rows, n_views, n_outputs).
    """

    __module__ = "skae.networks"

    def __init__(self, parts: Sequence[MLP], order: Tensor):
        super().__init__(parts, order)
        self.sizes = [part.n_inputs for part in parts]

    def forward(self, x: Tensor) -> Tensor:
        """Encode each view.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_views, n_outputs)
        """
        views = (x if self.is_in_order else x[:, self.order]).split(self.sizes, dim=1)
        return torch.stack([part(v) for part, v in zip(self.parts, views, strict=True)], dim=1)


class ViewDecoders(ViewParts):
    """One perceptron a view, which is given the shared code and the private code of its view.

    Parameters
    ----------
    parts : sequence of MLP
        Each maps a shared and a private code, side by side, to the columns of its view.
    order : Tensor of shape (n_features,), int
        Columns of the first view, then those of the second, and so on.
    n_private : int, default=0
        Number of private components of each view.

    Shape
    -----
    Input (n_rows, n_shared + n_views * n_private), output (n_rows, n_features).
    """

    __module__ = "skae.networks"

    def __init__(self, parts: Sequence[MLP], order: Tensor, n_private: int = 0):
        super().__init__(parts, order)
        self.n_private, self.n_shared = n_private, parts[0].n_inputs - n_private
        self.n_inputs = self.n_shared + len(parts) * n_private
        self.n_outputs = len(order)

    def forward(self, z: Tensor) -> Tensor:
        """Decode all views.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_shared + n_views * n_private)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        if self.n_private:
            shared, *private = z.split([self.n_shared] + len(self.parts) * [self.n_private], dim=1)
            codes = [torch.cat([shared, own], dim=1) for own in private]
        else:
            codes = [z] * len(self.parts)
        views = torch.cat([part(c) for part, c in zip(self.parts, codes, strict=True)], dim=1)
        return views if self.is_in_order else views[:, self.order.argsort()]


class MultiViewNetwork(Anchored, SelfRunning):
    """An encoder and a decoder a view, around one shared code, anchored at a joint PCA.

    The shared code is the sum of a share for each view. The share of a view that is there comes
    from its own encoder. For a view that is missing, so that its columns are NaN, the encoders of
    the others predict the share, and their predictions are averaged with weights. Each view may
    have a private code, too, which is zero if the view is missing. All of this is a linear model,
    to which perceptrons add corrections.

    Parameters
    ----------
    network : Autoencoder
        Of `ViewEncoders` and `ViewDecoders`. Each encoder returns the shares of all views, as it
        knows or predicts them, and the private code of its own view.
    encoding : Tensor of shape (n_views, n_views * n_shared + n_private, n_features), float64
        Linear part of each encoder, which is zero for columns of other views.
    decoding : Tensor of shape (n_shared + n_views * n_private, n_features), float64
        Linear part of the decoders.
    reliability : Tensor of shape (n_views, n_views), float64
        Weight of each view (row) in predictions of the share of each other view (column).
    shared_in_private : Tensor of shape (n_shared, n_views * n_private), float64
        Linear map from the shared code to what it explains of the private codes, which is
        subtracted from them.
    hidden_weight : Tensor of shape (), float64
        Weight in the loss of rows that lack views when they are encoded.
    scales : Tensor of shape (n_features,), float64
        Factors of the columns in errors.
    row_region : Tensor of shape (2, n_features), float64, default=None
        Beyond it, corrections by the encoders fade out, see `Anchored`.
    code_region : Tensor of shape (3, n_components), float64, default=None
        Beyond it, corrections by the decoders fade out.
    """

    __module__ = "skae.networks"

    encoding: Tensor
    decoding: Tensor
    reliability: Tensor
    shared_in_private: Tensor
    hidden_weight: Tensor
    scales: Tensor

    def __init__(
        self,
        network: Autoencoder,
        *,
        encoding: Tensor,
        decoding: Tensor,
        reliability: Tensor,
        shared_in_private: Tensor,
        hidden_weight: Tensor,
        scales: Tensor,
        row_region: Tensor | None = None,
        code_region: Tensor | None = None,
    ):
        super().__init__()
        self._init_corrections(network, False, row_region, code_region)
        self.register_buffer("encoding", encoding)
        self.register_buffer("decoding", decoding)
        self.register_buffer("reliability", reliability)
        self.register_buffer("shared_in_private", shared_in_private)
        self.register_buffer("hidden_weight", hidden_weight)
        self.register_buffer("scales", scales)
        self._init_views(network)

    def _init_views(self, network: Autoencoder) -> None:
        parts: Any = network.encoder, network.decoder
        self.n_views, self.n_shared = len(parts[0].sizes), parts[1].n_shared
        self.n_private = parts[1].n_private
        ends = torch.tensor(parts[0].sizes).cumsum(0)
        self.firsts = parts[0].order[[0, *ends[:-1].tolist()]].tolist()  # a column of each view

    def encode(self, x: Tensor) -> Tensor:
        """Codes of rows, whose missing views are NaN.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z : Tensor of shape (n_rows, n_shared + n_views * n_private)
        """
        there, x = self.split_missing(x)
        return self.join(self.encode_linearly(x) + self.correct_code(x), there)

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode and decode rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
        noise : Tensor of shape (n_rows, n_features), default=None
            The rows with more views hidden, which are encoded instead.
        weights : Tensor of shape (n_rows,), default=None
            Not used.

        Returns
        -------
        Output
        """
        encoded = x if noise is None else noise
        z, lacks = self.encode(encoded), encoded[:, self.firsts].isnan().any(dim=1)
        row_weight = torch.where(lacks, self.hidden_weight.to(x.dtype), 1.0)
        return Output(self.decode(z), z, row_weight=row_weight)

    def split_missing(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which views of each row are there, 1 or 0, and rows with zeros instead of NaN.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        there : Tensor of shape (n_rows, n_views)
        x : Tensor of shape (n_rows, n_features)
        """
        missing = x.isnan()
        return (~missing[:, self.firsts]).to(x.dtype), x.masked_fill(missing, 0.0)

    def encode_linearly(self, x: Tensor) -> Tensor:
        """Linear part of what the encoders return.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
            Zero in missing views.

        Returns
        -------
        Tensor of shape (n_rows, n_views, n_views * n_shared + n_private)
        """
        encoded = x @ self.encoding.flatten(0, 1).T.to(x.dtype)
        return encoded.unflatten(1, self.encoding.shape[:2])

    def correct_code(self, x: Tensor) -> Tensor:
        """Corrections by the encoders.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
            Zero in missing views.

        Returns
        -------
        Tensor of shape (n_rows, n_views, n_views * n_shared + n_private)
        """
        # Around an exported model, rows may have another type than the perceptrons.
        correction = self.network.encode(x.to(next(self.parameters()).dtype)).to(x.dtype)
        if self.row_region is None:
            return correction
        return correction * fade(outside(x, self.row_region))[:, None]

    def join(self, encoded: Tensor, there: Tensor) -> Tensor:
        """Join what the encoders return to codes.

        Parameters
        ----------
        encoded : Tensor of shape (n_rows, n_views, n_views * n_shared + n_private)
        there : Tensor of shape (n_rows, n_views)
            1 or 0.

        Returns
        -------
        z : Tensor of shape (n_rows, n_shared + n_views * n_private)
        """
        n_shares = self.n_views * self.n_shared
        shares = encoded[:, :, :n_shares].unflatten(2, (self.n_views, self.n_shared))
        weights = there[:, :, None] * self.reliability.to(there.dtype)  # (n_rows, from, of)
        weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=SMALLEST_SUM)
        weights = weights * (1 - there)[:, None] + torch.diag_embed(there)
        shared = (weights[..., None] * shares).sum(dim=(1, 2))
        if not self.n_private:
            return shared
        explained = shared @ self.shared_in_private.to(shared.dtype)
        private = encoded[:, :, n_shares:] - explained.unflatten(1, (self.n_views, self.n_private))
        return torch.cat([shared, (private * there[:, :, None]).flatten(1)], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """Rows of codes, with all views.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_shared + n_views * n_private)

        Returns
        -------
        x : Tensor of shape (n_rows, n_features)
        """
        return torch.addmm(self.correct_row(z), z, self.decoding.to(z.dtype))

    def is_at_anchor(self) -> bool:
        """Whether all corrections return zeros.

        Returns
        -------
        bool
        """
        parts: list[Any] = [*self.network.encoder.parts, *self.network.decoder.parts]
        return not any(p.any() for part in parts for p in part[-1].parameters())

    def has_views(self, views: Sequence[np.ndarray], n_private: int) -> bool:
        """Whether the network is of these views.

        Parameters
        ----------
        views : sequence of ndarray of int
            Columns of each view.
        n_private : int
            Number of private components of each view.

        Returns
        -------
        bool
        """
        encoder: Any = self.network.encoder
        columns = encoder.order.cpu().split(encoder.sizes)
        own = [its.tolist() for its in columns], self.n_private
        return own == ([its.tolist() for its in views], n_private)

    @torch.no_grad()
    def restoring_errors(self, x: Tensor) -> Tensor:
        """Squared errors of the views of restored rows, and those of the joint PCA.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (2, n_rows)
        """
        there, zeros = self.split_missing(x)
        linear = self.join(self.encode_linearly(zeros), there) @ self.decoding.to(x.dtype)
        return self.errors_where_observed(x, self.decode(self.encode(x)), linear)

    def errors_where_observed(self, x: Tensor, *restored: Tensor) -> Tensor:
        """Squared errors of the views that rows have, in scaled columns.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
            Missing views are NaN.
        *restored : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_ways, n_rows)
        """
        scales, missing = self.scales.to(x.dtype), x.isnan()
        observed = (rows.masked_fill(missing, 0.0) * scales for rows in (x, *restored))
        return errors_of(*observed)


class MultiViewExperts(MultiViewNetwork):
    """Views whose encoders are experts: each returns a normal distribution of the shared code.

    The posterior of a row's code is made of the experts of the views that are there. It is their
    product with the standard normal prior [1]_: precisions add up, and the mean is the mean of the
    experts' means, weighted by precision. Or it is their mixture with equal weights [2]_, of which
    mean and variance are returned. Means and log-variances are linear models, to which perceptrons
    add corrections.

    Parameters
    ----------
    network : Autoencoder
        Of `ViewEncoders` and `ViewDecoders`. Each encoder returns corrections of means and of
        log-variances, side by side.
    encoding : Tensor of shape (n_views, 2 * n_components, n_features), float64
        Linear part of the means, which is zero for columns of other views, and zeros.
    decoding : Tensor of shape (n_components, n_features), float64
        Linear part of the decoders.
    log_variances : Tensor of shape (n_views, n_components), float64
        Of the experts, before corrections.
    noise_variance : Tensor of shape (), float64
        Variance of scaled rows around their reconstructions. In training it follows its optimum, as
        in `VariationalAutoencoder`.
    is_mixture : Tensor of shape (), float64
        1 for a mixture, 0 for a product.
    scales : Tensor of shape (n_features,), float64
        Factors of the columns in errors.
    row_region : Tensor of shape (2, n_features), float64, default=None
        Beyond it, corrections by the encoders fade out, see `Anchored`.
    code_region : Tensor of shape (3, n_components), float64, default=None
        Beyond it, corrections by the decoders fade out.

    References
    ----------
    .. [1] Wu and Goodman (2018). Multimodal generative models for scalable weakly-supervised
       learning. https://arxiv.org/abs/1802.05335
    .. [2] Shi et al. (2019). Variational mixture-of-experts autoencoders for multi-modal deep
       generative models. https://arxiv.org/abs/1911.03393
    """

    __module__ = "skae.networks"

    log_variances: Tensor
    noise_variance: Tensor
    is_mixture: Tensor

    def __init__(
        self,
        network: Autoencoder,
        *,
        encoding: Tensor,
        decoding: Tensor,
        log_variances: Tensor,
        noise_variance: Tensor,
        is_mixture: Tensor,
        scales: Tensor,
        row_region: Tensor | None = None,
        code_region: Tensor | None = None,
    ):
        nn.Module.__init__(self)
        self._init_corrections(network, False, row_region, code_region)
        self.register_buffer("encoding", encoding)
        self.register_buffer("decoding", decoding)
        self.register_buffer("log_variances", log_variances)
        self.register_buffer("noise_variance", noise_variance)
        self.register_buffer("is_mixture", is_mixture)
        self.register_buffer("scales", scales)
        self._init_views(network)
        self.mixes = bool(is_mixture)  # read once, as it may be on a device

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the codes of rows, whose missing views are NaN.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        mean, log_var : Tensor of shape (n_rows, n_components)
            Of a mixture, those of the whole distribution, which is not normal.
        """
        there, x = self.split_missing(x)
        return self.combine(self.encode_linearly(x) + self.correct_code(x), there)

    def combine(self, encoded: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior, from what the encoders return.

        Parameters
        ----------
        encoded : Tensor of shape (n_rows, n_views, 2 * n_components)
            Means, and log-variances without the constants of the views.
        there : Tensor of shape (n_rows, n_views)
            1 or 0.

        Returns
        -------
        mean, log_var : Tensor of shape (n_rows, n_components)
        """
        means, log_vars = encoded.chunk(2, dim=2)
        log_vars = (log_vars + self.log_variances.to(log_vars.dtype)).clamp(*EXPERT_BOUNDS)
        there = there[:, :, None]
        if self.mixes:
            weights = there / there.sum(dim=1, keepdim=True)
            mean = (weights * means).sum(dim=1)
            spread = log_vars.exp() + (means - mean[:, None]).square()
            return mean, (weights * spread).sum(dim=1).log()
        precisions = there * (-log_vars).exp()
        total = 1 + precisions.sum(dim=1)  # 1 is the prior's
        return (precisions * means).sum(dim=1) / total, -total.log()

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means of the codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components)
        """
        return self.posterior(x)[0]

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode rows, sample codes from the posterior, decode them.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
        noise : Tensor of shape (n_rows, n_features + n_components), default=None
            The rows with more views hidden, which are encoded instead, and standard normal
            reparameterisation noise. Without it, codes are posterior means.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Output
        """
        encoded, noise = (x, None) if noise is None else noise.tensor_split([x.shape[1]], dim=1)
        mean, log_var = self.posterior(encoded)
        z = mean if noise is None else torch.addcmul(mean, noise, (0.5 * log_var).exp())
        restored = self.decode(z)
        noise_variance = self.noise_variance
        if noise is not None:
            missing, errors = x.isnan(), (restored.detach() - x) * self.scales.to(x.dtype)
            squares, counts = errors.masked_fill(missing, 0.0).square(), ~missing
            if weights is not None:
                row_weights = weights[:, None] / weights.mean()
                squares, counts = row_weights * squares, row_weights * counts
            mean_square = squares.sum() / counts.sum()
            if self.training:
                update_noise_variance(noise_variance, mean_square)
            else:
                noise_variance = best_noise_variance(mean_square, noise_variance)
        return Output(restored, z, None, mean, log_var, noise_variance.to(x.dtype))

    @torch.no_grad()
    def restoring_errors(self, x: Tensor) -> Tensor:
        """Squared errors of the views of restored rows, and those of the linear model.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (2, n_rows)
        """
        there, zeros = self.split_missing(x)
        linear = self.combine(self.encode_linearly(zeros), there)[0]
        restored = self.decode(self.encode(x)), linear @ self.decoding.to(x.dtype)
        return self.errors_where_observed(x, *restored)


def make_multiview_network(
    views: Sequence[np.ndarray],
    n_private: int,
    linear: Mapping[str, np.ndarray],
    hidden_layer_sizes: Sequence[int],
    activation: str | Callable[[], nn.Module],
    seed: int,
) -> MultiViewNetwork:
    """Make a network that equals its linear part.

    Parameters
    ----------
    views : sequence of ndarray of int
        Columns of each view.
    n_private : int
        Number of private components of each view.
    linear : mapping of str to ndarray
        Arrays of the network by the names of its arguments.
    hidden_layer_sizes : sequence of int
        Of each encoder; decoders have the same layers in reverse order.
    activation : str or callable
    seed : int
        Of the weights.

    Returns
    -------
    MultiViewNetwork
        `MultiViewExperts` if the arrays are its.
    """
    generator = torch.Generator().manual_seed(seed)
    n_outputs = linear["encoding"].shape[1]
    n_shared = len(linear["decoding"]) - len(views) * n_private

    def make(*widths: int) -> MLP:
        return MLP(widths, activation, zero_last=True, generator=generator)

    order, back = torch.from_numpy(np.concatenate(views)), hidden_layer_sizes[::-1]
    encoders = [make(len(columns), *hidden_layer_sizes, n_outputs) for columns in views]
    decoders = [make(n_shared + n_private, *back, len(columns)) for columns in views]
    parts = ViewEncoders(encoders, order), ViewDecoders(decoders, order, n_private)
    buffers = {name: torch.from_numpy(array) for name, array in linear.items()}
    kind = MultiViewExperts if "log_variances" in linear else MultiViewNetwork
    return kind(Autoencoder(*parts), **buffers)
