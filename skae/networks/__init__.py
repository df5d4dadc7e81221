"""Networks: what maps a row to its code and a code back to a row."""

from skae.networks.conditional import ConditionalCodec, ConditionalVariationalAutoencoder
from skae.networks.convolutional import (
    Convolution,
    FromPatches,
    Grid,
    ImageDecoder,
    ImageEncoder,
    ImageShape,
    ResidualBlock,
    ToGrid,
    ToPatches,
)
from skae.networks.dense import (
    ACTIVATIONS,
    MLP,
    AnchoredAutoencoder,
    Autoencoder,
    Codec,
    Linear,
    Output,
    SelfRunning,
    VariationalAutoencoder,
    jacobian,
    make_activation,
    run,
)
from skae.networks.multiview import MultiViewNetwork, ViewDecoders, ViewEncoders
from skae.networks.sparse import LogisticNetwork, RectifiedNetwork, TopKNetwork
from skae.networks.supervised import HeadedNetwork

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "AnchoredAutoencoder",
    "Autoencoder",
    "Codec",
    "ConditionalCodec",
    "ConditionalVariationalAutoencoder",
    "Convolution",
    "FromPatches",
    "Grid",
    "HeadedNetwork",
    "ImageDecoder",
    "ImageEncoder",
    "ImageShape",
    "Linear",
    "LogisticNetwork",
    "MultiViewNetwork",
    "Output",
    "RectifiedNetwork",
    "ResidualBlock",
    "SelfRunning",
    "ToGrid",
    "ToPatches",
    "TopKNetwork",
    "VariationalAutoencoder",
    "ViewDecoders",
    "ViewEncoders",
    "jacobian",
    "make_activation",
    "run",
]
