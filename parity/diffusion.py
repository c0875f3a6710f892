"""Independent derivations of demask-diffusion in PyTorch (f64), written to JSON fixtures.

Run from the repository root: `python parity/diffusion.py`. It writes

- crates/demask-diffusion/tests/fixtures/schedules.json
- crates/demask-diffusion/tests/fixtures/objectives.json
- crates/demask-diffusion/tests/fixtures/reverse.json

What is derived, and from what:

- Random streams: the path hash and ChaCha8 (Bernstein 2008, 64-bit counter and stream, both 0) in plain Python, so
  that the Rust objectives run from a seed and everything they draw is checked too.
- Schedules: total noise from the tables of MDLM (2406.07524), SEDD (2310.16834), BD3-LM (2503.09573), LLaDA
  (2502.09992); rates by automatic differentiation, not by the closed forms under test.
- SUBS: MDLM section 3.2.3. MDLM loss: equation 10. Finite T: D3PM 2107.03006 in MDLM's form, SUBS and full.
- Score entropy: SEDD equation 9 summed term by term over the neighbours and their rates, Q(y,x) (s - r ln s + K(r))
  with K(r) = r (ln r - 1), instead of the published closed forms.
- UDLM: 2412.10193 equation 18, with its sum over the vocabulary written out.
- BD3-LM: figure 3's mask as the union of its three parts; loss with t for each block.
- LLaDA: the published guidelines' pre-training and fine-tuning losses. Dream CART: the double sum.
- Reverse steps: matrix exponentials of the rate matrices; Bayes' rule for the posteriors.
"""

import json
import math
from pathlib import Path

import torch

torch.set_default_dtype(torch.float64)
OUT = Path("crates/demask-diffusion/tests/fixtures")
M64 = (1 << 64) - 1
GOLDEN, SILVER = 0x9E3779B97F4A7C15, 0x6A09E667F3BCC909


# --- random streams -------------------------------------------------------------------------------------------------

def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    return z ^ (z >> 31)


def rotl64(x, n):
    return ((x << n) | (x >> (64 - n))) & M64


class Noise:
    def __init__(self, seed=None, path=None):
        self.path = path or (mix((seed + GOLDEN) & M64), mix(seed ^ SILVER))

    def child(self, label):
        a, b = self.path
        name = mix((label + GOLDEN) & M64)
        first = mix(a ^ name)
        second = mix(rotl64((b + name) & M64, 23) ^ SILVER)
        return Noise(path=(first, mix(second ^ rotl64(a, 32))))

    def uniforms(self, n):
        words = chacha8([*self.path, GOLDEN, SILVER], 2 * n)
        values = [words[2 * i] | (words[2 * i + 1] << 32) for i in range(n)]
        return [((v >> 12) + 0.5) / (1 << 52) for v in values]


def chacha8(key64, count):
    key = [w for k in key64 for w in (k & 0xFFFFFFFF, k >> 32)]
    out, block = [], 0
    while len(out) < count:
        start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574] + key + [block & 0xFFFFFFFF, block >> 32, 0, 0]
        s = list(start)

        def quarter(a, b, c, d):
            for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                s[x] = (s[x] + s[y]) & 0xFFFFFFFF
                s[z] ^= s[x]
                s[z] = ((s[z] << n) | (s[z] >> (32 - n))) & 0xFFFFFFFF

        for _ in range(4):
            for i in range(4):
                quarter(i, 4 + i, 8 + i, 12 + i)
            for i in range(4):
                quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
        out += [(x + y) & 0xFFFFFFFF for x, y in zip(s, start)]
        block += 1
    return out[:count]


# --- schedules ------------------------------------------------------------------------------------------------------

