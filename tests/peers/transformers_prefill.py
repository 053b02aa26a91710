"""Prefill rate of Hugging Face transformers on the CPU, to hold `deltacal bench` against.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 transformers
    venv/bin/python tests/peers/transformers_prefill.py [--tokens 2048] [--repeats 3]

A model of SmolLM2-135M's shape with random weights (rates do not depend on their values), f32, two threads: SDPA, and
eager attention with output_attentions=True, which is how attention maps are usually recorded.
"""
import argparse
import statistics
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM


def rate(attention, tokens, repeats, maps):
    config = LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                         num_key_value_heads=3, vocab_size=49152, max_position_embeddings=8192, rope_theta=1e5,
                         tie_word_embeddings=True, attn_implementation=attention)
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 49152, (1, tokens))
    seconds = []
    with torch.inference_mode():
        for i in range(repeats + 1):
            start = time.perf_counter()
            model(ids, output_attentions=maps)
            if i:
                seconds.append(time.perf_counter() - start)
    return tokens / statistics.median(seconds), min(seconds), max(seconds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name, attention, maps in [("SDPA", "sdpa", False), ("eager, output_attentions", "eager", True)]:
        tokens_per_second, low, high = rate(attention, options.tokens, options.repeats, maps)
        print(f"transformers, f32, {name}: {tokens_per_second:.0f} tokens/s ({low:.2f} to {high:.2f} s)")


if __name__ == "__main__":
    main()
