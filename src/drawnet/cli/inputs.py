"""Loading the weights and the images that the command line names."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from drawnet.cli.outputs import tell

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from drawnet.classify import GlimpseClassifier
    from drawnet.data import Images
    from drawnet.model import DRAW
    from drawnet.weights import Pretrained

    Network = TypeVar("Network", bound=Pretrained)

USED_BY = {
    "DRAW": "which is for generate, reconstruct, complete, explore, evaluate and most figures",
    "GlimpseClassifier": "which is for classify, evaluate and figure 5",
    "ConvNet": "which is for evaluate",
}
UNKNOWN = "a custom network, which is for Python only"


def drawer(asked: argparse.Namespace) -> "DRAW":
    """The network that draws, on its device."""
    from drawnet.model import DRAW

    return _load(DRAW, asked)


def glimpse_classifier(asked: argparse.Namespace) -> "GlimpseClassifier":
    """The network that looks and answers, on its device."""
    from drawnet.classify import GlimpseClassifier

    return _load(GlimpseClassifier, asked)


def conv_net(asked: argparse.Namespace) -> "Pretrained":
    """The network without glimpses, on its device."""
    from drawnet.baselines import ConvNet

    if asked.glimpses is not None:
        raise ValueError(f"{asked.weights} takes no glimpses, got --glimpses {asked.glimpses}")
    return _load(ConvNet, asked)


def check_device(name: str | None) -> None:
    """Raise a `ValueError` if torch cannot use a device."""
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name}: {str(error).splitlines()[0]}") from error


def _load(kind: "type[Network]", asked: argparse.Namespace) -> "Network":
    import torch

    from drawnet.fast import accelerate, flush_denormals

    flush_denormals()  # before any threads start
    if (found := described(asked)["model"]) != kind.__name__:
        what = f"expected weights of a {kind.__name__}, got {found}"
        raise ValueError(f"{asked.weights}: {what}, {USED_BY.get(found, UNKNOWN)}")
    model = kind.from_pretrained(asked.weights)
    if asked.glimpses is not None:  # no weight depends on their number
        model.config = replace(model.config, glimpses=asked.glimpses)
    check_device(asked.device)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    model.requires_grad_(False).to(asked.device or default)
    accelerate(model, compile="off")
    return model


def described(asked: argparse.Namespace) -> dict[str, Any]:
    """What the weights record about themselves; see `drawnet.weights.describe`."""
    from drawnet import weights

    return weights.describe(weights.locate(asked.weights))


def data_for(
    asked: argparse.Namespace, image_shape: tuple[int, int, int]
) -> tuple[str, dict[str, Any]]:
    """The name and the options of the set asked for or, by default, of that of the training.

    Raises:
        ValueError: If the weights do not record a data set.
    """
    provenance = described(asked)["provenance"]
    name = asked.data or provenance.get("data_name")
    if name is None:
        what = provenance.get("data", "images that it does not name")
        raise ValueError(
            f"{asked.weights} was trained on {what}, given from Python; choose a set with --data"
        )
    if name == provenance.get("data_name"):
        options = provenance.get("data_options", {})
    elif name == "folder":
        channels, *sides = image_shape
        options = {"size": sides, "channels": channels}
    else:
        options = {}
    return name, options | (asked.data_options or {})


def images_for(
    asked: argparse.Namespace, image_shape: tuple[int, int, int], split: str | None = None
) -> "Images":
    """The images asked for or, by default, those that the weights were trained on.

    Args:
        asked: The command line.
        image_shape: The shape of image that the network takes.
        split: The part of the data set, instead of ``--split``.

    Raises:
        ValueError: If the weights do not record a data set, or the images have another shape.
    """
    from drawnet import data

    name, options = data_for(asked, image_shape)
    images = data.load(name, split or asked.split, asked.data_dir, progress=tell, **options)
    if images.image_shape != image_shape:
        raise ValueError(
            f"{name} has images of shape {images.image_shape}, {asked.weights} takes {image_shape}"
        )
    return images


def images_to_draw(asked: argparse.Namespace, model: "DRAW", split: str | None = None) -> "Images":
    """The images for a network that draws, with labels if it needs them; see `images_for`."""
    return images_for(asked, model.config.image_shape, split).for_classes(model.config.classes)


def drawn_at_random(images: "Images", count: int, seed: int) -> "Images":
    """A random choice of the images, or all if there are fewer; files may be sorted by class."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return images.subset(torch.randperm(len(images), generator=generator)[:count])


