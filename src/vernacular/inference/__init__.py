"""Weights become answers: engine, sampling, streaming, chat."""
