"""Weights become scores: tasks, requests, metrics, records."""
