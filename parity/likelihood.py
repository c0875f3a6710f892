"""Log-likelihood of an answer under a masked model: an independent PyTorch derivation.

LLaDA (arXiv 2502.09992, Eq. 6 and the description of the authors' evaluation): for an answer of L
tokens and a batch of b rows draw k uniformly from 1..L; row i masks exactly
round(k + i L / b), wrapped into 1..L, answer tokens; the batch's value is
-mean_i (L / l_i) sum over masked of CE, averaged over mc_num / b batches. Guidance mixes logits as
u + (w + 1)(c - u), u seen with the prompt masked. The mask token keeps its share of the softmax.

Dream (arXiv 2508.15487, description of the authors' evaluation): t_i = (u + i / b) mod 1,
p = (1 - eps) t + eps with eps = 1e-3; each answer token is masked with chance p, but never the first
or last cell of the row; CE / p.

The network is a tiny random one (an embedding, a mean over cells, one tanh layer): what counts is
the loop around it, so its logits are recorded for every row it is shown.

Writes crates/demask-eval/tests/fixtures/likelihood.json.
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(7)
V, MASK, D = 9, 8, 6
E, P, W = torch.randn(V, D), torch.randn(16, D), torch.randn(V, 2 * D)


def network(ids):
    h = E[ids] + 0.5 * P[: ids.shape[1]]
    pooled = h.mean(dim=1, keepdim=True).expand_as(h)
    return torch.tanh(torch.cat([h, pooled], dim=-1)) @ W.T


seen = {}


def forward(ids):
    logits = network(ids)
    for row, out in zip(ids, logits):
        key = " ".join(map(str, row.tolist()))
        seen[key] = [[round(x, 6) for x in cell] for cell in out.tolist()]
    # Read the rounded numbers back, so that both sides see the same.
    rows = [seen[" ".join(map(str, row.tolist()))] for row in ids]
    return torch.tensor(rows, dtype=torch.float64)


def guided(noisy, prompt, cfg):
    logits = forward(noisy)
    if cfg == 0:
        return logits
    free = noisy.clone()
    free[:, :prompt] = MASK
    u = forward(free)
    return u + (cfg + 1) * (logits - u)


def losses(noisy, x, prompt, cfg, weight):
    """The weighted cross-entropy of each row; weight is [b]."""
    logits = guided(noisy, prompt, cfg)
    rows = []
    for b in range(len(noisy)):
        hidden = noisy[b] == MASK
        ce = F.cross_entropy(logits[b][hidden], x[hidden], reduction="sum")
        rows.append(float(ce * weight[b]) if hidden.any() else 0.0)
    return rows


cases = []
for prompt, answer, b, rounds, cfg in [(3, 5, 4, 2, 0.0), (2, 4, 8, 1, 0.5), (0, 6, 3, 1, 0.0)]:
    x = torch.randint(0, MASK, (prompt + answer,))
    case = {"prompt": x[:prompt].tolist(), "answer": x[prompt:].tolist(), "cfg": cfg, "round": b}
    case["rounds"] = []
    values = []
    for _ in range(rounds):
        k = int(torch.randint(1, answer + 1, ()))
        counts = torch.round(torch.linspace(float(k), k + (b - 1) * (answer / b), steps=b)).long()
        counts = (counts - 1) % answer + 1
        noisy = x.repeat(b, 1)
        for row, count in zip(noisy, counts):
            row[prompt + torch.randperm(answer)[:count]] = MASK
        rows = losses(noisy, x, prompt, cfg, answer / counts.double())
        values.append(-sum(rows) / b)
        masks = [[int(i) for i in (row == MASK).nonzero()] for row in noisy]
        case["rounds"].append({"k": k, "counts": counts.tolist(), "masks": masks, "losses": rows})
    case["value"] = sum(values) / rounds
    cases.append(case)

dream = []
for prompt, answer, b in [(3, 6, 5), (0, 5, 4)]:
    x = torch.randint(0, MASK, (prompt + answer,))
    u0 = torch.rand((), dtype=torch.float64)
    t = (u0 + torch.arange(b, dtype=torch.float64) / b) % 1
    p = (1 - 1e-3) * t + 1e-3
    u = torch.rand(b, answer, dtype=torch.float64)
    hidden = torch.zeros(b, prompt + answer, dtype=torch.bool)
    hidden[:, prompt:] = u < p[:, None]
    hidden[:, 0] = False
    hidden[:, -1] = False
    noisy = torch.where(hidden, torch.tensor(MASK), x.repeat(b, 1))
    rows = losses(noisy, x, prompt, 0.0, 1 / p)
    dream.append(
        {
            "prompt": x[:prompt].tolist(),
            "answer": x[prompt:].tolist(),
            "shared": float(u0),
            "uniforms": u.tolist(),
            "masks": [[int(i) for i in row.nonzero()] for row in hidden],
            "p": p.tolist(),
            "losses": rows,
            "value": -sum(rows) / b,
        }
    )

out = pathlib.Path(__file__).parent.parent / "crates/demask-eval/tests/fixtures/likelihood.json"
out.parent.mkdir(parents=True, exist_ok=True)
fixture = {"vocab": V, "mask": MASK, "logits": seen, "cases": cases, "dream": dream}
out.write_text(json.dumps(fixture) + "\n")
