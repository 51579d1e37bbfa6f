"""Measure the table of docs/performance.md on this machine: `make bench`.

    python benchmarks/speed.py [--quick] [--part NAME]... [--json FILE]

The plain code that it compares with is `examples/draw_in_100_lines.py`, unchanged.
"""

import argparse
import inspect
import runpy
import sys
from pathlib import Path

import torch

from drawnet.benchmark import Case, benchmark, text, to_json
from drawnet.benchmark.cases import Call

EXAMPLE = Path(__file__).parents[1] / "examples" / "draw_in_100_lines.py"


def plain(case: Case) -> Call:
    """Prepare a case with the plain code."""
    network = runpy.run_path(str(EXAMPLE))["DRAW"]
    known = inspect.signature(network).parameters
    sizes = {name: value for name, value in vars(case.config).items() if name in known}
    model = network(**sizes).to(case.device)
    x = torch.rand(case.batch, *case.config.image_shape, device=case.device)
    adam = torch.optim.Adam(model.parameters(), lr=1e-4)

    def train() -> None:
        loss = model.loss(x).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    def evaluate() -> object:
        with torch.no_grad():
            return model.loss(x)

    def generate() -> object:
        return model.generate(case.batch)

    return {"train": train, "evaluate": evaluate, "generate": generate}[case.task]


def main() -> None:
    """Measure, print the table, and save it if asked to."""
    parser = argparse.ArgumentParser(description="Measure the speed of drawnet on this machine.")
    parser.add_argument("--quick", action="store_true", help="few sizes: only a minute or two")
    what = "only this part of the table, such as 'training step'; may be given several times"
    parser.add_argument("--part", action="append", default=[], metavar="NAME", help=what)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also save the table as JSON")
    asked = parser.parse_args()

    def tell(part: str, done: int, total: int) -> None:
        print(f"{part}: {done} of {total} cases done", file=sys.stderr, flush=True)

    try:
        report = benchmark(quick=asked.quick, parts=asked.part, plain=plain, progress=tell)
    except ValueError as error:
        parser.error(str(error))
    print(text(report))
    if asked.json is not None:
        asked.json.write_text(to_json(report))


if __name__ == "__main__":
    main()
