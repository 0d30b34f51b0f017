"""Real servers for tests of a judge: one that answers as a test says, and vLLM's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rl.engines.vllm_engine import CPU_ENVIRONMENT, ENVIRONMENT

Reply = Callable[[int, dict[str, Any]], tuple[int, str]]


def completion(text: str | None, finish_reason: str = "stop", **message: Any) -> str:
    """The body of a chat completion of 100 prompt tokens and 7 completion tokens."""
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": text, **message},
    }
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}
    return json.dumps(body)


class ChatServer:
    """What a running server has seen: the requests, their headers, and the most that were there at once."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.server = server
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}/v1"
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.here = self.most = 0
        self.lock = threading.Lock()

    def stop(self) -> None:
        """Close the port; may be called while a request is being answered."""
        threading.Thread(target=self.server.shutdown).start()
        self.server.socket.close()


@contextmanager
def chat_server(reply: Reply, pause: float = 0.0, drip: float = 0.0) -> Iterator[ChatServer]:
    """A server on loopback; ``reply(number of the request from 0, its body)`` gives status and body, after a pause, and
    with ``drip`` seconds before every byte of the body."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                number = len(seen.requests)
                seen.requests.append(request)
                seen.headers.append({name.lower(): value for name, value in self.headers.items()})
                seen.here += 1
                seen.most = max(seen.most, seen.here)
            time.sleep(pause)
            status, body = reply(number, request)
            with seen.lock:
                seen.here -= 1
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            with suppress(OSError):  # the client has gone
                for byte in body.encode() if drip else ():
                    time.sleep(drip)
                    self.wfile.write(bytes([byte]))
                self.wfile.write(b"" if drip else body.encode())

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    seen = ChatServer(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def vllm_server(checkpoint: str, key: str, log: Path) -> Iterator[str]:
    """vLLM's OpenAI server on loopback; gives the endpoint. The model's name there is ``judge``."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", checkpoint]
    command += ["--served-model-name", "judge", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "2048", "--max-num-seqs", "8"]
    command += ["--block-size", "32", "--limit-mm-per-prompt", '{"image": 2}']
    # Without this a model with random weights writes blanks between the braces for ever.
    command += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    environment = os.environ | ENVIRONMENT | CPU_ENVIRONMENT
    environment |= {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_API_KEY": key, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        _wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_healthy(address: str, server: subprocess.Popen[bytes], log: Path, deadline: float = 300) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"vLLM's server did not start: {log.read_text(errors='replace')[-2000:]}")
