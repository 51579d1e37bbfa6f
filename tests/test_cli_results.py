"""Results, lists and programs from the command line."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from commands import SIDE, Answer, T, save_classifier, save_drawer, save_pictures

import drawnet.benchmark as drawnet_benchmark
import drawnet.demo as drawnet_demo
import drawnet.weights as drawnet_weights
from drawnet import DRAW, DRAWConfig, data
from drawnet.baselines import ConvNet
from drawnet.cli.inputs import drawn_at_random
from drawnet.cli.results import _duration, expected_seconds
from drawnet.config import ConvNetConfig
from drawnet.evaluate import evaluate

COUNT = 300
"""Of pictures, about a tenth of which are for testing."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pictures(tmp_path_factory.mktemp("pictures"), COUNT)


@pytest.fixture(scope="module")
def drawer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_default_dtype(torch.float64)
    return save_drawer(tmp_path_factory.mktemp("weights") / "drawer")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_default_dtype(torch.float64)
    return save_classifier(tmp_path_factory.mktemp("weights") / "classifier")


def test_a_part_of_the_images_drawn_at_random(
    drawnet: Callable[..., Answer], drawer: Path, pictures: Path
) -> None:
    command = ("evaluate", drawer, "--data-dir", pictures)

    def result(*options: object) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(drawnet(*command, "--json", *options).out)
        return facts

    whole, few = result(), result("--count", 5)
    assert few["count"] == 5
    assert f", 5 of {whole['count']} drawn at random with seed 0" in few["data"]
    assert few["split"] == "test"
    assert few["nats"] != result("--count", 5, "--seed", 1)["nats"]
    assert few == result("--count", 5)
    assert result("--count", COUNT) == whole
    assert "drawn at random" not in whole["data"]
    table = drawnet(*command, "--count", 5).out.splitlines()
    assert table[0] == f"{few['data']}, test: 5 images"


def test_images_drawn_at_random_are_not_the_first(pictures: Path) -> None:
    images = data.load("folder", "train", pictures, size=SIDE, channels=1)
    one, same, other = (drawn_at_random(images, 7, seed).chosen for seed in (0, 0, 1))
    assert one is not None
    assert len(one.unique()) == 7
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.max() > 7


def test_the_bound_is_computed_as_asked_and_told_as_computed(
    drawnet: Callable[..., Answer], drawer: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("evaluate", drawer, "--data-dir", pictures, "--split", "valid")
    command += ("--batch-size", 4, "--samples", 3, "--seed", 2)
    file = tmp_path / "tables" / "each.csv"
    told = json.loads(drawnet(*command, "--json", "--each", file).out)
    images = data.load("folder", "valid", pictures, size=SIDE, channels=1)
    model = DRAW.from_pretrained(drawer)
    bound = evaluate(model, images.for_classes(0), batch_size=4, samples=3, seed=2)
    for name in ("nats", "stderr", "nll_x", "kl", "iw_nats", "iw_stderr", "kl_per_glimpse"):
        assert told[name] == pytest.approx(getattr(bound, name))
    assert not {"each", "iw_each"} & set(told)
    with file.open(newline="") as rows:
        each = list(csv.DictReader(rows))
    assert [float(row["nats"]) for row in each] == pytest.approx(bound.each)
    assert [float(row["iw_nats"]) for row in each] == pytest.approx(bound.iw_each)
    one = ("evaluate", drawer, "--data-dir", pictures, "--each", tmp_path / "one.csv")
    assert drawnet(*one).code == 0
    assert (tmp_path / "one.csv").read_text().startswith("nats\n")
    table = [line.split() for line in drawnet(*command).out.splitlines()]
    by_glimpse = [f"{kl:.2f}" for kl in bound.kl_per_glimpse]
    for words in (
        ["L^x,", "the", "image", f"{bound.nll_x:.2f}"],
        ["L^z,", "the", "latents", f"{bound.kl:.2f}"],
        ["L^z", "by", "glimpse:", *by_glimpse],
        f"-log p(x) <=, K = 3 {bound.iw_nats:.2f} +- {bound.iw_stderr:.2f}".split(),
    ):
        assert words in table


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.1, "1 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")],
)
def test_a_duration_in_words(seconds: float, said: str) -> None:
    assert _duration(seconds) == said


