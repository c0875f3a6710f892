use super::*;
use crate::observer::Silent;
use crate::toy::Toy;

fn weights(n: usize) -> Vec<f64> {
    (0..n).map(|i| 1.0 + (i * 37 % 23) as f64).collect()
}

fn toy(kind: ModelKind) -> Toy {
    Toy::table(kind, 3, 4, &weights(81))
}

/// Every ninth text of the table as a window, three bytes a token.
fn texts(toy: &Toy) -> (Vec<Window>, f64) {
    let chosen: Vec<(Vec<u32>, f64)> = toy.texts().into_iter().step_by(9).collect();
    let exact = -chosen.iter().map(|(_, chance)| chance.ln()).sum::<f64>();
    let windows = chosen
        .into_iter()
        .map(|(ids, _)| Window {
            bytes: vec![3.0; 4],
            ids,
        })
        .collect();
    (windows, exact)
}

fn run(toy: &Toy, windows: &[Window], config: &NelboConfig, batch: usize, seed: u64) -> Nelbo {
    nelbo(toy, windows, config, batch, Noise::new(seed), &mut Silent).unwrap()
}

/// A perfect model's bound is tight: the exact value lies within three standard errors.
#[test]
fn bounds_of_perfect_models_are_the_likelihood() {
    for (kind, draws, most) in [
        (ModelKind::Masked, 200, 0.05),
        (ModelKind::BlockMasked { block: 2 }, 200, 0.05),
        (ModelKind::BlockMasked { block: 3 }, 200, 0.05),
        // Under uniform noise a rare jump at a small time weighs (2/t) ln(1/t).
        (ModelKind::Uniform, 1000, 0.08),
    ] {
        let toy = toy(kind);
        let (windows, exact) = texts(&toy);
        let config = NelboConfig {
            draws,
            first_given: Some(false),
            ..NelboConfig::default()
        };
        let found = run(&toy, &windows, &config, 16, 3);
        let (wanted, error) = (exact / 36.0, found.std_error.unwrap());
        assert_eq!((found.tokens, found.draws), (36, draws));
        assert!(
            error > 0.0 && error < most,
            "{kind:?} {} {wanted} {error}",
            found.nats
        );
        assert!(
            (found.nats - wanted).abs() < 3.0 * error,
            "{kind:?} {} {wanted} {error}",
            found.nats
        );
        // The windows' own values add up to the whole.
        assert!((found.windows.iter().sum::<f64>() / 36.0 - found.nats).abs() < 1e-12);
        assert!((found.perplexity() - found.nats.exp()).abs() < 1e-12);
        // Three bytes a token.
        let bits = found.nats / 2f64.ln() / 3.0;
        assert!((found.bits_per_byte().unwrap() - bits).abs() < 1e-12);
    }
}

#[test]
fn left_to_right_models_are_exact() {
    let causal = toy(ModelKind::Autoregressive);
    let (windows, _) = texts(&causal);
    // The first letter is given: ln p(text) - ln p(first letter).
    let first = |v: u32| -> f64 {
        causal
            .texts()
            .iter()
            .filter(|(t, _)| t[0] == v)
            .map(|(_, c)| c)
            .sum()
    };
    let exact: f64 = windows
        .iter()
        .map(|w| {
            let chance = causal
                .texts()
                .into_iter()
                .find(|(t, _)| *t == w.ids)
                .unwrap()
                .1;
            -(chance / first(w.ids[0])).ln()
        })
        .sum();
    let found = run(&causal, &windows, &NelboConfig::default(), 4, 0);
    assert!((found.nats - exact / 27.0).abs() < 1e-6);
    assert_eq!((found.tokens, found.bytes, found.draws), (27, 81.0, 1));
    assert_eq!(found.std_error, Some(0.0));
    // Blocks of one cell are autoregression; here the first cell may count too.
    let single = toy(ModelKind::BlockMasked { block: 1 });
    let config = NelboConfig {
        first_given: Some(true),
        ..NelboConfig::default()
    };
    let given = run(&single, &windows, &config, 4, 0);
    assert!((given.nats - found.nats).abs() < 1e-6);
    assert_eq!((given.std_error, given.tokens), (Some(0.0), 27));
    let (_, all) = texts(&single);
    let config = NelboConfig {
        first_given: Some(false),
        ..NelboConfig::default()
    };
    assert!((run(&single, &windows, &config, 4, 0).nats - all / 36.0).abs() < 1e-6);
}

