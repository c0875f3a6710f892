"""Tiny random checkpoints in the public layouts, with the logits a reference gives for them.

    python parity/networks.py crates/demask-models/tests/fixtures/networks

Each folder holds config.json, model.safetensors (bf16, public tensor names) and expected.json: ids and
logits in f32. Llama, Qwen2, Qwen3, Dream (Qwen2 blocks) and SDAR (Qwen3 blocks) come from the classes of Hugging Face
transformers, made bidirectional by a 4-D mask without entries (Dream, LLaDA) or causal by blocks (SDAR).
LLaDA is the Llama class with its tensors renamed. The MDLM diffusion transformer is derived here from the
papers (DiT, arXiv 2212.09748; MDLM, arXiv 2406.07524) with plain softmax attention in place of flash
attention. Weights are normal with deviation 0.2 so that every path matters.
"""

import json
import math
import os
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional as F

VOCAB, D, LAYERS, HEADS, KV, FF = 64, 32, 2, 4, 2, 48
IDS = [[3, 17, 60, 60, 5, 41, 60, 9, 22], [60, 60, 1, 2, 60, 33, 12, 60, 7]]


def rounded(state):
    return {k: v.detach().to(torch.bfloat16).contiguous() for k, v in state.items()}


def shake(module, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(module.named_parameters()):
        p.data = torch.randn(p.shape, generator=g) * 0.2 + (1.0 if p.dim() == 1 and "norm" in name else 0.0)
        p.data = p.data.to(torch.bfloat16).float()


def write(root, name, config, state, logits, **more):
    folder = os.path.join(root, name)
    os.makedirs(folder, exist_ok=True)
    json.dump(config, open(f"{folder}/config.json", "w"), indent=1)
    save_file(rounded(state), f"{folder}/model.safetensors", metadata={"format": "pt"})
    words = {f"w{i}": i for i in range(VOCAB)} | {"<|mask|>": 60}
    del words["w60"]
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<|mask|>"])
    tokenizer.save(f"{folder}/tokenizer.json", pretty=False)
    flat = [round(x, 6) for x in logits.detach().reshape(-1).tolist()]
    json.dump({"ids": IDS, "logits": flat, **more}, open(f"{folder}/expected.json", "w"))


def hf(cls, config, seed):
    torch.manual_seed(seed)
    model = cls(config).eval()
    model.config._attn_implementation = "eager"
    shake(model, seed)
    return model


def run(model, mask=None):
    n = len(IDS[0])
    seen = torch.ones(n, n, dtype=torch.bool) if mask is None else mask
    bias = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None].expand(len(IDS), 1, n, n)
    return model(input_ids=torch.tensor(IDS), attention_mask=bias.contiguous()).logits


def shifted(logits):
    return torch.cat([logits[:, :1], logits[:, :-1]], 1)


def shared(**more):
    return dict(vocab_size=VOCAB, hidden_size=D, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                intermediate_size=FF, max_position_embeddings=128, attention_dropout=0.0, **more)


def llama(root):
    from transformers import LlamaConfig, LlamaForCausalLM

    c = shared(num_key_value_heads=KV, rms_norm_eps=1e-5, tie_word_embeddings=False)
    model = hf(LlamaForCausalLM, LlamaConfig(**c, rope_theta=10000.0, attn_implementation="eager"), 1)
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10000.0,
              "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", **c}
    write(root, "llama", config, model.state_dict(), run(model, causal))


