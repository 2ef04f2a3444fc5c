"""Networks of the lottery ticket literature, as factories of plain `nn.Module`s."""

from lth_runner.models.fully_connected import lenet300, mlp
from lth_runner.models.plain import conv, lenet5, vgg
from lth_runner.models.prunable import prunable_names
from lth_runner.models.residual import resnet18, resnet50, resnet_cifar, wide_resnet
from lth_runner.models.torchvision_models import torchvision_classifier

__all__ = [
    "conv",
    "lenet5",
    "lenet300",
    "mlp",
    "prunable_names",
    "resnet18",
    "resnet50",
    "resnet_cifar",
    "torchvision_classifier",
    "vgg",
    "wide_resnet",
]
