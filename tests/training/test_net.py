"""`AutoencoderNet`: batches, the training loop, the best weights, callbacks, interrupts."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from conftest import make_fast
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from skorch.callbacks import Callback, EarlyStopping, GradientNormClipping
from torch import nn

from skae._training.net import AutoencoderNet
from skae.losses import LOSSES, Objective, squared_error
from skae.networks import MLP, AnchoredAutoencoder, Autoencoder
from skae.networks.dense import run

SQUARED = Objective({"reconstruction": squared_error})
EVENTS = []  # what callbacks saw: an estimator clones its callbacks, so they share a list


@pytest.fixture(autouse=True)
def _forget_events():
    EVENTS.clear()


def curved_rows(n_rows=100, seed=0, dtype=torch.float32):
    """Rows around a parabola, centred, in six features."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(n_rows, 1, generator=generator, dtype=torch.float64) * 2 - 1
    directions = torch.randn(2, 6, generator=torch.Generator().manual_seed(1)).double()
    noise = 0.05 * torch.randn(n_rows, 6, generator=generator, dtype=torch.float64)
    rows = torch.cat([t, t**2], dim=1) @ directions + noise
    return (rows - rows.mean(dim=0)).to(dtype)


def make_network(rows, *, anchored=True, activation="tanh", k=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pair = Autoencoder(
        MLP([6, 8, k], activation, zero_last=anchored, generator=generator),
        MLP([k, 8, 6], activation, zero_last=anchored, generator=generator),
    )
    if anchored:
        components = torch.from_numpy(PCA(k).fit(rows.numpy()).components_).double()
        pair = AnchoredAutoencoder(pair, components)
    return pair.to(rows.dtype)


def train(rows=None, *, held_out=None, objective=SQUARED, network=None, n_epochs=None, **params):
    rows = curved_rows() if rows is None else rows
    network = make_network(rows) if network is None else network
    net = AutoencoderNet(network, objective, **{"max_epochs": 20, **params})
    return net.fit(rows, held_out=held_out, n_epochs=n_epochs)


def losses_of(net, rows):
    net.module_.eval()
    with torch.no_grad():
        return net.criterion_.row_losses(run(net.module_, rows), rows)


def weights_of(net):
    return torch.cat([p.detach().reshape(-1) for p in net.module_.parameters()])


class Listener(Callback):
    """Reads the output of every batch, which the closed form does not compute."""

    def on_batch_end(self, net, **kwargs):
        pass


class Poison(Callback):
    """Sets weights to NaN before some epochs, as a diverging step would."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_begin(self, net, **kwargs):
        EVENTS.append(net.optimizer_.param_groups[0]["lr"])
        if len(net.history) in self.epochs:
            for p in net.module_.parameters():
                p.data.fill_(math.nan)


# -- the loop ----------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("anchored", [True, False], ids=["anchored", "classic"])
@pytest.mark.parametrize("n_threads", [1, 2])  # numpy multiplies, torch multiplies
@pytest.mark.usefixtures("two_threads")
def test_a_whole_fit_in_closed_form_equals_autograd(loss, activation, anchored, n_threads):
    torch.set_num_threads(n_threads)
    rows = curved_rows(dtype=torch.float64)
    if loss == "binary_cross_entropy":
        rows = (rows - rows.min()) / (rows.max() - rows.min())
    nets = [
        train(
            rows,
            network=make_network(rows, anchored=anchored, activation=activation),
            objective=Objective({"reconstruction": LOSSES[loss]}),
            callbacks=callbacks,
            max_epochs=20,
        )
        for callbacks in ([], [Listener()])
    ]
    closed, autograd = map(weights_of, nets)
    assert not torch.equal(
        closed,
        weights_of(
            train(
                rows,
                n_epochs=0,
                network=make_network(rows, anchored=anchored, activation=activation),
            )
        ),
    )
    torch.testing.assert_close(closed, autograd, rtol=0, atol=1e-9 * autograd.abs().max())


RATES = {"adamw": 1e-2, "adam": 1e-2, "sgd": 1.0, torch.optim.RMSprop: 1e-2}


@pytest.mark.parametrize("optimizer", RATES, ids=str)
@pytest.mark.parametrize("lr_schedule", ["one_cycle", "constant"])
def test_every_optimizer_and_schedule_lowers_the_loss(optimizer, lr_schedule):
    rows = curved_rows()
    net = train(
        rows,
        network=make_network(rows, anchored=False),
        optimizer=optimizer,
        lr=RATES[optimizer],
        lr_schedule=lr_schedule,
        max_epochs=60,
    )
    losses = net.history[:, "train_loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_the_recorded_loss_is_the_mean_over_rows():
    rows = curved_rows(101)
    net = train(rows, lr=1e-30, max_epochs=1, weight_decay=0)
    expected = losses_of(net, rows).mean().item()
    assert net.history[0, "train_loss"] == pytest.approx(expected, rel=1e-5)


def test_history_is_kept_by_name():
    net = train(held_out=curved_rows(seed=1), max_epochs=5)
    assert net.history[:, "epoch"] == [1, 2, 3, 4, 5]
    for name in ("train_loss", "valid_loss"):
        assert all(math.isfinite(loss) for loss in net.history[:, name])
    assert set(net.history[:, "valid_loss_best"]) <= {True, False}


def test_one_seed_gives_one_result_and_another_seed_another():
    first, second, other = (weights_of(train(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_fewer_epochs_are_the_start_of_the_whole_schedule():
    whole, part = train(max_epochs=20), train(max_epochs=20, n_epochs=7)
    assert part.history[:, "train_loss"] == whole.history[:7, "train_loss"]
    assert len(part.history) == 7


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "constant"])
def test_a_constant_rate_with_patience_stops_early(lr_schedule):
    net = train(
        lr_schedule=lr_schedule, lr=1e-12, patience=3, max_epochs=50, held_out=curved_rows(seed=1)
    )
    assert len(net.history) == 4


def test_clipping_bounds_the_effect_of_outlying_rows():
    rows = curved_rows()
    start = make_network(rows)
    before = torch.cat([p.detach().reshape(-1) for p in start.parameters()])
    net = train(
        1e3 * rows,
        network=start,
        optimizer="sgd",
        lr=1.0,
        clipping=0.2,
        lr_schedule="constant",
        max_epochs=1,
        batch_size=1000,
    )
    assert (weights_of(net) - before).norm().item() == pytest.approx(0.2, rel=1e-3)


def test_the_average_of_one_step_lies_between_start_and_end():
    rows = curved_rows()
    plain, averaged = (
        weights_of(train(rows, averaging=averaging, max_epochs=1, batch_size=1000))
        for averaging in (0.0, 0.99)
    )
    start = torch.cat([p.detach().reshape(-1) for p in make_network(rows).parameters()])
    torch.testing.assert_close(averaged - start, (plain - start) * 10 / 11, rtol=0, atol=1e-6)


# -- the best weights --------------------------------------------------------------


def test_the_start_is_a_candidate():
    rows = curved_rows()
    network = make_network(rows)
    before = torch.cat([p.detach().reshape(-1).clone() for p in network.parameters()])
    net = train(rows, network=network, lr=10.0, held_out=curved_rows(seed=1))
    assert net.best_epoch_ == 0
    assert torch.equal(weights_of(net), before)


def test_the_best_weights_are_copies():
    held_out = curved_rows(seed=1)
    net = train(lr=0.2, max_epochs=60, lr_schedule="constant", held_out=held_out)
    assert 0 < net.best_epoch_ < 60
    best = net.history[net.best_epoch_ - 1]
    assert best["valid_loss_best"]
    assert losses_of(net, held_out).mean().item() == pytest.approx(best["valid_loss"], rel=1e-6)
    assert net.history[-1, "valid_loss"] != pytest.approx(best["valid_loss"], rel=1e-3)


def test_without_held_out_rows_the_last_weights_are_kept():
    net = train(lr=0.2, lr_schedule="constant")
    assert net.best_epoch_ == 20


def test_buffers_are_reset_with_the_weights():
    class Normed(Autoencoder):
        def __init__(self):
            super().__init__(nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 1)), nn.Linear(1, 6))

    rows, held_out = curved_rows(), curved_rows(seed=1)
    net = train(rows, network=Normed(), lr=100.0, lr_schedule="constant", held_out=held_out)
    best = net.best_epoch_
    expected = net.history[best - 1, "valid_loss"] if best else None
    assert net.module_.encoder[0].num_batches_tracked.item() == 4 * best
    assert expected is None or losses_of(net, held_out).mean().item() == pytest.approx(expected)


def test_kept_losses_are_those_of_every_held_out_row_and_epoch():
    held_out = curved_rows(30, seed=1)
    net = train(held_out=held_out, keep_losses=True, max_epochs=5)
    assert net.held_out_losses_.shape == (6, 30)
    means = net.held_out_losses_[1:].mean(axis=1)
    np.testing.assert_allclose(means, net.history[:, "valid_loss"], rtol=1e-6)


# -- losses that are not finite ----------------------------------------------------


def test_one_loss_that_is_not_finite_lowers_the_rate_and_goes_on():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = train(callbacks=[Poison([4])], lr_schedule="constant", lr=0.01, max_epochs=8)
    assert EVENTS[-1] == pytest.approx(0.1 * EVENTS[2])
    finite = [math.isfinite(loss) for loss in net.history[:, "train_loss"]]
    assert finite == [True] * 3 + [False] + [True] * 4
    assert weights_of(net).isfinite().all()
    assert net.best_epoch_ == 8


@pytest.mark.parametrize("held_out", [None, curved_rows(seed=1)], ids=["all", "held out"])
def test_the_second_one_stops_with_a_warning_and_the_best_weights(held_out):
    with pytest.warns(ConvergenceWarning, match=r"lr=0\.01.*epoch 6.*[Ll]ower lr"):
        net = train(callbacks=[Poison([4, 7])], lr=0.01, max_epochs=200, held_out=held_out)
    assert len(net.history) == 7
    assert net.best_epoch_ > 0
    assert losses_of(net, curved_rows()).isfinite().all()


def test_a_learning_rate_that_diverges_keeps_pca():
    rows = curved_rows()
    with pytest.warns(ConvergenceWarning, match="epoch 0"):
        net = train(rows, optimizer="sgd", lr=1e30)
    assert len(net.history) == 2
    assert net.module_.is_at_anchor()


def test_no_finite_candidate_at_all_is_an_error_that_names_the_rate():
    rows = curved_rows()
    network = make_network(rows, anchored=False)
    network.decoder[-1].bias.data.fill_(math.inf)
    with pytest.raises(ValueError, match=r"never finite.*lr=0\.005"):
        train(rows, network=network)


def test_a_start_that_is_not_finite_is_no_error_if_later_weights_are():
    class Mend(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.module_.decoder[-1].bias.data.fill_(0.0)

    rows = curved_rows()
    network = make_network(rows, anchored=False)
    network.decoder[-1].bias.data.fill_(math.inf)
    net = train(rows, network=network, callbacks=[Mend()])
    assert losses_of(net, rows).isfinite().all()


# -- interrupts --------------------------------------------------------------------


class Interrupt(Callback):
    """Raises KeyboardInterrupt, as Ctrl-C does, in a hook of the second epoch."""

    def __init__(self, hook):
        self.hook = hook

    def _strike(self, hook, net):
        if hook == self.hook and len(net.history) == 2:
            raise KeyboardInterrupt

    def on_epoch_begin(self, net, **kwargs):
        self._strike("on_epoch_begin", net)

    def on_batch_begin(self, net, **kwargs):
        self._strike("on_batch_begin", net)

    def on_batch_end(self, net, **kwargs):
        self._strike("on_batch_end", net)

    def on_epoch_end(self, net, **kwargs):
        self._strike("on_epoch_end", net)


class InterruptedStep(torch.optim.SGD):
    def step(self, closure=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "params",
    [
        {"callbacks": [Interrupt(hook)]}
        for hook in ("on_epoch_begin", "on_batch_begin", "on_batch_end", "on_epoch_end")
    ]
    + [{"optimizer": InterruptedStep}],
    ids=["epoch begin", "batch begin", "batch end", "epoch end", "step"],
)
def test_an_interrupt_propagates_out_of_fit(params, wine, two_threads):
    estimator = make_fast(max_epochs=5, early_stopping=False, **params)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(wine)
    with pytest.raises(NotFittedError):
        estimator.transform(wine)
    assert torch.get_num_threads() == two_threads


def test_an_interrupt_propagates_out_of_cross_validation(wine):
    with pytest.raises(KeyboardInterrupt):
        make_fast(optimizer=InterruptedStep).fit(wine)


def test_an_interrupt_beside_early_stopping_propagates_too(wine):
    callbacks = [EarlyStopping("train_loss", patience=50), Interrupt("on_epoch_end")]
    with pytest.raises(KeyboardInterrupt):
        make_fast(max_epochs=5, early_stopping=False, callbacks=callbacks).fit(wine)


def test_an_interrupt_closes_the_bar(wine, capsys):
    estimator = make_fast(verbose=1, early_stopping=False, callbacks=[Interrupt("on_epoch_begin")])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(wine)
    assert capsys.readouterr().err.endswith("\n")


# -- callbacks ---------------------------------------------------------------------


class Recorder(Callback):
    """Records each hook and its arguments."""

    def __init__(self, tag="recorder"):
        self.tag = tag

    def _note(self, hook, kwargs):
        EVENTS.append((hook, id(self), kwargs))

    def on_train_begin(self, net, **kwargs):
        self.touched_ = True
        self._note("on_train_begin", kwargs)

    def on_train_end(self, net, **kwargs):
        self._note("on_train_end", kwargs)

    def on_epoch_begin(self, net, **kwargs):
        self._note("on_epoch_begin", kwargs)

    def on_epoch_end(self, net, **kwargs):
        self._note("on_epoch_end", kwargs)

    def on_batch_begin(self, net, **kwargs):
        self._note("on_batch_begin", kwargs)

    def on_batch_end(self, net, **kwargs):
        self._note("on_batch_end", kwargs)

    def on_grad_computed(self, net, **kwargs):
        self._note("on_grad_computed", kwargs)


def test_hooks_come_in_skorchs_order_with_skorchs_arguments():
    rows = curved_rows(70)
    train(rows, callbacks=[Recorder()], max_epochs=2, batch_size=32)
    batch = ["on_batch_begin", "on_grad_computed", "on_batch_end"]
    epoch = ["on_epoch_begin", *3 * batch, "on_epoch_end"]
    assert [hook for hook, *_ in EVENTS] == ["on_train_begin", *2 * epoch, "on_train_end"]
    given = {hook: kwargs for hook, _, kwargs in EVENTS}
    assert given["on_train_begin"].keys() == {"X", "y"}
    assert given["on_epoch_end"].keys() == {"dataset_train", "dataset_valid"}
    assert given["on_batch_begin"].keys() == {"batch", "training"}
    assert given["on_batch_end"].keys() == {"batch", "training", "loss", "y_pred"}
    assert given["on_grad_computed"].keys() == {"named_parameters", "batch"}


def test_the_output_and_loss_of_a_batch_belong_to_it():
    train(callbacks=[Recorder()], max_epochs=1)
    for hook, _, given in EVENTS:
        if hook == "on_batch_end":
            expected = SQUARED(given["y_pred"], given["batch"])
            assert given["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_callbacks_are_cloned_for_each_fit(wine):
    recorder = Recorder()
    estimator = make_fast(callbacks=[recorder], hidden_layer_sizes=(8,))
    estimator.fit(wine[:50])
    first = {who for _, who, _ in EVENTS}
    EVENTS.clear()
    estimator.fit(wine[:50])
    second = {who for _, who, _ in EVENTS}
    assert len(first) == len(second) == 1
    assert id(recorder) not in first | second
    assert not hasattr(recorder, "touched_")
    assert estimator.callbacks == [recorder]


def test_cross_validation_calls_the_users_callbacks_in_the_final_fit_only(wine):
    make_fast(callbacks=[Recorder()]).fit(wine)
    assert [hook for hook, *_ in EVENTS].count("on_train_begin") == 1


def test_a_gradient_hook_may_change_the_gradient():
    rows = curved_rows()
    network = make_network(rows)
    before = torch.cat([p.detach().reshape(-1).clone() for p in network.parameters()])
    net = train(rows, network=network, callbacks=[GradientNormClipping(1e-12)], optimizer="sgd")
    torch.testing.assert_close(weights_of(net), before, rtol=0, atol=1e-8)


def test_skorchs_early_stopping_ends_training_quietly(cancer, capsys):
    stopping = EarlyStopping("valid_loss", patience=2, threshold=0.5)
    estimator = make_fast(callbacks=[stopping], max_epochs=50).fit(cancer)
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 3
    assert np.isfinite(estimator.transform(cancer)).all()
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_the_constant_rate_stops_after_its_patience(cancer):
    estimator = make_fast(lr_schedule="constant", lr=1e-9, n_iter_no_change=4, max_epochs=50).fit(
        cancer
    )
    assert estimator.n_iter_ == 5


def test_early_stopping_off_runs_to_the_end(cancer):
    estimator = make_fast(
        lr_schedule="constant", lr=1e-9, n_iter_no_change=2, early_stopping=False, max_epochs=6
    ).fit(cancer)
    assert estimator.n_iter_ == 6
    assert estimator.validation_loss_curve_ == []


def test_a_callback_may_train_longer_on_what_it_measures():
    class Sizes(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("norm", weights_of(net).norm().item())

    net = train(callbacks=[("sizes", Sizes())], max_epochs=4)
    assert len(net.history[:, "norm"]) == 4


# -- what is printed ---------------------------------------------------------------


def test_silent_by_default(kind, wine, capsys):
    kind.set_params(max_epochs=3).fit(wine).score(wine)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


# -- after training ----------------------------------------------------------------


def test_the_training_state_is_dropped():
    net = train(held_out=curved_rows(seed=1), averaging=0.9).drop_training_state()
    assert not net.module_.training
    assert net.callbacks_ == []
    for name in ("optimizer_", "flat_", "average_", "rows_", "held_out_", "gradient_"):
        assert not hasattr(net, name)
    assert all(p.grad is None for p in net.module_.parameters())


def test_inference_is_in_the_precision_of_the_rows():
    rows = curved_rows()
    net = train(rows).drop_training_state()
    codes = {d: net.infer_rows("encode", rows.numpy().astype(d)) for d in ("f4", "f8")}
    assert codes["f4"].dtype == np.float32
    assert codes["f8"].dtype == np.float64
    np.testing.assert_allclose(codes["f4"], codes["f8"], rtol=0, atol=1e-5)
