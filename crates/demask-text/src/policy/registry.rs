//! The table of policies: what names, help texts and error messages are made from.

use serde::Serialize;

/// A policy as it stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PolicyInfo {
    /// Its name.
    pub name: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// The settings it takes.
    pub keys: &'static [KeyInfo],
    /// It keeps the pace of `steps`; otherwise it takes as many steps as it needs.
    pub paced: bool,
}

/// A setting of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KeyInfo {
    /// Its name.
    pub name: &'static str,
    /// The value it has when nothing is said; `none` is off.
    pub default: &'static str,
    /// What it means and what it may be.
    pub summary: &'static str,
}

/// The key of the steps of the reverse process.
const EPS: KeyInfo = KeyInfo {
    name: "eps",
    default: "0.00001",
    summary: "last time of the grid, above 0 and below 1",
};

/// The key of the ancestral steps, which may end at time 0.
const EPS_OR_ZERO: KeyInfo = KeyInfo {
    name: "eps",
    default: "0.00001",
    summary: "last time of the grid, 0 (BD3-LM) or larger and below 1",
};

const ALG_TEMP: KeyInfo = KeyInfo {
    name: "alg_temp",
    default: "none",
    summary: "temperature of a random choice among the cells; 0 or none takes the surest",
};

pub(super) const LOW_CONFIDENCE: PolicyInfo = PolicyInfo {
    name: "low_confidence",
    paper: "LLaDA, arXiv 2502.09992",
    summary: "commit the cells whose drawn tokens are most probable",
    keys: &[],
    paced: true,
};

pub(super) const RANDOM: PolicyInfo = PolicyInfo {
    name: "random",
    paper: "LLaDA, arXiv 2502.09992",
    summary: "commit random cells",
    keys: &[],
    paced: true,
};

pub(super) const ORIGIN: PolicyInfo = PolicyInfo {
    name: "origin",
    paper: "Dream, arXiv 2508.15487",
    summary: "commit each cell with the chance of a linear noise schedule",
    keys: &[KeyInfo {
        name: "eps",
        default: "0.001",
        summary: "last time of the grid, above 0 and below 1",
    }],
    paced: true,
};

pub(super) const MASKGIT_PLUS: PolicyInfo = PolicyInfo {
    name: "maskgit_plus",
    paper: "Dream, arXiv 2508.15487",
    summary: "as low_confidence, read after temperature and filters",
    keys: &[ALG_TEMP],
    paced: true,
};

pub(super) const TOPK_MARGIN: PolicyInfo = PolicyInfo {
    name: "topk_margin",
    paper: "Dream, arXiv 2508.15487",
    summary: "commit the cells whose best token leads the second by most",
    keys: &[ALG_TEMP],
    paced: true,
};

pub(super) const ENTROPY: PolicyInfo = PolicyInfo {
    name: "entropy",
    paper: "Dream, arXiv 2508.15487",
    summary: "commit the cells of least entropy",
    keys: &[ALG_TEMP],
    paced: true,
};

pub(super) const THRESHOLD: PolicyInfo = PolicyInfo {
    name: "threshold",
    paper: "Fast-dLLM, arXiv 2505.22618",
    summary: "commit every cell that is sure enough, at least one",
    keys: &[KeyInfo {
        name: "tau",
        default: "0.9",
        summary: "probability to reach, above 0 and at most 1",
    }],
    paced: false,
};

pub(super) const FACTOR: PolicyInfo = PolicyInfo {
    name: "factor",
    paper: "Fast-dLLM, arXiv 2505.22618",
    summary: "commit the n surest cells for the largest n with (n+1)(1-p_n) < f",
    keys: &[KeyInfo {
        name: "f",
        default: "1",
        summary: "bound on the joint error, above 0; larger commits more",
    }],
    paced: false,
};

pub(super) const ENTROPY_BOUND: PolicyInfo = PolicyInfo {
    name: "entropy_bound",
    paper: "EB-Sampler, arXiv 2505.24857",
    summary: "commit the cells of least entropy up to a bound on its sum",
    keys: &[KeyInfo {
        name: "gamma",
        default: "0.1",
        summary: "bound in nats, 0 or larger; larger commits more",
    }],
    paced: false,
};

pub(super) const FIRST_HITTING: PolicyInfo = PolicyInfo {
    name: "first_hitting",
    paper: "arXiv 2409.02908; BD3-LM, arXiv 2503.09573",
    summary: "commit one random cell a step, at the time of the next event",
    keys: &[],
    paced: false,
};

pub(super) const ANCESTRAL: PolicyInfo = PolicyInfo {
    name: "ancestral",
    paper: "MDLM, arXiv 2406.07524; UDLM, arXiv 2412.10193",
    summary: "draw from the posterior of the reverse process; the one for uniform noise",
    keys: &[EPS_OR_ZERO],
    paced: true,
};

pub(super) const ANALYTIC: PolicyInfo = PolicyInfo {
    name: "analytic",
    paper: "SEDD, arXiv 2310.16834",
    summary: "staggered score times transition; for models that predict scores",
    keys: &[EPS],
    paced: true,
};

pub(super) const EULER: PolicyInfo = PolicyInfo {
    name: "euler",
    paper: "SEDD, arXiv 2310.16834",
    summary: "follow the reverse rates; for models that predict scores",
    keys: &[EPS],
    paced: true,
};

/// All policies.
pub fn registry() -> &'static [PolicyInfo] {
    &[
        LOW_CONFIDENCE,
        RANDOM,
        ORIGIN,
        MASKGIT_PLUS,
        TOPK_MARGIN,
        ENTROPY,
        THRESHOLD,
        FACTOR,
        ENTROPY_BOUND,
        FIRST_HITTING,
        ANCESTRAL,
        ANALYTIC,
        EULER,
    ]
}
