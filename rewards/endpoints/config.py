"""What sections on models behind a URL have in common."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from rewards.section import Count, Positive, Section

KEPT_FOR_THIS = re.compile(r"SIEVE_[A-Z0-9_]+")
PROVIDERS = {
    "ANTHROPIC_API_KEY": "api.anthropic.com",
    "DEEPSEEK_API_KEY": "api.deepseek.com",
    "GEMINI_API_KEY": "generativelanguage.googleapis.com",
    "GROQ_API_KEY": "api.groq.com",
    "HF_TOKEN": "router.huggingface.co",
    "MISTRAL_API_KEY": "api.mistral.ai",
    "OPENAI_API_KEY": "api.openai.com",
    "OPENROUTER_API_KEY": "openrouter.ai",
    "TOGETHER_API_KEY": "api.together.xyz",
}
"""Variables that hold a provider's key wherever its own tools are used, and the one host that each may be sent to: a
configuration may be a stranger's, its address too."""


def host_of(endpoint: str) -> str:
    """Whom an address reaches, with the port that it names.

    >>> host_of("https://api.openai.com/v1"), host_of("http://127.0.0.1:8000/v1")
    ('api.openai.com', '127.0.0.1:8000')
    """
    return urlsplit(endpoint).netloc.lower()


class EndpointConfig(Section):
    """A model that others serve: where it is, and how it is asked; see `rewards.endpoints.asking`."""

    endpoint: str | None = None
    """Address of a server, for example `http://127.0.0.1:8000/v1`; null for none."""
    model: str = ""
    """Name of the model there."""
    api_key_env: str | None = None
    """The environment variable that holds the key: `SIEVE_…`, or a provider's own (`OPENAI_API_KEY` …) for its own
    https address; null if the server wants none."""
    with_answer: bool = False
    """Of a judge: whether it is told the reference answer."""
    structured: bool = True
    """Of a judge: whether the server can hold its answer to a JSON schema, as vLLM can; a weak model is then still
    readable."""
    max_tokens: Count = 1024
    """Of a judge: longest answer."""
    temperature: Annotated[float, Field(ge=0)] | None = 0.0
    """Of a judge's answers; null for the server's own."""
    concurrency: Count = 8
    """Requests at once."""
    timeout: Positive = 60
    """Seconds that one request may take."""
    retries: Annotated[int, Field(ge=0)] = 2
    """Further attempts after one that got no answer, each after a longer pause."""
    patience: Count = 4
    """Of a judge: rollouts in a row without an answer after which the others of the step are not sent."""
    deadline: Positive = 300
    """Seconds that the rollouts of one step may take."""
    cache: str | None = None
    """File of known answers, which several runs may share; null for one in the run folder."""

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[^/@?#\s]+(/[^@?#\s]*)?", value):
            raise ValueError(
                "input should be the http or https address of a server, without a password or a query: the key goes "
                "into the environment variable that api_key_env names"
            )
        return value

    @field_validator("api_key_env")
    @classmethod
    def _is_no_key(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Run folders and messages repeat it, and so it must not be the key; nor a variable that is for others."""
        if value is None or KEPT_FOR_THIS.fullmatch(value):
            return value
        if value not in PROVIDERS:
            raise ValueError(
                f"input should be the name of an environment variable that begins with SIEVE_, or one of "
                f"{', '.join(PROVIDERS)}, and not the key itself"
            )
        endpoint = info.data.get("endpoint")
        if endpoint is not None and not endpoint.startswith(f"https://{PROVIDERS[value]}/"):
            raise ValueError(
                f"{value} goes to https://{PROVIDERS[value]}/ alone; a key for another address is kept in a variable "
                "whose name begins with SIEVE_"
            )
        return value
