//! A checkpoint as a denoiser.

use std::collections::BTreeMap;

use demask_kernels::rowwise::{self, RowAsked};
use demask_models::{Model, ModelKind, Predicts, SpecialIds};
use demask_nn::{
    Asked, AttentionMask, Input, KvCache, MaskKind, NoiseLevel, Output, Scoring, span,
};

use crate::denoiser::{DenoiseRequest, Denoiser, Predicted, Prediction, Sight};
use crate::{Prompt, TextError};

/// The highest noise level a network with a time input is told: there sigma is `ln 1000`, the end of
/// MDLM's log-linear schedule.
const MAX_LEVEL: f64 = 1.0 - 1e-3;

impl Denoiser for Model {
    fn kind(&self) -> ModelKind {
        self.spec.kind
    }

    fn predicts(&self) -> Predicts {
        self.spec.predicts
    }

    fn vocab_size(&self) -> usize {
        self.spec.network.vocab_size
    }

    fn ids(&self) -> &SpecialIds {
        &self.spec.ids
    }

    fn max_length(&self) -> usize {
        self.spec.network.max_length
    }

    fn predict(&self, request: &DenoiseRequest) -> Result<Prediction, TextError> {
        let padded = request.key_lengths.iter().any(|&n| n != request.length);
        let key_lengths = padded.then(|| request.key_lengths.clone());
        let time = self.spec.time_conditioning.then(|| {
            let rows = (0..request.batch).map(|b| (b, 0));
            level(request, self.spec.ids.mask, rows, request.length)
        });
        let wanted = Wanted::of(request, 0..request.asked.len());
        let output = self.network.forward(Input {
            mask: AttentionMask {
                kind: mask(request.sight, request.length),
                key_lengths,
            },
            time,
            labels: labels(request, 0..request.batch),
            asked: asked(request.asked.clone()),
            scoring: wanted.as_ref().and_then(Wanted::scoring),
            ..Input::ids(request.ids.clone(), request.batch, request.length)
        })?;
        Ok(Prediction {
            cells: predicted(output)?,
            rows: request.key_lengths.clone(),
        })
    }

    fn predict_cached(
        &self,
        request: &DenoiseRequest,
        mut caches: Vec<&mut KvCache>,
    ) -> Result<Prediction, TextError> {
        let vocab = self.spec.network.vocab_size;
        let mut found: Vec<(Vec<usize>, Predicted)> = Vec::new();
        let mut from = Vec::with_capacity(request.batch);
        // Rows that forward equally many cells share a pass, so that there is no padding.
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (b, cache) in caches.iter_mut().enumerate() {
            // A cell that was opened again takes its block and all after it out of the cache.
            cache.truncate(request.clean[b].min(cache.length()));
            from.push(cache.length());
            groups
                .entry(request.key_lengths[b] - cache.length())
                .or_default()
                .push(b);
        }
        let mut caches: Vec<Option<&mut KvCache>> = caches.into_iter().map(Some).collect();
        for (length, rows) in groups.into_iter().filter(|(length, _)| *length > 0) {
            let cells =
                |b: usize| b * request.length + from[b]..b * request.length + from[b] + length;
            let ids = rows.iter().flat_map(|&b| request.ids[cells(b)].to_vec());
            let time = self.spec.time_conditioning.then(|| {
                let rows = rows.iter().map(|&b| (b, from[b]));
                level(request, self.spec.ids.mask, rows, length)
            });
            // Where each asked cell stands in this pass, and where its logits belong.
            let (mut wanted, mut places) = (Vec::new(), Vec::new());
            for (row, &b) in rows.iter().enumerate() {
                let cells = cells(b);
                let begin = request
                    .asked
                    .partition_point(|&a| (a as usize) < cells.start);
                let end = request.asked.partition_point(|&a| (a as usize) < cells.end);
                let own = &request.asked[begin..end];
                wanted.extend(
                    own.iter()
                        .map(|&a| (row * length + a as usize - cells.start) as u32),
                );
                places.extend(begin..end);
            }
            let longest = rows
                .iter()
                .map(|&b| from[b] + length)
                .max()
                .unwrap_or(length);
            let mut own: Vec<&mut KvCache> =
                rows.iter().filter_map(|&b| caches[b].take()).collect();
            let scored = Wanted::of(request, places.iter().copied());
            let output = self.network.forward(Input {
                mask: AttentionMask {
                    kind: mask(request.sight, longest),
                    key_lengths: None,
                },
                time,
                labels: labels(request, rows.iter().copied()),
                caches: own.iter_mut().map(|cache| &mut **cache).collect(),
                asked: asked(wanted),
                scoring: scored.as_ref().and_then(Wanted::scoring),
                ..Input::ids(ids.collect(), rows.len(), length)
            })?;
            found.push((places, predicted(output)?));
            for (cache, &b) in own.into_iter().zip(&rows) {
                cache.truncate(request.clean[b]);
            }
        }
        let forwarded = from.iter().zip(&request.key_lengths);
        Ok(Prediction {
            rows: forwarded.map(|(from, length)| length - from).collect(),
            cells: in_order(found, request, vocab)?,
        })
    }

