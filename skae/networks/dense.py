"""Networks: what maps a row to its code and a code back to a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from skae.networks import onednn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}

LOG_VAR_BOUNDS = -20.0, 5.0  # of a posterior, whose prior has variance 1
SMALLEST_NOISE_VARIANCE = 1e-6  # in units of the mean feature variance
LITTLE_RELIABILITY = 0.1  # mean of one minus the posterior variance; below, axes restore rows
SMALLEST_SHARE = 0.5  # of this mean, which is the least that posterior means are divided by
CODE_REACH = 0.25  # standard deviations outside the region that a correction may still look at
CODE_FADE = 1.5  # standard deviations outside the region at which a correction has faded by 40 %
NOISE_VARIANCE_STEP = 0.05  # share of each batch in the running variance around reconstructions


class Output(NamedTuple):
    """Result of a network for a batch of rows.

    Attributes
    ----------
    reconstruction : Tensor of shape (n_rows, n_features)
    code : Tensor of shape (n_rows, n_components)
    corrupted : Tensor of shape (n_rows, n_features), bool, or None
        Entries that noise changed before the rows were encoded.
    mean, log_var : Tensor of shape (n_rows, n_components), or None
        Of the code's posterior, where the network has one.
    noise_variance : Tensor of shape () or (n_features,), or None
        Variance of rows around their reconstructions, where the network has one.
    cost : Tensor of shape (n_rows,), or None
        Penalty of each row's code, besides the error, where the network has one.
    activity : Tensor of shape (n_components,), or None
        Mean over the rows of each unit's activation, where the objective penalises it.
    prediction : Tensor of shape (n_rows, n_targets), or None
        What a head on the code predicts, where the network has one.
    row_weight : Tensor of shape (n_rows,), or None
        How much each row counts in the loss, where the network says so.
    """

    reconstruction: Tensor
    code: Tensor
    corrupted: Tensor | None = None
    mean: Tensor | None = None
    log_var: Tensor | None = None
    noise_variance: Tensor | None = None
    cost: Tensor | None = None
    activity: Tensor | None = None
    prediction: Tensor | None = None
    row_weight: Tensor | None = None


class Codec(Protocol):
    """Interface of every network: an encoder and a decoder."""

    def encode(self, x: Tensor) -> Tensor:
        """Map (n_rows, n_features) to (n_rows, n_components)."""

    def decode(self, z: Tensor) -> Tensor:
        """Map (n_rows, n_components) to (n_rows, n_features)."""


Output.__module__ = Codec.__module__ = "skae.networks"  # no fields, members of a protocol


class MLP(nn.Sequential):
    """Fully connected network with an activation between its linear layers.

    Weights and biases are drawn uniformly within ``1 / sqrt(fan_in)``, torch's own
    default for a linear layer, but from a private generator.

    Parameters
    ----------
    widths : sequence of int
        Columns of the input, of each hidden layer, and of the output.
    activation : str or callable, default="relu"
        Key of ``ACTIVATIONS`` or a callable that makes a module.
    zero_last : bool, default=False
        Start with a last layer of zeros, so that the network returns zeros.
    generator : torch.Generator, default=None
        Source of the initial weights.

    Shape
    -----
    Input (n_rows, widths[0]), output (n_rows, widths[-1]).

    Examples
    --------
    >>> import torch
    >>> from skae.networks.dense import MLP
    >>> MLP([4, 8, 2])(torch.ones(3, 4)).shape
    torch.Size([3, 2])
    """

    __module__ = "skae.networks"

    def __init__(
        self,
        widths: Sequence[int],
        activation: str | Callable[[], nn.Module] = "relu",
        *,
        zero_last: bool = False,
        generator: torch.Generator | None = None,
    ):
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [Linear(n_in, n_out, generator), make_activation(activation)]
        super().__init__(*layers[:-1])
        self.n_inputs, self.n_outputs = widths[0], widths[-1]
        if zero_last:
            for parameter in self[-1].parameters():
                nn.init.zeros_(parameter)


class CodecPart(nn.Sequential):
    """Encoder or decoder of layers of several types, with the sizes that it was made from.

    Parameters
    ----------
    layers : sequence of nn.Module
    n_inputs, n_outputs : int
        Columns.
    options : dict
        Further arguments of its constructor that are sizes: numbers, and sequences of numbers,
        which become lists.
    """

    def __init__(
        self, layers: Sequence[nn.Module], n_inputs: int, n_outputs: int, options: dict[str, Any]
    ):
        super().__init__(*layers)
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.options = {
            name: list(value) if isinstance(value, Sequence) else value
            for name, value in options.items()
        }


def make_activation(activation: str | Callable[[], nn.Module]) -> nn.Module:
    """Make an activation.

    Parameters
    ----------
    activation : str or callable
        Key of ``ACTIVATIONS``, or what makes a module.

    Returns
    -------
    nn.Module
    """
    return ACTIVATIONS[activation]() if isinstance(activation, str) else activation()


class Linear(nn.Linear):
    """torch's linear layer, its weights drawn uniformly from a private generator.

    Parameters
    ----------
    n_in, n_out : int
    generator : torch.Generator or None
    """

    __module__ = "skae.networks"

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator | None = None):
        super().__init__(n_in, n_out, dtype=torch.float32)
        bound = 1 / math.sqrt(n_in)
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.bias, -bound, bound, generator=generator)

    def reset_parameters(self) -> None:
        """Keep the weights: torch's method draws them from the global generator."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x @ weight.T + bias``, of shape (n_rows, n_out)."""
        if self._is_fast_in_onednn(x):
            return onednn.linear(x, self.weight, self.bias)
        return super().forward(x)

    def _is_fast_in_onednn(self, x: Tensor) -> bool:
        # An exporter must not see that the number of rows decides.
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.ndim != 2:
            return False
        is_large = onednn.is_large(*x.shape, len(self.weight))
        is_plain = is_large and x.is_cpu and x.dtype == self.weight.dtype == torch.float32
        return is_plain and onednn.has_fast_onednn()


