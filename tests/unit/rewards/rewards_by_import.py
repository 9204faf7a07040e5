"""Functions that a user might write, for `FunctionVerifier` and `FunctionReward`: good ones and bad ones."""

import asyncio
import os
import time


def brevity(completion):
    return -float(len(completion))


async def slow_brevity(completion):
    await asyncio.sleep(0.01)
    return -float(len(completion))


def mentions(completion, answer, meta, prompt="", *, ignored=0):
    return None if meta.get("skip") else answer in completion


def everything(**given):
    return float(len(given))


def hangs(completion):
    while "hang" in completion:
        time.sleep(0.01)
    return 1.0


def dies(completion):
    if "die" in completion:
        os._exit(3)
    return 1.0


def gluttonous(completion):
    return float(len(bytearray(8 * 2**30))) if "eat" in completion else 1.0


def raises(completion):
    raise KeyError("no\nsuch key")


def wordy(completion):
    return "good"


def infinite(completion):
    return float("inf")


def numeric(completion):
    return 0.5


def wants_more(completion, tokenizer):
    return 0.0


def wants_nothing():
    return 0.0


def process(completion):
    return float(os.getpid())


not_a_function = 3
