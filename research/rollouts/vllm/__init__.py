"""Sampling with vLLM, by an engine in the training process or by a server, and the transfer of weights to it."""
