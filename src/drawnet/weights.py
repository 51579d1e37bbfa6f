"""Weights on disk: safetensors, with their configuration and their sha256 beside them.

    folder/model.safetensors    the tensors, by the names of the module's parameters
    folder/config.json          {"model", "format", "config", "sha256", "provenance"}

Nothing is pickled. The sha256 is checked, since a flipped bit would load without complaint. An
unknown key is refused rather than dropped, since without it the model would be another.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError
from safetensors.torch import load as parse
from safetensors.torch import save as serialise
from torch import Tensor, nn

from drawnet.disk import write_together

FORMAT = 1
SHIPPED = Path(__file__).parent / "pretrained"


class WeightsError(ValueError):
    """Weights are missing, damaged or of another model."""


class Pretrained(nn.Module):
    """Abstract: a network that is made from its configuration alone and can be saved to disk.

    Attributes:
        Config: The class of its configuration, a dataclass.
        config: Its configuration.
    """

    Config: ClassVar[type]
    config: Any

    def save_pretrained(self, folder: str | Path, **provenance: object) -> None:
        """Write ``model.safetensors`` and, beside it, ``config.json`` with its sha256.

        Args:
            folder: Where to write them; created if it does not exist.
            **provenance: What to record about where the weights come from, as JSON.
        """
        save(folder, self, asdict(self.config), provenance)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Self:
        """Read what `save_pretrained` wrote, in torch's default type, which is single precision.

        A subclass also takes the weights of the network that it extends; whatever these lack stays
        as initialised.

        Args:
            name: A folder, the name of weights that come with the package (`shipped`), or the name
                of a repository ``user/name`` of the Hugging Face hub.
            revision: The commit, branch or tag of a repository of the hub.

        Raises:
            WeightsError: If the weights are missing, damaged or of another model.
        """
        extended = [each.__name__ for each in cls.__mro__ if issubclass(each, Pretrained)]
        description, state = load(name, extended, revision)
        own = description["model"] == cls.__name__
        try:
            model = cls(cls.Config(**description["config"]))
            unknown = model.load_state_dict(state, strict=own).unexpected_keys
        except (TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{name}: {error}") from error
        if unknown:
            raise WeightsError(f"{name}: {cls.__name__} has no {', '.join(unknown)}")
        return model


def shipped() -> list[str]:
    """The names of the weights that come with the package."""
    return sorted(folder.name for folder in SHIPPED.glob("*/") if (folder / "config.json").exists())


def save(
    folder: str | Path, module: nn.Module, config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> None:
    """Write the weights of a module; `load` reads them."""
    folder = Path(folder)
    tensors = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
    data = serialise(tensors)
    description = {
        "model": type(module).__name__,
        "format": FORMAT,
        "config": dict(config),
        "sha256": hashlib.sha256(data).hexdigest(),
        "provenance": dict(provenance),
    }
    text = json.dumps(description, indent=2) + "\n"  # before anything is replaced
    write_together({folder / "model.safetensors": data, folder / "config.json": text.encode()})


def load(
    name: str | Path, models: Sequence[str], revision: str | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `save` wrote: the description in ``config.json``, and the tensors.

    Args:
        name: A folder, the name of shipped weights, or a repository of the Hugging Face hub.
        models: Names of the classes that the weights may be of.
        revision: The commit, branch or tag of the repository.

    Raises:
        WeightsError: If the weights are missing, damaged, or of another model or format.
    """
    folder = locate(name, revision)
    description = describe(folder)
    if description["model"] not in models:
        got = description["model"]
        raise WeightsError(f"{folder}: expected weights of a {models[0]}, got {got}")
    try:
        data = (folder / "model.safetensors").read_bytes()
        if (sha256 := hashlib.sha256(data).hexdigest()) != description["sha256"]:
            expected = description["sha256"]
            raise WeightsError(f"{folder}: model.safetensors has sha256 {sha256}, not {expected}")
        return description, parse(data)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{folder}: model.safetensors cannot be read: {error}") from error


def describe(folder: Path) -> dict[str, Any]:
    """The contents of ``config.json``."""
    path = folder / "config.json"
    try:
        description = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    keys = {"model", "format", "config", "sha256", "provenance"}
    if not isinstance(description, dict) or set(description) != keys:
        found = sorted(description) if isinstance(description, dict) else type(description).__name__
        raise WeightsError(f"{path}: expected the keys {sorted(keys)}, got {found}")
    for part in ("config", "provenance"):
        if not isinstance(description[part], dict):
            raise WeightsError(f"{path}: {part} must be pairs, got {description[part]!r:.50}")
    if description["format"] != FORMAT:
        raise WeightsError(f"{path}: expected format {FORMAT}, got {description['format']}")
    return description


def class_names(provenance: Mapping[str, Any], count: int) -> list[str]:
    """The names of a network's classes, from its training images if they had any, or numbers."""
    names = provenance.get("classes")
    if not isinstance(names, list) or len(names) != count:
        names = list(range(count))
    return [str(name) for name in names]


def locate(name: str | Path, revision: str | None = None) -> Path:
    """The folder of the weights with that name; see `load`."""
    for folder in (Path(name), Path(name) / "weights", SHIPPED / str(name)):
        if (folder / "config.json").is_file():
            if revision is not None:
                what = "only a repository of the hub has a revision"
                raise WeightsError(f"{what}, got {revision} for the folder {folder}")
            return folder
    if Path(name).exists() or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(name)):
        raise WeightsError(
            f"no weights at {name}: expected a folder with config.json and model.safetensors, "
            f"or one of {', '.join(shipped()) or 'no shipped names'}"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        message = f"no folder {name}; to look on the hub, pip install huggingface_hub"
        raise WeightsError(message) from error
    try:
        files = ["config.json", "model.safetensors"]
        files += [f"weights/{file}" for file in files]  # if it is a whole run folder
        found = Path(snapshot_download(str(name), revision=revision, allow_patterns=files))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: no such folder, and the hub says: {error}") from error
    return found if (found / "config.json").exists() else found / "weights"
