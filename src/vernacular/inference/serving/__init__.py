"""The server: an OpenAI-compatible API over the engine."""
