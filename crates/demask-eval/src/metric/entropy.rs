//! How varied a text is: unigram entropy, distinct n-grams and repetition.
//!
//! A low generative perplexity is easy to reach by repeating oneself, so these stand beside it.

use std::collections::BTreeSet;

pub use demask_text::unigram_entropy;
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::evaluate::Bench;
use crate::{EvalError, MetricName, Row};

/// What the variety measures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EntropyConfig {
    /// The `n` of the distinct-n and repetition rows, each at least 1.
    pub orders: Vec<usize>,
}

impl Default for EntropyConfig {
    fn default() -> Self {
        Self {
            orders: vec![1, 2, 3, 4],
        }
    }
}

/// Variety of a set of samples.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Variety {
    /// Mean over samples of the unigram entropy in nats (the convention of bd3lms).
    pub entropy: f64,
    /// Standard error of [`Variety::entropy`] over samples; `None` for fewer than two.
    pub std_error: Option<f64>,
    /// `(n, distinct-n, repetition-n)` for each order asked.
    pub orders: Vec<(usize, f64, f64)>,
}

impl Variety {
    /// The mean unigram entropy in bits (the convention of EDLM).
    pub fn entropy_bits(&self) -> f64 {
        self.entropy / std::f64::consts::LN_2
    }
}

/// Distinct-n (Li et al., arXiv 1510.03055): different n-grams of all samples over n-grams of all
/// samples. 0 when no sample has `n` tokens.
pub fn distinct(samples: &[Vec<u32>], n: usize) -> f64 {
    let grams = samples.iter().flat_map(|sample| sample.windows(n.max(1)));
    share(grams)
}

/// Repetition (seq-rep-n, Welleck et al., arXiv 1908.04319): `1 - different / all` n-grams of one
/// sample, averaged over the samples that have at least one n-gram.
pub fn repetition(samples: &[Vec<u32>], n: usize) -> f64 {
    let n = n.max(1);
    let shares: Vec<f64> = samples
        .iter()
        .filter(|sample| sample.len() >= n)
        .map(|sample| 1.0 - share(sample.windows(n)))
        .collect();
    if shares.is_empty() {
        0.0
    } else {
        shares.iter().sum::<f64>() / shares.len() as f64
    }
}

/// All variety measures of a set of samples (token ids, without special tokens).
pub fn variety(samples: &[Vec<u32>], config: &EntropyConfig) -> Variety {
    let entropies: Vec<f64> = samples
        .iter()
        .map(|sample| unigram_entropy(sample))
        .collect();
    let (entropy, std_error) = super::mean_and_error(&entropies);
    let orders = config
        .orders
        .iter()
        .map(|&n| (n, distinct(samples, n), repetition(samples, n)))
        .collect();
    Variety {
        entropy,
        std_error,
        orders,
    }
}

fn share<'a>(grams: impl Iterator<Item = &'a [u32]>) -> f64 {
    let mut seen = BTreeSet::new();
    let mut all = 0usize;
    for gram in grams {
        seen.insert(gram);
        all += 1;
    }
    if all == 0 {
        0.0
    } else {
        seen.len() as f64 / all as f64
    }
}

/// The rows `entropy` of a report.
pub(crate) struct Varied;

impl Metric for Varied {
    fn measure(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>, EvalError> {
        let metric = MetricName::Entropy;
        let model = bench.model();
        let mut samples = Vec::new();
        for sample in bench.samples(metric)? {
            samples.push(match &sample.ids {
                Some(ids) => ids.clone(),
                None => model.encode(&sample.text)?,
            });
        }
        let found = variety(&samples, &bench.config().entropy);
        let over = format!("{} texts", samples.len());
        let row = |name: String, value, std_error, unit| Row {
            metric,
            name,
            value,
            std_error,
            unit,
            over: over.clone(),
        };
        let bits = found.std_error.map(|error| error / std::f64::consts::LN_2);
        let mut rows = vec![
            row("entropy".into(), found.entropy, found.std_error, "nats"),
            row("entropy in bits".into(), found.entropy_bits(), bits, "bits"),
        ];
        for &(n, distinct, repetition) in &found.orders {
            rows.push(row(format!("distinct-{n}"), distinct, None, ""));
            rows.push(row(format!("repetition-{n}"), repetition, None, ""));
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_counts_by_hand() {
        // Shares 1/2, 1/4, 1/4: 1.5 bits.
        let sample = vec![3, 3, 1, 9];
        assert!((unigram_entropy(&sample) - 1.5 * 2f64.ln()).abs() < 1e-15);
        assert_eq!(unigram_entropy(&[4; 10]), 0.0);
        assert_eq!(unigram_entropy(&[]), 0.0);
        let whole = variety(&[sample, vec![4; 10]], &EntropyConfig::default());
        assert!((whole.entropy_bits() - 0.75).abs() < 1e-15);
        // Half the difference of the two values, for two samples.
        assert!((whole.std_error.unwrap() - 0.75 * 2f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn distinct_counts_over_all_samples_and_repetition_within_each() {
        let samples = vec![vec![1, 2, 1, 2], vec![1, 2]];
        // Bigrams: 12 21 12 | 12: 2 different of 4.
        assert_eq!(distinct(&samples, 2), 0.5);
        // First sample 1 - 2/3, second 0.
        assert!((repetition(&samples, 2) - (1.0 / 3.0) / 2.0).abs() < 1e-15);
        // The second sample has no trigram: only the first counts.
        assert_eq!(repetition(&samples, 3), 0.0);
        assert_eq!(distinct(&samples, 5), 0.0);
    }
}