def alpha_of(config):
    """alpha(t) as a differentiable function."""
    kind = config["kind"]
    eps = config.get("eps", 1e-3)
    if kind == "loglinear":
        return {
            "mdlm": lambda t: 1 - (1 - eps) * t,
            "bd3lms": lambda t: 1 - t,
            "llada": lambda t: 1 - ((1 - eps) * t + eps),
        }[config.get("convention", "bd3lms")]
    if kind == "geometric":
        lo, hi = config["sigma_min"], config["sigma_max"]
        return lambda t: torch.exp(-(lo ** (1 - t)) * hi**t)
    if kind == "linear":
        lo, hi = config["sigma_min"], config["sigma_max"]
        return lambda t: torch.exp(-(lo + t * (hi - lo)))
    if kind == "cosine":
        if config.get("convention", "mdlm") == "mdlm":
            return lambda t: eps + (1 - eps) * torch.cos(math.pi * t / 2)
        return lambda t: (1 - eps) * torch.cos(math.pi * t / 2)
    if kind == "cosine_squared":
        return lambda t: eps + (1 - eps) * torch.cos(math.pi * t / 2) ** 2
    if kind == "power":
        return lambda t: 1 - torch.clamp(t ** config["exponent"], min=eps)
    if kind == "logarithmic":
        return lambda t: 1 - torch.log1p(t) / math.log(2)
    if kind == "clipped":
        inner = alpha_of(config["schedule"])
        return lambda t: inner(t * (config["max"] - config["min"]) + config["min"])
    raise ValueError(kind)


def levels(config, times):
    t = torch.tensor(times, requires_grad=True)
    sigma = -torch.log(alpha_of(config)(t))
    (rate,) = torch.autograd.grad(sigma.sum(), t)
    sigma = sigma.detach()
    return dict(sigma=sigma, rate=rate, weight=rate / torch.expm1(sigma), p=-torch.expm1(-sigma))


SCHEDULES = [
    dict(kind="loglinear", convention="mdlm", eps=1e-3),
    dict(kind="loglinear", convention="bd3lms"),
    dict(kind="loglinear", convention="llada", eps=1e-3),
    dict(kind="geometric", sigma_min=1e-4, sigma_max=20.0),
    dict(kind="geometric", sigma_min=1e-3, sigma_max=1.0),
    dict(kind="cosine", convention="mdlm", eps=1e-3),
    dict(kind="cosine", convention="bd3lms", eps=1e-3),
    dict(kind="cosine_squared", eps=1e-3),
    dict(kind="linear", sigma_min=1e-4, sigma_max=8.0),
    dict(kind="power", exponent=2.0, eps=1e-3),
    dict(kind="power", exponent=0.5, eps=1e-3),
    dict(kind="logarithmic"),
    dict(kind="clipped", min=0.3, max=0.8, schedule=dict(kind="cosine", eps=1e-3)),
]


def write_schedules():
    times = [0.05, 0.1, 0.25, 0.5, 0.7, 0.9, 0.99]
    cases = []
    for config in SCHEDULES:
        values = {k: v.tolist() for k, v in levels(config, times).items()}
        cases.append(dict(config=config, times=times, **values))
    write("schedules.json", dict(cases=cases))


# --- objectives -----------------------------------------------------------------------------------------------------

def draw_times(seed, n, antithetic, lo=1e-3, hi=1.0):
    u = Noise(seed).child(0).uniforms(n)
    if antithetic:
        u = [(x / n + i / n) % 1.0 for i, x in enumerate(u)]
    return [(hi - lo) * x + lo for x in u]


def draw_cells(seed, b, n):
    return torch.tensor(Noise(seed).child(1).child(b).uniforms(n))


def absorb(seed, x0, free, p, mask):
    """p is [B, L]; row b, position l reads the l-th uniform of the row."""
    rows = []
    for b in range(x0.shape[0]):
        u = draw_cells(seed, b, x0.shape[1])
        rows.append(torch.where(free[b] & (u < p[b]), mask, x0[b]))
    return torch.stack(rows)


