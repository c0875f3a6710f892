use super::{Entry, entry};

/// The objectives: `kind` in the `[objective]` section of a recipe.
pub fn objectives() -> &'static [Entry] {
    const {
        &[
            entry(
                "mdlm",
                "MDLM 2406.07524",
                "Masked diffusion in continuous time, a bound.",
            ),
            entry(
                "d3pm",
                "D3PM 2107.03006, MDLM 2406.07524",
                "Masked diffusion with a finite number of steps.",
            ),
            entry(
                "sedd_absorbing",
                "SEDD 2310.16834",
                "Score entropy on the absorbing graph.",
            ),
            entry(
                "sedd_uniform",
                "SEDD 2310.16834",
                "Score entropy on the uniform graph.",
            ),
            entry(
                "udlm",
                "UDLM 2412.10193",
                "Uniform noise in continuous time.",
            ),
            entry(
                "bd3",
                "BD3-LM 2503.09573",
                "Block diffusion: all blocks in one pass.",
            ),
            entry(
                "llada_pretrain",
                "LLaDA 2502.09992",
                "Masked pre-training with weight 1/p.",
            ),
            entry(
                "llada_sft",
                "LLaDA 2502.09992",
                "Masked fine-tuning on answers; prompts stay clean.",
            ),
            entry(
                "shifted",
                "DiffuLLaMA 2410.17891, Dream 2508.15487",
                "Diffusion from an autoregressive start that keeps the shift; token weights by CART.",
            ),
            entry(
                "autoregressive",
                "-",
                "Next-token prediction, left to right.",
            ),
            entry(
                "generic",
                "dllm trainer",
                "Any schedule and any normaliser.",
            ),
        ]
    }
}
