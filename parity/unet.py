"""Tiny U-Nets of Hugging Face diffusers: predictions and gradients.

Run from the repository root: `python parity/unet.py`. It writes crates/demask-nn/tests/fixtures/unet.json.

What was run, and how:

- The network: `UNet2DModel` of diffusers 0.42.1, unchanged, in float64 (its sinusoids are float32), PyTorch 2.15.0. Its settings
  are in the fixture under diffusers' names, beside those of demask.
- Parameters, pictures and directions follow the integer rule of `wave`, so they need not lie in the fixture.
- Record: the prediction; the gradient of the sum of prediction times a direction with respect to the pictures; and of the gradient
  of each parameter its sum of squares and its product with a direction.
"""

import json
import math
from pathlib import Path

import torch
from diffusers import UNet2DModel

OUT = Path("crates/demask-nn/tests/fixtures/unet.json")

CASES = [
    dict(
        demask=dict(in_channels=3, out_channels=2, channels=[16, 32], blocks=1, groups=8, norm_eps=1e-5,
                    attention=[1], middle_attention=True, head_dim=8),
        diffusers=dict(block_out_channels=[16, 32], layers_per_block=1, norm_num_groups=8, attention_head_dim=8,
                       down_block_types=["DownBlock2D", "AttnDownBlock2D"],
                       up_block_types=["AttnUpBlock2D", "UpBlock2D"], add_attention=True),
        size=[8, 6], times=[3.5, 120.0],
    ),
    dict(
        demask=dict(in_channels=1, out_channels=1, channels=[8, 16, 24], blocks=2, groups=4, norm_eps=1e-6,
                    attention=[], middle_attention=False, head_dim=8),
        diffusers=dict(block_out_channels=[8, 16, 24], layers_per_block=2, norm_num_groups=4, norm_eps=1e-6,
                       down_block_types=["DownBlock2D"] * 3, up_block_types=["UpBlock2D"] * 3, add_attention=False),
        size=[12, 8], times=[0.0, 41.0, 9.25],
    ),
]


def wave(name, shape):
    """Values in -1..1 that depend on a name and an index."""
    n = math.prod(shape)
    key = sum((i + 1) * byte for i, byte in enumerate(name.encode()))
    values = (torch.arange(n) * 7919 + key * 104729) % 65521
    return (values.double() / 65521 * 2 - 1).reshape(shape)


def parameter(name, shape):
    values = wave(name, shape)
    if len(shape) == 1:
        return values * 0.3 + (1.0 if name.endswith("weight") else 0.0)
    return values * math.sqrt(3 / math.prod(shape[1:]))


def run(case):
    sizes = case["demask"]
    net = UNet2DModel(sample_size=None, in_channels=sizes["in_channels"], out_channels=sizes["out_channels"],
                      **case["diffusers"]).double()
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(parameter(name, p.shape))
    times = torch.tensor(case["times"])
    pictures = wave("pictures", (len(times), sizes["in_channels"], *case["size"])).requires_grad_()
    prediction = net(pictures, times).sample
    (prediction * wave("direction", prediction.shape)).sum().backward()
    gradients = {
        name: [p.grad.square().sum().item(), (p.grad * wave(name, p.shape)).sum().item()]
        for name, p in net.named_parameters()
    }
    return case | dict(
        prediction=prediction.reshape(-1).tolist(),
        pictures_gradient=pictures.grad.reshape(-1).tolist(),
        gradients=gradients,
    )


def short(value):
    """Eight digits."""
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    return [short(v) for v in value] if isinstance(value, list) else value


if __name__ == "__main__":
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(short([run(case) for case in CASES])) + "\n")
