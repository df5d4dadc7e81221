"""Networks with sparse codes: an encoder, a rule that selects active units, a dictionary."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from skae.networks.dense import Output, SelfRunning

IDLE_TURNS = 50  # average waiting times between activations, after which a unit is dead
TINY = 1e-24  # square of the length below which an atom has no direction
GAIN = 0.05  # weight of each batch in the running threshold
ACTIVITY_ROWS = 1000  # that mean activations are averaged over


class Rule(nn.Module):
    """Turns the encoder's outputs into codes.

    Parameters
    ----------
    value : float
        Its one number.
    """

    def __init__(self, value: float):
        super().__init__()
        self.value = value


class KeepLargest(Rule):
    """Keeps the largest entries of each row; of equal ones, the first."""

    def forward(self, u: Tensor) -> Tensor:
        """Codes.

        Parameters
        ----------
        u : Tensor of shape (n_rows, n_components)

        Returns
        -------
        Tensor of shape (n_rows, n_components)
        """
        return keep_largest(u, int(self.value))


class Rectify(Rule):
    """Subtracts a threshold and sets negative values to zero."""

    def forward(self, u: Tensor) -> Tensor:
        """Codes.

        Parameters
        ----------
        u : Tensor of shape (n_rows, n_components)

        Returns
        -------
        Tensor of shape (n_rows, n_components)
        """
        return (u - self.value).relu()


class Squash(Rule):
    """Applies the logistic function, and sets values up to a floor to zero."""

    def forward(self, u: Tensor) -> Tensor:
        """Codes.

        Parameters
        ----------
        u : Tensor of shape (n_rows, n_components)

        Returns
        -------
        Tensor of shape (n_rows, n_components)
        """
        return above_floor(u.sigmoid(), self.value)


class SparseNetwork(SelfRunning):
    """Base of networks with sparse codes: a dictionary, and revival of dead units.

    A row is decoded to a sum of atoms, weighted by the code, plus a bias. Atoms are the columns
    of the decoder's one matrix. In training they are divided by their lengths, so that the size
    of a code is meaningful; `finish` makes this permanent.

    Parameters
    ----------
    network : Autoencoder
        The rule is applied to the outputs of its encoder; its decoder is one layer.
    n_active : Tensor of shape ()
        Target number of active units in a row, or on average.
    idle : Tensor of shape (n_components,)
        Rows since each unit was active while training.

    Attributes
    ----------
    n_wanted : float
        `n_active` as a number: reading it from an accelerator would wait for each step.
    """

    n_active: Tensor
    idle: Tensor

    def __init__(self, network: Any, *, n_active: Tensor, idle: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("n_active", n_active)
        self.register_buffer("idle", idle)
        self.n_wanted = float(n_active)

    def rule(self) -> Rule:
        """Rule that turns the encoder's outputs into codes.

        Returns
        -------
        Rule
        """
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """Codes of rows.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)

        Returns
        -------
        z : Tensor of shape (n_rows, n_components)
        """
        return self.rule()(self.network.encode(x))

    def decode(self, z: Tensor) -> Tensor:
        """Rows of codes.

        Parameters
        ----------
        z : Tensor of shape (n_rows, n_components)

        Returns
        -------
        x : Tensor of shape (n_rows, n_features)
        """
        return self.network.decode(z)

    def atoms(self) -> Tensor:
        """Dictionary, of shape (n_features, n_components): an atom a column.

        Returns
        -------
        Tensor
        """
        weight = self.network.decoder[0].weight
        return weight * (self.size() / weight.square().sum(dim=0).clamp_min(TINY).sqrt())

    def size(self) -> Any:
        """Length of an atom.

        Returns
        -------
        float or Tensor of shape ()
        """
        return 1.0

    @torch.no_grad()
    def finish(self) -> None:
        """Set the lengths of the atoms to those used in training."""
        self.network.decoder[0].weight.copy_(self.atoms())

    def run(self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None) -> Output:
        """Encode and decode rows; in training, also update the statistics of the units.

        Parameters
        ----------
        x : Tensor of shape (n_rows, n_features)
        noise : Tensor of shape (n_rows, n_features), default=None
            Corrupted rows, which are encoded instead of x.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Output
        """
        u = self.network.encode(x if noise is None else noise)
        z, atoms = self._activate_in_training(u), self.atoms()
        reconstruction = F.linear(z, atoms, self.network.decoder[0].bias)
        output = Output(reconstruction, z, None if noise is None else noise != x)
        if not self.training:
            return output
        with torch.no_grad():
            self._follow(u, z, weights)
        return output._replace(cost=self._cost(u, output, atoms, x))

    def _activate_in_training(self, u: Tensor) -> Tensor:
        return self.rule()(u)

    def _follow(self, u: Tensor, z: Tensor, weights: Tensor | None) -> None:
        """Count the rows since each unit was active."""
        self.idle += len(z)
        self.idle.masked_fill_((z != 0).any(dim=0), 0)

    def _cost(self, u: Tensor, output: Output, atoms: Tensor, x: Tensor) -> Tensor | None:
        """Penalty of the code of each row, besides its error.

        It is the squared error of the dead units' reconstruction of the other units' residual.
        """
        dead = self.idle > IDLE_TURNS * len(self.idle) / self.n_active
        residual = (x - output.reconstruction).detach()
        n_kept = math.ceil(self.n_wanted)
        if u.is_cpu:
            return cost_of_dead(u, dead, atoms, residual, n_kept) if dead.any() else None
        return cost_of_dead_without_waiting(u, dead, atoms, residual, n_kept)


class TopKNetwork(SparseNetwork):
    """Network with codes of which the k largest entries are kept.

    Units that are inactive for long are dead: they are trained on the others' residual [2]_.

    Parameters
    ----------
    network : Autoencoder
    n_active : Tensor of shape ()
        Entries kept in training.
    n_kept : Tensor of shape ()
        Entries kept by `encode`.
    idle : Tensor of shape (n_components,)

    References
    ----------
    .. [1] Makhzani and Frey (2014). k-sparse autoencoders. https://arxiv.org/abs/1312.5663
    .. [2] Gao et al. (2024). Scaling and evaluating sparse autoencoders.
       https://arxiv.org/abs/2406.04093
    """

    __module__ = "skae.networks"

    n_kept: Tensor

    def __init__(self, network: Any, *, n_active: Tensor, n_kept: Tensor, idle: Tensor):
        super().__init__(network, n_active=n_active, idle=idle)
        self.register_buffer("n_kept", n_kept)

    def rule(self) -> Rule:  # noqa: D102
        return KeepLargest(float(self.n_kept))

    def _activate_in_training(self, u: Tensor) -> Tensor:
        n_active = int(self.n_wanted)
        return torch.where(u >= least_kept(u, n_active), u, 0) if n_active < u.shape[1] else u


class RectifiedNetwork(SparseNetwork):
    """Network with codes that are not negative, and a penalty on their sum.

    The penalty λ is found in training. With orthonormal atoms, the best codes are the products
    of the row and the atoms minus λ / 2, or zero if that is negative. So the threshold is the
    value that the target number of active units exceeds, and λ is twice the threshold.

    Parameters
    ----------
    network : Autoencoder
    n_active : Tensor of shape ()
        Mean number of units active in a row.
    penalty : Tensor of shape ()
        Penalty per unit of code: λ.
    threshold : Tensor of shape ()
        Subtracted before negative values become zero.
    idle : Tensor of shape (n_components,)
    """

    __module__ = "skae.networks"

    penalty: Tensor
    threshold: Tensor

    def __init__(
        self, network: Any, *, n_active: Tensor, penalty: Tensor, threshold: Tensor, idle: Tensor
    ):
        super().__init__(network, n_active=n_active, idle=idle)
        self.register_buffer("penalty", penalty)
        self.register_buffer("threshold", threshold)

    def rule(self) -> Rule:  # noqa: D102
        return Rectify(float(self.threshold))

    def _activate_in_training(self, u: Tensor) -> Tensor:
        # In evaluation, exactly the target number of units is active on average.
        return (u - (self.threshold if self.training else self.calibrated(u))).relu()

    def calibrated(self, u: Tensor, weights: Tensor | None = None) -> Tensor:
        """Threshold that the target number of values exceeds.

        Parameters
        ----------
        u : Tensor of shape (n_rows, n_components)
            Outputs of the encoder.
        weights : Tensor of shape (n_rows,), default=None

        Returns
        -------
        Tensor of shape ()
        """
        share = self.n_wanted / u.shape[1]
        if share >= 1:
            return u.min() - 1
        if weights is None:
            n_below = u.numel() - round(share * u.numel())
            return u.flatten().kthvalue(max(1, n_below)).values
        ordered, order = u.flatten().sort(descending=True)
        above = weights.repeat_interleave(u.shape[1])[order].cumsum(0)
        first_below = (above <= share * above[-1]).sum(dim=0, keepdim=True)
        return ordered.gather(0, first_below)[0]

    def _follow(self, u: Tensor, z: Tensor, weights: Tensor | None) -> None:
        super()._follow(u, z, weights)
        self.threshold += GAIN * (self.calibrated(u, weights) - self.threshold)
        self.penalty.copy_(2 * self.threshold.clamp(min=0))

    def _cost(self, u: Tensor, output: Output, atoms: Tensor, x: Tensor) -> Tensor | None:
        cost = self.penalty * output.code.sum(dim=1)
        attempt = super()._cost(u, output, atoms, x)
        return cost if attempt is None else cost + attempt


class LogisticNetwork(SparseNetwork):
    """Network with codes between 0 and 1 that are zero up to a floor.

    Parameters
    ----------
    network : Autoencoder
    n_active : Tensor of shape ()
        Target of the mean sum of the entries of a code.
    floor : Tensor of shape ()
        Values up to it become zero.
    length : Tensor of shape ()
        Length of each atom.
    activity : Tensor of shape (n_components,)
        Running mean of each unit's activations; that of a single batch would be too noisy.
    idle : Tensor of shape (n_components,)
    """

    __module__ = "skae.networks"

    activity: Tensor
    floor: Tensor
    length: Tensor

    def __init__(
        self,
        network: Any,
        *,
        n_active: Tensor,
        floor: Tensor,
        length: Tensor,
        activity: Tensor,
        idle: Tensor,
    ):
        super().__init__(network, n_active=n_active, idle=idle)
        self.register_buffer("activity", activity)
        self.register_buffer("floor", floor)
        self.register_buffer("length", length)

    def size(self) -> Any:  # noqa: D102
        return self.length

    def rule(self) -> Rule:  # noqa: D102
        return Squash(float(self.floor))

    def run(  # noqa: D102
        self, x: Tensor, noise: Tensor | None = None, weights: Tensor | None = None
    ) -> Output:
        a = self.network.encode(x if noise is None else noise).sigmoid()
        cut = above_floor(a, self.floor)
        z = a + (cut - a).detach()  # gradient as if nothing were set to zero
        activity = self.activity
        if self.training:
            mean = z.mean(dim=0) if weights is None else weights @ z / weights.sum()
            with torch.no_grad():
                activity += len(z) / (len(z) + ACTIVITY_ROWS) * (mean - activity)
            activity = activity + mean - mean.detach()  # mean of many rows, gradient of this batch
        corrupted = None if noise is None else noise != x
        reconstruction = F.linear(z, self.atoms(), self.network.decoder[0].bias)
        return Output(reconstruction, z, corrupted, activity=activity)


def cost_of_dead(u: Tensor, dead: Tensor, atoms: Tensor, residual: Tensor, n_kept: int) -> Tensor:
    """Squared errors of residuals that dead units reconstruct.

    Parameters
    ----------
    u : Tensor of shape (n_rows, n_components)
        Outputs of the encoder.
    dead : Tensor of shape (n_components,), bool
        At least one is true.
    atoms : Tensor of shape (n_features, n_components)
    residual : Tensor of shape (n_rows, n_features)
    n_kept : int
        Largest number of dead units that each row uses.

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    outputs = u[:, dead]
    values, index = outputs.topk(min(n_kept, outputs.shape[1]), dim=1)
    code = torch.zeros_like(outputs).scatter(1, index, values)
    return (residual - code @ atoms[:, dead].T).square().sum(dim=1)


