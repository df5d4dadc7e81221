"""Training: the net, its callbacks, gradients and optimizers, and pickles of them."""