    fn labels(&self) -> &[String] {
        &self.spec.labels
    }

    fn unassigned(&self) -> Vec<u32> {
        // In some vocabularies (GPT-2's) the token that ends a text is the unknown one, too.
        let named = |id: u32| self.spec.ids.named().any(|(_, special)| special == id);
        let unknown = self.tokenizer.unknown().filter(|&id| !named(id));
        (0..self.vocab_size() as u32)
            .filter(|&id| !self.tokenizer.is_assigned(id) || Some(id) == unknown)
            .collect()
    }

    fn begins_with_space(&self, id: u32) -> bool {
        self.tokenizer.decode_cell(id).starts_with(' ')
    }

    fn text(&self, ids: &[u32]) -> Result<String, TextError> {
        Ok(self.tokenizer.decode_without_special(ids)?)
    }
}

/// The scores that are wanted of some of the asked cells of a request.
struct Wanted<'a> {
    asked: rowwise::Asked,
    rows: Vec<RowAsked<'a>>,
}

impl<'a> Wanted<'a> {
    /// Of the asked cells with these places; `None` where logits are wanted.
    fn of(request: &'a DenoiseRequest, places: impl Iterator<Item = usize>) -> Option<Self> {
        let scoring = request.scoring.as_ref()?;
        Some(Self {
            asked: scoring.asked,
            rows: places.map(|place| scoring.cells[place].row()).collect(),
        })
    }

    /// What the network is asked for; nothing where it predicts no cell.
    fn scoring(&self) -> Option<Scoring<'_>> {
        let Self { asked, rows } = self;
        (!rows.is_empty()).then_some(Scoring {
            asked: *asked,
            rows,
        })
    }
}

/// The predictions of a request in the order of its cells, from those of each pass with their places in it.
fn in_order(
    mut found: Vec<(Vec<usize>, Predicted)>,
    request: &DenoiseRequest,
    vocab: usize,
) -> Result<Predicted, TextError> {
    let asked = request.asked.len();
    let served: usize = found.iter().map(|(places, _)| places.len()).sum();
    if served != asked {
        let what = format!("{} asked cells are in the cache already", asked - served);
        return Err(TextError::Denoiser(what));
    }
    if found.len() == 1 {
        // Most often the rows go side by side, and nothing has to be moved.
        return Ok(found.remove(0).1);
    }
    let (mut logits, mut scores) = (Vec::new(), Vec::new());
    for (places, own) in found {
        match own {
            // A group that asked for nothing.
            Predicted::Logits(own) if own.is_empty() => {}
            Predicted::Logits(own) => {
                logits.resize(asked * vocab, 0.0);
                for (place, row) in places.into_iter().zip(own.chunks_exact(vocab)) {
                    logits[place * vocab..][..vocab].copy_from_slice(row);
                }
            }
            Predicted::Scores(own) => scores.extend(places.into_iter().zip(own)),
        }
    }
    if request.scoring.is_none() {
        return Ok(Predicted::Logits(logits));
    }
    scores.sort_by_key(|(place, _)| *place);
    Ok(Predicted::Scores(
        scores.into_iter().map(|(_, score)| score).collect(),
    ))
}

