use super::{Entry, entry};

/// The schedules: `kind` in the configuration of an objective.
pub fn schedules() -> &'static [Entry] {
    const {
        &[
            entry(
                "loglinear",
                "MDLM 2406.07524, BD3-LM 2503.09573, LLaDA 2502.09992",
                "Masked share t, in three conventions that differ at the ends.",
            ),
            entry(
                "geometric",
                "SEDD 2310.16834",
                "Total noise rises geometrically.",
            ),
            entry(
                "cosine",
                "MDLM 2406.07524, BD3-LM 2503.09573",
                "1 - cos(pi t/2).",
            ),
            entry("cosine_squared", "MDLM 2406.07524", "sin^2(pi t/2)."),
            entry("linear", "MDLM 2406.07524", "Total noise rises linearly."),
            entry(
                "power",
                "BD3-LM 2503.09573",
                "Masked share t^k; square and square root.",
            ),
            entry(
                "logarithmic",
                "BD3-LM 2503.09573",
                "Masked share ln(1+t)/ln 2.",
            ),
            entry(
                "clipped",
                "BD3-LM 2503.09573, section 5",
                "Another schedule on a window of its time: less variance in training.",
            ),
        ]
    }
}

/// The processes: forward noise on tokens.
pub fn processes() -> &'static [Entry] {
    const {
        &[
            entry(
                "absorbing",
                "D3PM 2107.03006, MDLM 2406.07524",
                "A token stays itself or becomes the mask.",
            ),
            entry(
                "uniform",
                "D3PM 2107.03006, UDLM 2412.10193",
                "A token stays itself or becomes any token.",
            ),
        ]
    }
}
