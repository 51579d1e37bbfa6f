"""The demo page as strangers meet it: over HTTP, and in a browser."""

import base64
import http.client
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from PIL import Image
from tiny import tiny_model

from drawnet.demo import answers, pictures
from drawnet.demo.guard import MAX_BODY

T = 7
NETWORKS = ("grey", "colour", "labels")
JSON = {"Content-Type": "application/json"}
PAPER = pictures.to_url(pictures.digit(4))

# The program as a user starts it, except that it tells of every connection off this machine.
PROGRAM = """
import sys
def hook(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if host not in ("127.0.0.1", "localhost", "::1", None):
        print("LEFT THE MACHINE", event, host, file=sys.stderr, flush=True)
sys.addaudithook(hook)
from drawnet.demo import launch
launch(sys.argv[1:], port=0)
"""


class Server(NamedTuple):
    host: str
    port: int
    errors: Path
    functions: dict[str, int]  # what fills which screen, by the name of the screen

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("demo")
    tiny_model(image_shape=(1, 28, 28), glimpses=T).save_pretrained(folder / "grey")
    tiny_model(image_shape=(3, 20, 24), glimpses=3).save_pretrained(folder / "colour")
    tiny_model(image_shape=(1, 28, 28), glimpses=2, classes=3).save_pretrained(folder / "labels")
    errors = folder / "errors"
    with errors.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *(folder / name for name in NETWORKS)],
            stdout=subprocess.PIPE, stderr=file, text=True, cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    with process:
        assert process.stdout is not None
        where = re.match(r"http://(127\.0\.0\.1):(\d+)  ", process.stdout.readline())
        assert where is not None, errors.read_text()
        found = Server(where[1], int(where[2]), errors, {})
        found.functions.update(functions(found))
        yield found
        # A browser still waits for answers, which take longer than a server waits for a browser.
        for _ in range(6):
            assert join(found, "watch", watch(25, glimpses=128), "waiting") == 200
        waiting = http.client.HTTPConnection(found.host, found.port, timeout=60)
        waiting.request("GET", "/gradio_api/queue/data?session_hash=waiting")
        assert waiting.getresponse().status == 200
        process.terminate()
        assert process.wait(20) in (0, -15)
        waiting.close()
        assert process.stdout.read() == "stopping\n"
    assert errors.read_text() == ""
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NETWORKS, "errors"])


def functions(server: Server) -> dict[str, int]:
    """The numbers of the functions of the page, read off the page as its own program does."""
    page = ask(server, "GET", "/")[1].decode()
    config = json.loads(page.split("window.gradio_config = ")[1].split(";</script>")[0])
    screens = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
    return {
        screens[call["outputs"][0]]: call["id"]
        for call in config["dependencies"]
        if call["outputs"] and call["backend_fn"]
    }


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def join(server: Server, screen: str, values: list[Any], session: str) -> int:
    call = {"data": values, "fn_index": server.functions[screen], "session_hash": session}
    return ask(server, "POST", "/gradio_api/queue/join", json.dumps(call).encode(), **JSON)[0]


def call(server: Server, screen: str, values: list[Any], session: str) -> dict[str, Any]:
    """Call a function of the page and wait for the event that ends it."""
    assert join(server, screen, values, session) == 200
    _, events = ask(server, "GET", f"/gradio_api/queue/data?session_hash={session}")
    messages = [json.loads(line[6:]) for line in events.decode().splitlines() if line]
    (last,) = [each for each in messages if each["msg"] == "process_completed"]
    assert "Traceback" not in events.decode()
    return last


def watch(count: object = 4, **changes: object) -> list[object]:
    values = {
        "network": "grey",
        "seed": 0,
        "count": count,
        "glimpses": T,
        "windows": True,
        "crisp": False,
        "label": answers.EACH,
    }
    return [*(values | changes).values()]


def test_a_film_comes_over_http(server: Server) -> None:
    done = call(server, "watch", watch(), "film")
    assert done["success"]
    (film,) = done["output"]["data"]
    assert len(film["frames"]) == len(film["notes"]) == T + 1
    frames = [pictures.from_url(frame) for frame in film["frames"]]
    same = answers.draw(
        tiny_model(image_shape=(1, 28, 28), glimpses=T).float(), 0, 4, T, True, False
    )
    assert frames[0].size == same.frames[0].size
    assert frames[-1] != frames[0]


