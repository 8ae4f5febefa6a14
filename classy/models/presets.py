"""How well-known families of models were trained to see a picture, by name."""

from __future__ import annotations

from typing import NamedTuple

from classy.models.manifest import ChannelOrder, InputSpec, Interpolation, Layout


class Preset(NamedTuple):
    """
    A family's preprocessing, of models of any size.

    Args:
        resize_px: The short side before the crop, of a model that takes 224 × 224.
        mean, deviation: Of values 0 to 255, in `channel_order`.
    """

    resize_px: int
    interpolation: Interpolation
    channel_order: ChannelOrder
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


# Caffe's VGG and ResNet: blue first, the training set's mean colour taken off, no scaling.
_CAFFE = Preset(256, "bilinear", "BGR", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))

PRESETS = {
    "vgg": _CAFFE,
    "caffe": _CAFFE,
    # torchvision's weights: mean (0.485, 0.456, 0.406) and deviation (0.229, 0.224, 0.225) of values 0 to 1.
    "torchvision": Preset(256, "bilinear", "RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "efficientnet-lite": Preset(256, "bicubic", "RGB", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    # TensorFlow's MobileNets and Inceptions: values −1 to 1.
    "tensorflow": Preset(256, "bilinear", "RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}


def preset_input(preset: str, *, name: str, height_px: int, width_px: int, layout: Layout) -> InputSpec:
    """
    Return a family's input spec for a model of this size.

    Raises:
        KeyError: no such preset.
    """
    family = PRESETS[preset]
    side_px = max(height_px, width_px)
    return InputSpec(
        name=name,
        height_px=height_px,
        width_px=width_px,
        # The crop keeps the same share of the picture at every size, as the families' own evaluations do.
        resize_px=round(side_px * family.resize_px / 224),
        interpolation=family.interpolation,
        channel_order=family.channel_order,
        layout=layout,
        mean=family.mean,
        deviation=family.deviation,
    )
