"""What a server may be told."""

from __future__ import annotations

from pydantic import Field

from vernacular.foundation.configuration import Configuration


class ServingSettings(Configuration):
    """Address, limits and manners of a server."""

    host: str = Field("127.0.0.1", min_length=1, description="address to listen at; 0.0.0.0 for every interface")
    port: int = Field(8000, ge=0, le=65535, description="port to listen at; 0 takes a free one and says which")
    model_name: str = Field(
        "", description="what requests call the model", json_schema_extra={"shown": "the folder's name"}
    )
    max_waiting: int = Field(
        256, gt=0, description="most answers that may wait for their first token; beyond it requests get status 429"
    )
    max_body_bytes: int = Field(
        8 << 20, gt=0, description="longest body of a request in bytes; a longer one gets status 413"
    )
    timeout: float = Field(
        600, gt=0, allow_inf_nan=False, description="most seconds for one request; then it gets status 504"
    )
    grace: float = Field(
        60, ge=0, allow_inf_nan=False, description="most seconds to finish running answers when told to stop"
    )
    log_text: bool = Field(False, description="write prompts and answers into the log as well")
