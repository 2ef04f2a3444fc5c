"""Networks of the lottery ticket literature, as factories of plain `nn.Module`s."""

from lth_runner.problem.models.dense_output import unet
from lth_runner.problem.models.fully_connected import lenet300, mlp
from lth_runner.problem.models.hugging_face import HuggingFace
from lth_runner.problem.models.plain import conv, lenet5, vgg
from lth_runner.problem.models.residual import resnet18, resnet50, resnet_cifar, wide_resnet
from lth_runner.problem.models.torchvision_models import torchvision_classifier
from lth_runner.problem.models.transformer import (
    causal_transformer,
    masked_transformer,
    transformer_classifier,
)
from lth_runner.problem.models.velocity import velocity
from lth_runner.problem.models.vision_transformer import (
    packed_vision_transformer,
    vision_transformer,
)

__all__ = [
    "HuggingFace",
    "causal_transformer",
    "conv",
    "lenet5",
    "lenet300",
    "masked_transformer",
    "mlp",
    "packed_vision_transformer",
    "resnet18",
    "resnet50",
    "resnet_cifar",
    "torchvision_classifier",
    "transformer_classifier",
    "unet",
    "velocity",
    "vgg",
    "vision_transformer",
    "wide_resnet",
]
