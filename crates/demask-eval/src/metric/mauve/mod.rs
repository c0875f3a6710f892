//! MAUVE: how close written texts are to human ones (Pillutla et al., arXiv 2102.01454).
//!
//! | file | part | source |
//! |---|---|---|
//! | `mod.rs` | features → histograms → score | §3, and the reference settings of the authors' package |
//! | `pca.rs` | principal components up to 90 % of the variance | §4 |
//! | `cluster.rs` | k-means with k-means++ seeding | §4; Arthur and Vassilvitskii 2007 |
//! | `curve.rs` | divergence curve, c = 5, and its area | Eq. 1 and 3 |
//!
//! A feature is the last hidden state of the last token under an autoregressive judge, scaled to
//! unit length. The score depends on judge, number of texts and text length: compare only scores
//! taken with the same three.

pub mod cluster;
pub mod curve;
pub mod pca;

use demask_diffusion::Noise;
use demask_nn::{Asked, AttentionMask, Input};
use serde::{Deserialize, Serialize};

use super::Metric;
use crate::evaluate::Bench;
use crate::observer::tell;
use crate::{EvalError, EvalObserver, LanguageModel, MetricName, Progress, Row};

/// Settings of the score. The defaults are those of the authors' package, but for the clusters'
/// random start (ours is k-means++).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MauveConfig {
    /// Clusters; `null` takes a tenth of the smaller set, at least 2.
    pub clusters: Option<usize>,
    /// Share of the variance that the principal components keep, in (0, 1).
    pub variance: f64,
    /// The `c` in `exp(-c KL)`, above 0.
    pub scale: f64,
    /// Points of the curve between its ends.
    pub points: usize,
    /// Most iterations of a k-means run.
    pub iterations: usize,
    /// Runs of k-means, of which the best is kept.
    pub restarts: usize,
    /// Longest text in the judge's tokens; longer ones are cut.
    pub length: usize,
}

impl Default for MauveConfig {
    fn default() -> Self {
        Self {
            clusters: None,
            variance: 0.9,
            scale: 5.0,
            points: 25,
            iterations: 500,
            restarts: 5,
            length: 1024,
        }
    }
}

impl MauveConfig {
    /// An error that names the field when a setting is outside its range.
    pub fn check(&self) -> Result<(), EvalError> {
        if !(self.variance > 0.0 && self.variance < 1.0) {
            return Err(EvalError::setting(
                "mauve.variance",
                self.variance,
                "a share in (0, 1)",
            ));
        }
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(EvalError::setting(
                "mauve.scale",
                self.scale,
                "a positive number",
            ));
        }
        for (name, value, least) in [
            ("mauve.clusters", self.clusters.unwrap_or(2), 2),
            ("mauve.points", self.points, 2),
            ("mauve.iterations", self.iterations, 1),
            ("mauve.restarts", self.restarts, 1),
            ("mauve.length", self.length, 1),
        ] {
            if value < least {
                return Err(EvalError::setting(name, value, format!("at least {least}")));
            }
        }
        Ok(())
    }
}

/// A MAUVE score and what it was read from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mauve {
    /// The area under the curve, in (0, 1]; 1 when the two sets fall alike.
    pub score: f64,
    /// Share of the first set in each cluster.
    pub p: Vec<f64>,
    /// Share of the second set in each cluster.
    pub q: Vec<f64>,
    /// Principal components kept.
    pub components: usize,
}

/// MAUVE of two sets of features, each `[n][width]`.
pub fn mauve(
    p: &[Vec<f32>],
    q: &[Vec<f32>],
    config: &MauveConfig,
    noise: Noise,
    observer: &mut dyn EvalObserver,
) -> Result<Mauve, EvalError> {
    config.check()?;
    if p.len() < 2 || q.len() < 2 {
        return Err(EvalError::Data(format!(
            "MAUVE compares two sets of at least 2 texts; there are {} and {}",
            p.len(),
            q.len()
        )));
    }
    let width = p[0].len();
    if width == 0 || p.iter().chain(q).any(|feature| feature.len() != width) {
        return Err(EvalError::Data(
            "MAUVE features differ in width, or are empty".into(),
        ));
    }
    let data = unit_rows(p, q)?;
    let rows = p.len() + q.len();
    let (projected, components) = pca::project(&data, rows, width, config.variance);
    let tenth = (p.len().min(q.len()) as f64 / 10.0).round_ties_even() as usize;
    let clusters = config.clusters.unwrap_or(tenth.max(2));
    let means = cluster::KMeans {
        clusters,
        iterations: config.iterations,
        restarts: config.restarts,
    };
    let labels = means.labels(&projected, components, noise, observer)?;
    let p_shares = histogram(&labels[..p.len()], clusters);
    let q_shares = histogram(&labels[p.len()..], clusters);
    let curve = curve::divergence_curve(&p_shares, &q_shares, config.scale, config.points);
    Ok(Mauve {
        score: curve::area(&curve),
        p: p_shares,
        q: q_shares,
        components,
    })
}