class Autoencoder(nn.Module):
    """Encoder and decoder: the textbook autoencoder.

    Parameters
    ----------
    encoder : nn.Module
        Maps (n_rows, n_features) to (n_rows, n_components).
    decoder : nn.Module
        Maps (n_rows, n_components) to (n_rows, n_features).
    """

    __module__ = "skae.networks"

    def __init__(self, encoder: nn.Module, decoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Tensor) -> Tensor:
        """Codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components)
        """
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Rows of codes.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        x : Tensor of shape (n_rows, n_features)
        """
        return self.decoder(z)

    def forward(self, x: Tensor) -> Output:
        """Code and reconstruction of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Output
        """
        return run(self, x)


class Anchored(nn.Module):
    """A network whose outputs are corrections of a linear model.

    Far from the rows and codes of training, the corrections are not known, and fade out: with t
    the distance outside the region, they are multiplied by ``exp(-t² / 2)``. Inside, nothing
    changes. The correction of the decoder is evaluated near the region, at most 0.25 standard
    deviations outside.

    Attributes
    ----------
    network : nn.Module with `encode` and `decode`
        Its outputs are the corrections.
    gates : nn.Parameter of shape (2,), or None
        Factors of the two corrections.
    row_region : Tensor of shape (2, n_features), float64, or None
        Lowest and highest value of each feature. t is the root mean square over the features of
        the distances outside; None is no limit.
    code_region : Tensor of shape (3, n_components), float64, or None
        Lowest and highest value, and standard deviation, of each component. t is the root mean
        square over the components of the distances outside, in 1.5 standard deviations.
    n_uncorrected : int
        Number of rows, the first ones, whose codes are not corrected. A training step may set it;
        else it is 0.
    """

    network: Any
    row_region: Tensor | None
    code_region: Tensor | None
    n_uncorrected = 0

    def _init_corrections(
        self, network: Codec, gated: bool, row_region: Tensor | None, code_region: Tensor | None
    ) -> None:
        self.network = network
        self.gates = nn.Parameter(torch.zeros(2, dtype=torch.float32)) if gated else None
        self.register_buffer("row_region", row_region)
        self.register_buffer("code_region", code_region)

    def correct_code(self, x: Tensor) -> Tensor:
        """Correction of the codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_columns)
        """
        correction = self.network.encode(x)
        if self.gates is not None:
            correction = self.gates[0] * correction
        if self.n_uncorrected:
            first, others = correction.tensor_split([self.n_uncorrected])
            correction = torch.cat([torch.zeros_like(first), others])
        if self.row_region is None:
            return correction
        return correction * fade(outside(x, self.row_region))

    def correct_row(self, z: Tensor) -> Tensor:
        """Correction of the rows of codes.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        Tensor of shape (n_rows, n_features)
        """
        if self.code_region is None:
            correction, share = self.network.decode(z), None
        else:
            far = outside(z, self.code_region)
            deviations = self.code_region[2].to(z.dtype)
            correction = self.network.decode(z - beyond(far, CODE_REACH * deviations))
            share = fade(far / (CODE_FADE * deviations))
        if self.gates is not None:
            correction = self.gates[1] * correction
        return correction if share is None else correction * share

    def is_at_anchor(self) -> bool:
        """Whether both corrections return zeros: their gates or last layers are zero.

        Returns
        -------
        bool
        """
        if self.gates is not None:
            return not self.gates.any()
        last = _last_layer(self.network.encoder), _last_layer(self.network.decoder)
        return not any(p.any() for layer in last for p in layer.parameters())

    def limit(self, row_region: Tensor | None, code_region: Tensor | None) -> None:
        """Set the region outside of which corrections fade.

        Parameters
        ----------
        row_region : Tensor of shape (2, n_features), or None
        code_region : Tensor of shape (3, n_components), or None
        """
        place = next(self.parameters()).device
        self.row_region, self.code_region = (
            None if region is None else region.to(place) for region in (row_region, code_region)
        )


def _last_layer(part: nn.Module) -> nn.Module:
    """Last module of an encoder or a decoder that has parameters of its own."""
    return [m for m in part.modules() if any(True for _ in m.parameters(recurse=False))][-1]


def errors_of(x: Tensor, *restored: Tensor) -> Tensor:
    """Squared errors of rows that were restored in several ways.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_features)
    *restored : Tensor of shape (n_rows, n_features)

    Returns
    -------
    Tensor of shape (n_ways, n_rows)
    """
    return torch.stack([(each - x).square().sum(dim=1) for each in restored])


def outside(x: Tensor, region: Tensor) -> Tensor:
    """Vectors from the nearest points of a region to points; zero inside.

    Parameters
    ----------
    x : Tensor of shape (n_rows, n_columns)
    region : Tensor of shape (2 or more, n_columns)
        Lowest and highest value of each column.

    Returns
    -------
    Tensor of shape (n_rows, n_columns)
    """
    region = region.to(x.dtype)
    return x - x.clamp(region[0], region[1])


def beyond(far: Tensor, reach: Tensor) -> Tensor:
    """What to subtract from points so that they stay within reach of a region, smoothly.

    Parameters
    ----------
    far : Tensor of shape (n_rows, n_columns)
        Result of `outside`.
    reach : Tensor of shape (n_columns,)
        Largest distance to the region afterwards.

    Returns
    -------
    Tensor of shape (n_rows, n_columns)
    """
    return far - reach * (far / reach).tanh()


def fade(distances: Tensor) -> Tensor:
    """Share of a correction that is left at some distance.

    Parameters
    ----------
    distances : Tensor of shape (n_rows, n_columns)

    Returns
    -------
    Tensor of shape (n_rows, 1)
    """
    return (-0.5 * distances.square().mean(dim=1, keepdim=True)).exp()


class AnchoredAutoencoder(Anchored, Autoencoder):
    """A fixed linear autoencoder plus trainable corrections.

    This is a PCA skip connection: the code is ``z = V x + f(x)`` and the reconstruction is
    ``Vᵀ z + g(z)``. While f and g return zeros, this is PCA with the components V. They fade out
    beyond the region of the training rows, see `Anchored`.

    Parameters
    ----------
    network : nn.Module
        Its ``encode`` is f and its ``decode`` is g.
    components : Tensor of shape (n_components, n_features), float64
        The rows of V. Kept in float64: in float32 alone, raw data of mixed units loses
        five digits.
    gated : bool, default=False
        Multiply f and g by trainable scalars that start at zero, so that a network with
        arbitrary initial weights starts as PCA too [1]_.
    row_region : Tensor of shape (2, n_features), float64, default=None
        Lowest and highest value of each feature over the training rows.
    code_region : Tensor of shape (3, n_components), float64, default=None
        Lowest and highest value, and standard deviation, of each component.

    References
    ----------
    .. [1] Bachlechner et al. (2021). ReZero is all you need: fast convergence at large
       depth. UAI. https://proceedings.mlr.press/v161/bachlechner21a.html
    """

    __module__ = "skae.networks"

    components: Tensor

    def __init__(
        self,
        network: Codec,
        components: Tensor,
        *,
        gated: bool = False,
        row_region: Tensor | None = None,
        code_region: Tensor | None = None,
    ):
        nn.Module.__init__(self)
        self._init_corrections(network, gated, row_region, code_region)
        self.register_buffer("components", components)

    def encode(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.addmm(self.correct_code(x), x, self.components.T.to(x.dtype))

    def decode(self, z: Tensor) -> Tensor:  # noqa: D102
        return torch.addmm(self.correct_row(z), z, self.components.to(z.dtype))

    @torch.no_grad()
    def restoring_errors(self, x: Tensor) -> Tensor:
        """Squared errors of restored rows, and those of PCA.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (2, n_rows)
        """
        along = x @ self.components.T.to(x.dtype)
        return errors_of(x, self.decode(self.encode(x)), along @ self.components.to(x.dtype))


class SelfRunning(nn.Module):
    """A network with a method `run` of its own for training rows."""

    __module__ = "skae.networks"

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode and decode rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
        noise : Tensor of shape (n_rows, n_columns), default=None
            Corrupted rows, or reparameterisation noise.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Output
        """
        raise NotImplementedError


