"""vLLM: an engine in the training process, or a server; what is asked of it, and how it gets new weights."""
