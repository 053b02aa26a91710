#!/usr/bin/env python3
"""Splits data/reasoning_traces.jsonl by problem into cal.jsonl, dev.jsonl and val.jsonl (in the folder given) for the
results beside this file: no problem is in two of them, and each holds at least 12 traces of 4,096 tokens of SmolLM2."""
import json
import pathlib
import sys

rows = [json.loads(line) for line in (pathlib.Path(__file__).parents[1] / "reasoning_traces.jsonl").open()]
key = lambda row: (row["task"], str(row["problem"]))
problems = list(dict.fromkeys(key(row) for row in rows if len(row["response"]) > 11000))  # long enough, in file order
part = {problem: ("cal", "dev", "val")[i % 3] for i, problem in enumerate(problems)}
for name in ("cal", "dev", "val"):
    with open(pathlib.Path(sys.argv[1]) / f"{name}.jsonl", "w") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows if part.get(key(row), "val") == name)