def some(
    images: "Images", count: int, seed: int, generator: "torch.Generator"
) -> "tuple[torch.Tensor, torch.Tensor | None, torch.Generator]":
    """Randomly chosen images and their labels, on the generator's device, and the generator."""
    import torch

    few = drawn_at_random(images, count, seed).to(generator.device)
    return *few.batch(torch.arange(len(few)), generator), generator


def labels_in_turn(model: "DRAW", count: int) -> "torch.Tensor | None":
    """Labels that go through a network's classes in turn, or None if it has no classes."""
    import torch

    classes = model.config.classes
    return torch.arange(count) % classes if classes else None


def settle_image(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """With ``--image``, set the count to one and refuse the options of a data set.

    Args:
        asked: The command line.
        parser: The parser that read it, which knows the defaults.

    Raises:
        ValueError: If an option is given that would be ignored.
    """
    if asked.image is None:
        if asked.invert:
            raise ValueError("--invert is for the picture that --image names, got no --image")
        return
    for name in ("data", "data_dir", "data_options", "split", "count"):
        if getattr(asked, name) != parser.get_default(name):
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"--image stands in place of a data set, got {option} too")
    asked.count = 1


def own_image(asked: argparse.Namespace, image_shape: tuple[int, int, int]) -> "torch.Tensor":
    """The picture that ``--image`` names, ``(1, channels, height, width)``."""
    x = picture(asked.image, image_shape)[None]
    return 1 - x if asked.invert else x


def picture(path: Path, image_shape: tuple[int, int, int]) -> "torch.Tensor":
    """The middle of the picture in a file, scaled to the shape of an image, in [0, 1]."""
    from PIL import Image, ImageOps

    from drawnet.data.pictures import to_tensor

    channels, height, width = image_shape
    fit = ImageOps.fit(opened(path, channels), (width, height), Image.Resampling.BOX)
    return to_tensor(fit)


def opened(path: Path, channels: int) -> "Image.Image":
    """The picture in a file."""
    from drawnet.data.pictures import PHOTO_MEGAPIXELS, decode

    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a picture, got no such file")
    return decode(path, str(path), channels, PHOTO_MEGAPIXELS)


def known_pixels(asked: argparse.Namespace, image_shape: tuple[int, int, int]) -> "torch.Tensor":
    """Which pixels ``--mask`` leaves visible, ``(height, width)``."""
    import torch

    from drawnet.complete import PARTS, hide, hide_at_random

    _, height, width = image_shape
    part, _, share = asked.mask.partition(":")
    if part == "pixels":
        try:
            number = float(share)
        except ValueError:
            raise ValueError(f"--mask pixels:SHARE needs a number, got {asked.mask}") from None
        generator = torch.Generator().manual_seed(asked.seed)
        return hide_at_random(number, height, width, generator)
    if asked.mask in PARTS:
        return hide(asked.mask, height, width)
    if not Path(asked.mask).is_file():
        parts = ", ".join(PARTS)
        raise ValueError(f"--mask must be {parts}, pixels:SHARE or a picture, got {asked.mask}")
    return picture(Path(asked.mask), (1, height, width))[0] < 0.5


def generator_for(asked: argparse.Namespace, model: "DRAW") -> "torch.Generator":
    """The generator of everything random, on the device of a network."""
    import torch

    return torch.Generator(model.canvas.device).manual_seed(asked.seed)