def llada(root):
    from transformers import LlamaConfig, LlamaForCausalLM

    c = shared(num_key_value_heads=HEADS, rms_norm_eps=1e-5, tie_word_embeddings=False)
    model = hf(LlamaForCausalLM, LlamaConfig(**c, rope_theta=500000.0, attn_implementation="eager"), 2)
    names = {"self_attn.q_proj": "q_proj", "self_attn.k_proj": "k_proj", "self_attn.v_proj": "v_proj",
             "self_attn.o_proj": "attn_out", "mlp.gate_proj": "ff_proj", "mlp.up_proj": "up_proj",
             "mlp.down_proj": "ff_out", "input_layernorm": "attn_norm", "post_attention_layernorm": "ff_norm"}
    state = {}
    for k, v in model.state_dict().items():
        k = k.replace("model.embed_tokens", "model.transformer.wte").replace("model.norm", "model.transformer.ln_f")
        k = k.replace("lm_head", "model.transformer.ff_out").replace("model.layers", "model.transformer.blocks")
        for old, new in names.items():
            k = k.replace(old, new)
        state[k] = v
    config = {"architectures": ["LLaDAModelLM"], "model_type": "llada", "vocab_size": VOCAB,
              "embedding_size": VOCAB, "d_model": D, "n_layers": LAYERS, "n_heads": HEADS, "n_kv_heads": HEADS,
              "mlp_hidden_size": FF, "max_sequence_length": 128, "rope": True, "rope_theta": 500000.0,
              "rms_norm_eps": 1e-5, "layer_norm_type": "rms", "activation_type": "silu", "block_type": "llama",
              "weight_tying": False, "include_bias": False, "include_qkv_bias": False,
              "mask_token_id": 60, "eos_token_id": 2, "pad_token_id": 2}
    write(root, "llada", config, state, run(model))


def dream(root):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    c = shared(num_key_value_heads=KV, rms_norm_eps=1e-6, tie_word_embeddings=False)
    model = hf(Qwen2ForCausalLM, Qwen2Config(**c, rope_theta=1000000.0, attn_implementation="eager"), 3)
    config = {"architectures": ["DreamModel"], "model_type": "Dream", "rope_theta": 1000000.0, "hidden_act": "silu",
              "mask_token_id": 60, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, **c}
    write(root, "dream", config, model.state_dict(), shifted(run(model)), shift=True)


def qwen2(root):
    from transformers import Qwen2Config, Qwen2ForCausalLM

    c = shared(num_key_value_heads=KV, rms_norm_eps=1e-6, tie_word_embeddings=True)
    model = hf(Qwen2ForCausalLM, Qwen2Config(**c, rope_theta=1000000.0, attn_implementation="eager"), 4)
    state = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    config = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rope_theta": 1000000.0,
              "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, **c}
    write(root, "qwen2", config, state, run(model, causal))


def qwen3(root):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    rotary = {"rope_type": "default", "rope_theta": 1000000.0}
    # As published, and with what the class can do besides. Heads are wider than D / HEADS.
    for name, seed, bias, tied, fields in (("qwen3", 7, False, True, {"rope_theta": 1000000.0}),
                                           ("qwen3-bias", 8, True, False, {"rope_parameters": rotary})):
        c = shared(num_key_value_heads=KV, rms_norm_eps=1e-6, tie_word_embeddings=tied, head_dim=12,
                   attention_bias=bias, use_sliding_window=False)
        model = hf(Qwen3ForCausalLM, Qwen3Config(**c, rope_parameters=rotary, attn_implementation="eager"), seed)
        # A tied head is the embedding, and safetensors refuses to write the same memory twice.
        state = {k: v for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
        config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
                  "bos_token_id": 1, "eos_token_id": 2, **fields, **c}
        write(root, name, config, state, run(model, causal))


def sdar(root):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    c = shared(num_key_value_heads=KV, rms_norm_eps=1e-6, tie_word_embeddings=False, head_dim=12)
    model = hf(Qwen3ForCausalLM, Qwen3Config(**c, rope_theta=1000000.0, attn_implementation="eager"), 5)
    block = torch.arange(9) // 3
    config = {"architectures": ["SDARForCausalLM"], "model_type": "sdar", "rope_theta": 1000000.0, "hidden_act": "silu",
              "block_size": 3, "mask_token_id": 60, "bos_token_id": 1, "eos_token_id": 2, **c}
    write(root, "sdar", config, model.state_dict(), run(model, block[:, None] >= block[None]), block=3)


