"""Imports point one way, and only the command line and the web page speak."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "drawnet"
STOREYS = [  # a room may import from the storeys below its own, and from nowhere else in the house
    {"attention", "checks", "config", "disk", "metrics", "processor", "product", "progress"},
    {"data", "likelihood", "weights"},
    {"step"},
    {"model", "baselines", "classify"},
    {"objective", "fast", "graphs"},
    {"complete", "evaluate", "explore", "recipe"},
    {"visualise"},
    {"benchmark", "figures", "training"},
    {"demo"},
    {"cli"},
]
STOREY = {room: height for height, rooms in enumerate(STOREYS) for room in rooms}


def modules() -> Iterator[tuple[str, Path, list[ast.AST]]]:
    """Room, file and syntax tree of every module, however deep the room."""
    for path in sorted(SOURCE.rglob("*.py")):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        yield room, path, list(ast.walk(ast.parse(path.read_text())))


def imported(nodes: list[ast.AST]) -> set[str]:
    """The full names of all that is imported, at the top of the module or inside a function."""
    names = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not any(node.level for node in froms), "relative imports hide where they point"
    return names | {f"{node.module}.{a.name}" for node in froms for a in node.names}


def test_every_room_has_its_storey() -> None:
    rooms = {room for room, _, _ in modules() if not room.startswith("__")}
    assert rooms <= set(STOREY), f"give {rooms - set(STOREY)} a place in STOREYS"


def test_imports_point_downwards() -> None:
    for room, path, nodes in modules():
        if room not in STOREY:
            continue  # the facade shows what is inside; for others, see the test above
        rooms = {name.split(".")[1] for name in imported(nodes) if name.startswith("drawnet.")}
        for other in rooms & set(STOREY) - {room}:
            assert STOREY[other] < STOREY[room], f"{path.name} of {room} imports {other}"


def test_heavy_libraries_stay_in_their_rooms() -> None:
    rooms = {
        "lightning": {"training"},
        "jsonargparse": {"recipe", "cli"},
        "gradio": {"demo"},
        "matplotlib": {"visualise", "figures", "demo"},
    }
    for room, path, nodes in modules():
        for library in {name.split(".")[0] for name in imported(nodes)} & set(rooms):
            assert room in rooms[library], f"{path.name} of {room} imports {library}"


def test_only_the_command_line_and_the_web_page_print() -> None:
    for room, path, nodes in modules():
        calls = [node.func for node in nodes if isinstance(node, ast.Call)]
        speaks = any(isinstance(f, ast.Name) and f.id == "print" for f in calls)
        assert room in ("cli", "demo") or not speaks, f"{path.name} of {room} prints"


def test_the_example_needs_nothing_of_the_package() -> None:
    example = SOURCE.parents[1] / "examples" / "draw_in_100_lines.py"
    libraries = {n.split(".")[0] for n in imported(list(ast.walk(ast.parse(example.read_text()))))}
    assert libraries - sys.stdlib_module_names == {"torch", "numpy", "PIL"}


def test_the_model_comes_without_engine_plots_and_pages() -> None:
    heavy = ("lightning", "matplotlib", "jsonargparse", "gradio", "huggingface_hub", "tensorboard")
    code = f"import sys, drawnet; drawnet.DRAW; print(*sorted({set(heavy)} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
