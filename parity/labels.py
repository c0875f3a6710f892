"""A diffusion transformer with class labels, and D-CFG, derived in PyTorch.

Run from the repository root: `python parity/labels.py`. It writes

- crates/demask-models/tests/fixtures/networks/labels/: a tiny checkpoint in demask's own layout with random weights
  (bf16) and, in expected.json, its logits (f32) for sequences of class 0, of class 1 and of none;
- crates/demask-diffusion/tests/fixtures/guided.json: guided posteriors of one cell in both processes (f64).

What is derived, and from what:

- The network: DiT (2212.09748) with the noise level of MDLM (2406.07524), and the label of UDLM (2412.10193), whose
  vector is added to the condition: c = silu(mlp(sigma)) + silu(table[label]), the last row of the table being "no
  label". Attention is a plain softmax. Weights are normal with deviation 0.2, label vectors with deviation 1.
- Posteriors: Bayes' rule with matrix exponentials of the rate matrices, not the closed forms under test. D-CFG: the
  log-probabilities gamma log p_c + (1 - gamma) log p_u, normalised; of the predictions of x_0 under masking, of the
  posteriors under uniform noise.
"""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

NETWORK = Path("crates/demask-models/tests/fixtures/networks/labels")
GUIDED = Path("crates/demask-diffusion/tests/fixtures/guided.json")
VOCAB, D, LAYERS, HEADS, FF, COND, FREQS, CLASSES, MASK = 24, 16, 2, 2, 40, 8, 16, 2, 23
IDS = [[3, 17, 23, 23, 5, 21, 23], [23, 9, 22, 1, 23, 2, 14], [8, 23, 23, 12, 0, 23, 7]]
SIGMA, LABELS = [0.0, 1.7, 0.4], [0, 1, None]


# --- the network ----------------------------------------------------------------------------------------------------

def weights():
    g = torch.Generator().manual_seed(11)
    w = {}

    def new(name, *shape, centre=0.0, deviation=0.2):
        w[name] = (torch.randn(shape, generator=g) * deviation + centre).to(torch.bfloat16).float()

    def linear(name, out, into, bias=True):
        new(name + ".weight", out, into)
        if bias:
            new(name + ".bias", out)

    new("embed.weight", VOCAB, D)
    linear("time.in", COND, FREQS)
    linear("time.out", COND, COND)
    new("labels.weight", CLASSES + 1, COND, deviation=1.0)
    for i in range(LAYERS):
        at = f"layers.{i}."
        linear(at + "adaln", 6 * D, COND)
        new(at + "attn_norm.weight", D, centre=1.0)
        for part in "qkvo":
            linear(at + "attn." + part, D, D, bias=False)
        new(at + "mlp_norm.weight", D, centre=1.0)
        linear(at + "mlp.up", FF, D)
        linear(at + "mlp.down", D, FF)
    linear("final_adaln", 2 * D, COND)
    new("final_norm.weight", D, centre=1.0)
    linear("head", VOCAB, D)
    return w