#[test]
fn a_masked_model_can_be_given_the_first_cell() {
    let (masked, causal) = (toy(ModelKind::Masked), toy(ModelKind::Autoregressive));
    let (windows, _) = texts(&masked);
    let config = NelboConfig {
        draws: 400,
        first_given: Some(true),
        ..NelboConfig::default()
    };
    let found = run(&masked, &windows, &config, 16, 3);
    let exact = run(&causal, &windows, &NelboConfig::default(), 4, 0);
    assert_eq!(found.tokens, exact.tokens);
    let error = found.std_error.unwrap();
    assert!(
        (found.nats - exact.nats).abs() < 3.0 * error,
        "{} {} {error}",
        found.nats,
        exact.nats
    );
}

#[test]
fn the_first_cell_of_an_autoregressive_model_cannot_be_scored() {
    let causal = toy(ModelKind::Autoregressive);
    let (windows, _) = texts(&causal);
    let config = NelboConfig {
        first_given: Some(false),
        ..NelboConfig::default()
    };
    let error = nelbo(&causal, &windows, &config, 4, Noise::new(0), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("nelbo.first_given"), "{error}");
}

#[test]
fn the_number_of_rows_in_a_pass_changes_no_bit() {
    for kind in [
        ModelKind::Masked,
        ModelKind::BlockMasked { block: 2 },
        ModelKind::Uniform,
    ] {
        let toy = toy(kind);
        let (windows, _) = texts(&toy);
        let config = NelboConfig {
            draws: 3,
            ..NelboConfig::default()
        };
        let one = run(&toy, &windows, &config, 1, 9);
        assert_eq!(one, run(&toy, &windows, &config, 4, 9), "{kind:?}");
        assert_eq!(one, run(&toy, &windows, &config, 100, 9), "{kind:?}");
        assert_ne!(one, run(&toy, &windows, &config, 4, 10), "{kind:?}");
    }
}

#[test]
fn strata_lower_the_error() {
    let toy = toy(ModelKind::Masked);
    let (windows, _) = texts(&toy);
    let error = |antithetic| {
        let config = NelboConfig {
            draws: 200,
            antithetic,
            ..NelboConfig::default()
        };
        run(&toy, &windows, &config, 16, 1).std_error.unwrap()
    };
    assert!(
        error(true) < 0.95 * error(false),
        "{} {}",
        error(true),
        error(false)
    );
}

/// Strata in a fixed order would give the first window only small times.
#[test]
fn every_window_sees_all_times() {
    let members: Vec<usize> = (0..8).collect();
    let mut firsts = [0; 8];
    for draw in 0..800 {
        firsts[dealt(&members, Noise::new(4).child(draw))[0]] += 1;
    }
    // Binomial(800, 1/8): standard deviation 9.4.
    assert!(firsts.iter().all(|n| i32::abs(n - 100) < 40), "{firsts:?}");
}

#[test]
fn windows_of_different_lengths_are_scored_apart() {
    let judge = Toy::bigram(2, 9, &[0.5, 0.5, 0.25, 0.75], None);
    let window = |ids: &[u32]| Window {
        ids: ids.to_vec(),
        bytes: vec![1.0; ids.len()],
    };
    let windows = [
        window(&[0, 1, 1]),
        window(&[1]),
        window(&[1, 0]),
        window(&[0, 0, 1]),
    ];
    let found = run(&judge, &windows, &NelboConfig::default(), 8, 0);
    let wanted = [-(0.375f64.ln()), 0.0, 4f64.ln(), 4f64.ln()];
    for (found, wanted) in found.windows.iter().zip(wanted) {
        assert!((found - wanted).abs() < 1e-6);
    }
    assert_eq!((found.tokens, found.bytes), (5, 5.0));
    let alone = nelbo(
        &judge,
        &windows[1..2],
        &NelboConfig::default(),
        8,
        Noise::new(0),
        &mut Silent,
    );
    assert!(
        alone
            .unwrap_err()
            .to_string()
            .contains("no token is scored")
    );
}

