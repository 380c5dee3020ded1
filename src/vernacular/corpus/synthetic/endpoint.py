"""What a source that a language model writes is made of: server, prompts, their seeds, and what may be spent."""

from __future__ import annotations

from pydantic import Field

from vernacular.foundation.configuration import NEUTRAL, Configuration


class Budget(Configuration):
    """What a source may cost, over all runs with one cache; nothing is sent that could exceed it."""

    requests: int = Field(ge=1, description="requests, tries that failed among them")
    tokens: int = Field(ge=1, description="tokens of prompts and answers, as the server counts them")


class EndpointConfiguration(Configuration):
    """A source whose documents are the answers of an OpenAI-compatible server to prompts."""

    url: str = Field(description="what stands before /chat/completions, as https://HOST/v1", json_schema_extra=NEUTRAL)
    model: str = Field(min_length=1, description="the model's name there")
    prompts: str = Field(description="YAML file of prompts with {placeholders}")
    seeds: str = Field(description="JSON Lines file; the fields of each line fill the placeholders of every prompt")
    budget: Budget = Field(description="what may be spent", json_schema_extra=NEUTRAL)
    cache: str = Field(
        description="folder that keeps the answers, by the hash of the request", json_schema_extra=NEUTRAL
    )
    key_from: str | None = Field(
        None, description="environment variable that holds the server's key", json_schema_extra=NEUTRAL
    )
    answers: int = Field(1, ge=1, description="answers to each prompt with each seed")
    temperature: float = Field(0.8, ge=0, le=2, description="of sampling; 0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="of sampling")
    max_tokens: int = Field(1024, ge=1, description="tokens of an answer, at most")
    seed: int = Field(0, ge=0, description="sent with each request, another for each of several answers")
    minimum_characters: int = Field(20, ge=1, description="shorter answers are set aside as broken records")
    keep_cut_off: bool = Field(False, description="keep answers that max_tokens cut off; otherwise they are set aside")
    maximum_failures: float = Field(
        0.05, ge=0, le=1, description="share of the requests that may stay without an answer", json_schema_extra=NEUTRAL
    )
    at_once: int = Field(4, ge=1, le=256, description="requests under way at once", json_schema_extra=NEUTRAL)
    retries: int = Field(4, ge=0, description="further tries of a request, ever later", json_schema_extra=NEUTRAL)
    timeout: float = Field(
        120.0, gt=0, description="seconds to wait for a byte of an answer", json_schema_extra=NEUTRAL
    )
