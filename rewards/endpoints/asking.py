"""Asking a model behind a URL: the client, a picture on its way, and what went wrong in one line.

OpenAI's library is imported where one is asked: half a second, which runs that ask nobody spare.
"""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx2

from rewards.endpoints.config import PROVIDERS, EndpointConfig, host_of

if TYPE_CHECKING:
    import openai

MOST_BYTES = 2**24
"""Of an answer; verdicts and scores take thousands."""
WHO = ("OpenAI-Organization", "OpenAI-Project")
"""Headers that the library takes from the environment."""


def make_client(settings: EndpointConfig, api_key: str) -> openai.AsyncOpenAI:
    """A client that waits, and tries again with growing pauses, as the section says. It follows nobody elsewhere, and
    tells nobody but OpenAI who the user is there."""
    import openai

    nameless = {} if host_of(str(settings.endpoint)) == PROVIDERS["OPENAI_API_KEY"] else dict.fromkeys(WHO, openai.omit)
    return openai.AsyncOpenAI(
        base_url=settings.endpoint,
        api_key=api_key,
        timeout=settings.timeout,
        max_retries=settings.retries,
        default_headers=nameless,  # type: ignore[arg-type]
        http_client=openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            headers={"Accept-Encoding": "identity"},
            event_hooks={"response": [_bound]},
        ),
    )


async def _bound(response: httpx2.Response) -> None:
    """Cut an answer off where it is longer than any: a server may go on for ever. Nothing is unpacked."""
    response.headers.pop("Content-Encoding", None)
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """The first `MOST_BYTES` of an answer."""

    def __init__(self, whole: httpx2.AsyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_BYTES
        async for part in self._whole:
            yield part[:left]
            left -= len(part)
            if left <= 0:
                return

    async def aclose(self) -> None:
        await self._whole.aclose()


def image_part(image: Any) -> dict[str, Any]:
    """An image in the form of OpenAI's chat interface, without loss."""
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def reason_of(error: Exception) -> str:
    """`timeout`, `unreachable`, `rejected` (HTTP 3xx and 4xx), `server_error` (HTTP 5xx) or `malformed`."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return "timeout"
    if isinstance(error, openai.APIConnectionError):
        return "unreachable"
    if isinstance(error, openai.APIStatusError):
        return "rejected" if error.status_code < 500 else "server_error"
    return "malformed"


def problem_in_words(reason: str, error: BaseException, key: str) -> str:
    """One line without the key, which some servers repeat when they do not like it."""
    import openai

    kind = f"{type(error).__name__}: " if reason in ("malformed", "broken") else ""
    text = str(error)
    if isinstance(error, openai.APIStatusError):
        text = f"HTTP {error.status_code}: {error.response.text}"
        if error.response.is_redirect:
            text = f"HTTP {error.status_code}: it sends to another address, which is not followed"
    return f"{reason}: {kind}{' '.join(text.replace(key, '***').split())[:300]}"