def mdlm(root):
    cond, freqs = 16, 256
    g = torch.Generator().manual_seed(6)
    w = {}

    def new(name, *shape, one=False):
        w[name] = (torch.randn(shape, generator=g) * 0.2 + float(one)).to(torch.bfloat16).float()

    new("backbone.vocab_embed.embedding", VOCAB, D)
    for i, (a, b) in (("0", (cond, freqs)), ("2", (cond, cond))):
        new(f"backbone.sigma_map.mlp.{i}.weight", a, b)
        new(f"backbone.sigma_map.mlp.{i}.bias", a)
    for i in range(LAYERS):
        at = f"backbone.blocks.{i}."
        new(at + "norm1.weight", D, one=True)
        new(at + "attn_qkv.weight", 3 * D, D)
        new(at + "attn_out.weight", D, D)
        new(at + "norm2.weight", D, one=True)
        new(at + "mlp.0.weight", 4 * D, D)
        new(at + "mlp.0.bias", 4 * D)
        new(at + "mlp.2.weight", D, 4 * D)
        new(at + "mlp.2.bias", D)
        new(at + "adaLN_modulation.weight", 6 * D, cond)
        new(at + "adaLN_modulation.bias", 6 * D)
    new("backbone.output_layer.norm_final.weight", D, one=True)
    new("backbone.output_layer.linear.weight", VOCAB, D)
    new("backbone.output_layer.linear.bias", VOCAB)
    new("backbone.output_layer.adaLN_modulation.weight", 2 * D, cond)
    new("backbone.output_layer.adaLN_modulation.bias", 2 * D)

    def norm(x, name):
        return F.layer_norm(x, [D]) * w[name]

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    sigma = torch.tensor([0.0, 1.7])
    half = freqs // 2
    angle = sigma[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)
    c = torch.cat([angle.cos(), angle.sin()], -1)
    c = linear(F.silu(linear(c, "backbone.sigma_map.mlp.0")), "backbone.sigma_map.mlp.2")
    c = F.silu(c)
    ids = torch.tensor(IDS)
    b, n = ids.shape
    head = D // HEADS
    inv = 10000.0 ** (-torch.arange(0, head, 2) / head)
    turn = torch.cat([torch.arange(n)[:, None] * inv] * 2, -1)[None, :, None]

    def rope(x):
        a, z = x.chunk(2, -1)
        return x * turn.cos() + torch.cat([-z, a], -1) * turn.sin()

    x = w["backbone.vocab_embed.embedding"][ids]
    for i in range(LAYERS):
        at = f"backbone.blocks.{i}."
        sa, ca, ga, sm, cm, gm = linear(c, at + "adaLN_modulation")[:, None].chunk(6, -1)
        h = norm(x, at + "norm1.weight") * (1 + ca) + sa
        q, k, v = linear(h, at + "attn_qkv").view(b, n, 3, HEADS, head).unbind(2)
        s = torch.einsum("bqhd,bkhd->bhqk", rope(q), rope(k)) / head**0.5
        a = torch.einsum("bhqk,bkhd->bqhd", s.softmax(-1), v).reshape(b, n, D)
        x = x + ga * linear(a, at + "attn_out")
        h = norm(x, at + "norm2.weight") * (1 + cm) + sm
        h = linear(F.gelu(linear(h, at + "mlp.0"), approximate="tanh"), at + "mlp.2")
        x = x + gm * h
    shift, scale = linear(c, "backbone.output_layer.adaLN_modulation")[:, None].chunk(2, -1)
    x = norm(x, "backbone.output_layer.norm_final.weight") * (1 + scale) + shift
    logits = linear(x, "backbone.output_layer.linear")
    config = {"architectures": ["MDLM"], "model_type": "mdlm", "vocab_size": VOCAB, "hidden_dim": D,
              "cond_dim": cond, "n_blocks": LAYERS, "n_heads": HEADS, "model_length": 128, "dropout": 0.1,
              "time_conditioning": True, "mask_token_id": 60}
    write(root, "mdlm", config, w, logits, sigma=sigma.tolist())


def main():
    root = sys.argv[1]
    with torch.no_grad():
        for family in (llama, llada, dream, qwen2, qwen3, sdar, mdlm):
            family(root)
            print(family.__name__)


main()
