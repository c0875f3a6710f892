#!/usr/bin/env python3
"""PyTorch as a peer of `demask bench` (the protocol is in README.md beside this file).

Variants, for inference:

| variant | f32, bf16 | int8 |
|---|---|---|
| eager | `F.linear` | `quantize_dynamic` (weights once, activations a tensor at a time) |
| packed | oneDNN's linear on a weight reordered once, as the compiler emits it | oneDNN's int8 linear on a prepacked weight, activations quantised in the run |
| product | as packed | the int8 product alone, activations quantised before: gemm only |
| compile | `torch.compile` with freezing | `torch.compile` of the eager one |

Training is eager: f32, or bf16 by autocast; AdamW is the fused one. The networks are written out below:
Llama and Qwen2 as demask describes them, `scaled_dot_product_attention`, nothing else, and a U-Net.

Convolutions, group norms and the U-Net are eager (or compiled), f32 or, the U-Net alone, bf16 by autocast; the
variant channels-last keeps pictures and filters in that layout, which oneDNN prefers.
"""

import argparse
import json
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

STATED = {"f32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}


class Skip(Exception):
    """A job that this peer cannot do; its text says why."""


# Linears


class Packed(nn.Module):
    """oneDNN's linear on a weight that was reordered once for a number of rows."""

    def __init__(self, weight, bias, rows):
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), rows)
        self.bias = None if bias is None else bias.detach()

    def forward(self, x):
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class PackedInt8(nn.Module):
    """oneDNN's int8 linear: weights by output, activations by tensor."""

    def __init__(self, weight, bias, rows):
        super().__init__()
        weight = weight.detach()
        self.scale = weight.abs().amax(1).clamp(min=1e-8) / 127
        quantised = (weight / self.scale[:, None]).round().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(quantised, [rows, weight.shape[1]])
        self.zero = torch.zeros(weight.shape[0], dtype=torch.int64)
        self.bias = None if bias is None else bias.detach()

    @staticmethod
    def quantise(x):
        low, high = (float(v) for v in x.aminmax())
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max(high - low, 1e-8) / 255
        zero = round(-low / scale)
        return torch.quantize_per_tensor(x, scale, zero, torch.quint8).int_repr(), scale, zero

    def product(self, x, scale, zero):
        return torch.ops.onednn.qlinear_pointwise(
            x, scale, zero, self.weight, self.scale, self.zero, self.bias, 1.0, 0, torch.float32, "none", [], ""
        )

    def forward(self, x):
        flat, scale, zero = self.quantise(x.reshape(-1, x.shape[-1]))
        return self.product(flat, scale, zero).reshape(*x.shape[:-1], -1)


