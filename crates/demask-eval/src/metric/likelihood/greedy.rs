//! Greedy match (LAMBADA style, LLaDA's evaluation code): start with the whole answer masked, at
//! each step write the single most confident argmax, and compare.

use demask_models::ModelKind;
use demask_nn::{Asked, AttentionMask, Input};
use serde::Serialize;

use super::{LikelihoodConfig, Request, guided};
use crate::score::{host_f32, logits};
use crate::{EvalError, LanguageModel};

/// What greedy writing gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GreedyMatch {
    /// Every token is that of the answer.
    pub matched: bool,
    /// Tokens that are those of the answer.
    pub right: usize,
    /// Tokens of the answer.
    pub tokens: usize,
}

/// Writes an answer of the same length greedily and compares it with `answer`. A block model fills
/// its blocks in order; an autoregressive one is right where its argmax after the true tokens is.
/// Equal confidences go to the earlier cell, equal logits to the smaller token.
pub fn greedy_match(
    model: &dyn LanguageModel,
    prompt: &[u32],
    answer: &[u32],
    config: &LikelihoodConfig,
) -> Result<GreedyMatch, EvalError> {
    config.check()?;
    let request = Request::new(model, prompt, answer, config)?;
    let written = match model.kind() {
        ModelKind::Autoregressive => teacher_forced(model, &request)?,
        _ => write(model, &request)?,
    };
    let right = written.iter().zip(answer).filter(|(a, b)| a == b).count();
    Ok(GreedyMatch {
        matched: right == answer.len(),
        right,
        tokens: answer.len(),
    })
}

fn write(model: &dyn LanguageModel, request: &Request) -> Result<Vec<u32>, EvalError> {
    let all: Vec<usize> = request.groups.concat();
    let mut row = request.noisy(&all);
    for group in &request.groups {
        let mut open = group.clone();
        while !open.is_empty() {
            let asked: Vec<(usize, usize)> = open.iter().map(|cell| (0, *cell)).collect();
            let canvas = std::slice::from_ref(&row);
            let found = guided(model, request, canvas, canvas, &asked)?;
            let width = found.dims()[1];
            let rows = host_f32(found)?;
            let mut best = (0, 0, f64::NEG_INFINITY);
            for (i, logits) in rows.chunks(width).enumerate() {
                let (token, confidence) = argmax(logits, request.forbidden)?;
                if confidence > best.2 {
                    best = (i, token, confidence);
                }
            }
            row[open.remove(best.0)] = best.1;
        }
    }
    Ok(row.split_off(request.prompt))
}

fn teacher_forced(model: &dyn LanguageModel, request: &Request) -> Result<Vec<u32>, EvalError> {
    let length = request.ids.len();
    let input = Input {
        mask: AttentionMask::causal(),
        asked: Asked::Rows((request.prompt..length).map(|cell| cell as u32).collect()),
        ..Input::ids(request.ids.clone(), 1, length)
    };
    let found = logits(model, input)?;
    let width = found.dims()[1];
    host_f32(found)?
        .chunks(width)
        .map(|row| Ok(argmax(row, None)?.0))
        .collect()
}

/// The token of the greatest logit and its log-probability.
fn argmax(logits: &[f32], forbidden: Option<u32>) -> Result<(u32, f64), EvalError> {
    let allowed = |token: usize| forbidden != Some(token as u32);
    let mut best = (0, f64::NEG_INFINITY);
    for (token, logit) in logits
        .iter()
        .enumerate()
        .filter(|(token, _)| allowed(*token))
    {
        if f64::from(*logit) > best.1 {
            best = (token as u32, f64::from(*logit));
        }
    }
    let total: f64 = logits
        .iter()
        .enumerate()
        .filter(|(token, _)| allowed(*token))
        .map(|(_, logit)| (f64::from(*logit) - best.1).exp())
        .sum();
    if !total.is_finite() {
        return Err(EvalError::NotFinite {
            what: "a logit of the greedy answer".into(),
        });
    }
    Ok((best.0, -total.ln()))
}
