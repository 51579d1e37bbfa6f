"""Which requests reach the page at all.

Gradio serves much that this page has no use for: files on disk and uploads, pictures fetched from
other machines, recordings, histories. Only the requests that the page makes are let through. What
they post must be small and made of plain values, so no code behind the guard needs to trust a
stranger's file names.
"""

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 5_000_000
READ = re.compile(r"/((assets|static)/.+|theme\.css|favicon\.ico|gradio_api/queue/data)?")
WRITE = "/gradio_api/queue/join"
FILES = re.compile(r"/gradio_api/(file|proxy|stream|upload).*")


class Guard:
    """An ASGI application that refuses some requests, and passes the rest on.

    It answers 404 to a path that the page does not use, 403 to a file, 413 to more than `MAX_BODY`
    bytes, and 422 to anything but the values of the page's controls.

    Args:
        app: The application to pass requests on to.
        inputs: How many values each of the page's functions takes, by the function's number.
    """

    def __init__(self, app: "ASGIApp", inputs: dict[int, int]) -> None:
        self.app = app
        self.inputs = inputs

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if scope["method"] in ("GET", "HEAD"):
            if READ.fullmatch(path):
                await self.app(scope, receive, send)
            else:
                await _refuse(send, *_missing(path))
            return
        body = await _body(receive)
        if body is None:
            await _refuse(send, 413, f"expected at most {MAX_BODY} bytes")
        elif path != WRITE or scope["method"] != "POST":
            await _refuse(send, *_missing(path))
        elif not self.known(body):
            await _refuse(send, 422, "expected the values of the controls of the page")
        else:
            await self.app(scope, _replay(body, receive), send)

    def known(self, body: bytes) -> bool:
        """Whether a request calls a function of the page with as many plain values as it takes."""
        try:
            call = json.loads(body)
        except (ValueError, RecursionError):
            return False
        if not isinstance(call, dict):
            return False
        number, data, session = (call.get(key) for key in ("fn_index", "data", "session_hash"))
        return (
            type(number) is int
            and number in self.inputs
            and isinstance(data, list)
            and len(data) == self.inputs[number]
            and all(value is None or isinstance(value, bool | int | float | str) for value in data)
            and isinstance(session, str)
            and re.fullmatch(r"\w{1,64}", session) is not None
        )


def _missing(path: str) -> tuple[int, str]:
    return (403, "no files are served") if FILES.fullmatch(path) else (404, "not found")


async def _body(receive: "Receive") -> bytes | None:
    """The whole body, or None if it is too large."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _replay(body: bytes, receive: "Receive") -> "Receive":
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> "Message":
        return messages.pop() if messages else await receive()

    return again


async def _refuse(send: "Send", status: int, why: str) -> None:
    body = json.dumps({"detail": why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # if the body is too large, the rest of it is not read
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