def packed(module, rows, kind):
    """Replaces every linear of a module."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, kind(child.weight, child.bias, rows))
        else:
            packed(child, rows, kind)
    return module


def prepared(module, dtype, variant, rows):
    """A module in the number format and the way of a variant."""
    module = module.eval().to(STATED[dtype])
    if dtype == "int8" and variant in ("eager", "compile"):
        module = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, dtype=torch.qint8)
    elif variant in ("packed", "product"):
        module = packed(module, rows, PackedInt8 if dtype == "int8" else Packed)
    if variant == "compile":
        from torch._inductor import config as inductor

        inductor.freezing = True
        module = torch.compile(module, dynamic=False)
    return module


# Networks


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.head = c["d_model"], c["head_dim"]
        self.heads, self.kv_heads = c["n_heads"], c["n_kv_heads"]
        self.q = nn.Linear(d, self.heads * self.head, bias=c["qkv_bias"])
        self.k = nn.Linear(d, self.kv_heads * self.head, bias=c["qkv_bias"])
        self.v = nn.Linear(d, self.kv_heads * self.head, bias=c["qkv_bias"])
        self.o = nn.Linear(self.heads * self.head, d, bias=c["out_bias"])
        self.causal = c["attention"]["kind"] == "causal"

    def forward(self, x, turn, given):
        batch, length, _ = x.shape
        q = rotated(self.q(x).view(batch, length, self.heads, self.head).transpose(1, 2), turn)
        k = rotated(self.k(x).view(batch, length, self.kv_heads, self.head).transpose(1, 2), turn)
        v = self.v(x).view(batch, length, self.kv_heads, self.head).transpose(1, 2)
        if given is not None:
            # As in Fast-dLLM's dual cache: the rows are written into the place they have in the cache.
            keys, values = given
            keys[:, :, -length:], values[:, :, -length:] = k, v
            k, v = keys, values
        grouped = self.heads != self.kv_heads
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal, enable_gqa=grouped)
        return self.o(y.transpose(1, 2).reshape(batch, length, -1))


def rotated(x, turn):
    cos, sin = turn
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, ffn, bias = c["d_model"], c["d_ff"], c["mlp_bias"]
        self.gate = nn.Linear(d, ffn, bias=bias)
        self.up = nn.Linear(d, ffn, bias=bias)
        self.down = nn.Linear(ffn, d, bias=bias)

    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.attn_norm, self.mlp_norm = (Norm(c["d_model"], c["norm_eps"]) for _ in range(2))
        self.attn, self.mlp = Attention(c), Mlp(c)

    def forward(self, x, turn, given):
        x = x + self.attn(self.attn_norm(x), turn, given)
        return x + self.mlp(self.mlp_norm(x))


class Network(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.config = c
        self.embed = nn.Embedding(c["vocab_size"], c["d_model"])
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["n_layers"]))
        self.norm = Norm(c["d_model"], c["norm_eps"])
        self.head = nn.Linear(c["d_model"], c["vocab_size"], bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
        if c["tied_head"]:
            self.head.weight = self.embed.weight

    def forward(self, ids, turn, given=None, asked=None):
        """Logits of all cells (`asked` is None), of those at a mask, or of none (False)."""
        x = self.embed(ids)
        for i, block in enumerate(self.blocks):
            x = block(x, turn, None if given is None else given[i])
        x = self.norm(x)
        if asked is False:
            return x
        if self.config["logit_shift"]:
            x = torch.cat((x[:, :1], x[:, :-1]), 1)
        return self.head(x if asked is None else x[asked])


class Residual(nn.Module):
    def __init__(self, inner, outer, c):
        super().__init__()
        groups, eps = c["groups"], c["norm_eps"]
        self.norm1, self.norm2 = nn.GroupNorm(groups, inner, eps), nn.GroupNorm(groups, outer, eps)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.time = nn.Linear(4 * c["channels"][0], outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1)
        self.shortcut = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x, time):
        y = self.conv1(F.silu(self.norm1(x))) + self.time(time)[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(y)))


class PixelAttention(nn.Module):
    def __init__(self, channels, c):
        super().__init__()
        self.norm = nn.GroupNorm(c["groups"], channels, c["norm_eps"])
        self.qkv, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.head = c["head_dim"]

    def forward(self, x):
        batch, channels, height, width = x.shape
        y = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(y).view(batch, height * width, 3, -1, self.head).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(y).transpose(1, 2).reshape(x.shape)


class UNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.config, channels = c, c["channels"]
        first, last = channels[0], len(channels) - 1
        attends = lambda level, n: PixelAttention(n, c) if level in c["attention"] else nn.Identity()
        self.time_in, self.time_out = nn.Linear(first, 4 * first), nn.Linear(4 * first, 4 * first)
        self.conv_in = nn.Conv2d(c["in_channels"], first, 3, padding=1)
        self.down, self.up, left, n = nn.ModuleList(), nn.ModuleList(), [first], first
        for level, own in enumerate(channels):
            for _ in range(c["blocks"]):
                self.down.append(nn.ModuleList((Residual(n, own, c), attends(level, own))))
                n = own
                left.append(n)
            if level < last:
                self.down.append(nn.Conv2d(n, n, 3, stride=2, padding=1))
                left.append(n)
        middle = PixelAttention(n, c) if c["middle_attention"] else nn.Identity()
        self.middle = nn.ModuleList((Residual(n, n, c), middle, Residual(n, n, c)))
        for level in range(last, -1, -1):
            for _ in range(c["blocks"] + 1):
                self.up.append(nn.ModuleList((Residual(n + left.pop(), channels[level], c), attends(level, channels[level]))))
                n = channels[level]
            if level > 0:
                self.up.append(nn.Conv2d(n, n, 3, padding=1))
        self.norm_out, self.conv_out = nn.GroupNorm(c["groups"], n, c["norm_eps"]), nn.Conv2d(n, c["out_channels"], 3, padding=1)

    def forward(self, x, times):
        half = self.config["channels"][0] // 2
        angle = times[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
        time = F.silu(self.time_in(torch.cat((angle.cos(), angle.sin()), -1)))
        time = F.silu(self.time_out(time))
        x = self.conv_in(x)
        left = [x]
        for part in self.down:
            x = part(x) if isinstance(part, nn.Conv2d) else part[1](part[0](x, time))
            left.append(x)
        first, attention, second = self.middle
        x = second(attention(first(x, time)), time)
        for part in self.up:
            if isinstance(part, nn.Conv2d):
                x = part(F.interpolate(x, scale_factor=2.0, mode="nearest"))
            else:
                x = part[1](part[0](torch.cat((x, left.pop()), 1), time))
        return self.conv_out(F.silu(self.norm_out(x)))


def turns(config, start, length, dtype):
    """Cosines and sines of the rotary embedding for `length` cells."""
    half = config["head_dim"] // 2
    frequency = config["rotary"]["base"] ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * frequency
    return angle.cos().to(dtype), angle.sin().to(dtype)


def network(config):
    """The network, or why not."""
    rotary = config.get("rotary") or {}
    plain = {
        "norm": config["norm"]["kind"] == "rms",
        "qk_norm": not config["qk_norm"],
        "head_bias": not config["head_bias"],
        "rotary": rotary.get("fraction", 0) == 1 and rotary.get("layout") == "half_split",
        "mlp": config["mlp"] == "swi_glu",
        "time": config.get("time") is None,
        "attention": config["attention"]["kind"] in ("full", "causal"),
    }
    other = [name for name, ok in plain.items() if not ok]
    if other:
        raise Skip(f"networks with another {' and '.join(other)} are not written here")
    return Network(config)


# Jobs: each gives a function that does the work once


def gemm(job, dtype, variant):
    rows, inner, outer = job["rows"], job["inner"], job["outer"]
    linear = nn.Linear(inner, outer, bias=False)
    if variant == "packed" and dtype != "int8" or variant == "product":
        linear = prepared(nn.Sequential(linear), dtype, variant, rows)[0]
    else:
        linear = prepared(nn.Sequential(linear), dtype, variant, rows)
    x = torch.randn(rows, inner).to(STATED[dtype])
    if variant == "product" and dtype == "int8":
        quantised = PackedInt8.quantise(x)
        return lambda: linear.product(*quantised)
    return lambda: linear(x)


def forward(job, dtype, variant):
    config, batch, tokens = job["network"], job["batch"], job["tokens"]
    net = prepared(network(config), dtype, variant, batch * tokens)
    ids = torch.arange(batch * tokens).remainder(config["vocab_size"]).view(batch, tokens)
    turn = turns(config, 0, tokens, STATED[dtype])
    asked = None if job["logits"] == "all" else False
    return lambda: net(ids, turn, None, asked)


def step(job, dtype, variant):
    config, rows, cached = job["network"], job["rows"], job["cached"]
    if cached and config["attention"]["kind"] != "full":
        raise Skip("a cache is written here for full attention only")
    net = prepared(network(config), dtype, variant, rows)
    ids = torch.arange(rows).remainder(config["vocab_size"]).view(1, rows)
    turn = turns(config, cached, rows, STATED[dtype])
    given = None
    if cached:
        shape = (1, config["n_kv_heads"], cached + rows, config["head_dim"])
        given = [tuple(torch.randn(2, *shape).to(STATED[dtype])) for _ in range(config["n_layers"])]

    def run():
        logits = net(ids, turn, given)[0]
        # The most likely token of each cell and its probability; the surest cell is written.
        most, token = logits.max(-1)
        probability = (most - logits.logsumexp(-1)).exp()
        surest = int(probability.argmax())
        return int(token[surest]), float(probability[surest])

    return run


def generate(job, dtype, variant):
    """The loop of LLaDA's published code: in every step the surest of the open cells of a block are written."""
    config, decode = job["network"], job["decode"]
    prompt, length, samples, mask = job["prompt"], job["length"], job["samples"], job["mask"]
    written_here = {
        "policy": decode["policy"] == {"kind": "low_confidence"},
        "temperature": decode["temperature"] == 0,
        "top-p": decode["top_p"] is None,
        "top-k": decode["top_k"] is None,
        "guide": not decode["guides"],
        "plan": decode["plan"]["kind"] in ("whole", "semi_autoregressive"),
    }
    other = [name for name, ok in written_here.items() if not ok]
    if other:
        raise Skip(f"texts with another {' and '.join(other)} are not written here")
    net = prepared(network(config), dtype, variant, samples * (prompt + length))
    given = torch.arange(prompt).mul(7919).remainder(config["vocab_size"] - 1)
    turn = turns(config, 0, prompt + length, STATED[dtype])
    block = job["block"] or length
    starts = range(prompt, prompt + length, block)

    def run():
        x = torch.full((samples, prompt + length), mask)
        x[:, :prompt] = given
        for i, start in enumerate(starts):
            end = min(start + block, prompt + length)
            steps = max(1, job["steps"] * (i + 1) // len(starts) - job["steps"] * i // len(starts))
            for step in range(steps):
                count = (end - start) * (step + 1) // steps - (end - start) * step // steps
                if count == 0:
                    continue
                open_cells = x == mask
                open_cells[:, end:] = False
                # The head for these cells alone; the published code predicts all of them.
                logits = net(x, turn, None, open_cells)
                logits[:, mask] = -torch.inf
                most, token = logits.max(-1)
                surety = torch.full(x.shape, -torch.inf)
                surety[open_cells] = (most - logits.logsumexp(-1)).float()
                predicted = x.clone()
                predicted[open_cells] = token
                chosen = surety.topk(count, -1).indices
                x.scatter_(1, chosen, predicted.gather(1, chosen))
        assert not (x == mask).any()
        return x

    return run


def train(job, dtype, variant):
    if variant not in ("eager", "compile"):
        raise Skip(f"training has no variant {variant}")
    if dtype == "int8":
        raise Skip("nothing is trained in int8")
    config, batch, length = job["network"], job["batch"], job["length"]
    net = network(config).train()
    run_net = torch.compile(net, dynamic=False) if variant == "compile" else net
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = torch.arange(batch * length).mul(7919).remainder(config["vocab_size"]).view(batch, length)
    masked = torch.zeros_like(ids, dtype=torch.bool)
    masked[:, 1::2] = True
    given = torch.where(masked, config["vocab_size"] - 1, ids)
    turn = turns(config, 0, length, torch.float32)

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            logits = run_net(given, turn, None, masked)
            loss = F.cross_entropy(logits.float(), ids[masked])
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return run


def eager_f32(dtype, variant):
    if dtype != "f32" or variant not in ("eager", "channels-last"):
        raise Skip(f"single layers are written here in f32, eager or channels last, not in {dtype} or {variant}")


def arranged(x, variant):
    """In the layout of a variant."""
    return x.contiguous(memory_format=torch.channels_last if variant == "channels-last" else torch.contiguous_format)


def layer(job, function, parameters, x, variant):
    """A layer forward, or backward alone."""
    x = arranged(x, variant).requires_grad_()
    for parameter in parameters:
        parameter.requires_grad_()
    if job["pass"] == "forward":

        def run():
            with torch.no_grad():
                return function(x, *parameters)

        return run
    y = function(x, *parameters)
    dy = arranged(torch.randn_like(y), variant)
    return lambda: torch.autograd.grad(y, (x, *parameters), dy, retain_graph=True)


def conv(job, dtype, variant):
    eager_f32(dtype, variant)
    channels, filters, kernel = job["channels"], job["filters"], job["kernel"]
    weight = arranged(torch.randn(filters, channels, kernel, kernel), variant)
    function = lambda x, w, b: F.conv2d(x, w, b, job["step"], job["padding"])
    x = torch.randn(job["batch"], channels, job["size"], job["size"])
    return layer(job, function, (weight, torch.randn(filters)), x, variant)


def group_norm(job, dtype, variant):
    eager_f32(dtype, variant)
    activation = F.silu if job["silu"] else lambda y: y
    function = lambda x, w, b: activation(F.group_norm(x, job["groups"], w, b, job["eps"]))
    x = torch.randn(job["batch"], job["channels"], job["size"], job["size"])
    return layer(job, function, (torch.randn(job["channels"]), torch.randn(job["channels"])), x, variant)


def unet(job, dtype, variant):
    if dtype == "int8" or variant not in ("eager", "compile", "channels-last"):
        raise Skip(f"a U-Net has no {dtype} or no variant {variant}")
    config, batch, size = job["network"], job["batch"], job["size"]
    net = UNet(config).train()
    if variant == "channels-last":
        net = net.to(memory_format=torch.channels_last)
    run_net = torch.compile(net, dynamic=False) if variant == "compile" else net
    pictures = arranged(torch.randn(batch, config["in_channels"], size, size), variant)
    noise = arranged(torch.randn(batch, config["out_channels"], size, size), variant)
    times = torch.arange(batch) * 1000.0 / batch

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            prediction = run_net(pictures, times)
        F.mse_loss(prediction.float(), noise).backward()
        net.zero_grad(set_to_none=True)

    return run


KINDS = {
    "gemm": gemm,
    "forward": forward,
    "step": step,
    "generate": generate,
    "train": train,
    "conv": conv,
    "group_norm": group_norm,
    "unet": unet,
}
# Kinds that need gradients, and those on pictures.
GRADIENTS, PICTURES = ("train", "conv", "group_norm", "unet"), ("conv", "group_norm", "unet")


def prepare(job, options):
    """The name and the work of a job."""
    kind, dtype = job["kind"], options.dtype or job["dtype"]
    if kind not in KINDS:
        raise Skip(f"no job of the kind {kind} is written here")
    if dtype not in STATED:
        raise Skip(f"torch has no {dtype} linear on a CPU")
    variant = options.variant
    if kind == "train" and variant in ("packed", "product"):
        variant = "eager"
    if variant == "product" and kind != "gemm":
        raise Skip("the product alone is no network")
    if variant == "channels-last" and kind not in PICTURES:
        raise Skip("only pictures have channels")
    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    if options.engine:
        torch.backends.quantized.engine = options.engine
    run = KINDS[kind](job, dtype, variant)
    if kind not in GRADIENTS:
        inner = run

        def run():
            with torch.inference_mode():
                return inner()

    # Compiling and the first allocations belong to the preparation.
    run()
    way = {
        "eager": f"quantize_dynamic, {torch.backends.quantized.engine}" if dtype == "int8" else "eager",
        "packed": "oneDNN packed linear",
        "product": "oneDNN packed linear, quantised before" if dtype == "int8" else "oneDNN packed linear",
        "compile": "compiled",
        "channels-last": "eager, channels last",
    }[variant]
    if kind in ("train", "unet") and dtype == "bf16":
        way += ", autocast"
    return f"torch {torch.__version__.split('+')[0]} {dtype} ({way})", run


def main():
    parser = argparse.ArgumentParser(description="PyTorch as a peer of `demask bench`")
    parser.add_argument("--variant", choices=["eager", "packed", "product", "compile", "channels-last"], default="eager")
    parser.add_argument("--dtype", choices=sorted(STATED), help="this number format, whatever the job says")
    parser.add_argument("--engine", help="torch.backends.quantized.engine of eager int8: x86, onednn, fbgemm")
    options = parser.parse_args()

    # What libraries print goes to stderr: standard output is the protocol's.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    run = None
    for line in sys.stdin:
        said = json.loads(line)
        if "quit" in said:
            return
        if "job" in said:
            # The last job's memory first.
            run = None
            try:
                name, run = prepare(said["job"], options)
                answer({"ready": True, "name": name})
            except Skip as why:
                answer({"skip": str(why)})
        elif run is None:
            raise SystemExit("a run before a job")
        else:
            begin = time.perf_counter()
            run()
            answer({"seconds": time.perf_counter() - begin})


if __name__ == "__main__":
    main()
