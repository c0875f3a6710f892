use serde::Serialize;

/// A published system and where it lives in the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct System {
    /// Its usual name.
    pub name: &'static str,
    /// The paper.
    pub paper: &'static str,
    /// The rooms that hold its parts, as paths below `crates/`.
    pub rooms: &'static [&'static str],
    /// A command that uses it.
    pub command: &'static str,
    /// The proofs that measure its claims (`demask proof NAME`).
    pub proofs: &'static [&'static str],
}

/// All systems.
pub fn systems() -> &'static [System] {
    &[
        System {
            name: "LLaDA",
            paper: "Large Language Diffusion Models, arXiv 2502.09992",
            rooms: &[
                "demask-diffusion/src/objective/llada_pretrain.rs",
                "demask-diffusion/src/objective/llada_sft.rs",
                "demask-text/src/policy",
                "demask-models/src/family",
            ],
            command: "demask generate --policy low_confidence",
            proofs: &["gumbel", "confidence"],
        },
        System {
            name: "Dream",
            paper: "Dream 7B: Diffusion Large Language Models, arXiv 2508.15487",
            rooms: &[
                "demask-diffusion/src/objective/shifted.rs",
                "demask-diffusion/src/objective/cart.rs",
                "demask-text/src/policy",
                "demask-models/src/family",
            ],
            command: "demask generate --policy entropy",
            proofs: &["confidence"],
        },
        System {
            name: "MDLM",
            paper: "Simple and Effective Masked Diffusion Language Models, arXiv 2406.07524",
            rooms: &[
                "demask-diffusion/src/objective/mdlm.rs",
                "demask-diffusion/src/process/absorbing.rs",
                "demask-diffusion/src/solver",
                "demask-models/src/family",
            ],
            command: "demask generate --policy ancestral",
            proofs: &[
                "exactness",
                "cached-ancestral",
                "variance",
                "order",
                "sudoku",
            ],
        },
        System {
            name: "SEDD",
            paper: "Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, \
                    arXiv 2310.16834",
            rooms: &[
                "demask-diffusion/src/objective/sedd_absorbing.rs",
                "demask-diffusion/src/objective/sedd_uniform.rs",
                "demask-diffusion/src/solver",
                "demask-text/src/policy/leap.rs",
            ],
            command: "demask train recipes/systems/sedd.toml",
            proofs: &[],
        },
        System {
            name: "UDLM",
            paper: "Simple Guidance Mechanisms for Discrete Diffusion Models, arXiv 2412.10193",
            rooms: &[
                "demask-diffusion/src/objective/udlm.rs",
                "demask-diffusion/src/process/uniform.rs",
                "demask-diffusion/src/solver/guided.rs",
                "demask-nn/src/transformer/label.rs",
                "demask-text/src/guide/classifier_free.rs",
            ],
            command: "demask train recipes/systems/udlm.toml",
            proofs: &["guidance"],
        },
        System {
            name: "BD3-LM",
            paper: "Block Diffusion, arXiv 2503.09573",
            rooms: &[
                "demask-diffusion/src/objective/bd3.rs",
                "demask-diffusion/src/objective/variance.rs",
                "demask-diffusion/src/schedule/clipped.rs",
                "demask-train/src/trainer/search.rs",
                "demask-models/src/family",
                "demask-text/src/cache",
                "demask-text/src/length/blocks.rs",
                "demask-text/src/repetition.rs",
            ],
            command: "demask train recipes/systems/bd3.toml",
            proofs: &["exactness", "block-cache", "variance", "order"],
        },
        System {
            name: "DiffuLLaMA",
            paper: "Scaling Diffusion Language Models via Adaptation from Autoregressive Models, \
                    arXiv 2410.17891",
            rooms: &[
                "demask-diffusion/src/objective/shifted.rs",
                "demask-nn/src/mask.rs",
                "demask-train/src/recipe/sections.rs",
            ],
            command: "demask train recipes/systems/diffullama.toml",
            proofs: &[],
        },
        System {
            name: "LoRA",
            paper: "LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685",
            rooms: &[
                "demask-nn/src/transformer/lora.rs",
                "demask-train/src/run_dir/adapter.rs",
            ],
            command: "demask train recipes/systems/lora.toml",
            proofs: &[],
        },
        System {
            name: "bf16 training",
            paper: "A Study of BFLOAT16 for Deep Learning Training, arXiv 1905.12322 (products in bf16, weights \
                    and sums in f32)",
            rooms: &[
                "demask-kernels/src/precision.rs",
                "demask-nn/src/ops/cpu/dense.rs",
                "demask-train/src/recipe/sections.rs",
            ],
            command: "demask train recipes/systems/llada.toml --set run.dtype=bf16",
            proofs: &["bf16"],
        },
        System {
            name: "Fast-dLLM",
            paper: "Fast-dLLM: Training-free Acceleration of Diffusion LLM, arXiv 2505.22618 (its \
                    parallel decoding; the cache comes later)",
            rooms: &[
                "demask-text/src/policy/threshold.rs",
                "demask-text/src/policy/factor.rs",
            ],
            command: "demask generate --policy threshold:tau=0.9",
            proofs: &[],
        },
        System {
            name: "EB-Sampler",
            paper: "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking, \
                    arXiv 2505.24857",
            rooms: &["demask-text/src/policy/entropy_bound.rs"],
            command: "demask generate --policy entropy_bound:gamma=0.1",
            proofs: &[],
        },
        System {
            name: "First-hitting sampler",
            paper: "Masked Diffusion Models are Secretly Time-Agnostic Masked Models, arXiv 2409.02908",
            rooms: &[
                "demask-diffusion/src/solver/first_hitting.rs",
                "demask-text/src/policy/first_hitting.rs",
            ],
            command: "demask generate --policy first_hitting",
            proofs: &["gumbel"],
        },
        System {
            name: "MAUVE",
            paper: "MAUVE: Measuring the Gap Between Neural Text and Human Text, arXiv 2102.01454",
            rooms: &["demask-eval/src/metric/mauve"],
            command: "demask eval --metric mauve",
            proofs: &[],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_of_a_command_exists() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let recipes = systems()
            .iter()
            .filter_map(|system| system.command.strip_prefix("demask train "));
        let mut seen = 0;
        for command in recipes {
            // Flags may follow it.
            let recipe = command.split(' ').next().unwrap_or(command);
            let path = std::path::Path::new(root).join(recipe);
            assert!(path.is_file(), "{recipe} is not there");
            seen += 1;
        }
        assert!(seen >= 5, "{seen}");
    }

    #[test]
    fn every_room_exists() {
        let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        for room in systems().iter().flat_map(|system| system.rooms) {
            assert!(
                std::path::Path::new(crates).join(room).exists(),
                "{room} is not there"
            );
        }
    }
}
