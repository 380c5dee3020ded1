"""One file for llama.cpp: tensors, settings, tokenizer and chat template (extra `[gguf]`)."""
