"""Documents become tokens: tokenizer, chat template, shards, packing, the order of the data. No torch here."""
