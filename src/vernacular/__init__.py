"""Vernacular: from raw text in your own language to a published language model, with one tool and one recipe.

Importing this package costs next to nothing: a name is loaded, with what it needs, when it is first used.

    import vernacular

    lm = vernacular.load("runs/demo/instruct")
    print(lm.chat([{"role": "user", "content": "Jaka jest stolica Polski?"}]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vernacular.inference.loading import load as load

__version__ = "0.1.0"

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from vernacular.inference.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
