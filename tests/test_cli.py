"""The command line: each verb from end to end, and bad input in one line."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from commands import Answer
from PIL import Image

from drawnet import DRAW, __version__, cli, training, weights
from drawnet.cli import outputs
from drawnet.recipe import shipped

RECIPE = """\
model: {image_shape: [1, 9, 9], glimpses: 4, enc_size: 11, dec_size: 10, z_size: 5, write_size: 3}
data: {name: folder, options: {size: 9, channels: 1}}
optim: {lr: 0.01, batch_size: 7, epochs: 2, warmup_steps: 3}
trainer: {accelerator: cpu, threads: 1, compile: 'off', tensorboard: false}
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    values = np.random.default_rng(0).integers(0, 256, (60, 9, 9), dtype=np.uint8)
    for number, picture in enumerate(values):
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "own.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def trained(pictures: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_default_dtype(torch.float64)
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--recipe", f"{recipe}", "--data-dir", f"{pictures}", "--out", f"{run}"])
    assert stop.value.code == 0
    return run


def test_help_and_version_are_quick_since_they_import_no_torch() -> None:
    for argv, shown in (
        (["--help"], "usage: drawnet VERB"),
        (["train", "--help"], "usage: drawnet train"),
        (["evaluate", "--help"], "usage: drawnet evaluate"),
        (["figure", "6", "--help"], "usage: drawnet figure 6"),
        (["explore", "--help"], "usage: drawnet explore"),
        (["benchmark", "--help"], "usage: drawnet benchmark"),
        (["--version"], f"drawnet {__version__}"),
    ):
        program = (
            "import sys; from drawnet import cli\n"
            f"try: cli.main({argv})\n"
            "except SystemExit as stop: assert not stop.code\n"
            "assert not {'torch', 'lightning', 'numpy', 'PIL'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(shown)


def test_help_of_train_tells_the_defaults_of_its_own_options_in_words(
    drawnet: Callable[..., Answer],
) -> None:
    _, _, options = " ".join(drawnet("train", "--help").out.split()).partition("options: -h")
    own, _, fields = options.partition("--network")
    assert "(default: runs/RECIPE)" in own
    assert "default: null" not in own
    assert "default: null" in fields


def test_recipes(drawnet: Callable[..., Answer]) -> None:
    answer = drawnet("recipes")
    assert answer.code == 0
    assert "mnist-laptop" in answer.out
    assert drawnet("recipes", "mnist").out == shipped()["mnist"].read_text()
    assert "got 'nonesuch'" in drawnet("recipes", "nonesuch").err


def test_what_is_no_text_is_no_recipe(drawnet: Callable[..., Answer], tmp_path: Path) -> None:
    file = tmp_path / "latin.yaml"
    file.write_bytes("# caf\xe9".encode("latin-1"))
    answer = drawnet("recipes", file)
    assert answer.code == 2
    assert answer.err.startswith(f"drawnet recipes: {file}: expected a recipe, got no text")


def test_a_time_without_quotes_is_a_number_in_yaml(
    drawnet: Callable[..., Answer], tmp_path: Path
) -> None:
    (tmp_path / "own.yaml").write_text("trainer: {max_time: 10:00:00:00}")
    answer = drawnet("train", "--recipe", tmp_path / "own.yaml", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "trainer.max_time must be text in quotes or null, got 2160000" in answer.err


def test_it_starts_several_processes_itself(pictures: Path, recipe: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "drawnet",
        "train",
        "--recipe",
        recipe,
        "--out",
        tmp_path / "run",
    ]
    command += ["--data-dir", pictures, "--optim.batch_size", "6", "--optim.epochs", "1"]
    command += ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("epoch 1 of 1: validation") == 1, "one speaks for both"
    assert done.stdout == ""
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["processes"] == 2


def test_train_then_go_on_for_longer(
    drawnet: Callable[..., Answer], pictures: Path, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", "--data-dir", pictures, "--out", run)
    answer = drawnet(*command, "--recipe", recipe, "--optim.epochs", 1, "--seed", 5)
    assert answer.code == 0
    assert "epoch 1 of 1: validation" in answer.err
    assert f"weights in {run / 'weights'}" in answer.err
    assert answer.out == ""
    assert "seed: 5" in (run / "recipe.yaml").read_text()

    again = drawnet(*command, "--recipe", recipe)
    assert again.code == 2
    assert "holds a run" in again.err

    longer = drawnet(*command, "--resume", "--optim.epochs", 2)
    assert longer.code == 0
    assert "epoch 2 of 2: validation" in longer.err
    assert "epoch 1 of" not in longer.err
    assert "seed: 5" in (run / "recipe.yaml").read_text()


def test_evaluate(drawnet: Callable[..., Answer], trained: Path, pictures: Path) -> None:
    command = ("evaluate", trained, "--data-dir", pictures, "--split", "valid")
    table = drawnet(*command)
    assert table.code == 0
    assert "4 glimpses, standard prior" in table.out
    assert "split by file name" in table.out
    bound = json.loads(drawnet(*command, "--json", "--samples", 3).out)
    assert f"{bound['nats']:8.2f} +- {bound['stderr']:.2f}" in table.out
    assert bound["iw_nats"] == pytest.approx(bound["nats"], rel=0.01)
    assert bound["samples"] == 3
    assert len(bound["kl_per_glimpse"]) == 4
    assert (
        drawnet("evaluate", trained / "weights", *command[2:]).out.splitlines()[2:]
        == (table.out.splitlines()[2:])
    )


@pytest.mark.parametrize("suffix", ["gif", "png", "apng", "webp"])
def test_generate(
    drawnet: Callable[..., Answer], trained: Path, tmp_path: Path, suffix: str
) -> None:
    command = ("generate", trained, "--count", 3, "--scale", 2, "--format", suffix, "--out")
    answer = drawnet(*command, tmp_path / "a", "--seed", 4)
    assert answer.code == 0
    files = [Path(line) for line in answer.out.splitlines()]
    assert len(files) == 2
    with Image.open(files[1]) as animation:
        assert getattr(animation, "n_frames", 1) > 1
    drawnet(*command, tmp_path / "b", "--seed", 4)
    drawnet(*command, tmp_path / "c", "--seed", 5)
    a, b, c = ((tmp_path / name / "generated.png").read_bytes() for name in "abc")
    assert a == b != c


def test_reconstruct(
    drawnet: Callable[..., Answer], trained: Path, pictures: Path, tmp_path: Path
) -> None:
    answer = drawnet(
        "reconstruct", trained, "--data-dir", pictures, "--count", 2, "--out", tmp_path
    )
    assert answer.code == 0
    names = ["reconstructed.png", "reconstructed.gif"]
    assert [Path(line).name for line in answer.out.splitlines()] == names


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "arguments are required: VERB"),
        (["dance"], "invalid choice: 'dance'"),
        (["train", "--recipe", "nothing"], "recipe must be a YAML file or one of"),
        (["train", "--optim.speed", "3"], "unrecognized arguments: --optim.speed"),
        (["train", "--optim.epoch", "3"], "(did you mean optim.epochs?)"),
        (["train", "--optim.lr", "quick"], "optim.lr must be a number, got quick"),
        (["train", "--model.read_size", "None"], "must be a whole number or null, got None"),
        (["train", "--model.image_shape", "9"], "must be a list, such as '[1, 28, 28]', got 9"),
        (["train", "--model.prior", "flat"], "must be one of 'standard', 'learned', got flat"),
        (["train", "--optim.lr", ".nan"], "optim.lr must be in (0, 1], got nan"),
        (["train", "--optim.lr", "-1"], "optim.lr must be in (0, 1], got -1"),
        (
            ["train", "--model.glimpses", "1000000000"],
            "glimpses must be an integer from 1",
        ),
        (["train", "--model.glimpses", "1e9"], "model.glimpses"),
        (["train", "--trainer.accelerator", "abacus"], "abacus"),
        (["train", "--data.name", "nothing"], "data set must be one of"),
        (["train", "--data.options", "{speed: 3}"], "'speed'"),
        (["train", "--data-dir", "nowhere"], "nowhere"),
        (["train", "--model.image_shape", "[1, 9, 8]"], "model.image_shape must be (1, 9, 9)"),
        (["train", "--optim.batch_size", "1000"], "optim.batch_size must be at most"),
        (["train", "--resume"], "holds no run to resume"),
        (["train", "--recipe", ""], "recipe must be a YAML file or one of"),
        (["train", "--data", "mnist"], "data is set option by option, such as --data.name mnist"),
        (["evaluate", "nothing"], "no weights at nothing"),
        (["generate", "nothing"], "no weights at nothing"),
        (["generate", "/nothing"], "no weights at /nothing"),
        (["generate", "RUN", "--count", "0"], "--count: must be 1 to 1000, got 0"),
        (["generate", "RUN", "--fps", "nan"], "--fps: must be 0.1 to 50.0, got nan"),
        (["generate", "RUN", "--device", "abacus"], "device abacus"),
        (["evaluate", "RUN", "--split", "rest"], "invalid choice: 'rest'"),
        (["evaluate", "RUN", "--data-dir", "nowhere"], "nowhere"),
        (
            ["evaluate", "RUN", "--data-dir=~no-such-user"],
            "--data-dir: ~no-such-user: Could not determine home",
        ),
        (["evaluate", "RUN", "--data", "nothing"], "data set must be one of"),
        (
            ["generate", "RUN", "--out", "/dev/null/out"],
            "cannot save /dev/null/out/generated.png: Not a directory",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    argv: list[str],
    message: str,
    drawnet: Callable[..., Answer],
    trained: Path,
    pictures: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [str(trained) if argument == "RUN" else argument for argument in argv]
    if argv[:1] == ["train"]:
        for name, value in (("--recipe", recipe), ("--data-dir", pictures), ("--out", "run")):
            if name not in argv and not (name == "--recipe" and "--resume" in argv):
                argv += [name, str(value)]
    answer = drawnet(*argv)
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.startswith(f"drawnet {argv[0]}:" if len(argv) > 1 else "drawnet:")
    assert answer.err.count("\n") == 1, "one line"
    assert answer.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {speed: 3}", "speed"),
        ("optim: [1, 2", "parsing"),
        ("data: !!python/object/apply:os.mkdir [made]", "python/object/apply"),
        ("\x00", "characters are not allowed"),
        ("network: draww", "network must be one of draw, classifier, convnet, got 'draww'"),
        ("network: [draw]", "network must be one of draw, classifier, convnet, got"),
        ("network: classifier\nmodel: {enc_size: 3}", "enc_size"),
        ("model: 3", "model must be pairs, 'name: value', got 3"),
        ("trainer: null", "trainer must be pairs, 'name: value', got None"),
        ("data: folder", "data must be pairs, 'name: value', got 'folder'"),
        ("[optim]", "a recipe must be pairs, 'name: value', got ['optim']"),
        ("data_dir: pictures", "a recipe has network, model, data, optim, trainer, seed, start, "),
        ("seed: 2020-13-45", "month must be in 1..12"),
    ],
)
def test_bad_recipes(
    text: str,
    message: str,
    drawnet: Callable[..., Answer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(text)
    answer = drawnet("train", "--recipe", "bad.yaml", "--out", "run")
    assert answer.code == 2
    assert answer.err.startswith("drawnet train: bad.yaml: ")
    assert message in answer.err
    assert answer.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_impossible_sizes_are_refused_before_torch_is_imported() -> None:
    program = (
        "import sys; from drawnet import cli\n"
        "try: cli.main(['train', '--model.glimpses', '1000000000'])\n"
        "except SystemExit as stop: assert stop.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_a_reader_that_has_gone() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "drawnet", "recipes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 128 + signal.SIGPIPE
    assert errors == b""


def test_nobody_to_tell() -> None:
    program = f'exec "{sys.executable}" -m drawnet recipes >&-'
    done = subprocess.run(["sh", "-c", program], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_out_of_memory(
    error: Exception, drawnet: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipes(argv: Sequence[str]) -> None:
        raise error

    monkeypatch.setitem(cli.VERBS, "recipes", recipes)
    assert drawnet("recipes") == Answer(1, "", "drawnet recipes: out of memory\n")


def test_killed_then_resumed_then_terminated(pictures: Path, recipe: Path, tmp_path: Path) -> None:
    """kill -9 leaves a run that can be resumed; SIGTERM ends with exit 143 and says how."""
    run = tmp_path / "a run"
    command = [sys.executable, "-m", "drawnet", "train", "--data-dir", str(pictures)]
    command += ["--out", str(run), "--optim.epochs", "100000"]
    command += ["--trainer.checkpoint_minutes", "0.001", "--trainer.validate_every", "1000"]

    def started(*more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *more],
            stderr=subprocess.PIPE,
            text=True,
        )

    def step_reached(process: subprocess.Popen[str], step: int) -> int:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            steps = [int(path.stem[5:]) for path in run.glob("checkpoints/*.ckpt")]
            if max(steps, default=0) > step:
                return max(steps)
            time.sleep(0.02)

    first = started("--recipe", str(recipe))
    killed_at = step_reached(first, 5)
    first.kill()
    first.communicate()

    second = started("--resume")
    step_reached(second, killed_at)
    second.terminate()
    errors = second.communicate(timeout=60)[1]
    assert second.returncode == 128 + signal.SIGTERM
    assert errors.splitlines()[-1] == (
        f"drawnet train: stopped with a checkpoint; to go on: drawnet train --out '{run}' --resume "
        f"--data-dir {pictures}"
    )
    assert "Traceback" not in errors


def test_after_a_divergence_it_says_how_to_go_on(
    drawnet: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def diverges(*_: object, **__: object) -> None:
        raise training.Diverged("not finite")

    monkeypatch.setattr(training, "train", diverges)
    failed = drawnet("train", "--recipe", "digits", "--optim.lr", "4e-3", "--out", tmp_path)
    assert failed.code == 3
    go_on = f"drawnet train --out {tmp_path} --resume --optim.lr 0.002"
    assert failed.err.endswith(f"not finite; to go on from before that: {go_on}\n")

    ends = Mock(side_effect=training.Diverged("never finite", ended=True))
    monkeypatch.setattr(training, "train", ends)
    failed = drawnet("train", "--recipe", "digits", "--optim.lr", "4e-3", "--out", tmp_path)
    assert failed.err.endswith("never finite; begin anew with --optim.lr 0.002\n")


@pytest.mark.parametrize(
    "stop",
    [training.Interrupted(signal.SIGTERM, rank=1), training.Diverged("not finite", rank=1)],
)
def test_only_the_first_process_tells_why_it_stops(
    stop: Exception,
    drawnet: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(training, "train", Mock(side_effect=stop))
    assert drawnet("train", "--recipe", "digits", "--out", tmp_path) == Answer(0, "", "")


@pytest.mark.parametrize(
    ("argv", "resume", "overwrite"),
    [
        ([], False, False),
        (["--overwrite"], False, True),
        (["--resume"], True, False),
        (["--resume", "runs/a/step.ckpt"], "runs/a/step.ckpt", False),
        (["--resume", ""], "", False),
    ],
)
def test_how_to_begin(
    argv: list[str],
    resume: bool | str,
    overwrite: bool,
    drawnet: Callable[..., Answer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trains = Mock()
    monkeypatch.setattr(training, "train", trains)
    monkeypatch.setenv("HOME", "/home/some")
    answer = drawnet("train", "--recipe", "digits", "--start", "mnist", "--out=~/run", *argv)
    assert answer.code == 0
    recipe, out = trains.call_args.args
    assert (recipe.start, out) == ("mnist", Path("/home/some/run"))
    assert trains.call_args.kwargs["resume"] == resume
    assert trains.call_args.kwargs["overwrite"] == overwrite


def test_progress_ends_its_line_before_anything_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    outputs.tell("reading", 1, 2)
    outputs.note("train", "one is broken")
    outputs.tell("reading", 2, 2)
    outputs.note("train", "done")
    lines = "\rreading: 1 of 2\ndrawnet train: one is broken\n\rreading: 2 of 2\n"
    assert terminal.getvalue() == lines + "drawnet train: done\n"
    monkeypatch.setattr(sys, "stderr", None)
    outputs.tell("reading", 1, 2)
    outputs.note("train", "to nobody")


def test_weights_tell_where_they_come_from(drawnet: Callable[..., Answer], trained: Path) -> None:
    told = json.loads(drawnet("weights", trained).out)
    assert told == json.loads((trained / "weights" / "config.json").read_text())
    assert told["provenance"]["steps"] > 0
    listed = drawnet("weights").out.splitlines()
    assert [line.split()[0] for line in listed] == weights.shipped()


def test_weights_are_usable_from_python(trained: Path) -> None:
    model = DRAW.from_pretrained(trained)
    assert model.config.glimpses == 4
