#!/usr/bin/env python3
"""Reads a trace.h5 with h5py alone and checks types, shapes and sums against data/schema/README.md.

    read_with_h5py.py trace.h5

Exit status 0 if all is as documented; 77 (a skipped test) where h5py is not installed.
"""
import sys

try:
    import h5py
    import numpy as np
except ImportError:
    sys.exit(77)


def require(right, what):
    if not right:
        sys.exit(f"{sys.argv[1]}: {what}")


def texts(where, names):
    for name in names:
        require(isinstance(where.attrs[name], str), f"{where.name} attribute {name} is not str")


def numbers(where, names):
    for name in names:
        require(isinstance(where.attrs[name], np.integer), f"{where.name} attribute {name} is not an integer")


def check_sample(sample, model):
    texts(sample, ["id", "task", "problem", "sha256", "mode"])
    numbers(sample, ["n_tokens", "n_prompt_tokens"])
    n_tokens, layers, steps = int(sample.attrs["n_tokens"]), int(model["n_layers"]), sample["steps"][:]
    pages = -(-n_tokens // 16)
    maps = (layers, len(steps), pages)
    expected = {"token_ids": ("int32", (n_tokens,)), "steps": ("int32", steps.shape), "burst": ("int32", steps.shape),
                "page_score": ("float32", maps), "page_mass": ("float16", maps), "nll": ("float32", (n_tokens - 1,))}
    if "group_mass" in sample:
        expected["group_mass"] = ("float16", maps[:2] + (int(model["n_kv_heads"]), pages))
    for name, (dtype, shape) in expected.items():
        data = sample[name]
        require(data.dtype == dtype and data.shape == shape, f"{data.name} is {data.dtype} {data.shape}")
        print(f"{data.name}: {data.dtype} {list(data.shape)}, {data.id.get_storage_size()} bytes")
    require((np.diff(steps) > 0).all(), "steps do not ascend")
    score, mass = sample["page_score"][:], sample["page_mass"][:].astype("f8")
    unseen = np.arange(pages)[None, :] > steps[:, None] // 16
    require((score[:, unseen] == 0).all() and (mass[:, unseen] == 0).all(), "pages that a step does not see are not 0")
    return np.abs(mass.sum(axis=2) - 1).max() if len(steps) else 0.0


with h5py.File(sys.argv[1]) as trace:
    texts(trace, ["format", "tool_version", "command", "created", "options"])
    numbers(trace, ["schema_version", "seed"])
    texts(trace["model"], ["name", "architecture", "sha256", "dtype"])
    numbers(trace["model"], ["n_layers", "n_heads", "n_kv_heads", "head_dim", "page_size", "max_context"])
    off = max(check_sample(sample, trace["model"].attrs) for sample in trace["samples"].values())
    print(f"{len(trace['samples'])} samples; page masses sum to 1 within {off:.2g}")
