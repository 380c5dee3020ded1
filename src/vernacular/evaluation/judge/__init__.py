"""A model that grades another's answers: MT-Bench's rules, with what can go wrong counted rather than scored."""
