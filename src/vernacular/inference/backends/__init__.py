"""Other programs that run a model, each behind the same `LanguageModel` as our own engine."""
