"""One decoder for training and for inference; families as data; weights in Hugging Face layout."""
