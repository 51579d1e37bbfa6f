"""Recipes: those that are shipped, and values that cannot be."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

from drawnet import DRAWConfig
from drawnet.config import ClassifierConfig, ConvNetConfig
from drawnet.data import SOURCES
from drawnet.recipe import (
    NETWORKS,
    RECIPES,
    DataConfig,
    NetworkConfig,
    OptimConfig,
    Recipe,
    TrainerConfig,
    add_fields,
    find,
    network_in,
    read,
    recipe_of,
    shipped,
)
from drawnet.training.run_folder import RunFolder

PARTS = {"data": DataConfig, "optim": OptimConfig, "trainer": TrainerConfig}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_recipes_say_what_they_are_and_hold_known_values(name: str) -> None:
    path = find(name)
    text = path.read_text()
    assert text.startswith("# ")
    content = yaml.safe_load(text)
    network = content.pop("network", "draw")
    kinds = {"model": NETWORKS[network], **PARTS}
    parts = {part: kinds[part](**values) for part, values in content.items() if part in kinds}
    recipe = Recipe(**{**content, **parts})
    assert read(name) == recipe
    assert recipe.network == network == network_in(path)
    assert recipe.data.name in SOURCES


def test_one_option_of_the_data_keeps_the_others() -> None:
    parser = ArgumentParser()
    add_fields(parser, find("mnist-labels"))
    for given, expected in (
        (["--data.options.include_valid", "true"], {"binarize": True, "include_valid": True}),
        (["--data.options", "{include_valid: true}"], {"include_valid": True}),
    ):
        assert recipe_of(parser.parse_args(given)).data.options == expected


@pytest.mark.parametrize("network", [DRAWConfig(glimpses=3), ClassifierConfig(), ConvNetConfig()])
def test_what_a_run_folder_says_can_be_read(network: NetworkConfig, tmp_path: Path) -> None:
    recipe = Recipe(
        network,
        DataConfig("cluttered_mnist", {"size": 100, "fixed": True}),
        OptimConfig(lr=1e-5, betas=(0.5, 0.9), epochs=7),
        TrainerConfig(max_time="00:01:00:00"),
        seed=3,
        start="runs/before",
    )
    folder = RunFolder(tmp_path)
    folder.begin(recipe, overwrite=False)
    assert read(folder.recipe) == recipe


def test_what_is_no_recipe(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    for content, message in (
        ("optim: {lr: 5.0}", r"optim.lr must be in \(0, 1\], got 5.0"),
        ("optim: {learning_rate: 1.0}", "own.yaml: .*learning_rate"),
        ("optim: {lr: fast}", "own.yaml: .*optim.lr"),
        ("[", "own.yaml: not a recipe in YAML"),
    ):
        file.write_text(content)
        with pytest.raises(ValueError, match=message):
            read(file)


def test_the_recipe_mnist_is_the_papers() -> None:
    """Table 3: 64 glimpses, 256 hidden units, 100 latents, read 2 x 2, write 5 x 5."""
    model = DRAWConfig(**yaml.safe_load(find("mnist").read_text())["model"])
    assert model == DRAWConfig((1, 28, 28), 64, 256, 256, 100, 2, 5)


def test_find() -> None:
    own = RECIPES / "vae.yaml"
    assert find(str(own)) == find("vae") == own
    with pytest.raises(ValueError, match=r"one of .*digits, .*, got 'nothing'"):
        find("nothing")


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (OptimConfig, "lr", 0.0),
        (OptimConfig, "lr", math.nan),
        (OptimConfig, "lr", -1e-3),
        (OptimConfig, "window_lr", 0.0),
        (OptimConfig, "window_lr", 1.1),
        (OptimConfig, "warmup_steps", -1),
        (OptimConfig, "final_lr", 1.1),
        (OptimConfig, "betas", (0.9, 1.0)),
        (OptimConfig, "weight_decay", math.inf),
        (OptimConfig, "clip", 0.0),
        (OptimConfig, "ema_decay", 1.0),
        (OptimConfig, "batch_size", 0),
        (OptimConfig, "epochs", 10**9),
        (OptimConfig, "glimpse_schedule", {-1: 4}),
        (OptimConfig, "glimpse_schedule", {0: 10**9}),
        (OptimConfig, "free_bits", -0.1),
        (OptimConfig, "free_bits", math.inf),
        (OptimConfig, "redraw", -0.1),
        (OptimConfig, "distillation", 1.1),
        (OptimConfig, "hindsight", -0.1),
        (OptimConfig, "kl_warmup_epochs", -1.0),
        (OptimConfig, "kl_warmup_epochs", math.nan),
        (TrainerConfig, "devices", 0),
        (TrainerConfig, "num_nodes", 0),
        (TrainerConfig, "max_time", "soon"),
        (TrainerConfig, "max_time", "00:00:00:00"),
        (TrainerConfig, "validate_every", 0),
        (TrainerConfig, "checkpoint_minutes", math.nan),
        (TrainerConfig, "threads", 0),
    ],
)
def test_values_out_of_range_name_the_field_and_the_range(
    part: type[Any], name: str, value: Any
) -> None:
    with pytest.raises(ValueError, match=rf"(optim|trainer)\.{name} must be .*, got"):
        part(**{name: value})


def test_the_ends_of_a_range_are_in_it() -> None:
    OptimConfig(lr=1.0, warmup_steps=0, final_lr=0.0, betas=(0.0, 0.0), ema_decay=0.0)
    OptimConfig(final_lr=1.0, batch_size=1, epochs=1, distillation=0.0)
    OptimConfig(distillation=1.0, redraw=1.0)


@pytest.mark.parametrize("name", ["free_bits", "kl_warmup_epochs", "redraw"])
def test_only_what_draws_has_options_of_drawing(name: str) -> None:
    with pytest.raises(ValueError, match=rf"optim\.{name} must be 0 for a network .*, got 0.5"):
        Recipe(ClassifierConfig(), optim=OptimConfig(**{name: 0.5}))


@pytest.mark.parametrize("model", [DRAWConfig(), ConvNetConfig()])
def test_only_who_looks_again_can_search(model: DRAWConfig | ConvNetConfig) -> None:
    with pytest.raises(ValueError, match=r"optim\.hindsight must be 0 for a network .*, got 0.5"):
        Recipe(model, optim=OptimConfig(hindsight=0.5))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        (OptimConfig, {"lr": "1e-3"}, "optim.lr must be of type float, got '1e-3'"),
        (OptimConfig, {"epochs": 1.5}, "optim.epochs must be of type int, got 1.5"),
        (OptimConfig, {"epochs": True}, "optim.epochs must be of type int, got True"),
        (OptimConfig, {"betas": (0.9, 0.9, 0.9)}, r"betas must be of type tuple\[float, float\]"),
        (OptimConfig, {"glimpse_schedule": {0: "4"}}, "optim.glimpse_schedule must be of type"),
        (TrainerConfig, {"compile": "yes"}, "trainer.compile must be 'auto' or 'on' or 'off'"),
        (TrainerConfig, {"devices": "all"}, "trainer.devices must be of type .*, got 'all'"),
        (TrainerConfig, {"tensorboard": 1}, "trainer.tensorboard must be of type bool, got 1"),
        (DataConfig, {"name": None}, "data.name must be of type str, got None"),
        (Recipe, {"seed": 0.5}, "seed must be of type int, got 0.5"),
        (Recipe, {"model": {}}, "model must be of type .*, got {}"),
        (DRAWConfig, {"image_shape": 28}, r"image_shape must be \(C, H, W\), got 28"),
    ],
)
def test_values_of_another_type(part: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part(**values)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(ValueError, match=r"seed must be in \[0, 2\^32\), got"):
        Recipe(seed=seed)


def test_glimpses_of_an_epoch() -> None:
    recipe = Recipe(model=DRAWConfig(glimpses=9))
    assert [recipe.glimpses(epoch) for epoch in range(3)] == [9, 9, 9]
    scheduled = replace(recipe, optim=OptimConfig(glimpse_schedule={4: 9, 1: 2}))
    assert [scheduled.glimpses(epoch) for epoch in range(6)] == [9, 2, 2, 2, 9, 9]
    with pytest.raises(ValueError, match=r"ends with model\.glimpses, which is 9, got"):
        replace(recipe, optim=OptimConfig(glimpse_schedule={0: 9, 5: 8}))


def test_a_file_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "~" / "run[1]*?"
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("model: {glimpses: 7}\n")
    monkeypatch.chdir(tmp_path)
    assert read(folder / "recipe.yaml").model == DRAWConfig(glimpses=7)
    assert read("~/run[1]*?/recipe.yaml").model == DRAWConfig(glimpses=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "seed is there twice"),
        ("optim: {lr: 1e-4}\nseed: 2\noptim: {epochs: 5}", "optim is there twice"),
        ("optim: {epochs: 5, lr: 1e-4, epochs: 5}", "epochs is there twice"),
        ("optim: {lr: 1e-4}\noptim.epochs: 5", r"expected optim or optim\.epochs, got both"),
    ],
)
def test_nothing_is_said_twice(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "twice.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"twice\.yaml: .*{message}"):
        read(tmp_path / "twice.yaml")
