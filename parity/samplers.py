"""Fixture for crates/demask-text/tests/parity.rs: the samplers of LLaDA and Dream, derived in PyTorch.

Derived from the pseudo code of the papers and the behaviour of their published samplers:

- LLaDA (arXiv 2502.09992): blocks, `m div S` cells a step with the remainder first, float64 Gumbel draw, confidence
  from the softmax of the raw logits, `random` order, classifier-free guidance `u + (w + 1)(c - u)` with everything
  masked that was given at the start, `logits_eos_inf`, and `confidence_eos_eot_inf` in two readings: both end tokens
  committed last (ours) and as published (left out of the softmax; at a temperature above 0 only the end-of-turn token).
- Dream (arXiv 2508.15487): times `linspace(1, eps, N + 1)` in float32, expected counts truncated, rules `origin`,
  `maskgit_plus`, `topk_margin`, `entropy`, `alg_temp`, filters in the order temperature, top-p, top-k.

The network is a toy whose logits are sums of multiples of 1/64 and therefore exact in float32 whatever the order of
summation: a table for each of five neighbours and one for all cells of the row. The mask is never predicted. Random
numbers come from a rule on (step, purpose, cell, index) that both sides compute in integers. Everything else is float64.

Usage: python parity/samplers.py   (writes crates/demask-text/tests/fixtures/samplers.json)
"""

import json
import pathlib

import torch

V, MASK, EOS, EOT = 12, 11, 9, 10
REACH = (-2, -1, 0, 1, 2)
TOKEN, SCORE, SELECT, REVEAL = 0, 1, 2, 3
P = 2147483647

gen = torch.Generator().manual_seed(20)
NEAR = torch.randint(-96, 97, (len(REACH), V, V), generator=gen)
ALL = torch.randint(-24, 25, (V, V), generator=gen)


def uniform(step, purpose, cell, index):
    x = (step * 7919 + purpose * 1299709 + cell * 104729 + index * 15485863 + 12345) % P
    for _ in range(3):
        x = (x * 48271 + 11) % P
    return (x + 0.5) / P


def net(ids):
    """Logits [n, V] of one row, in float64 (exact)."""
    n = len(ids)
    z = torch.zeros(n, V, dtype=torch.long)
    for i in range(n):
        for o, offset in enumerate(REACH):
            if 0 <= i + offset < n:
                z[i] += NEAR[o, ids[i + offset]]
        for j in range(n):
            z[i] += ALL[ids[j]]
    z = z.double() / 64
    z[:, MASK] = -torch.inf
    return z


def best(values, k):
    """Indices of the k largest; the lower index wins."""
    order = torch.sort(torch.tensor(values, dtype=torch.float64), descending=True, stable=True).indices
    return sorted(order[:k].tolist())


def gumbel(z, temperature, step, cell):
    if temperature == 0:
        return int(torch.argmax(z))
    u = torch.tensor([uniform(step, TOKEN, cell, v) for v in range(V)], dtype=torch.float64)
    return int(torch.argmax(torch.exp(z) / (-torch.log(u)) ** temperature))


def llada(case):
    cfg = case["llada"]
    x = list(case["prompt"]) + [MASK] * cfg["length"]
    given = [t != MASK for t in x]
    start, block = len(case["prompt"]), cfg["block"]
    n_b = cfg["length"] // block
    assert cfg["length"] % block == 0 and cfg["steps"] % n_b == 0
    S, T = cfg["steps"] // n_b, cfg["temperature"]
    trace, step = [], 0
    for b in range(n_b):
        begin, end = start + b * block, start + (b + 1) * block
        m = sum(x[i] == MASK for i in range(begin, end))
        for i in range(S):
            k = m // S + (1 if i < m % S else 0)
            z = net(x)
            if cfg.get("cfg"):
                u = net([MASK if g else t for t, g in zip(x, given)])
                z = u + (cfg["cfg"] + 1) * (z - u)
                z[:, MASK] = -torch.inf
            if cfg.get("logits_eos_inf"):
                z[:, EOS] = -torch.inf
            hold = cfg.get("hold")
            raw = z.clone()
            if hold == "official":
                raw[:, EOT] = -torch.inf
                if T == 0:
                    raw[:, EOS] = -torch.inf
            cells = [c for c in range(end) if x[c] == MASK]
            toks, conf = [], []
            for c in cells:
                tok = gumbel(z[c], T, step, c)
                p = torch.softmax(raw[c], -1)[tok].item()
                if cfg["remasking"] == "random":
                    p = uniform(step, SCORE, c, 0)
                if hold == "ours" and tok in (EOS, EOT):
                    p = -float("inf")
                toks.append(tok)
                conf.append(p)
            chosen = best(conf, k)
            trace.append([[cells[j], toks[j]] for j in chosen])
            for j in chosen:
                x[cells[j]] = toks[j]
            step += 1
    return x, trace