def test_the_page_asks_nothing_of_other_machines(server: Server) -> None:
    status, page = ask(server, "GET", "/")
    assert status == 200
    loaded = re.findall(
        r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(https?:)?//", page.decode()
    )
    assert loaded == []
    assert re.search(r"url\(.?https?:", ask(server, "GET", "/theme.css")[1].decode()) is None


@pytest.mark.parametrize(
    ("screen", "values", "message"),
    [
        ("watch", watch(26), "count must be a whole number from 1 to 25, got 26"),
        ("watch", watch("many"), "count must be a whole number from 1 to 25, got 'many'"),
        ("watch", watch(None), "count must be"),
        ("watch", watch(glimpses=10**9), "glimpses must be a whole number from 1 to 128"),
        ("watch", watch(seed=-1), "seed must be"),
        ("watch", watch(network="labels", label="3"), "class must be one of each in turn, 0, 1, 2"),
        ("watch", watch(network="../../etc"), "the network must be one of grey, colour"),
        ("copy", ["grey", "", True, 0, T], "there is no picture yet"),
        ("copy", ["grey", "file:///etc/passwd", True, 0, T], "the picture must be one of"),
        ("copy", ["colour", PAPER, False, 0, 0], "glimpses must be"),
        ("find", ["cluttered-8", PAPER, 33, 0], "pieces of clutter must be a whole number from 0"),
        ("find", ["../../etc", PAPER, 8, 0], "the network must be one of cluttered-8, clutt"),
        ("view", [PAPER, 0, 0, 0, 99, 0, 5], "log stride must be a number from -4 to 1, got 99"),
        ("view", [PAPER, 0, 0, 0, 0, 0, 33], "N must be"),
    ],
)
def test_a_bad_value_gives_an_error_of_one_line(
    server: Server, screen: str, values: list[Any], message: str
) -> None:
    done = call(server, screen, values, "bad")
    assert not done["success"]
    assert done["output"]["error"].startswith(message)
    assert "\n" not in done["output"]["error"]
    assert call(server, "watch", watch(1), "alive")["success"]


FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
ADDRESS = {"path": "http://10.0.0.1/", "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 100_000, b"[]", b'{"data": 1}'])
def test_what_is_no_call_at_all_is_refused(server: Server, body: bytes) -> None:
    assert ask(server, "POST", "/gradio_api/queue/join", body, **JSON)[0] == 422


@pytest.mark.parametrize(
    "change",
    [
        {"fn_index": 10**6},
        {"fn_index": "0"},
        {"fn_index": None},
        {"data": watch()[1:]},
        {"data": [*watch(), 0]},
        {"data": {"0": "grey"}},
        {"data": watch(FILE)},
        {"data": watch(ADDRESS)},
        {"data": watch([1, 2])},
        {"session_hash": None},
        {"session_hash": "a" * 100},
        {"session_hash": "../a"},
    ],
)
def test_what_is_no_call_of_the_page_is_refused(server: Server, change: dict[str, Any]) -> None:
    good = {"data": watch(), "fn_index": server.functions["watch"], "session_hash": "good"}
    for call, status in ((good, 200), (good | change, 422)):
        body = json.dumps(call).encode()
        assert ask(server, "POST", "/gradio_api/queue/join", body, **JSON)[0] == status


@pytest.mark.parametrize(
    "path",
    [
        "file=/etc/passwd",
        "file=../../../../etc/passwd",
        "file=..%2f..%2fetc%2fpasswd",
        "file=http://127.0.0.1:1/",
        "file/etc/passwd",
        "proxy=http://127.0.0.1:1/",
    ],
)
def test_no_file_is_served(server: Server, path: str) -> None:
    status, body = ask(server, "GET", f"/gradio_api/{path}")
    assert status == 403
    assert b"root:" not in body


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/static/../../../../../etc/passwd"),
        ("GET", "/assets/..%2f..%2f..%2fetc%2fpasswd"),
        ("GET", "/gradio_api/vibe-code"),
        ("GET", "/gradio_api/heartbeat/a"),
        ("GET", "/gradio_api/run-history/records"),
        ("GET", "/monitoring"),
        ("POST", "/gradio_api/run/watch"),
        ("POST", "/gradio_api/call/watch"),
        ("POST", "/gradio_api/process_recording"),
        ("PUT", "/gradio_api/queue/join"),
        ("DELETE", "/"),
    ],
)
def test_nothing_else_is_there(server: Server, method: str, path: str) -> None:
    status, body = ask(server, method, path, None if method == "GET" else b"{}")
    assert status in (403, 404)
    assert b"root:" not in body


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
@pytest.mark.parametrize("chunked", [False, True])
def test_more_than_5_megabytes_are_refused(server: Server, path: str, chunked: bool) -> None:
    body = b"x" * (MAX_BODY + 1)
    connection = http.client.HTTPConnection(server.host, server.port, timeout=60)
    try:
        sent = iter([body[:70_000], body[70_000:]]) if chunked else body
        connection.request("POST", path, sent, JSON, encode_chunked=chunked)
        assert connection.getresponse().status == 413
    finally:
        connection.close()
    assert ask(server, "POST", "/gradio_api/upload", b"small")[0] == 403


