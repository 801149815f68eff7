"""A local OpenAI-compatible endpoint over real HTTP, which can misbehave in every way a real one does."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-0123456789abcdef"  # no key of anybody's


class Endpoint:
    """Answers `reply(question)`; before that, `faults(question, number)` may name what goes wrong with a request."""

    def __init__(self, reply: Callable[[str], str]) -> None:
        self.reply = reply
        self.faults: Callable[[str, int], str | None] = lambda question, number: None
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.most_at_once = self.now = 0
        self.lock = threading.Lock()
        self.url = ""

    @property
    def requests(self) -> int:
        return self.asked.total()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        question = body["messages"][-1]["content"]
        with self.lock:
            self.asked[question] += 1
            number = self.asked[question]
            self.bodies.append(body)
            self.keys.add(handler.headers["authorization"].removeprefix("Bearer "))
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
        try:
            self.respond(handler, question, self.faults(question, number))
        finally:
            with self.lock:
                self.now -= 1

    def respond(self, handler: BaseHTTPRequestHandler, question: str, fault: str | None) -> None:
        if fault == "hang":
            time.sleep(1.5)
            fault = "drop"
        if fault == "drop":
            handler.close_connection = True
            return
        if fault and fault.isdigit():
            send(handler, int(fault), {"error": {"message": f"no: {KEY}", "type": "x"}}, {"retry-after": "0.01"})
        elif fault == "html":
            send(handler, 200, "<html>a proxy's page</html>", kind="text/html")
        elif fault == "cut":
            send(handler, 200, '{"choices": [{"message": {"con')
        elif fault == "empty":
            send(handler, 200, {"object": "chat.completion", "choices": []})
        elif fault == "refused":
            send(handler, 400, {"error": {"message": "no", "type": "x", "code": "content_filter"}})
        elif fault in ("null", "declined"):
            message = {"role": "assistant", "content": None}
            reason = "content_filter" if fault == "declined" else "stop"
            send(handler, 200, {"choices": [{"index": 0, "message": message, "finish_reason": reason}]})
        else:
            message = {"role": "assistant", "content": self.reply(question)}
            content = {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "stub",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107},
            }
            send(handler, 200, content)


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    content: Any,
    headers: dict[str, str] | None = None,
    kind: str = "application/json",
) -> None:
    data = (content if isinstance(content, str) else json.dumps(content)).encode()
    handler.send_response(status)
    for name, value in {"content-type": kind, "content-length": str(len(data)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


@contextmanager
def serving(reply: Callable[[str], str]) -> Iterator[Endpoint]:
    endpoint = Endpoint(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            endpoint.answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
