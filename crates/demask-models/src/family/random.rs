//! Tiny checkpoints with random weights, in every family's public layout.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::source::stored_tensors;
use super::{ConfigFile, Tiny, TinyTokenizer, TinyVocab, by_name, llama2c, registry};
use crate::format::{SaveDtype, encode_llama2c, replace_file, write_safetensors};
use crate::tokenizer::{Tokenizer, byte_bpe, llama2c as llama2c_tokenizer};
use crate::{ModelError, SpecialIds};

/// Writes a tiny checkpoint of a family into `dir`: two layers, a byte vocabulary, random weights,
/// in the layout and with the names of the public checkpoints.
///
/// The same name and seed give the same bytes.
///
/// # Errors
/// [`ModelError::NotFound`] for an unknown family, [`ModelError::Io`] when a file cannot be
/// written.
pub fn random(name: &str, seed: u64, dir: &Path) -> Result<(), ModelError> {
    let family = by_name(name).ok_or_else(|| ModelError::NotFound {
        name: name.to_string(),
        hint: format!(
            "there is no family of this name; there are {}",
            registry()
                .iter()
                .map(|f| f.info().name)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    })?;
    std::fs::create_dir_all(dir).map_err(|e| ModelError::io("create", dir, e))?;
    let tiny = family.tiny();
    let tokenizer = write_tokenizer(&tiny, dir)?;
    let spelled = |texts: &[&str]| texts.iter().find_map(|text| tokenizer.token_to_id(text));
    let specials = family.specials();
    let vocab = TinyVocab {
        rows: tokenizer.vocab_size() + tiny.extra_rows,
        ids: SpecialIds {
            mask: spelled(specials.mask),
            bos: spelled(specials.bos),
            eos: spelled(specials.eos),
            pad: spelled(specials.pad),
            eot: spelled(specials.eot),
        },
    };
    let config = without_nulls((tiny.config)(&vocab));
    let spec = family.spec(&ConfigFile::new("config.json", config.clone())?)?;
    let tensors = stored_tensors(family, &spec, &spec.network, &mut |name, shape| {
        values(seed, name, shape)
    });
    if tiny.tokenizer == TinyTokenizer::Llama2c {
        let shape = llama2c::shape_of(&ConfigFile::new("model.bin", config)?)?;
        let table = shape.max_seq_len * (shape.dim / shape.n_heads / 2);
        let bytes = encode_llama2c(shape, |name| {
            let found = tensors.iter().find(|(stored, ..)| stored == name);
            found.map_or_else(|| vec![0.0; table], |(_, _, values)| values.clone())
        });
        return replace_file(&dir.join("model.bin"), |out| out.write_all(&bytes));
    }
    write_safetensors(&dir.join("model.safetensors"), &tensors, SaveDtype::F32)?;
    write_json(&dir.join("config.json"), &config)
}

fn write_tokenizer(tiny: &Tiny, dir: &Path) -> Result<Tokenizer, ModelError> {
    let write = |name: &str, text: &str| {
        replace_file(&dir.join(name), |out| out.write_all(text.as_bytes()))
    };
    match tiny.tokenizer {
        TinyTokenizer::Json => {
            write(
                "tokenizer.json",
                &byte_bpe::bytes_only(tiny.specials)?.to_json()?,
            )?;
        }
        TinyTokenizer::VocabMerges(class) => {
            let (vocab, added) = byte_bpe::bytes_vocab(tiny.specials);
            write("vocab.json", &vocab)?;
            write("merges.txt", "#version: 0.2\n")?;
            let decoder: Map<String, Value> = added
                .iter()
                .map(|(id, (content, special))| {
                    (
                        id.to_string(),
                        json!({ "content": content, "special": special }),
                    )
                })
                .collect();
            let config = json!({ "tokenizer_class": class, "added_tokens_decoder": decoder });
            write_json(&dir.join("tokenizer_config.json"), &config)?;
        }
        TinyTokenizer::Llama2c => {
            let bytes = llama2c_tokenizer::encode(&[" t", "he", " the", " a", "nd", " and"]);
            replace_file(&dir.join("tokenizer.bin"), |out| out.write_all(&bytes))?;
        }
    }
    Tokenizer::from_dir(dir)
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    let text = format!("{value:#}\n");
    replace_file(path, |out| out.write_all(text.as_bytes()))
}

/// A key without a value is left out, as the public files do.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        value => value,
    }
}

/// Random values for one parameter: matrices uniform with variance 1/in, scales around 1, shifts
/// around 0.
fn values(seed: u64, name: &str, shape: &[usize]) -> Vec<f32> {
    let mut state = name
        .bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let (centre, spread) = match shape {
        [_, width] if !name.starts_with("embed") => (0.0, (3.0 / *width as f32).sqrt()),
        [_, _] => (0.0, 1.0),
        _ if name.ends_with(".bias") => (0.0, 0.1),
        _ => (1.0, 0.1),
    };
    (0..shape.iter().product())
        .map(|_| centre + spread * uniform(&mut state))
        .collect()
}

/// SplitMix64 (Steele, Lea and Flood, 2014) as a number in [-1, 1).
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}