def nll(logits, x0, barred=None):
    logits = logits.clone()
    if barred is not None:
        logits[..., barred] = -math.inf
    return -torch.log_softmax(logits, -1).gather(-1, x0[..., None])[..., 0]


def score_entropy(score, rate, ratio):
    """sum_y Q (s_y - r_y ln s_y + K(r_y)), entries without rate left out."""
    k = torch.where(ratio > 0, ratio * (torch.log(ratio.clamp_min(1e-300)) - 1), torch.zeros_like(ratio))
    cross = torch.where(ratio > 0, ratio * torch.log(score.clamp_min(1e-300)), torch.zeros_like(ratio))
    return (rate * (score - cross + k)).sum(-1)


B, L, V = 3, 6, 7
MASK = V - 1


def batch(seed):
    torch.manual_seed(seed)
    x0 = torch.randint(0, MASK, (B, L))
    logits = torch.randn(B, 2 * L, V).mul(1.5).round(decimals=4)
    return x0, logits


def cells_of(name):
    free = torch.ones(B, L, dtype=torch.bool)
    if name == "prompt":
        free[0, :2] = False
        free[1, :3] = False
        free[2, 5:] = False
    return free


def case(config, seed, free, x0, logits, noisy, time, asked, loss, normaliser, vocab=V, mask=MASK, **more):
    return dict(
        config=config, seed=seed, vocab=vocab, mask=mask, x0=x0.tolist(), free=free.tolist(),
        logits=logits.tolist(), input=noisy.tolist(), time=time.tolist(), asked=asked,
        loss=loss.tolist(), normaliser=float(normaliser), **more,
    )


def flat(where, width):
    return [b * width + l for b, l in where.nonzero().tolist()]


def masked_case(config, seed, free, schedule, weight, normalise, *, antithetic, lo, barred=MASK):
    """Objectives whose loss is weight * CE on masked cells with one time a sequence."""
    x0, logits = batch(seed)
    t = draw_times(seed, B, antithetic, lo)
    level = levels(schedule, t)
    noisy = absorb(seed, x0, free, level["p"][:, None].expand(B, L), MASK)
    hidden = (noisy == MASK) & free
    w = weight(torch.tensor(t), level, hidden)
    grid = nll(logits[:, :L], x0, barred) * w
    loss, norm = normalise(grid, hidden, free)
    return case(config, seed, free, x0, logits[:, :L], noisy, torch.tensor(t)[:, None], flat(hidden, L), loss, norm)


def by_tokens(grid, hidden, free):
    return grid[hidden], free.sum()


def by_masked(grid, hidden, free):
    return grid[hidden], hidden.sum()


def by_answer(grid, hidden, free):
    return (grid / free.sum(1, keepdim=True))[hidden], B


