//! Messages to the text a chat model expects.
//!
//! A template is a Jinja program that comes with a checkpoint; where a checkpoint has none, the
//! family's own ([`LLADA`], [`DREAM`]) stands in.

mod clock;
mod template;

pub use clock::Clock;
pub use template::ChatTemplate;

use serde::{Deserialize, Serialize};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks: "system", "user", "assistant".
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// LLaDA's chat text: the begin token, then for every turn a header, two line breaks, the trimmed
/// content and the end-of-turn token.
pub const LLADA: &str = "<|startoftext|>\
{% for message in messages %}\
<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>\
{% endfor %}\
{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}";

/// Dream's chat text (Qwen2's): a default system turn unless the caller has one.
pub const DREAM: &str = "{% for message in messages %}\
{% if loop.first and message['role'] != 'system' %}\
<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n\
{% endif %}\
<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{{ '\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}";

#[cfg(test)]
mod tests;
