//! The model card of a checkpoint.

use crate::{Recipe, TrainError};

/// The numbers of a model card.
#[derive(Debug, Clone, PartialEq)]
pub struct CardFacts {
    /// Values in the network.
    pub parameters: u64,
    /// Trained ones among them, or in the adapters that were merged into them.
    pub trained: u64,
    /// Steps taken.
    pub steps: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Seconds trained.
    pub seconds: f64,
    /// Tokens in the training data.
    pub train_tokens: usize,
    /// Last training loss.
    pub loss: f64,
    /// Last validation loss and its step.
    pub valid: Option<(u64, f64)>,
    /// Name of the objective.
    pub objective: &'static str,
}

/// `README.md` of the checkpoint.
pub(super) fn text(recipe: &Recipe, facts: &CardFacts) -> Result<String, TrainError> {
    let mut out = format!("# {}\n\n", recipe.run.name);
    let card = &recipe.card;
    if !card.about.is_empty() {
        out += &format!("{}\n\n", card.about);
    }
    out += &format!(
        "| | |\n|---|---|\n| parameters | {} |\n| objective | {} |\n| steps | {} |\n| tokens seen | {} \
         ({:.1} passes over {} tokens) |\n| training time | {:.0} s |\n| training loss | {:.4} |\n",
        facts.parameters,
        facts.objective,
        facts.steps,
        facts.tokens,
        facts.tokens as f64 / facts.train_tokens.max(1) as f64,
        facts.train_tokens,
        facts.seconds,
        facts.loss,
    );
    if facts.trained != facts.parameters {
        out += &format!("| trained parameters | {} |\n", facts.trained);
    }
    if let Some((step, valid)) = facts.valid {
        out += &format!("| validation loss (step {step}) | {valid:.4} |\n");
    }
    out += &format!("| seed | {} |\n", recipe.run.seed);
    if !card.limits.is_empty() {
        out += &format!("\n## What it can't do\n\n{}\n", card.limits);
    }
    out += "\n## Data\n\n| file | licence |\n|---|---|\n";
    for source in &recipe.data.source {
        let licence = if source.licence.is_empty() {
            "not stated"
        } else {
            &source.licence
        };
        out += &format!("| `{}` | {licence} |\n", source.path.display());
    }
    if !card.licence.is_empty() {
        out += &format!("\n## Licence of the weights\n\n{}\n", card.licence);
    }
    out += &format!("\n## Recipe\n\n```toml\n{}```\n", recipe.resolved()?);
    Ok(out)
}