@pytest.mark.parametrize(("samples", "tried"), [(10, 10), (1000, 256)])
def test_the_time_of_all_chains_is_foreseen_from_that_of_some(
    samples: int, tried: int, drawer: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = data.load("folder", "test", pictures, size=SIDE, channels=1).for_classes(0)
    clock = Mock(perf_counter=Mock(side_effect=[100.0, 106.0]))
    monkeypatch.setattr("drawnet.cli.results.time", clock)
    seconds = expected_seconds(DRAW.from_pretrained(drawer), images, samples, batch_size=4)
    assert seconds == pytest.approx(6 * samples * len(images) / (tried * 4))


def test_a_single_image_has_no_standard_error(
    drawnet: Callable[..., Answer], drawer: Path, pictures: Path
) -> None:
    answer = drawnet("evaluate", drawer, "--data-dir", pictures, "--count", 1, "--json")
    assert json.loads(answer.out, parse_constant=pytest.fail)["stderr"] is None


def test_another_number_of_glimpses_and_the_time_it_takes(
    drawnet: Callable[..., Answer], drawer: Path, pictures: Path
) -> None:
    command = ("evaluate", drawer, "--data-dir", pictures, "--glimpses", T + 2, "--samples", 3)
    answer = drawnet(*command, "--count", 7, "--json")
    bound = json.loads(answer.out)
    assert bound["glimpses"] == len(bound["kl_per_glimpse"]) == T + 2
    assert answer.err == "drawnet evaluate: K = 3 for 7 images is going to take about 1 s\n"
    # The weighted bound is of the same chain: of another it would be some nats away.
    assert bound["iw_nats"] < bound["nats"] + 3 * bound["stderr"]


def test_bits_of_intensities_and_what_is_no_code_length(
    drawnet: Callable[..., Answer], drawer: Path, pictures: Path, tmp_path: Path
) -> None:
    options = ("--data-dir", pictures, "--count", 7, "--samples", 2)
    grey = json.loads(drawnet("evaluate", drawer, *options, "--json").out)
    assert (grey["likelihood"], grey["code_length"]) == ("bernoulli", False)
    assert grey["bits_per_dim"] is grey["iw_bits_per_dim"] is None
    told = drawnet("evaluate", drawer, *options).out
    assert told.endswith("for which a bernoulli likelihood gives the cross-entropy.\n")
    assert "not a code length" in told

    levels = save_drawer(tmp_path, likelihood="logistic", components=2)
    bound = json.loads(drawnet("evaluate", levels, *options, "--json").out)
    assert (bound["likelihood"], bound["code_length"]) == ("logistic", True)
    per_bit = SIDE * SIDE * math.log(2)
    assert bound["bits_per_dim"] == pytest.approx(bound["nats"] / per_bit)
    assert bound["iw_bits_per_dim"] == pytest.approx(bound["iw_nats"] / per_bit)
    told = drawnet("evaluate", levels, *options).out
    assert "not a code length" not in told
    assert f", or {bound['bits_per_dim']:.3f} bits per dimension\n" in told
    assert f", or {bound['iw_bits_per_dim']:.3f} bits per dimension\n" in told


def test_bounds_given_the_label(
    drawnet: Callable[..., Answer], pictures: Path, tmp_path: Path
) -> None:
    weights = save_drawer(tmp_path, classes=2)
    command = ("evaluate", weights, "--data-dir", pictures, "--count", 7, "--samples", 2)
    assert json.loads(drawnet(*command, "--json").out)["given"] == "label"
    table = drawnet(*command).out
    assert "\n  -log p(x | y) <=         " in table
    assert "\n  -log p(x | y) <=, K = 2  " in table
    refused = drawnet("evaluate", save_drawer(tmp_path, classes=3), *command[2:])
    assert (refused.code, refused.out) == (2, "")
    assert "folder: expected labels of 3 classes, got labels of 2" in refused.err


def test_errors_of_a_classifier(
    drawnet: Callable[..., Answer], classifier: Path, pictures: Path
) -> None:
    command = ("evaluate", classifier, "--data-dir", pictures)
    result = json.loads(drawnet(*command, "--json").out)
    (a, b), (c, d) = result["confusion"]
    assert result["classes"] == ["a", "b"]
    assert a + b + c + d == result["count"]
    assert result["error"] == pytest.approx((b + c) / result["count"])
    assert result["interval"][0] < result["error"] < result["interval"][1]
    assert len(result["error_per_glimpse"]) == 3
    table = drawnet(*command).out.splitlines()
    low, high = (100 * end for end in result["interval"])
    error = 100 * result["error"]
    assert f"error             {error:.2f} %, 95 % interval {low:.2f} to {high:.2f} %" in table
    each = " ".join(f"{100 * rate:.2f}" for rate in result["error_per_glimpse"])
    assert f"error by glimpse  {each}" in table
    cost = result["multiply_adds"] / 10**6
    assert f"cost              {cost:.2f} million multiply-adds per image" in table
    assert [line.split() for line in table[-3:]] == [
        ["a", "b"],
        ["a", str(a), str(b)],
        ["b", str(c), str(d)],
    ]
    fewer = drawnet(*command, "--glimpses", 2, "--count", 6)
    assert "2 glimpses" in fewer.out
    assert "test: 6 images" in fewer.out


def test_errors_of_a_convolutional_network(drawnet: Callable[..., Answer], tmp_path: Path) -> None:
    pictures = save_pictures(tmp_path / "pictures", side=12)
    ConvNet(ConvNetConfig((1, 12, 12), classes=2)).save_pretrained(tmp_path / "conv")
    command = ("evaluate", tmp_path / "conv", "--data", "folder", "--data-dir", pictures)
    assert "error by glimpse" in drawnet(*command, "--split", "train").out
    places = 1  # a filter of 10 x 10 fits in 12 x 12 once with a stride of 5
    cost = 8 * 10 * 10 * places + 8 * places * 256 + 256 * 2
    assert json.loads(drawnet(*command, "--json").out)["multiply_adds"] == cost
    refused = drawnet(*command, "--glimpses", 2)
    assert (refused.code, refused.out) == (2, "")
    assert "takes no glimpses, got --glimpses 2" in refused.err


def test_options_of_the_data_other_than_the_trainings(
    drawnet: Callable[..., Answer], classifier: Path, pictures: Path
) -> None:
    command = ("evaluate", classifier, "--data-dir", pictures)
    assert f", cropped to {SIDE}x{SIDE}, " in drawnet(*command).out
    stretched = drawnet(*command, "--data-options", "{fit: stretch}")
    assert f", stretched to {SIDE}x{SIDE}, " in stretched.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--samples", "5"], "--samples is for a DRAW"),
        (["--each", "each.csv"], "--each is for a DRAW"),
        (["--count", "0"], "--count: must be 1 to 1000000000, got 0"),
        (["--data", "digits"], "digits are drawn by the program and need no data_dir, got"),
        (["--data-options", "{size: 20}"], "folder has images of shape (1, 20, 20)"),
        (["--data-options", "{sizes: 9}"], "folder takes the options size, "),
        (["--data-options", "{size: nine}"], "size must be of type int or list, got 'nine'"),
        (["--data-options", "size"], "--data-options: must be such as '{size: 60, piece: 4}', got"),
        (["--data-options", "{1: 2}"], "--data-options: must be such as "),
        (["--data-options", "{size"], "--data-options: must be such as "),
    ],
)
def test_what_cannot_be_evaluated(
    options: list[str],
    message: str,
    drawnet: Callable[..., Answer],
    classifier: Path,
    pictures: Path,
) -> None:
    answer = drawnet("evaluate", classifier, "--data-dir", pictures, *options)
    assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert message in answer.err