def forward(w, ids, sigma, labels):
    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    def norm(x, name):
        return F.layer_norm(x, [D]) * w[name + ".weight"]

    half = FREQS // 2
    angle = sigma[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    level = linear(F.silu(linear(torch.cat([angle.cos(), angle.sin()], -1), "time.in")), "time.out")
    table = w["labels.weight"]
    label = torch.stack([table[CLASSES if l is None else l] for l in labels])
    c = (F.silu(level) + F.silu(label))[:, None]

    b, n = ids.shape
    head = D // HEADS
    turn = torch.arange(n)[:, None] * 10000.0 ** (-torch.arange(0, head, 2) / head)

    def heads(x):
        return x.view(b, n, HEADS, head).transpose(1, 2)

    def rotate(x):
        one, two = x.chunk(2, -1)
        return torch.cat([one * turn.cos() - two * turn.sin(), two * turn.cos() + one * turn.sin()], -1)

    x = w["embed.weight"][ids]
    for i in range(LAYERS):
        at = f"layers.{i}."
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = linear(c, at + "adaln").chunk(6, -1)
        y = norm(x, at + "attn_norm") * (1 + scale_a) + shift_a
        q, k, v = (heads(linear(y, at + "attn." + part)) for part in "qkv")
        seen = (rotate(q) @ rotate(k).transpose(-1, -2) / math.sqrt(head)).softmax(-1) @ v
        x = x + gate_a * linear(seen.transpose(1, 2).reshape(b, n, D), at + "attn.o")
        y = norm(x, at + "mlp_norm") * (1 + scale_m) + shift_m
        x = x + gate_m * linear(F.gelu(linear(y, at + "mlp.up"), approximate="tanh"), at + "mlp.down")
    shift, scale = linear(c, "final_adaln").chunk(2, -1)
    return linear(norm(x, "final_norm") * (1 + scale) + shift, "head")


def write_network():
    w = weights()
    logits = forward(w, torch.tensor(IDS), torch.tensor(SIGMA), LABELS)
    NETWORK.mkdir(parents=True, exist_ok=True)
    save_file({k: v.to(torch.bfloat16) for k, v in w.items()}, NETWORK / "model.safetensors")
    config = {
        "model_type": "demask", "kind": {"kind": "masked"}, "time_conditioning": True,
        "network": {
            "vocab_size": VOCAB, "d_model": D, "n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": HEADS,
            "head_dim": D // HEADS, "d_ff": FF, "max_length": 16, "norm": {"kind": "layer", "bias": False},
            "mlp": "gelu_tanh", "mlp_bias": True, "head_bias": True, "labels": CLASSES,
            "time": {"frequencies": FREQS, "cond": COND},
        },
        "ids": {"mask": MASK}, "frame": {"bos": False, "eos": False}, "labels": ["order", "question"],
    }
    (NETWORK / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    words = {f"w{i}": i for i in range(VOCAB) if i != MASK} | {"<|mask|>": MASK}
    mask = dict(id=MASK, content="<|mask|>", single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    tokenizer = dict(version="1.0", truncation=None, padding=None, added_tokens=[mask], normalizer=None,
                     pre_tokenizer=dict(type="Whitespace"), post_processor=None, decoder=None,
                     model=dict(type="WordLevel", vocab=words, unk_token="w0"))
    (NETWORK / "tokenizer.json").write_text(json.dumps(tokenizer) + "\n")
    flat = [round(x, 6) for x in logits.reshape(-1).tolist()]
    expected = dict(ids=IDS, sigma=SIGMA, labels=LABELS, logits=flat)
    (NETWORK / "expected.json").write_text(json.dumps(expected) + "\n")


# --- guidance -------------------------------------------------------------------------------------------------------

def rates(process, v):
    """Q[y, x]: rate of x -> y."""
    if process == "uniform":
        return torch.full((v, v), 1 / v) - torch.eye(v)
    q = torch.zeros(v, v)
    q[v - 1] = 1.0
    return q - torch.diag(q.sum(0))


def posterior(q, prior, present, sigma_s, sigma_t):
    """q(x_s | x_t = present) by Bayes' rule, x_0 being drawn from the prior."""
    joint = torch.matrix_exp((sigma_t - sigma_s) * q)[present] * (torch.matrix_exp(sigma_s * q) @ prior)
    return joint / joint.sum()


def mixed(cond, uncond, gamma):
    """Over the values that have a chance at all: the mask has none in a prediction."""
    out = torch.zeros_like(cond)
    some = (cond > 0) & (uncond > 0)
    out[some] = (gamma * cond[some].log() + (1 - gamma) * uncond[some].log()).softmax(-1)
    return out


def write_guided():
    torch.manual_seed(12)
    v, cases = 6, []
    for process in ("absorbing", "uniform"):
        q = rates(process, v)
        for sigma_s, sigma_t in ((0.2, 0.9), (0.05, 2.5)):
            for gamma in (0.0, 0.5, 1.0, 1.5, 3.0):
                logits = (2 * torch.randn(2, v)).round(decimals=3)
                if process == "absorbing":
                    logits[:, v - 1] = -torch.inf
                cond, uncond = logits.softmax(-1)
                present = v - 1 if process == "absorbing" else 2
                if process == "absorbing":
                    guided = posterior(q, mixed(cond, uncond, gamma), present, sigma_s, sigma_t)
                else:
                    both = [posterior(q, p, present, sigma_s, sigma_t) for p in (cond, uncond)]
                    guided = mixed(*both, gamma)
                cases.append(dict(process=process, present=present, sigma_s=sigma_s, sigma_t=sigma_t, gamma=gamma,
                                  cond=cond.tolist(), uncond=uncond.tolist(), guided=guided.tolist()))
    GUIDED.write_text(json.dumps(dict(vocab=v, cases=cases)) + "\n")


if __name__ == "__main__":
    write_network()
    torch.set_default_dtype(torch.float64)
    write_guided()
