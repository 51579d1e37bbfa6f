"""`drawnet weights`, `drawnet demo` and `drawnet benchmark`."""

import json
from collections.abc import Sequence

from drawnet.cli.arguments import add_number, verb_parser
from drawnet.cli.inputs import check_device
from drawnet.cli.outputs import MACHINE_FAILED, fail, note, tell


def weights(argv: Sequence[str]) -> None:
    """List the weights that come with the package, or print all that is recorded about some."""
    parser = verb_parser(weights)
    parser.add_argument(
        "name", nargs="?", help="print all about these weights, as JSON: a name or a folder"
    )
    asked = parser.parse_args(argv)
    from drawnet.weights import SHIPPED, describe, locate, shipped

    if asked.name is not None:
        print(json.dumps(describe(locate(asked.name)), indent=2))
        return
    if not shipped():
        note("weights", "no weights come with this package")
    for name in shipped():
        facts = describe(SHIPPED / name)
        print(f"{name:20} {', '.join(_provenance(facts['model'], facts['provenance']))}")


def _provenance(model: str, facts: dict[str, object]) -> list[str]:
    """The model, the data and the results of weights, in a few words each."""
    said = [model, str(facts.get("data", "of unknown images"))]
    if "glimpses" in facts:
        said.append(f"{facts['glimpses']} glimpses")
    if "steps" in facts:
        said.append(f"{facts['steps']} steps")
    if isinstance(error := facts.get("validation_error"), float):
        said.append(f"{100 * error:.2f} % wrong on validation")
    elif isinstance(validated := facts.get("validation_nats"), float):
        options = facts.get("data_options")
        learned = isinstance(options, dict) and options.get("include_valid")
        said.append(f"{validated:.2f} nats on validation{', which it has learned' * bool(learned)}")
    return said


def demo(argv: Sequence[str]) -> None:
    """Serve a web page on which to watch networks draw and look, and to draw for them."""
    parser = verb_parser(demo)
    what = "run folders, folders of weights or names, besides the weights in the package"
    parser.add_argument("weights", nargs="*", help=what)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    add_number(parser, "port", 0, 65535, 7860, "port to listen on; 0 takes any free one")
    asked = parser.parse_args(argv)

    from drawnet.demo import launch

    launch(asked.weights, host=asked.host, port=asked.port)


def benchmark(argv: Sequence[str]) -> None:
    """Time training, evaluation and generation on this machine."""
    parser = verb_parser(benchmark)
    what = "short chains and few sizes: takes a minute instead of a quarter of an hour"
    parser.add_argument("--quick", action="store_true", help=what)
    parser.add_argument("--device", help="such as cpu or cuda; by default a GPU if there is one")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(argv)

    check_device(asked.device)

    from drawnet import benchmark as speed

    try:
        report = speed.benchmark(quick=asked.quick, device=asked.device, progress=tell)
    except RuntimeError as error:
        fail("benchmark", str(error), MACHINE_FAILED)
    print(speed.to_json(report) if asked.json else speed.text(report))
