"""Stories from the 260K-parameter llama2.c model, and reference numbers for loading it.

An independent forward pass in PyTorch of the public checkpoint data/stories260K (karpathy/tinyllamas,
MIT; llama2.c version-0 layout: seven little-endian i32, then f32 tensors). Settings: RMS norm with
eps 1e-5, rotation of interleaved pairs with base 10000, 8 query and 4 key heads, SiLU gate, tied head.

    python parity/stories260k.py stories OUT.txt --stories 12000 --seed 1     # the synthetic part of data/stories
    python parity/stories260k.py fixture OUT.json                             # logits for the loader's test
"""

import argparse
import json
import struct
import sys

import numpy as np
import torch

EPS, BASE = 1e-5, 10000.0


def load(path):
    raw = open(path, "rb").read()
    dim, hidden, layers, heads, kv, vocab, length = struct.unpack("<7i", raw[:28])
    values = torch.from_numpy(np.frombuffer(raw, dtype="<f4", offset=28).copy())
    at = 0

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        part = values[at : at + n].reshape(shape)
        at += n
        return part

    head = dim // heads
    w = {"embed": take(vocab, dim), "attn_norm": take(layers, dim)}
    w |= {"q": take(layers, dim, dim), "k": take(layers, kv * head, dim), "v": take(layers, kv * head, dim)}
    w |= {"o": take(layers, dim, dim), "mlp_norm": take(layers, dim), "gate": take(layers, hidden, dim)}
    w |= {"down": take(layers, dim, hidden), "up": take(layers, hidden, dim), "final": take(dim)}
    return w, dict(dim=dim, layers=layers, heads=heads, kv=kv, head=head, vocab=vocab, length=length)


def pieces(path):
    raw = open(path, "rb").read()
    out, at = [], 4
    while at < len(raw):
        _, n = struct.unpack("<fi", raw[at : at + 8])
        out.append(raw[at + 8 : at + 8 + n])
        at += 8 + n
    return out


def text_of(ids, vocab):
    out = b""
    for i in ids:
        piece = vocab[i]
        if len(piece) == 6 and piece.startswith(b"<0x"):
            piece = bytes([int(piece[3:5], 16)])
        out += piece
    return out.decode("utf-8", "replace").strip()


def norm(x, g):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * g


def rotate(x, cos, sin):
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Model:
    def __init__(self, folder):
        self.w, self.c = load(f"{folder}/stories260K.bin")
        freq = BASE ** (-torch.arange(0, self.c["head"], 2, dtype=torch.float64) / self.c["head"])
        angle = torch.arange(self.c["length"], dtype=torch.float64)[:, None] * freq
        self.cos, self.sin = angle.cos().float(), angle.sin().float()

    def forward(self, ids, start, cache):
        """Logits of `ids` [B, N] that stand at `start`, with keys and values appended to `cache`."""
        w, c = self.w, self.c
        b, n = ids.shape
        x = w["embed"][ids]
        cos, sin = (t[start : start + n, None] for t in (self.cos, self.sin))
        for i in range(c["layers"]):
            h = norm(x, w["attn_norm"][i])
            q = rotate((h @ w["q"][i].T).view(b, n, c["heads"], c["head"]), cos, sin)
            k = rotate((h @ w["k"][i].T).view(b, n, c["kv"], c["head"]), cos, sin)
            v = (h @ w["v"][i].T).view(b, n, c["kv"], c["head"])
            cache[0][i, :, :, start : start + n] = k.transpose(1, 2)
            cache[1][i, :, :, start : start + n] = v.transpose(1, 2)
            keys, values = (t[i, :, :, : start + n] for t in cache)
            # Query heads of one group share a key head: [B, kv, rep * n, head].
            rep = c["heads"] // c["kv"]
            q = q.view(b, n, c["kv"], rep, c["head"]).permute(0, 2, 3, 1, 4).reshape(b, c["kv"], rep * n, -1)
            s = q @ keys.transpose(-1, -2) / c["head"] ** 0.5
            if n > 1:
                s = s + torch.full((n, start + n), -torch.inf).triu(start + 1).repeat(rep, 1)
            a = (s.softmax(-1) @ values).view(b, c["kv"], rep, n, -1).permute(0, 3, 1, 2, 4)
            x = x + a.reshape(b, n, -1) @ w["o"][i].T
            h = norm(x, w["mlp_norm"][i])
            x = x + (torch.nn.functional.silu(h @ w["gate"][i].T) * (h @ w["up"][i].T)) @ w["down"][i].T
        return norm(x, w["final"]) @ w["embed"].T

    def cache(self, b):
        shape = (self.c["layers"], b, self.c["kv"], self.c["length"], self.c["head"])
        return torch.zeros(shape), torch.zeros(shape)


def stories(model, vocab, count, seed, out, batch=512, temperature=0.7, top_p=0.95):
    torch.manual_seed(seed)
    written = 0
    while written < count:
        ids = torch.full((batch, 1), 1)
        cache, rows, done = model.cache(batch), [ids], torch.zeros(batch, dtype=torch.bool)
        for step in range(model.c["length"] - 1):
            p = (model.forward(rows[-1], step, cache)[:, -1] / temperature).softmax(-1)
            p, order = p.sort(-1, descending=True)
            p = p.masked_fill(p.cumsum(-1) - p > top_p, 0)
            rows.append(order.gather(1, torch.multinomial(p, 1)))
            done |= rows[-1][:, 0] <= 2
            if done.float().mean() > 0.95:  # the few longest stories are not worth the time
                break
        for row in torch.cat(rows, 1)[:, 1:].tolist():
            end = next((i for i, t in enumerate(row) if t <= 2), None)
            if end is None:
                continue
            story = text_of(row[:end], vocab)
            if len(story) >= 200:
                out.write(story.replace("\r", "") + "\n<|endoftext|>\n")
                written += 1
        print(written, file=sys.stderr, flush=True)


def main():
    args = argparse.ArgumentParser()
    args.add_argument("what", choices=["stories", "fixture"])
    args.add_argument("out")
    args.add_argument("--folder", default="data/stories260K")
    args.add_argument("--stories", type=int, default=12000)
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    model = Model(args.folder)
    with torch.no_grad(), open(args.out, "w") as out:
        if args.what == "stories":
            stories(model, pieces(f"{args.folder}/tok512.bin"), args.stories, args.seed, out)
        else:
            ids = [1, 403, 407, 261, 378, 432, 317, 286]
            logits = model.forward(torch.tensor([ids]), 0, model.cache(1))[0]
            row = lambda i: [round(float(x), 6) for x in logits[i, :16]]
            json.dump({"ids": ids, "first_16_logits": {str(i): row(i) for i in (0, 3, 7)}}, out)


main()
