"""Whom a key is sent, and whom not."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai
import pytest
from pydantic import ValidationError

from rewards.endpoints.asking import WHO, make_client, problem_in_words, reason_of
from rewards.endpoints.config import PROVIDERS, EndpointConfig

ELSEWHERE = "https://example.org/v1"


@contextmanager
def server(location: str = "") -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Its address, and the headers of what it was asked; it sends all who ask to ``location``, where there is one."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(307 if location else 200)
            self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"data": "x"}).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    there = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=there.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{there.server_address[1]}/v1", seen
    finally:
        there.shutdown()
        there.server_close()


def ask(endpoint: str) -> str:
    async def asked() -> str:
        async with make_client(EndpointConfig(endpoint=endpoint, retries=0), "sk-1") as client:
            return str(await client.post("/pooling", cast_to=str, body={}))

    return asyncio.run(asked())


def test_nobody_is_followed_elsewhere_with_a_key_or_a_picture() -> None:
    with server() as (other, led_to), server(f"{other}/pooling") as (endpoint, asked):
        with pytest.raises(openai.APIStatusError) as caught:
            ask(endpoint)
        assert reason_of(caught.value) == "rejected"
        said = problem_in_words("rejected", caught.value, "sk-1")
        assert said == "rejected: HTTP 307: it sends to another address, which is not followed"
        assert len(asked) == 1 and led_to == []
        assert "x" in ask(other) and led_to[0]["authorization"] == "Bearer sk-1"


def test_who_the_user_is_at_openai_is_told_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    with server() as (endpoint, asked):
        ask(endpoint)
    assert not {name.lower() for name in WHO} & asked[0].keys()
    there = make_client(EndpointConfig(endpoint="https://api.openai.com/v1"), "sk-1").default_headers
    assert (there[WHO[0]], there[WHO[1]]) == ("org-1", "proj-1")


@pytest.mark.parametrize("name", ["SIEVE_JUDGE_KEY", "SIEVE_1"])
def test_variables_that_are_kept_for_this_go_where_the_configuration_says(name: str) -> None:
    assert EndpointConfig(endpoint=ELSEWHERE, api_key_env=name).api_key_env == name


@pytest.mark.parametrize(("name", "host"), PROVIDERS.items())
def test_a_providers_variable_goes_to_the_provider_alone(name: str, host: str) -> None:
    for endpoint in (f"https://{host}/v1", f"https://{host}/", None):
        assert EndpointConfig(endpoint=endpoint, api_key_env=name).api_key_env == name
    spoofed = (f"https://{host}.evil.org/v1", f"https://evil.org/{host}/v1", f"https://x{host}/v1")
    for endpoint in (ELSEWHERE, f"http://{host}/v1", f"https://{host}:8443/v1", f"https://{host}", *spoofed):
        with pytest.raises(ValidationError, match=f"{name} goes to https://{host}/ alone"):
            EndpointConfig(endpoint=endpoint, api_key_env=name)


@pytest.mark.parametrize(
    "name",
    ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PATH", "HOME", "SIEVE_", "XSIEVE_KEY", "SIEVE_a"],
)
def test_no_other_variable_is_sent_anywhere(name: str) -> None:
    with pytest.raises(ValidationError, match="an environment variable that begins with SIEVE_"):
        EndpointConfig(endpoint=ELSEWHERE, api_key_env=name)
