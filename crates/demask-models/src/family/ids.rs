//! Special ids: from the checkpoint, in a fixed order of trust.

use serde_json::Value;

use super::{ConfigFile, Family};
use crate::{ModelError, ModelSpec, SpecialIds, Tokenizer};

/// How a family spells its special tokens.
///
/// The checkpoint's own files come first; the spellings are looked up in its vocabulary; the usual
/// mask id is the last resort and its use is reported.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpecialTokens {
    /// Stands in an open cell.
    pub mask: &'static [&'static str],
    /// Begins a text.
    pub bos: &'static [&'static str],
    /// Ends a text.
    pub eos: &'static [&'static str],
    /// Fills a batch.
    pub pad: &'static [&'static str],
    /// Ends a turn of a chat.
    pub eot: &'static [&'static str],
    /// What to do about a mask token that nothing names.
    pub mask_rule: MaskRule,
}

/// What to do about a mask token that nothing names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MaskRule {
    /// It is an error.
    #[default]
    MustBeNamed,
    /// It is this id, unless an ordinary token has it.
    Usual(u32),
    /// It is the last row of the embedding, after the tokenizer's own (MDLM).
    LastRow,
}

/// Settles the special ids of a checkpoint. `side` holds the files that may name them, in order
/// of trust, with the name under which a file is reported.
pub(crate) fn resolve(
    family: &dyn Family,
    spec: &ModelSpec,
    config: &ConfigFile,
    side: &[(&str, &Value)],
    tokenizer: &Tokenizer,
    notes: &mut Vec<String>,
) -> Result<SpecialIds, ModelError> {
    let specials = family.specials();
    let rows = spec.network.vocab_size;
    let mut lookup = |role: &str, spellings: &[&str]| -> Result<Option<u32>, ModelError> {
        let named = named_id(role, config, side, tokenizer, notes)?;
        let spelled = || {
            let (text, id) = spellings
                .iter()
                .find_map(|text| tokenizer.token_to_id(text).map(|id| (text, id)))?;
            if role == "mask" {
                notes.push(format!(
                    "mask is `{text}` ({id}) of the vocabulary; no file says so"
                ));
            }
            Some(id)
        };
        match named.or_else(spelled) {
            Some(id) if id as usize >= rows => Err(config.error(format!(
                "the {role} token has the id {id} but the vocabulary has {rows} rows"
            ))),
            id => Ok(id),
        }
    };
    let mut ids = SpecialIds {
        mask: lookup("mask", specials.mask)?,
        bos: lookup("bos", specials.bos)?,
        eos: lookup("eos", specials.eos)?,
        pad: lookup("pad", specials.pad)?,
        eot: lookup("eot", specials.eot)?,
    };
    if ids.mask.is_none() && spec.kind.needs_mask() {
        ids.mask = usual_mask(specials.mask_rule, rows, tokenizer, notes);
        if ids.mask.is_none() {
            return Err(ModelError::NoMaskToken {
                file: config.label().to_string(),
                tried: specials.mask.join(", "),
            });
        }
    }
    Ok(ids)
}

/// The mask id that follows from the family's convention, when no file names it.
fn usual_mask(
    rule: MaskRule,
    rows: usize,
    tokenizer: &Tokenizer,
    notes: &mut Vec<String>,
) -> Option<u32> {
    let (id, why) = match rule {
        MaskRule::MustBeNamed => return None,
        MaskRule::Usual(id) => (id, "is the family's usual one"),
        MaskRule::LastRow => (u32::try_from(rows).ok()?.checked_sub(1)?, "is the last row"),
    };
    // An ordinary token under that id means another vocabulary.
    let taken = tokenizer.is_assigned(id) && !tokenizer.is_special(id);
    if id as usize >= rows || taken {
        return None;
    }
    notes.push(format!(
        "mask id {id} {why}; no file of the checkpoint names it"
    ));
    Some(id)
}

/// What the checkpoint's files say about a role: an id in `config.json`, or a token in the
/// tokenizer's configuration.
fn named_id(
    role: &str,
    config: &ConfigFile,
    side: &[(&str, &Value)],
    tokenizer: &Tokenizer,
    notes: &mut Vec<String>,
) -> Result<Option<u32>, ModelError> {
    let id_key = format!("{role}_token_id");
    let token_key = format!("{role}_token");
    let by_config = match config.get(&id_key) {
        None => None,
        Some(value) => Some(
            first_id(value)
                .ok_or_else(|| config.error(format!("`{id_key}` = {value} is not a token id")))?,
        ),
    };
    if let Some((Value::Array(list), id)) = config.get(&id_key).zip(by_config)
        && list.len() > 1
    {
        notes.push(format!(
            "`{id_key}` names {} tokens; the first, {id}, is used",
            list.len()
        ));
    }
    let by_token = side.iter().find_map(|(_, value)| {
        let token = value.get(&token_key)?;
        let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
        tokenizer.token_to_id(text)
    });
    if let (Some(a), Some(b)) = (by_config, by_token)
        && a != b
    {
        notes.push(format!(
            "config.json says {role} is {a}, the tokenizer says {b}; config.json is followed"
        ));
    }
    let by_side = || {
        side.iter()
            .find_map(|(_, value)| first_id(value.get(&id_key)?))
    };
    Ok(by_config.or(by_token).or_else(by_side))
}

/// A token id, or the first of a list.
fn first_id(value: &Value) -> Option<u32> {
    let value = match value {
        Value::Array(list) => list.first()?,
        value => value,
    };
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}
