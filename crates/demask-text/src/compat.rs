//! Compatibility modes: the quirks of published samplers, for comparing with their numbers.

use serde::{Deserialize, Serialize};

/// Whose quirks are reproduced.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Compat {
    /// Nobody's: the decoder's own ways.
    #[default]
    None,
    /// LLaDA's `generate.py` (arXiv 2502.09992):
    ///
    /// - a step that commits nothing is forwarded all the same, and there is no early stop;
    /// - steps are shared out among all blocks alike, whether or not they have open cells;
    /// - masks inside the prompt compete for the quota of a block without being counted in it, and
    ///   what a block leaves over stays masked;
    /// - `confidence_eos_eot_inf` as published.
    ///
    /// See [`HeldBack`](crate::eos::HeldBack).
    LladaOfficial,
    /// Dream's `diffusion_generate` (arXiv 2508.15487):
    ///
    /// - a step whose truncated count is 0 is forwarded all the same, and there is no early stop;
    /// - the pace is `expected` with `eps = 1e-3` unless another `eps` is set;
    /// - tokens are drawn by the categorical draw;
    /// - steps are shared out among all blocks alike, whether or not they have open cells.
    ///
    /// Its hidden defaults (temperature 1 and `top_k` 50 when no generation settings are passed)
    /// are not part of the mode: set them.
    DreamOfficial,
}

impl Compat {
    /// Steps that commit nothing are forwarded.
    pub fn forwards_empty_steps(self) -> bool {
        self != Self::None
    }

    /// Masks inside the prompt are not counted when cells are shared out among steps.
    pub fn ignores_prompt_masks(self) -> bool {
        self == Self::LladaOfficial
    }

    /// A text never ends before its last step.
    pub fn runs_to_the_end(self) -> bool {
        self != Self::None
    }
}
