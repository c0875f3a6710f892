#!/usr/bin/env python3
"""llama.cpp as a peer of `demask bench forward` and `step` (the protocol is in README.md beside this file).

Wraps programs of llama.cpp, which you build yourself, with a GGUF file of the shape and format that you want
to compare with. Each run starts the program, which loads the model and warms up; neither is counted.

| job | program | what is timed |
|---|---|---|
| `forward` | `--bench llama-bench` | one prompt of the job's length, as the program times it |
| `step` | `--diffusion llama-diffusion-cli` | a step of a canvas of the job's rows, by the progress that the program reports |

A forward pass of a diffusion model (`dream`, `llada` …) computes the logits of every cell, whatever they are
needed for: compare with `--logits all`. Other architectures compute those of the last cell: compare with
`--logits none`. A GGUF file of the architecture `qwen2` has the weights of a Dream.

The first cell of a canvas is the prompt, which cannot be empty; all others stay masked in every timed step.
The program samples with its own settings at temperature 0.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

# Architectures whose forward pass gives the logits of every cell.
DIFFUSION = ("dream", "llada", "llada-moe", "rnd1")
# Steps of a canvas; the first of them is not timed.
STEPS = 3


class Skip(Exception):
    """A job that this peer cannot do; its text says why."""


def program(path, flag, what):
    """The path of a program of llama.cpp."""
    if not path:
        raise Skip(f"give {flag} path/to/{what}")
    if not Path(path).is_file():
        raise Skip(f"there is no {path}")
    return path


def failed(command, code, output):
    sys.stderr.write(output)
    raise SystemExit(f"{command[0]} ended with {code}")


def bench(job, options):
    """What `llama-bench` says of one prompt."""
    command = [options.bench, "-m", options.model, "-t", job["threads"], "-p", job["tokens"], "-n", 0]
    command += ["-b", job["tokens"], "-ub", job["tokens"], "-fa", options.flash, "-r", 1, "-o", "json"]
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        failed(command, done.returncode, done.stderr)
    return json.loads(done.stdout)[0]


def forward(job, options):
    """The name and the work of a forward pass."""
    program(options.bench, "--bench", "llama-bench")
    if job["batch"] != 1:
        raise Skip("llama-bench runs one sequence")
    found = bench(job, options)
    architecture = found["model_type"].split()[0]
    given = "all" if architecture in DIFFUSION else "none"
    if job["logits"] != given:
        cells = "every cell" if given == "all" else "the last cell"
        raise Skip(f"llama.cpp computes the logits of {cells} of a {architecture}: give --logits {given}")
    name = f"llama.cpp {found['build_commit']} {found['model_type']}"
    return name, lambda: bench(job, options)["avg_ns"] * 1e-9


def canvas(job, options):
    """Seconds of a step of `llama-diffusion-cli`: the mean of all but the first."""
    rows, threads = job["rows"], job["threads"]
    command = [options.diffusion, "-m", options.model, "-t", threads, "-p", "a"]
    command += ["-c", rows, "-b", rows, "-ub", rows, "-fa", options.flash, "--temp", 0]
    # With a final noise level near the first one, no step but the last writes a cell.
    command += ["--diffusion-steps", STEPS, "--diffusion-eps", 0.999, "--diffusion-algorithm", 4]
    command = [str(word) for word in command]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    said, seen, marks = b"", 0, []
    while more := child.stdout.read(4096):
        now = time.perf_counter()
        said += more
        # Said before each step, and once after the last one.
        for _ in range(said.count(b"diffusion step:") + said.count(b"total time:") - seen):
            marks.append(now)
        seen = len(marks)
    code = child.wait()
    if code != 0:
        failed(command, code, said.decode(errors="replace"))
    if len(marks) != STEPS + 1:
        failed(command, code, f"{len(marks)} reports of progress where {STEPS + 1} were expected\n")
    return (marks[-1] - marks[1]) / (STEPS - 1)


def step(job, options):
    """The name and the work of a denoising step."""
    program(options.diffusion, "--diffusion", "llama-diffusion-cli")
    if job["cached"]:
        raise Skip("llama-diffusion-cli has no cache")
    if job["rows"] < 2:
        raise Skip("the prompt of llama-diffusion-cli has a cell of its own")
    canvas(job, options)
    return f"llama.cpp diffusion {Path(options.model).stem}", lambda: canvas(job, options)


KINDS = {"forward": forward, "step": step}


def prepare(job, options):
    """The name and the work of a job."""
    if job["kind"] not in KINDS:
        raise Skip(f"llama.cpp has no program for {job['kind']}")
    if not Path(options.model).is_file():
        raise Skip(f"there is no {options.model}")
    return KINDS[job["kind"]](job, options)


def main():
    parser = argparse.ArgumentParser(description="llama.cpp as a peer of `demask bench`")
    parser.add_argument("--bench", help="llama-bench, for forward passes")
    parser.add_argument("--diffusion", help="llama-diffusion-cli, for steps")
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--flash", choices=["on", "off", "auto"], default="auto", help="flash attention")
    options = parser.parse_args()
    run = None
    for line in sys.stdin:
        said = json.loads(line)
        if "quit" in said:
            return
        if "job" in said:
            run = None
            try:
                name, run = prepare(said["job"], options)
                reply = {"ready": True, "name": name}
            except Skip as why:
                reply = {"skip": str(why)}
        elif run is None:
            raise SystemExit("a run before a job")
        else:
            reply = {"seconds": run()}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