/// The rows of both sets scaled to unit length, one after the other.
fn unit_rows(p: &[Vec<f32>], q: &[Vec<f32>]) -> Result<Vec<f64>, EvalError> {
    let mut data = Vec::new();
    for feature in p.iter().chain(q) {
        let norm = feature
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt();
        if !norm.is_finite() {
            return Err(EvalError::NotFinite {
                what: "a MAUVE feature".into(),
            });
        }
        let norm = if norm > 0.0 { norm } else { 1.0 };
        data.extend(feature.iter().map(|v| f64::from(*v) / norm));
    }
    Ok(data)
}

/// The share of each of `clusters` labels.
pub fn histogram(labels: &[usize], clusters: usize) -> Vec<f64> {
    let mut shares = vec![0.0; clusters];
    for &label in labels {
        shares[label] += 1.0;
    }
    shares
        .iter_mut()
        .for_each(|share| *share /= labels.len().max(1) as f64);
    shares
}

/// The features of texts under `judge`: the hidden state after the final norm at the last token of
/// each text, cut to `length` tokens. A text without tokens gives an error that names it. `observer` is
/// told after every text.
pub fn features(
    judge: &dyn LanguageModel,
    texts: &[String],
    length: usize,
    observer: &mut dyn EvalObserver,
) -> Result<Vec<Vec<f32>>, EvalError> {
    let length = length.min(judge.max_length());
    let mut features = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let mut ids = judge.encode(text)?;
        ids.truncate(length);
        if ids.is_empty() {
            return Err(EvalError::Data(format!(
                "text {i} has no tokens, so it has no feature"
            )));
        }
        let cells = ids.len();
        let output = judge.forward(Input {
            mask: AttentionMask::causal(),
            asked: Asked::None,
            ..Input::ids(ids, 1, cells)
        })?;
        let [_, _, width] = output.hidden.dims();
        let last = output.hidden.slice([0..1, cells - 1..cells, 0..width]);
        features.push(crate::score::host_f32(last)?);
        tell(observer, "mauve", i + 1, texts.len())?;
    }
    Ok(features)
}

/// The row `mauve` of a report: written texts against windows of the data file.
pub(crate) struct Compared;

impl Metric for Compared {
    fn check(&self, bench: &Bench<'_>) -> Result<(), EvalError> {
        bench.judge(MetricName::Mauve)?;
        bench.path(MetricName::Mauve).map(|_| ())
    }

