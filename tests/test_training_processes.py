"""Trainings on two processes of one machine, over gloo.

Two processes run this file as a program: a whole training, one that is interrupted and resumed,
and one in which a process is killed. The tests look at what that left behind.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from trainings import RECIPE, Spy, assert_same, checkpoints, final_state, rows, run

from drawnet.training import Interrupted, checkpoint, log

# Which glimpses are free is decided by the whole batch, so the processes must agree on it.
ONE = replace(RECIPE, optim=replace(RECIPE.optim, free_bits=1.7))
EVERY = 15  # steps between two rows: a checkpoint of step 10 has sums that are not logged yet
TWO = replace(ONE, trainer=replace(RECIPE.trainer, devices=2, strategy="ddp"))


class Result(NamedTuple):
    folder: Path
    codes: list[int]
    output: str


def scenes(folder: Path, rank: int) -> None:
    """What each of the two processes does."""
    torch.set_default_dtype(torch.float64)
    log.EVERY = EVERY

    def act(name: str, number: int, **options: Any) -> None:
        """Send a signal to one of the two at step 12."""
        kill = 12 if rank == 1 and number else None
        run(folder / name, Spy(kill=kill, number=number, batch=3, fresh=False), TWO, **options)

    act("unbroken", 0)
    try:
        act("resumed", signal.SIGTERM)
    except Interrupted:
        act("resumed", 0, resume=True)
    act("died", signal.SIGKILL)


@pytest.fixture(autouse=True)
def _every(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "EVERY", EVERY)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("two")
    port = free_port()
    processes = []
    for rank in range(2):
        place = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "GROUP_RANK": 0,
            "WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "TORCHELASTIC_RUN_ID": "test",
        }
        environment = {**os.environ, **{key: str(value) for key, value in place.items()}}
        with (folder / f"output-{rank}").open("w") as output:
            program = [sys.executable, __file__, str(folder), str(rank)]
            processes.append(
                subprocess.Popen(program, env=environment, stdout=output, stderr=output)
            )
    deadline = time.monotonic() + 200
    try:
        codes = [process.wait(max(deadline - time.monotonic(), 1)) for process in processes]
    except subprocess.TimeoutExpired:
        pytest.fail("".join((folder / f"output-{rank}").read_text() for rank in range(2)))
    finally:
        for process in processes:
            process.kill()
    output_of_both = "".join((folder / f"output-{rank}").read_text() for rank in range(2))
    return Result(folder, codes, output_of_both)


def free_port() -> int:
    """A port below those that the system gives to connections, since it is bound several times."""
    for port in range(15_000 + os.getpid() % 10_000, 30_000):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def test_resumed_equals_unbroken(result: Result) -> None:
    resumed, unbroken = result.folder / "resumed", result.folder / "unbroken"
    assert resumed.exists(), result.output
    assert_same(final_state(resumed), final_state(unbroken))
    assert rows(resumed) == rows(unbroken)
    starts = (resumed / "starts.jsonl").read_text().splitlines()
    assert [json.loads(start)["step"] for start in starts] == [0, 20], "it was interrupted"


def test_two_processes_do_what_one_does(result: Result, tmp_path: Path) -> None:
    run(tmp_path, Spy(fresh=False), ONE)
    one, two = final_state(tmp_path), final_state(result.folder / "unbroken")
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], weight, rtol=1e-7, atol=1e-9)
    assert [row["step"] for row in rows(tmp_path) if row["loss"]] == ["15", "30"]
    assert losses(tmp_path) == pytest.approx(losses(result.folder / "unbroken"), rel=1e-9)


def losses(out: Path) -> list[float]:
    return [float(row[key]) for row in rows(out) for key in ("loss", "valid_loss") if row[key]]


def test_resumed_on_one_process(
    result: Result, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "died"
    shutil.copytree(result.folder / "died", out)
    run(out, Spy(fresh=False), ONE, resume=checkpoints(out)[0])
    assert "the checkpoint is of 2 processes, this training runs on 1" in caplog.text
    unbroken = result.folder / "unbroken"
    assert losses(out) == pytest.approx(losses(unbroken), rel=1e-7)
    for name, weight in final_state(out)["state_dict"].items():
        expected = final_state(unbroken)["state_dict"][name]
        torch.testing.assert_close(weight, expected, rtol=1e-7, atol=1e-9)


def test_a_killed_process_ends_the_others(result: Result) -> None:
    assert result.codes[1] == -signal.SIGKILL
    assert result.codes[0] > 0, "the other ended by itself, with an error"
    (left,) = checkpoints(result.folder / "died")
    assert left.name == "step-000000010.ckpt"
    checkpoint.load(left)


if __name__ == "__main__":
    scenes(Path(sys.argv[1]), int(sys.argv[2]))