def dream_sample(z, cfg, step, cell):
    T = cfg["temperature"]
    if T > 0:
        z = z / T
    if cfg.get("top_p") is not None and cfg["top_p"] < 1:
        p, order = torch.sort(torch.softmax(z, -1), descending=True, stable=True)
        before = torch.cumsum(p, 0) - p
        drop = before > cfg["top_p"]
        drop[0] = False
        z = z.clone()
        z[order[drop]] = -torch.inf
    if cfg.get("top_k") is not None:
        least = torch.topk(z, cfg["top_k"]).values[-1]
        z = torch.where(z < least, -torch.inf, z)
    p = torch.softmax(z, -1)
    if T > 0:
        u = uniform(step, TOKEN, cell, 0)
        tok = int((torch.cumsum(p, 0) <= u).sum())
        conf = p[tok]
    else:
        conf, tok = p.max(-1)
        tok = int(tok)
    rule = cfg["alg"]
    if rule == "topk_margin":
        top = torch.topk(p, 2).values
        conf = top[0] - top[1]
    if rule == "entropy":
        conf = (p * torch.log(p + 1e-10)).sum()
    return tok, float(conf)


def dream(case):
    cfg = case["dream"]
    x = list(case["prompt"]) + [MASK] * cfg["length"]
    N = cfg["steps"]
    t = torch.linspace(1, cfg["eps"], N + 1)
    trace = []
    for i in range(N):
        z = net(x)
        cells = [c for c, tok in enumerate(x) if tok == MASK]
        sampled = [dream_sample(z[c], cfg, i, c) for c in cells]
        if cfg["alg"] == "origin":
            chance = 1.0 if i == N - 1 else float(1 - t[i + 1] / t[i])
            chosen = [j for j, c in enumerate(cells) if chance == 1.0 or uniform(i, REVEAL, c, 0) < chance]
        else:
            n = torch.tensor(float(len(cells)))
            k = len(cells) if i == N - 1 else int(n * (1 - t[i + 1] / t[i]))
            conf = [s[1] for s in sampled]
            if cfg.get("alg_temp"):
                # Sampling without replacement from softmax(conf / alg_temp), as the Gumbel top-k rule.
                g = [-torch.log(-torch.log(torch.tensor(uniform(i, SELECT, c, 0), dtype=torch.float64))) for c in cells]
                conf = [c / cfg["alg_temp"] + float(noise) for c, noise in zip(conf, g)]
            chosen = best(conf, k)
        trace.append([[cells[j], sampled[j][0]] for j in chosen])
        for j in chosen:
            x[cells[j]] = sampled[j][0]
    return x, trace


def counts(L, N, eps=1e-3):
    t, n, out = torch.linspace(1, eps, N + 1), L, []
    for i in range(N):
        k = n if i == N - 1 else int(torch.tensor(float(n)) * (1 - t[i + 1] / t[i]))
        out.append(k)
        n -= k
    return out


def cases():
    prompts = [[3, 1, 4, 1, 5], [2, 7], [8, 8, 0, 6, 2, 1, 7]]
    base = dict(length=16, steps=16, block=16, temperature=0.0, remasking="low_confidence")
    for name, change in {
        "one a step": {},
        "blocks of 4": dict(block=4),
        "blocks, two a step": dict(block=8, steps=8),
        "remainder first": dict(steps=6),
        "guidance": dict(cfg=1.5, steps=8),
        "guidance and blocks": dict(cfg=0.5, block=4, steps=8),
        "random order": dict(remasking="random", steps=8),
        "temperature": dict(temperature=0.7, steps=8),
        "temperature, blocks, random order": dict(temperature=1.3, block=8, remasking="random"),
        "no end of text": dict(logits_eos_inf=True),
        "end tokens last": dict(hold="ours"),
        "end tokens last, temperature": dict(hold="ours", temperature=0.8, steps=8),
        "end tokens as published": dict(hold="official"),
        "end tokens as published, temperature": dict(hold="official", temperature=0.8, steps=8),
    }.items():
        for prompt in prompts:
            yield dict(name=f"llada: {name}", prompt=prompt, llada={**base, **change})
    for prompt in ([3, MASK, 4, MASK], [MASK, 5, 6, MASK, MASK]):
        yield dict(name="llada: masks in the prompt", prompt=prompt, llada={**base, "block": 4, "steps": 8})
    base = dict(length=16, steps=16, temperature=0.0, top_p=None, top_k=None, eps=1e-3)
    for alg in ("origin", "maskgit_plus", "topk_margin", "entropy"):
        for name, change in {
            "one a step": {},
            "four a step": dict(steps=4),
            "two steps a cell": dict(steps=32),
            "top-k at temperature 0": dict(top_k=3, steps=8),
            "temperature": dict(temperature=0.6, steps=8),
            "temperature and filters": dict(temperature=1.2, top_p=0.8, top_k=5),
            "random choice": dict(alg_temp=0.3, steps=8),
        }.items():
            if alg == "origin" and "alg_temp" in change:
                continue
            yield dict(name=f"dream {alg}: {name}", prompt=prompts[len(name) % 3], dream={**base, "alg": alg, **change})


def main():
    done = []
    for case in cases():
        x, trace = llada(case) if "llada" in case else dream(case)
        done.append({**case, "ids": x, "trace": trace})
    fixture = dict(
        vocab=V, mask=MASK, eos=EOS, eot=EOT, reach=list(REACH), near=NEAR.tolist(), all=ALL.tolist(),
        counts=[dict(cells=L, steps=N, counts=counts(L, N)) for L, N in
                [(16, 16), (64, 64), (256, 256), (256, 64), (128, 256), (100, 7), (31, 30), (512, 512), (768, 300)]],
        cases=done,
    )
    path = pathlib.Path(__file__).parent.parent / "crates/demask-text/tests/fixtures/samplers.json"
    path.write_text(json.dumps(fixture, separators=(",", ":")) + "\n")
    print(f"{len(done)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