    fn measure(&self, bench: &mut Bench<'_>) -> Result<Vec<Row>, EvalError> {
        let metric = MetricName::Mauve;
        let judge = bench.judge(metric)?;
        let model = bench.model();
        let written: Vec<String> = bench
            .samples(metric)?
            .iter()
            .map(|sample| sample.text.clone())
            .collect();
        let windows = bench.windows(metric)?;
        // As many human texts as written ones, spread over the whole file.
        let count = written.len().min(windows.len());
        let mut human = Vec::with_capacity(count);
        for i in 0..count {
            let window = &windows[i * windows.len() / count];
            // Begin and end tokens have no bytes and no place in a text.
            let cells = window
                .ids
                .iter()
                .zip(&window.bytes)
                .filter(|(_, bytes)| **bytes > 0.0);
            human.push(model.decode(&cells.map(|(id, _)| *id).collect::<Vec<_>>())?);
        }
        let config = bench.config().mauve.clone();
        let config = &config;
        let mut sets = Vec::new();
        let total = written.len() + human.len();
        for (before, texts) in [(0, &human), (human.len(), &written)] {
            let observer = bench.observer();
            let mut of_both = |progress: Progress| {
                observer.progress(Progress {
                    done: before + progress.done,
                    total,
                    ..progress
                })
            };
            sets.push(features(judge, texts, config.length, &mut of_both)?);
        }
        let noise = bench.noise(metric);
        let found = mauve(&sets[0], &sets[1], config, noise, bench.observer())?;
        if written.len().min(count) < 100 {
            bench.note(format!(
                "mauve is unsteady on {} human and {} written texts; the authors advise thousands",
                count,
                written.len()
            ));
        }
        let over = format!("{} human and {} written texts", count, written.len());
        let name = "mauve".to_owned();
        Ok(vec![Row {
            metric,
            name,
            value: found.score,
            std_error: None,
            unit: "",
            over,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Silent;

    fn blob(centre: [f32; 3], n: usize, seed: u64) -> Vec<Vec<f32>> {
        (0..n)
            .map(|i| {
                let u = Noise::new(seed).child(i as u64).uniforms(3);
                (0..3)
                    .map(|k| centre[k] + 0.2 * (u[k] as f32 - 0.5))
                    .collect()
            })
            .collect()
    }

    #[test]
    fn identical_sets_score_one() {
        let set = blob([1.0, 0.0, 0.5], 40, 1);
        let score = mauve(
            &set,
            &set,
            &MauveConfig::default(),
            Noise::new(0),
            &mut Silent,
        )
        .unwrap();
        assert!((score.score - 1.0).abs() < 1e-9, "{score:?}");
        assert_eq!(score.p.len(), 4); // a tenth of 40
    }

    #[test]
    fn disjoint_sets_score_near_zero_and_nothing_depends_on_luck() {
        let (p, q) = (blob([1.0, 0.0, 0.0], 40, 2), blob([0.0, 1.0, 0.0], 40, 3));
        for seed in 0..5 {
            let score = mauve(
                &p,
                &q,
                &MauveConfig::default(),
                Noise::new(seed),
                &mut Silent,
            )
            .unwrap();
            // Disjoint histograms, whatever the clusters: the closed form is 1/252.
            assert!((score.score - 1.0 / 252.0).abs() < 5e-4, "{score:?}");
            assert_eq!(
                score,
                mauve(
                    &p,
                    &q,
                    &MauveConfig::default(),
                    Noise::new(seed),
                    &mut Silent
                )
                .unwrap()
            );
        }
    }

    #[test]
    fn half_mixed_sets_follow_the_two_cluster_curve() {
        // P all in A; Q half in A, half in B.
        let (a, b) = ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]);
        let p = blob(a, 40, 4);
        let mut q = blob(a, 20, 5);
        q.extend(blob(b, 20, 6));
        let config = MauveConfig {
            clusters: Some(2),
            ..MauveConfig::default()
        };
        let score = mauve(&p, &q, &config, Noise::new(0), &mut Silent).unwrap();
        let expected = curve::area(&curve::divergence_curve(&[1.0, 0.0], &[0.5, 0.5], 5.0, 25));
        assert!((score.score - expected).abs() < 1e-12);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let set = blob([1.0, 0.0, 0.5], 4, 1);
        let config = MauveConfig {
            variance: 1.5,
            ..MauveConfig::default()
        };
        let error = mauve(&set, &set, &config, Noise::new(0), &mut Silent)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("mauve.variance") && error.contains("1.5"),
            "{error}"
        );
        assert!(
            mauve(
                &set[..1],
                &set,
                &MauveConfig::default(),
                Noise::new(0),
                &mut Silent
            )
            .is_err()
        );
    }

    #[derive(serde::Deserialize)]
    struct Fixture {
        p: Vec<Vec<f32>>,
        q: Vec<Vec<f32>>,
        kept: usize,
        distances: Vec<Vec<f64>>,
        cases: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        clusters: usize,
        p_labels: Vec<usize>,
        q_labels: Vec<usize>,
        curve: Vec<(f64, f64)>,
        area: f64,
    }

    #[test]
    fn curve_area_and_components_agree_with_the_recorded_ones() {
        let text = include_str!("../../../tests/fixtures/mauve.json");
        let fixture: Fixture = serde_json::from_str(text).unwrap();
        for case in &fixture.cases {
            let p = histogram(&case.p_labels, case.clusters);
            let q = histogram(&case.q_labels, case.clusters);
            let curve = curve::divergence_curve(&p, &q, 5.0, 25);
            assert_eq!(curve.len(), case.curve.len());
            for (found, wanted) in curve.iter().zip(&case.curve) {
                assert!((found.0 - wanted.0).abs() < 1e-9 && (found.1 - wanted.1).abs() < 1e-9);
            }
            assert!((curve::area(&curve) - case.area).abs() < 1e-9);
        }
        let data = unit_rows(&fixture.p, &fixture.q).unwrap();
        let (scores, kept) = pca::project(&data, 70, 6, 0.9);
        assert_eq!(kept, fixture.kept);
        for (i, row) in fixture.distances.iter().enumerate() {
            for (j, wanted) in row.iter().enumerate() {
                let pair = scores[i * kept..]
                    .iter()
                    .zip(&scores[j * kept..])
                    .take(kept);
                let found: f64 = pair.map(|(a, b)| (a - b).powi(2)).sum();
                assert!((found - wanted).abs() < 1e-9, "{i} {j}");
            }
        }
    }
}