def cost_of_dead_without_waiting(
    u: Tensor, dead: Tensor, atoms: Tensor, residual: Tensor, n_kept: int
) -> Tensor:
    """The same, and zeros if no unit is dead, for accelerators.

    No shape depends on the number of dead units, which would have to be read from the device.

    Parameters
    ----------
    u : Tensor of shape (n_rows, n_components)
    dead : Tensor of shape (n_components,), bool
    atoms : Tensor of shape (n_features, n_components)
    residual : Tensor of shape (n_rows, n_features)
    n_kept : int

    Returns
    -------
    Tensor of shape (n_rows,)
    """
    outputs = u.masked_fill(~dead, -math.inf)
    values, index = outputs.topk(min(n_kept, u.shape[1]), dim=1)
    code = torch.zeros_like(u).scatter(1, index, values.masked_fill(~dead[index], 0))
    return (residual - code @ atoms.T).square().sum(dim=1) * dead.any()


def keep_largest(u: Tensor, n_kept: int) -> Tensor:
    """Set all but the largest entries of each row to zero.

    Of equal entries the first are kept, whatever the other rows are.

    Parameters
    ----------
    u : Tensor of shape (n_rows, n_columns)
    n_kept : int

    Returns
    -------
    Tensor of shape (n_rows, n_columns)
    """
    if n_kept >= u.shape[1]:
        return u
    least = least_kept(u, n_kept)
    above, level = u > least, u == least
    room = n_kept - above.sum(dim=1, keepdim=True)
    kept = above | (level & (level.to(torch.int32).cumsum(dim=1) <= room))
    return torch.where(kept, u, 0)


def least_kept(u: Tensor, n_kept: int) -> Tensor:
    """Smallest of the largest entries of each row.

    Parameters
    ----------
    u : Tensor of shape (n_rows, n_columns)
    n_kept : int

    Returns
    -------
    Tensor of shape (n_rows, 1)
    """
    return u.detach().topk(n_kept, dim=1).values[:, -1:]


def above_floor(a: Tensor, floor: Any) -> Tensor:
    """Set values up to a floor to zero.

    Parameters
    ----------
    a : Tensor
    floor : float or Tensor of shape ()

    Returns
    -------
    Tensor of the shape of `a`
    """
    return torch.where(a > floor, a, 0)
