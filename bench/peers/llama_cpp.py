#!/usr/bin/env python3
"""llama.cpp as a peer of `demask bench forward` (the protocol is in README.md beside this file).

Wraps `llama-bench`, which you build yourself, with a GGUF file of the shape and format that you want to
compare with: `--binary path/to/llama-bench --model dream-0.5b-q8_0.gguf`. A run is one prompt of the
job's length; `llama-bench` loads the model and warms up before it, neither of which is counted. It
computes the logits of the last cell only, so compare with `--logits none`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path


class Skip(Exception):
    """A job that this peer cannot do; its text says why."""


def bench(job, options):
    """The result of one `llama-bench` run."""
    command = [options.binary, "-m", options.model, "-t", job["threads"], "-p", job["tokens"], "-n", 0]
    command += ["-b", job["tokens"], "-ub", job["tokens"], "-r", 1, "-o", "json"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
        raise SystemExit(f"{options.binary} ended with {done.returncode}")
    return json.loads(done.stdout)[0]


def prepare(job, options):
    """What the peer calls itself for this job."""
    if not options.binary or not options.model:
        raise Skip("give --binary path/to/llama-bench and --model FILE.gguf")
    for file in (options.binary, options.model):
        if not Path(file).is_file():
            raise Skip(f"there is no {file}")
    if job["kind"] != "forward" or job["batch"] != 1:
        raise Skip("llama-bench runs the forward pass of one sequence, nothing else")
    found = bench(job, options)
    return f"llama.cpp {found.get('build_commit', '')} {found.get('model_type', options.model)}"


def main():
    parser = argparse.ArgumentParser(description="llama.cpp as a peer of `demask bench forward`")
    parser.add_argument("--binary", help="llama-bench")
    parser.add_argument("--model", help="a GGUF file")
    options = parser.parse_args()
    job = None
    for line in sys.stdin:
        said = json.loads(line)
        if "quit" in said:
            return
        if "job" in said:
            try:
                reply = {"ready": True, "name": prepare(said["job"], options)}
                job = said["job"]
            except Skip as why:
                reply = {"skip": str(why)}
        else:
            reply = {"seconds": bench(job, options)["avg_ns"] * 1e-9}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
