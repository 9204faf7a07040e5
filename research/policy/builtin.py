"""The built-in model: a small causal language model of a real transformers class, with a real tokenizer.

It is made, saved and loaded like any hub model, so everything that works with it works with a hub model too.
"""

from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from research.component import require
from research.seeding import torch_seed

PAD, END = "<pad>", "<end>"


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """The shape of the built-in Qwen3 model; the default has about 0.5 million parameters."""

    hidden: int = 128
    """Width of the residual stream."""
    layers: int = 2
    """Transformer blocks."""
    heads: int = 4
    """Attention heads, each of width hidden / heads."""
    feedforward: int = 512
    """Width of the feed-forward layers."""
    positions: int = 256
    """Most tokens of a prompt and its completion together."""

    def __post_init__(self) -> None:
        require(
            self.hidden % self.heads == 0,
            f"TinyModel: hidden is a multiple of heads, got {self.hidden} and {self.heads}",
        )


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """One token per character of `alphabet`, plus padding and end tokens.

    Example:
        >>> character_tokenizer("01+=")("1+0=")["input_ids"]
        [3, 4, 2, 5]
    """
    vocabulary = {token: index for index, token in enumerate([PAD, END, *alphabet])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=PAD))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, padding_side="left")


def tiny_model(shape: TinyModel, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    """A randomly initialised Qwen3 model of this shape, in float32; equal seeds give equal models."""
    ids = tokenizer.get_vocab()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=shape.feedforward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.hidden // shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        pad_token_id=ids[PAD],
        eos_token_id=ids[END],
        bos_token_id=None,
        dtype="float32",
    )
    with torch_seed(seed):
        model = Qwen3ForCausalLM(config)
    model.generation_config.pad_token_id = ids[PAD]
    model.generation_config.eos_token_id = ids[END]
    return model.float()