/// What a forward pass gave: scores, or logits on the host.
fn predicted(mut output: Output) -> Result<Predicted, TextError> {
    match output.scores.take() {
        Some(scores) => Ok(Predicted::Scores(scores)),
        None => host(output).map(Predicted::Logits),
    }
}

/// Who sees whom among as many cells.
fn mask(sight: Sight, cells: usize) -> MaskKind {
    match sight {
        Sight::Full => MaskKind::Full,
        Sight::BlockCausal { block } => MaskKind::BlockCausal {
            blocks: (0..cells).map(|i| (i / block) as u32).collect(),
        },
    }
}

/// The labels of these rows, if any of them has one.
fn labels(request: &DenoiseRequest, rows: impl Iterator<Item = usize>) -> Option<Vec<Option<u32>>> {
    let labels: Vec<Option<u32>> = rows.map(|b| request.labels[b]).collect();
    labels.iter().any(Option::is_some).then_some(labels)
}

fn asked(cells: Vec<u32>) -> Asked {
    if cells.is_empty() {
        Asked::None
    } else {
        Asked::Rows(cells)
    }
}

/// What a network with a time input is told of `length` cells of these rows, each with its first cell.
/// Clean cells are told that they are clean, as in training (`demask_models::pass`). Where guidance hides
/// them they are all noise, and are told so: in every step the same, so that a cache may keep them.
fn level(
    request: &DenoiseRequest,
    mask: Option<u32>,
    rows: impl Iterator<Item = (usize, usize)>,
    length: usize,
) -> NoiseLevel {
    if request.sight == Sight::Full {
        return NoiseLevel::PerSequence(rows.map(|(b, _)| sigma(request.levels[b])).collect());
    }
    let cell = |b: usize, cell: usize| match cell < request.clean[b] {
        true if Some(request.ids[b * request.length + cell]) == mask => sigma(1.0),
        true => 0.0,
        false => sigma(request.levels[b]),
    };
    let row = |(b, from): (usize, usize)| (from..from + length).map(move |c| cell(b, c));
    NoiseLevel::PerCell(rows.flat_map(row).collect())
}

/// The total noise `-ln(1 - p)` of a noise level, whatever the schedule that led there.
fn sigma(p: f64) -> f32 {
    -(-p.clamp(0.0, MAX_LEVEL)).ln_1p() as f32
}

/// The logits of a forward pass on the host, `[asked, vocab]` row-major; empty when none were asked.
pub(crate) fn host(output: Output) -> Result<Vec<f32>, TextError> {
    let Some(logits) = output.logits else {
        return Ok(Vec::new());
    };
    let _span = span::part("logits");
    let data = logits.into_data().convert::<f32>();
    data.try_into_vec::<f32>()
        .map_err(|error| TextError::Denoiser(format!("logits: {error:?}")))
}

impl Prompt {
    /// A text to go on from, begun as the model's documents are ([`ModelSpec::begin`]). What looks
    /// like a special token in the text is ordinary text.
    ///
    /// [`ModelSpec::begin`]: demask_models::ModelSpec::begin
    ///
    /// # Errors
    /// When the tokenizer refuses the text.
    pub fn text(model: &Model, text: &str) -> Result<Self, TextError> {
        let mut ids: Vec<u32> = model.spec.begin().into_iter().collect();
        ids.extend(model.tokenizer.encode(text)?);
        Ok(Self::new(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::sigma;

    #[test]
    fn sigma_by_hand() {
        assert_eq!(sigma(0.0), 0.0);
        assert!((sigma(0.5) - std::f32::consts::LN_2).abs() < 1e-7);
        // Full masking is told as ln 1000.
        assert!((sigma(1.0) - 6.907_755).abs() < 1e-5);
    }
}
