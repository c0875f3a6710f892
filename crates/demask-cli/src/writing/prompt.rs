//! Text to the tokens a model expects before its answer.

use anyhow::Result;
use demask::models::chat::Clock;
use demask::models::{Message, Model};
use demask::text::Prompt;

use crate::error::{usage, with_advice};
use crate::writing::plan::WritePlan;

/// The tokens of a plan's prompt.
pub fn encode(model: &Model, plan: &WritePlan) -> Result<Prompt> {
    let text = plan.prompt.as_deref().unwrap_or_default();
    if plan.chat {
        let Some(template) = model.chat_template()? else {
            return Err(with_advice(
                usage(format!("`{}` has no chat template", plan.model)),
                "leave out --chat to let the model continue the text, or use an instruction-tuned \
                 checkpoint",
            ));
        };
        let messages = [Message::new("user", text)];
        let clock = plan.now.map(|unix_seconds| Clock { unix_seconds });
        return Ok(Prompt::new(template.encode(
            &model.tokenizer,
            &messages,
            true,
            clock,
        )?));
    }
    let mut ids: Vec<u32> = begin(model, plan);
    ids.extend(model.tokenizer.encode(text)?);
    Ok(Prompt::new(ids))
}

/// What stands before everything else.
pub fn begin(model: &Model, plan: &WritePlan) -> Vec<u32> {
    model
        .spec
        .ids
        .bos
        .filter(|_| plan.bos)
        .into_iter()
        .collect()
}
