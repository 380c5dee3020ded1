"""The JSON schema of recipes, for editors that complete and underline."""

from __future__ import annotations

from typing import Any

from vernacular.lifecycle.recipe import Recipe


def recipe_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a recipe file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Vernacular recipe",
        **Recipe.model_json_schema(),
    }
