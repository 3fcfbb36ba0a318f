"""One file a model family: how its card reads, how to prepare its input and decode its output."""