def test_a_picture_that_explodes_is_refused_before_it_is_decoded(server: Server) -> None:
    file = io.BytesIO()
    Image.new("1", (20_000, 5_000)).save(file, "PNG")
    bomb = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    assert len(bomb) < 100_000
    done = call(server, "copy", ["grey", bomb, True, 0, T], "bomb")
    assert done["output"]["error"].endswith("at most 4 megapixels, got 20000 x 5000")


def test_a_crowd_is_served_or_told_to_wait(server: Server) -> None:
    def visit(number: int) -> int:
        return join(server, "watch", watch(1), f"visitor{number}")

    with ThreadPoolExecutor(64) as crowd:
        statuses = list(crowd.map(visit, range(200)))
    assert set(statuses) == {200, 503}
    while join(server, "watch", watch(1), "next") == 503:  # until the queue is shorter
        threading.Event().wait(0.05)
    assert ask(server, "GET", "/gradio_api/queue/data?session_hash=next")[0] == 200
    assert call(server, "watch", watch(1), "after")["success"]


# In a browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None and not os.environ.get("DRAWNET_REQUIRE_BROWSER"):
        pytest.skip("no chromium found to show the page in (Debian has it as a package)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The page, watched: nothing it does may fail or leave the machine."""
    asked: list[str] = []
    wrong: list[str] = []
    tab = browser.new_page(viewport={"width": 1280, "height": 1000})
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("response", lambda got: got.status >= 400 and wrong.append(f"{got.status} {got.url}"))
    tab.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    tab.goto(server.url)
    yield tab
    tab.close()
    local = (server.host, None)  # None: of data: and blob: URLs
    assert {urlsplit(url).hostname for url in asked} <= set(local)
    assert f"{server.url}/" in asked
    assert wrong == []


def show(page: Any, tab: str, screen: str) -> Any:
    """Go to a tab, and wait for its first film: the position of that film."""
    page.get_by_role("tab", name=tab).click()
    slider = page.locator(f"#{screen} .position")
    slider.wait_for()
    return slider


def pixels(page: Any, screen: str) -> str:
    canvas = page.locator(f"#{screen} canvas")
    return str(canvas.evaluate("canvas => canvas.toDataURL()"))


def words(page: Any, place: str) -> str:
    return str(page.locator(place).inner_text())


def until(page: Any, what: Callable[[], bool]) -> None:
    for _ in range(400):
        if what():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not happen within 20 seconds")


def scrub(page: Any, screen: str, t: int) -> str:
    """Pull a film to a frame and look at it."""
    page.locator(f"#{screen} .position").evaluate(
        "(slider, t) => { slider.value = t; slider.dispatchEvent(new Event('input')); }", t
    )
    return pixels(page, screen)


def test_the_page_opens_with_a_film(page: Any) -> None:
    assert show(page, "Watch it draw", "watch").get_attribute("max") == str(T)
    first = scrub(page, "watch", 0)
    assert words(page, "#watch .note") == "before the first glimpse"
    assert scrub(page, "watch", T) != first
    assert words(page, "#watch .note") == f"glimpse {T} of {T}"
    page.locator("#watch .play").click()
    until(page, lambda: words(page, "#watch .note") == f"glimpse 2 of {T}")


def test_other_drawings_are_drawn(page: Any) -> None:
    show(page, "Watch it draw", "watch")
    before, seed = scrub(page, "watch", T), page.get_by_label("Seed").first.input_value()
    page.get_by_role("button", name="Draw others").click()
    until(page, lambda: page.get_by_label("Seed").first.input_value() != seed)
    until(page, lambda: scrub(page, "watch", T) != before)


def test_a_digit_drawn_with_the_mouse_is_copied(page: Any) -> None:
    show(page, "Draw a digit", "copy")
    until(page, lambda: "nats in all" in words(page, "#words"))
    before, example = words(page, "#words"), scrub(page, "copy", T)

    page.get_by_role("button", name="Clear").click()
    box = page.locator("#paper canvas").bounding_box()
    for stroke in ([(0.3, 0.3), (0.5, 0.2), (0.5, 0.8)], [(0.3, 0.8), (0.7, 0.8)]):
        for number, (x, y) in enumerate(stroke):
            place = box["x"] + x * box["width"], box["y"] + y * box["height"]
            page.mouse.move(*place, steps=5)
            if number == 0:
                page.mouse.down()
        page.mouse.up()
    page.get_by_role("button", name="Read it and write it").click()

    until(page, lambda: words(page, "#words") != before)
    until(page, lambda: scrub(page, "copy", T) != example)
    frames = {scrub(page, "copy", t) for t in range(T + 1)}
    assert len(frames) == T + 1
    note = words(page, "#copy .note")
    assert re.fullmatch(rf"glimpse {T} of {T}: [\d.]+ nats, [\d.]+ so far", note)
    assert page.locator("#nats canvas").bounding_box()["width"] > 400


def test_a_picture_is_chosen(page: Any, tmp_path: Path) -> None:
    show(page, "Draw a digit", "copy")
    until(page, lambda: "nats in all" in words(page, "#words"))
    before = words(page, "#words")
    pictures.digit(8).resize((1500, 1200)).save(tmp_path / "eight.jpg")
    page.locator("#paper input[type=file]").set_input_files(tmp_path / "eight.jpg")
    until(page, lambda: page.locator("#paper canvas").evaluate("canvas => canvas.height") == 224)
    page.get_by_role("button", name="Read it and write it").click()
    until(page, lambda: words(page, "#words") != before)


def test_an_error_is_told_in_a_line(page: Any) -> None:
    show(page, "Draw a digit", "copy")
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Read it and write it").click()
    page.get_by_text("there is no picture yet: draw one, or choose one").wait_for()
    page.get_by_test_id("toast-close").click()  # it lies over the choice of the network


def test_a_digit_is_hidden_and_found(page: Any) -> None:
    film = show(page, "Find it in clutter", "find")
    until(page, lambda: "Its answer is 7 (" in words(page, "#found"))
    assert film.get_attribute("max") == "7", "of eight glimpses"
    speeds = [page.locator(f"#{screen} .speed").input_value() for screen in ("find", "watch")]
    assert speeds == ["2", "10"]
    before = scrub(page, "find", 7)
    assert re.fullmatch(r"glimpse 8 of 8: \d \(\d+\.\d %\)", words(page, "#find .note"))
    page.get_by_role("button", name="Hide it elsewhere").click()
    until(page, lambda: scrub(page, "find", 7) != before)
    page.get_by_label("Classifier").click()
    page.get_by_role("option", name="cluttered-4").click()
    until(page, lambda: film.get_attribute("max") == "3")


def test_the_window_moves_with_the_sliders(page: Any) -> None:
    page.get_by_role("tab", name="The attention by hand").click()
    until(page, lambda: "12 × 12 filters" in words(page, "#seen"))
    before = pixels(page, "view")
    page.get_by_label("number input for N").fill("5")
    until(page, lambda: "5 × 5 filters" in words(page, "#seen"))
    until(page, lambda: pixels(page, "view") != before)


def test_another_network_is_chosen(page: Any) -> None:
    film = show(page, "Watch it draw", "watch")
    page.get_by_label("Network").click()
    page.get_by_role("option", name="colour").click()
    until(page, lambda: film.get_attribute("max") == "3")


def test_a_class_is_chosen(page: Any) -> None:
    film = show(page, "Watch it draw", "watch")
    assert page.get_by_label("Class", exact=True).count() == 0
    page.get_by_label("Network").click()
    page.get_by_role("option", name="labels", exact=True).click()
    until(page, lambda: film.get_attribute("max") == "2")
    before = scrub(page, "watch", 2)
    page.get_by_label("Class", exact=True).click()
    page.get_by_role("option", name="1", exact=True).click()
    until(page, lambda: scrub(page, "watch", 2) != before)
