"""How the page is served."""

import logging
import socket
from types import FrameType

from drawnet.demo import Networks
from drawnet.demo.guard import MAX_BODY, Guard
from drawnet.demo.page import WIDGETS, build  # before gradio, which it configures

# isort: split
import gradio as gr
import uvicorn
from fastapi import FastAPI

SESSIONS = 64
"""How many visitors' states and unread answers the page keeps."""


def application(networks: Networks) -> Guard:
    """The page as an ASGI application."""
    page = build(networks)
    page.state_session_capacity = SESSIONS
    page._queue.pending_messages_per_session.max_size = SESSIONS
    theme = gr.themes.Default(
        primary_hue="orange", neutral_hue="slate", font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )  # fmt: skip
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        theme=theme,
        css=(WIDGETS / "page.css").read_text("utf-8"),
        # The pictures are on white paper, and so is the page.
        js="() => document.body.classList.remove('dark')",
        footer_links=[],
        run_history=False,
        max_file_size=MAX_BODY,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
    )
    return Guard(app, {number: len(each.inputs) for number, each in page.fns.items() if each.fn})


class Server(uvicorn.Server):
    """A server that says in one line that it is stopping, even while it computes."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal."""
        if not self.should_exit:
            print("stopping", flush=True)  # noqa: T201
        # Cutting off a browser that is listening would be logged as an error of the page.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        super().handle_exit(sig, frame)


def serve(networks: Networks, host: str, port: int) -> None:
    """Serve the page until interrupted, and print its address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listening:
        where = f"[{host}]" if ":" in host else host
        app = application(networks)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)
        print(f"http://{where}:{listening.getsockname()[1]}  (Ctrl-C stops it)", flush=True)  # noqa: T201
        Server(config).run([listening])