def objectives():
    free, prompt = cells_of("all"), cells_of("prompt")
    mdlm = dict(kind="loglinear", convention="mdlm", eps=1e-3)
    llada = dict(kind="loglinear", convention="llada", eps=1e-3)
    p_is_t = dict(kind="loglinear", convention="bd3lms")
    elbo = lambda t, level, hidden: level["weight"][:, None]

    yield masked_case(dict(kind="mdlm"), 1, prompt, mdlm, elbo, by_tokens, antithetic=True, lo=1e-3)
    for i, schedule in enumerate(SCHEDULES[:-1]):
        config = dict(kind="mdlm", schedule=schedule)
        yield masked_case(config, 2 + i, free, schedule, elbo, by_tokens, antithetic=True, lo=1e-3)
    yield masked_case(
        dict(kind="llada_pretrain", random_length=0.0), 20, free, llada,
        lambda t, level, hidden: 1 / (0.999 * t + 0.001)[:, None], by_tokens, antithetic=False, lo=0.0)
    yield masked_case(
        dict(kind="llada_sft"), 21, prompt, llada,
        lambda t, level, hidden: 1 / (0.999 * t + 0.001)[:, None], by_answer, antithetic=False, lo=0.0)
    yield masked_case(
        dict(kind="shifted"), 22, prompt, p_is_t,
        lambda t, level, hidden: 1 / t[:, None], by_masked, antithetic=False, lo=1e-3)

    def cart(t, level, hidden, p=0.3):
        w = torch.zeros(B, L)
        for b in range(B):
            for n in range(L):
                for i in range(L):
                    if i != n and not hidden[b, i]:
                        w[b, n] += 0.5 * p * (1 - p) ** (abs(n - i) - 1)
        return w

    yield masked_case(
        dict(kind="shifted", weight=dict(kind="cart", p=0.3)), 23, prompt, p_is_t, cart, by_masked,
        antithetic=False, lo=1e-3)
    cosine = dict(kind="cosine", convention="mdlm", eps=1e-3)
    yield masked_case(
        dict(kind="generic", schedule=cosine, normalise="batch"), 24, prompt, cosine,
        lambda t, level, hidden: (level["rate"] * (1 - level["p"]) / (level["p"] + 1e-6))[:, None],
        lambda grid, hidden, free: (grid[hidden], B), antithetic=False, lo=1e-3)

    # Finite T, both forms.
    for seed, steps, subs in [(30, 4, True), (31, 4, False), (32, 1, False), (33, 50, False)]:
        x0, logits = batch(seed)
        logits = torch.cat([logits[:, :L], logits[:, L:]], 0)  # noisy rows, clean rows
        u = draw_times(seed, B, True, 0.0)
        t = torch.tensor([min((math.floor(x * steps) + 1) / steps, 1 - 1e-4) for x in u])
        noisy = absorb(seed, x0, prompt, t[:, None].expand(B, L), MASK)
        hidden = (noisy == MASK) & prompt
        dt, tt = 1 / steps, t[:, None].expand(B, L)
        share = torch.clamp(dt / tt, max=1.0)
        entropy = nll(logits[:B], x0, MASK if subs else None)
        x_m = torch.zeros(B, L) if subs else torch.softmax(logits[:B], -1)[..., MASK]
        now = torch.log((1 - tt) * x_m / tt + 1)
        gone = tt - dt
        before = torch.where(share < 1, torch.log((1 - gone) * x_m / gone.clamp_min(1e-9) + 1), 0.0)
        grid = steps * (share * (now + entropy) + (1 - share) * (now - before))
        asked, loss = flat(hidden, L), grid[hidden]
        inputs, times = noisy, t[:, None]
        if not subs:
            clean = nll(logits[B:], x0)
            asked = asked + [B * L + i for i in flat(prompt, L)]
            loss = torch.cat([loss, clean[prompt]])
            inputs, times = torch.cat([noisy, x0]), torch.cat([times, torch.zeros(B, 1)])
        yield case(dict(kind="d3pm", steps=steps, subs=subs), seed, prompt, x0, logits, inputs, times, asked, loss,
                   prompt.sum())

    # Score entropy, absorbing graph: y -> M at rate 1, so a masked cell has V-1 neighbours.
    for seed, scaled in [(40, True), (41, False)]:
        x0, logits = batch(seed)
        t = draw_times(seed, B, False)
        level = levels(mdlm, t)
        noisy = absorb(seed, x0, prompt, level["p"][:, None].expand(B, L), MASK)
        hidden = (noisy == MASK) & prompt
        sigma = level["sigma"][:, None, None]
        raw = logits[:, :L]
        if scaled:
            raw = raw - torch.log(torch.expm1(sigma)) - math.log(V - 1)
        ratio = torch.nn.functional.one_hot(x0, V) * torch.exp(-sigma) / (1 - torch.exp(-sigma))
        rate = torch.ones(V)
        rate[MASK] = 0.0
        grid = level["rate"][:, None] * score_entropy(raw.exp(), rate, ratio)
        yield case(dict(kind="sedd_absorbing", scale_by_sigma=scaled), seed, prompt, x0, logits[:, :L], noisy,
                   torch.tensor(t)[:, None], flat(hidden, L), grid[hidden], prompt.sum())

    # Uniform noise: position l reads two uniforms, the hit and the token.
    def spread(seed, x0, p, v):
        rows = []
        for b in range(B):
            u = draw_cells(seed, b, 2 * L).reshape(L, 2)
            token = (u[:, 1] * v).long().clamp(max=v - 1)
            rows.append(torch.where(prompt[b] & (u[:, 0] < p[b]), token, x0[b]))
        return torch.stack(rows)

    for seed in [50, 51]:
        x0, logits = batch(seed)
        logits = logits[:, :L]
        t = draw_times(seed, B, False)
        level = levels(mdlm, t)
        noisy = spread(seed, x0, level["p"], V)
        alpha = torch.exp(-level["sigma"])[:, None, None]
        q = alpha * torch.nn.functional.one_hot(x0, V) + (1 - alpha) / V  # q(y | x_0) for each y
        ratio = q / q.gather(-1, noisy[..., None])
        rate = torch.full((B, L, V), 1 / V).scatter(-1, noisy[..., None], 0.0)
        grid = level["rate"][:, None] * score_entropy(logits.exp(), rate, ratio)
        yield case(dict(kind="sedd_uniform"), seed, prompt, x0, logits, noisy, torch.tensor(t)[:, None],
                   flat(prompt, L), grid[prompt], prompt.sum(), mask=None)

    for seed, drop in [(60, True), (61, False)]:
        x0, logits = batch(seed)
        logits = torch.cat([logits[:, :L], logits[:, L:]], 0)
        t = torch.tensor(draw_times(seed, B, True))
        noisy = spread(seed, x0, t, V)
        alpha = (1 - t)[:, None, None]
        bar = V * alpha * torch.nn.functional.one_hot(x0, V) + 1 - alpha
        bar_th = V * alpha * torch.softmax(logits[:B], -1) + 1 - alpha
        z = noisy[..., None]
        bz, tz = bar.gather(-1, z), bar_th.gather(-1, z)
        inner = V / bz - V / tz - (bar / bz * (tz.log() - bar_th.log() + bar.log() - bz.log())).sum(-1, keepdim=True)
        grid = (-1 / (V * alpha) * inner)[..., 0]
        asked, loss, inputs, times = flat(prompt, L), grid[prompt], noisy, t[:, None]
        if not drop:
            asked = asked + [B * L + i for i in asked]
            loss = torch.cat([loss, nll(logits[B:], x0)[prompt]])
            inputs, times = torch.cat([noisy, x0]), torch.cat([times, torch.zeros(B, 1)])
        yield case(dict(kind="udlm", zero_recon_loss=drop), seed, prompt, x0, logits, inputs, times, asked, loss,
                   prompt.sum(), mask=None)

    # Block diffusion: times for each block, first cell clean, rows of the first half asked.
    for seed, size, lo, hi in [(70, 2, 1e-3, 1.0), (71, 3, 0.45, 0.95), (72, 4, 1e-3, 1.0), (73, 1, 1.0, 1.0)]:
        x0, logits = batch(seed)
        blocks = [l // size for l in range(L)]
        n = blocks[-1] + 1
        t = torch.tensor(draw_times(seed, B * n, True, lo, hi)).reshape(B, n)
        cell_t = torch.stack([t[:, b] for b in blocks], 1)
        inside = cells_of("all")
        inside[:, 0] = False
        noisy = absorb(seed, x0, inside, cell_t, MASK)
        hidden = (noisy == MASK) & inside
        grid = nll(logits[:, :L], x0, MASK) / cell_t
        block = torch.tensor(blocks + blocks)
        clean = torch.tensor([False] * L + [True] * L)
        q, k, cq, ck = block[:, None], block[None, :], clean[:, None], clean[None, :]
        diagonal = (q == k) & (cq == ck)
        offset = (q > k) & ck & ~cq
        causal = (q >= k) & ck & cq
        mask = (diagonal | offset | causal).int().tolist()
        yield case(dict(kind="bd3", block=size, time=dict(min=lo, max=hi)), seed, free, x0, logits,
                   torch.cat([noisy, x0], 1), cell_t, [b * 2 * L + l for b, l in hidden.nonzero().tolist()],
                   grid[hidden], inside.sum(), blocks=blocks, attention=mask)


# --- reverse steps --------------------------------------------------------------------------------------------------

def write_reverse():
    torch.manual_seed(5)
    v = 5
    cases = []
    for name in ["absorbing", "uniform"]:
        if name == "absorbing":
            rates = torch.zeros(v, v)  # Q[y, x]: rate of x -> y
            rates[v - 1, :] = 1.0
            rates -= torch.diag(rates.sum(0))
        else:
            rates = torch.full((v, v), 1 / v) - torch.eye(v)
        for sigma_s, sigma_t in [(0.2, 0.9), (0.01, 3.0), (1.0, 1.4)]:
            d = sigma_t - sigma_s
            for present in ([v - 1] if name == "absorbing" else [0, 3]):
                log_score = torch.randn(v).round(decimals=4)
                score = log_score.exp()
                score[present] = 1.0
                staggered = torch.linalg.solve(torch.matrix_exp(d * rates), score)
                transition = torch.matrix_exp(d * rates)[present]  # chance that y becomes present
                weights = (staggered * transition).clamp_min(0)
                one_hot = torch.zeros(v)
                one_hot[present] = 1.0
                reverse = rates[present] * score
                reverse[present] = 0.0
                step = 0.1
                euler = one_hot + step * reverse
                euler[present] -= step * reverse.sum()
                # Bayes: q(x_s | x_t = present) when x_0 ~ prior alone in the world.
                prior = torch.softmax(torch.randn(v), 0)
                if name == "absorbing":
                    prior[v - 1] = 0.0
                prior = prior / prior.sum()
                at_s = torch.matrix_exp(sigma_s * rates) @ prior
                posterior = transition * at_s
                posterior = posterior / posterior.sum()
                cases.append(dict(
                    graph=name, vocab=v, present=present, sigma_s=sigma_s, sigma_t=sigma_t,
                    log_score=log_score.tolist(), staggered=staggered.tolist(), transition=transition.tolist(),
                    weights=weights.tolist(), rate=step, euler=euler.clamp_min(0).tolist(),
                    prior=prior.tolist(), posterior=posterior.tolist()))
    logits = torch.randn(4, v).round(decimals=4)
    present = [v - 1, 2, v - 1, 0]
    rows = []
    for row, here in zip(logits, present):
        row = row.clone()
        row[v - 1] = -1e6
        row = torch.log_softmax(row, -1)
        if here != v - 1:
            row = torch.full((v,), -1e6)
            row[here] = 0.0
        rows.append(row.tolist())
    subs = dict(mask=v - 1, logits=logits.tolist(), present=present, rows=rows)
    streams = []
    for seed, path in [(0, []), (7, [3]), (7, [3, 17, 5]), (2**63 + 11, [2**64 - 1, 0])]:
        node = Noise(seed)
        for label in path:
            node = node.child(label)
        streams.append(dict(seed=str(seed), path=[str(p) for p in path], uniforms=node.uniforms(20)))
    write("reverse.json", dict(steps=cases, subs=subs, streams=streams))


def write(name, value):
    OUT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value)
    assert len(text) < 200_000, (name, len(text))
    (OUT / name).write_text(text + "\n")
    print(f"{name}: {len(text)} bytes")


if __name__ == "__main__":
    write_schedules()
    write("objectives.json", dict(cases=list(objectives())))
    write_reverse()