def test_what_is_known_from_python_only(drawnet: Callable[..., Answer], tmp_path: Path) -> None:
    class Own(DRAW):
        """Of which the program knows nothing."""

    Own(DRAWConfig((1, SIDE, SIDE), glimpses=2, write_size=3)).save_pretrained(tmp_path / "own")
    given = {"data": "dots, read from a dataset of 60 items", "data_name": None}
    save_drawer(tmp_path / "given", given)
    for folder, message in (
        ("own", "own: got weights of a Own, a custom network, which is for Python only"),
        ("given", "given was trained on dots, read from a dataset of 60 items, given from Python"),
    ):
        answer = drawnet("evaluate", tmp_path / folder)
        assert (answer.code, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert message in answer.err


def test_weights_that_come_with_the_package(
    drawnet: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawnet_weights, "SHIPPED", tmp_path)
    assert drawnet("weights").err == "drawnet weights: no weights come with this package\n"
    save_drawer(tmp_path / "small")
    save_classifier(tmp_path / "another")
    save_classifier(tmp_path / "wrong", validation_error=0.0325)
    options = {"include_valid": True}
    save_drawer(tmp_path / "learned", {"data_options": options})
    another, learned, small, wrong = drawnet("weights").out.splitlines()
    assert learned.endswith(", 9.88 nats on validation, which it has learned")
    assert another.split(maxsplit=1) == ["another", "GlimpseClassifier, of unknown images"]
    assert small.endswith("DRAW, of unknown images, 9.88 nats on validation")
    assert wrong.endswith(", 3.25 % wrong on validation")


def test_the_page_is_served_as_asked_for(
    drawnet: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        drawnet_demo, "launch", lambda weights, **options: calls.append((weights, options))
    )
    assert drawnet("demo").code == 0
    assert drawnet("demo", "one", "other", "--host", "::1", "--port", 0).code == 0
    assert calls == [
        ([], {"host": "127.0.0.1", "port": 7860}),
        (["one", "other"], {"host": "::1", "port": 0}),
    ]
    refused = drawnet("demo", "--port", "70000")
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def test_the_benchmark_as_a_table_or_as_json(
    drawnet: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def measured(**options: Any) -> drawnet_benchmark.Report:
        calls.append((options["quick"], options["device"]))
        return drawnet_benchmark.measure([], rounds=1)

    monkeypatch.setattr(drawnet_benchmark, "benchmark", measured)
    assert drawnet("benchmark", "--quick").out.startswith("drawnet ")
    refused = drawnet("benchmark", "--device", "nowhere")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert refused.err.startswith("drawnet benchmark: device nowhere: ")
    report = json.loads(drawnet("benchmark", "--json", "--device", "cpu").out)
    assert report["machine"]["cores"] >= 1
    assert calls == [(True, None), (False, "cpu")]

    def broken(**_: Any) -> None:
        raise RuntimeError("the process of a case ended")

    monkeypatch.setattr(drawnet_benchmark, "benchmark", broken)
    failed = drawnet("benchmark")
    assert (failed.code, failed.err) == (1, "drawnet benchmark: the process of a case ended\n")