#[test]
fn other_objectives_must_be_bounds() {
    let toy = toy(ModelKind::Masked);
    let (windows, exact) = texts(&toy);
    let with = |objective| NelboConfig {
        draws: 150,
        objective: Some(objective),
        ..NelboConfig::default()
    };
    let cosine = MdlmConfig {
        schedule: serde_json::from_str(r#"{"kind":"cosine"}"#).unwrap(),
        ..MdlmConfig::default()
    };
    let found = run(&toy, &windows, &with(ObjectiveConfig::Mdlm(cosine)), 16, 2);
    assert!((found.nats - exact / 36.0).abs() < 3.0 * found.std_error.unwrap() + 2e-3);
    let refused = |model: &Toy, objective: &str| {
        let config = with(serde_json::from_str(objective).unwrap());
        let error = nelbo(model, &windows, &config, 16, Noise::new(0), &mut Silent).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("nelbo.objective"), "{objective}: {error}");
        error
    };
    for loose in [
        r#"{"kind":"mdlm","normalise":"sequence"}"#,
        r#"{"kind":"mdlm","time":{"min":0.5,"max":0.6}}"#,
        r#"{"kind":"mdlm","schedule":{"kind":"geometric","sigma_min":1e-4,"sigma_max":0.5}}"#,
        r#"{"kind":"llada_pretrain","random_length":1.0}"#,
        r#"{"kind":"llada_sft"}"#,
        r#"{"kind":"generic","weighted":false}"#,
    ] {
        let error = refused(&toy, loose);
        assert!(error.contains("bounds the likelihood"), "{error}");
    }
    for other in [r#"{"kind":"bd3","block":2}"#, r#"{"kind":"udlm"}"#] {
        let error = refused(&toy, other);
        assert!(error.contains("as mdlm"), "{error}");
    }
    let blocks = self::toy(ModelKind::BlockMasked { block: 2 });
    let error = refused(&blocks, r#"{"kind":"bd3","block":1}"#);
    assert!(error.contains("block = 2"), "{error}");
    let clipped = r#"{"kind":"bd3","block":2,"time":{"min":0.45,"max":0.95}}"#;
    assert!(refused(&blocks, clipped).contains("over all times"));
}

#[test]
fn an_observer_may_stop() {
    struct Stop(usize);
    impl EvalObserver for Stop {
        fn progress(&mut self, progress: crate::Progress) -> std::ops::ControlFlow<()> {
            assert!(progress.stage == "nelbo" && progress.total == 9 * 16);
            self.0 += 1;
            if progress.done >= 4 {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        }
    }
    let toy = toy(ModelKind::Masked);
    let (windows, _) = texts(&toy);
    let mut stop = Stop(0);
    let found = nelbo(
        &toy,
        &windows,
        &NelboConfig::default(),
        2,
        Noise::new(0),
        &mut stop,
    );
    assert!(matches!(found, Err(EvalError::Stopped)));
    assert_eq!(stop.0, 2);
}

#[test]
fn a_model_that_predicts_scores_is_measured_by_score_entropy() {
    let mut scores = toy(ModelKind::Uniform);
    let objective = |toy: &Toy| objective_of(toy, &NelboConfig::default());
    assert!(matches!(objective(&scores), ObjectiveConfig::Udlm(_)));
    scores.predicts = Predicts::LogScores {
        scale_by_sigma: false,
    };
    let found = objective(&scores);
    assert!(matches!(found, ObjectiveConfig::SeddUniform(_)));
    assert!(found.build(Vocabulary::plain(3)).unwrap().is_bound());
}