class VariationalAutoencoder(Anchored, SelfRunning):
    """An autoencoder whose code is a normal distribution, anchored at a linear one.

    The posterior of the code of a row x has mean ``E (x - c) + f(x)`` and log-variance
    ``l + h(x)``, within bounds; a code z is decoded to ``o + D z + g(z)``. While f, g and h
    return zeros this is a linear model, such as probabilistic PCA.

    Parameters
    ----------
    network : nn.Module
        Its ``encode`` returns f and h side by side, its ``decode`` is g.
    encoding, decoding : Tensor of shape (n_components, n_features), float64
        E and D.
    log_variances : Tensor of shape (n_components,), float64
        l.
    center, offset : Tensor of shape (n_features,), float64, or None
        c and o; None is zero.
    noise_variance : Tensor of shape () or (n_features,), float64, or None
        Variance of rows around their reconstructions, for a normal likelihood. In training it
        follows its optimum, the mean squared error of the batches. In evaluation with noise,
        it is the optimum of the given rows.
    gated : bool, default=False
        Multiply f, h and g by trainable scalars that start at zero.
    row_region : Tensor of shape (2, n_features), float64, default=None
        Beyond it, f and h fade out, see `Anchored`.
    code_region : Tensor of shape (3, n_components), float64, default=None
        Beyond it, g fades out.
    axes : Tensor of shape (n_components, n_features), float64, or None, default=None
        Principal components, with the standard deviations along them as lengths, for `encode`
        and `restore`. With None, `encode` returns posterior means, and `restore` decodes them.
    direct : Tensor of shape (n_components,), float64, default=None
        1 for components that are restored along their axes, without the network; else 0.
    divisor : Tensor of shape (n_components,), float64, default=None
        The least that posterior means are divided by in `encode`.
    shift : Tensor of shape (n_components,), float64, default=None
        Is subtracted from codes by `encode`, so that their mean is that of the posterior means,
        and added by `restore`.

    Notes
    -----
    Kingma and Welling (2014), https://arxiv.org/abs/1312.6114; the optimal variance is that
    of Rybkin, Daniilidis and Levine (2021), https://arxiv.org/abs/2006.13202.
    """

    __module__ = "skae.networks"

    encoding: Tensor
    decoding: Tensor
    log_variances: Tensor
    center: Tensor | None
    offset: Tensor | None
    noise_variance: Tensor | None
    axes: Tensor | None
    direct: Tensor | None
    divisor: Tensor | None
    shift: Tensor | None

    def __init__(
        self,
        network: Codec,
        *,
        encoding: Tensor,
        decoding: Tensor,
        log_variances: Tensor,
        center: Tensor | None = None,
        offset: Tensor | None = None,
        noise_variance: Tensor | None,
        gated: bool = False,
        row_region: Tensor | None = None,
        code_region: Tensor | None = None,
        axes: Tensor | None = None,
        direct: Tensor | None = None,
        divisor: Tensor | None = None,
        shift: Tensor | None = None,
    ):
        super().__init__()
        self._init_corrections(network, gated, row_region, code_region)
        self.register_buffer("encoding", encoding)
        self.register_buffer("decoding", decoding)
        self.register_buffer("log_variances", log_variances)
        self.register_buffer("center", center)
        self.register_buffer("offset", offset)
        self.register_buffer("noise_variance", noise_variance)
        self.register_buffer("axes", axes)
        self.register_buffer("direct", direct)
        self.register_buffer("divisor", divisor)
        self.register_buffer("shift", shift)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        mean, log_var : Tensor of shape (n_rows, n_components)
        """
        mean, log_var = self.correct_code(x).chunk(2, dim=1)
        if self.center is not None:
            x = x - self.center.to(x.dtype)
        mean = torch.addmm(mean, x, self.encoding.T.to(x.dtype))
        return mean, (log_var + self.log_variances.to(x.dtype)).clamp(*LOG_VAR_BOUNDS)

    def encode(self, x: Tensor) -> Tensor:
        """Codes from which `restore` restores the rows.

        The posterior mean is shrunk towards zero. Divided by one minus the posterior variance, it
        is the code whose decoded row is nearest, if the model is linear [1]_. A direct component
        is the coordinate along its axis.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components)

        References
        ----------
        .. [1] Tipping and Bishop (1999). Probabilistic principal component analysis. Section 3.3.
           https://doi.org/10.1111/1467-9868.00196
        """
        mean, log_var = self.posterior(x)
        if self.direct is None or self.divisor is None or self.shift is None:
            return mean
        code = mean / torch.maximum(1 - log_var.exp(), self.divisor.to(x.dtype))
        return torch.where(self.direct > 0, self.along_axes(x), code) - self.shift.to(x.dtype)

    def along_axes(self, x: Tensor) -> Tensor:
        """Coordinates of rows along the axes, in standard deviations.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (n_rows, n_components)
        """
        assert self.axes is not None
        return x @ inverse_axes(self.axes).T.to(x.dtype)

    def restore(self, z: Tensor) -> Tensor:
        """Rows of codes that `encode` returned.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        x : Tensor of shape (n_rows, n_features)
        """
        if self.axes is None or self.direct is None or self.shift is None:
            return self.decode(z)
        z = z + self.shift.to(z.dtype)
        direct = self.direct.to(z.dtype)
        along = (z * direct) @ self.axes.to(z.dtype)
        return along if direct.all() else along + self.decode(z * (1 - direct))

    @torch.no_grad()
    def choose_restoring(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Choose the components that are restored along their axes, and the smallest divisors.

        A component says little about rows if the mean of one minus its posterior variance is small.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        direct, divisor : Tensor of shape (n_components,), float64
        """
        reliability = 1 - self.posterior(x)[1].double().exp().mean(dim=0)
        direct = (reliability < LITTLE_RELIABILITY).double()
        return direct, SMALLEST_SHARE * reliability.clamp(min=LITTLE_RELIABILITY)

    @torch.no_grad()
    def restoring_errors(self, x: Tensor) -> Tensor:
        """Squared errors of restored rows, and those of the projections on the axes.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        Tensor of shape (2, n_rows)
        """
        assert self.axes is not None
        before = self.direct, self.divisor
        self.direct, self.divisor = self.choose_restoring(x)
        restored = self.restore(self.encode(x))
        self.direct, self.divisor = before
        projected = self.along_axes(x) @ self.axes.to(x.dtype)
        return errors_of(x, restored, projected)

    def decode(self, z: Tensor) -> Tensor:
        """Means, or logits, of the rows of codes.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        x : Tensor of shape (n_rows, n_features)
        """
        correction = self.correct_row(z)
        if self.offset is not None:
            correction = correction + self.offset.to(z.dtype)
        return torch.addmm(correction, z, self.decoding.to(z.dtype))

    def to_decode(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is decoded, and what the result shall be: codes of rows, and the rows.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z, x : Tensor
        """
        return z, x

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode rows, sample codes from the posterior, decode them.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
        noise : Tensor of shape (n_rows, n_components), default=None
            Standard normal reparameterisation noise; without it codes are posterior means.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Output
        """
        mean, log_var = self.posterior(x)
        z = mean if noise is None else torch.addcmul(mean, noise, (0.5 * log_var).exp())
        decoded, x = self.to_decode(z, x)
        reconstruction = self.decode(decoded)
        if self.noise_variance is None:
            return Output(reconstruction, z, None, mean, log_var)
        noise_variance = self.noise_variance
        if noise is not None:
            squares = (reconstruction.detach() - x).square()
            if weights is not None:
                squares = squares * (weights / weights.mean())[:, None]
            squares = squares.mean(dim=0)
            if self.training:
                update_noise_variance(noise_variance, squares)
            else:
                noise_variance = best_noise_variance(squares, noise_variance)
        noise_variance = noise_variance.to(x.dtype)
        return Output(reconstruction, z, None, mean, log_var, noise_variance)


def inverse_axes(axes: Tensor) -> Tensor:
    """Rows whose products with rows are coordinates along orthogonal axes, in their lengths.

    Parameters
    ----------
    axes : Tensor of shape (n_components, n_features), float64

    Returns
    -------
    Tensor of shape (n_components, n_features), float64
        Zero for an axis of length zero.
    """
    squares = axes.square().sum(dim=1, keepdim=True)
    return torch.where(squares > 0, axes / squares.clamp(min=1e-300), 0.0)


def best_noise_variance(squares: Any, variance: Any) -> Any:
    """Maximum likelihood estimate of the noise variance, of all features or of each.

    Parameters
    ----------
    squares : Tensor or ndarray of shape (n_features,)
        Means over rows of squared differences.
    variance : Tensor or ndarray of shape () or (n_features,)
        Has the shape of the result.

    Returns
    -------
    Tensor or ndarray of shape () or (n_features,)
    """
    return (squares if variance.ndim else squares.mean()).clip(SMALLEST_NOISE_VARIANCE, None)


def update_noise_variance(variance: Any, squares: Any) -> None:
    """Move a noise variance, in place, towards the estimate of a batch.

    Parameters
    ----------
    variance : Tensor or ndarray of shape () or (n_features,)
    squares : Tensor or ndarray of shape (n_features,)
        Means over the batch of squared differences.
    """
    variance += NOISE_VARIANCE_STEP * (best_noise_variance(squares, variance) - variance)


def run(
    network: Any, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
) -> Output:
    """Encode and decode rows with any module that has `encode` and `decode`.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
    x : Tensor of shape (n_rows, n_features)
    noise : Tensor, default=None
        Corrupted rows of shape (n_rows, n_features), which are encoded instead of x; for a
        `VariationalAutoencoder`, reparameterisation noise of shape (n_rows, n_components).
    weights : Tensor of shape (n_rows,), default=None
        Weights of the rows, for statistics that the network keeps of them.

    Returns
    -------
    Output
    """
    if isinstance(network, SelfRunning):
        return network.run(x, noise, weights)
    z = network.encode(x if noise is None else noise)
    return Output(network.decode(z), z, None if noise is None else noise != x)


def in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Convert a network to a float type, except its linear part, which stays float64.

    Parameters
    ----------
    network : nn.Module
    dtype : torch.dtype

    Returns
    -------
    nn.Module
        The network itself.
    """
    linear = [
        (part, name, buffer)
        for part in network.modules()
        if isinstance(part, Anchored)
        for name, buffer in part.named_buffers(recurse=False)
    ]
    network.to(dtype)
    for part, name, buffer in linear:
        part.register_buffer(name, buffer)
    return network


MODELESS: set[Any] = {MLP, Linear, Autoencoder, AnchoredAutoencoder, *ACTIVATIONS.values()}


def has_modes(network: nn.Module) -> bool:
    """Whether any part of a network may behave differently in training and evaluation.

    Parameters
    ----------
    network : nn.Module

    Returns
    -------
    bool
    """
    parts = [module for module in network.modules() if module is not network]
    return any(type(module) not in MODELESS for module in parts)


@torch.no_grad()
def shapes_of_two_rows(
    network: Any, n_features: int, n_columns: int | None = None
) -> tuple[torch.Size, torch.Size]:
    """Shapes of the code and of the reconstruction of two rows.

    Parameters
    ----------
    network : nn.Module with `encode` and `decode`
    n_features : int
    n_columns : int, default=None
        Columns, of those that `encode` returns, which `decode` takes; None is all.

    Returns
    -------
    tuple of two torch.Size
    """
    was_training = network.training
    code = network.eval().encode(torch.zeros(2, n_features, dtype=torch.float32))
    row = network.decode(code[:, :n_columns])
    network.train(was_training)
    return code.shape, row.shape


def jacobian(decode: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Jacobian of a decoder at each code: its linear map there.

    Parameters
    ----------
    decode : callable
        Maps (n_rows, n_components) to (n_rows, n_features), row by row.
    z : Tensor of shape (n_rows, n_components)

    Returns
    -------
    Tensor of shape (n_rows, n_components, n_features)
    """
    with torch.inference_mode(False), torch.enable_grad():
        z = (z.clone() if z.is_inference() else z.detach()).requires_grad_(True)
        x = decode(z)
        # The derivative of a vector-Jacobian product by its vector: forward mode through
        # backward mode, which every module supports and which is much quicker to set up.
        vector = torch.zeros_like(x, requires_grad=True)
        # Of sums: given a vector, torch would import sympy to compare shapes.
        (product,) = torch.autograd.grad((x * vector).sum(), z, create_graph=True)
        columns = [
            torch.autograd.grad((product * direction).sum(), vector, retain_graph=True)[0]
            for direction in torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        ]
    return torch.stack(columns, dim=1)
