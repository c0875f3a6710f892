//! The settings of the decoder: each changes what is written, and a bad one is named.

mod common;

use std::ops::ControlFlow;

use common::{Toy, config, message, prompts, stop_after};
use demask_text::{
    Compat, ConstraintConfig, Crossing, DecodeChanges, DecodeConfig, Decoder, DrawKind,
    GuideConfig, LengthConfig, PaceConfig, PolicyConfig, Prompt, RepetitionConfig, StepEvent, Then,
};

const MASK: u32 = 11;

#[test]
fn every_setting_changes_something() {
    let mut toy = Toy::new(8);
    toy.timed = true;
    toy.labels = ["even", "odd"].map(str::to_owned).into();
    let base = DecodeConfig {
        temperature: 0.8,
        samples: 3,
        ..config()
    };
    let mut prompts = prompts();
    prompts.push(Prompt::new(vec![1, MASK, 4, MASK, MASK, 2]));
    let trace = |config: &DecodeConfig| {
        let mut events = Vec::new();
        let mut observer = |event: &StepEvent| {
            events.push(event.clone());
            ControlFlow::Continue(())
        };
        Decoder::new(&toy, config.clone())
            .unwrap()
            .run(&prompts, &mut observer)
            .unwrap();
        events
    };
    let with = |change: fn(&mut DecodeConfig)| {
        let mut config = base.clone();
        change(&mut config);
        config
    };
    let changed = [
        with(|c| c.length = 13),
        with(|c| c.steps = 7),
        with(|c| c.plan = LengthConfig::SemiAutoregressive { block: 4 }),
        with(|c| {
            c.plan = LengthConfig::Blocks {
                block: 4,
                slide: false,
            }
        }),
        with(|c| c.pace = PaceConfig::Expected { eps: 1e-3 }),
        with(|c| c.policy = PolicyConfig::Entropy { alg_temp: None }),
        with(|c| c.temperature = 0.9),
        with(|c| c.top_p = Some(0.5)),
        with(|c| {
            c.top_p = Some(0.5);
            c.crossing = Crossing::Drop;
        }),
        with(|c| c.top_k = Some(2)),
        with(|c| c.draw = DrawKind::Categorical),
        with(|c| c.label = Some("odd".into())),
        with(|c| c.guides = vec![GuideConfig::ClassifierFree { scale: 1.0 }]),
        with(|c| c.constraints = vec![ConstraintConfig::Bans { ids: vec![0, 1, 2] }]),
        with(|c| {
            let cells = [(2, 6), (11, 0)].into();
            c.constraints = vec![ConstraintConfig::Fixed { cells }];
        }),
        with(|c| c.eos.logits_eos_inf = true),
        with(|c| c.eos.confidence_eos_eot_inf = true),
        with(|c| c.eos.early_stop = true),
        with(|c| {
            c.repetition = RepetitionConfig {
                window: 8,
                entropy: 2.0,
                then: Then::Again,
                tries: 2,
            };
        }),
        with(|c| c.compat = Compat::LladaOfficial),
        with(|c| c.compat = Compat::DreamOfficial),
        with(|c| c.seed = 1),
        with(|c| c.samples = 4),
    ];
    // Every key of the serialised configuration is among the changes.
    let keys = |config: &DecodeConfig| {
        serde_json::to_value(config)
            .unwrap()
            .as_object()
            .unwrap()
            .clone()
    };
    let plain = keys(&base);
    // A cache changes what is forwarded and no bit of what is written: tests/cache.rs.
    for (key, value) in plain.iter().filter(|(key, _)| *key != "cache") {
        assert!(
            changed.iter().any(|config| keys(config)[key] != *value),
            "`{key}` is not tried"
        );
    }
    let before = trace(&base);
    assert_eq!(
        before,
        trace(&base),
        "the same configuration, the same bits"
    );
    for config in &changed {
        assert_ne!(trace(config), before, "{config:?}");
        // What is written to JSON reads back to the same bits.
        let json = serde_json::to_string(config).unwrap();
        let back: DecodeConfig = serde_json::from_str(&json).unwrap();
        assert_eq!(back, *config);
        assert_eq!(trace(&back), trace(config));
    }
    assert!(serde_json::from_str::<DecodeConfig>(r#"{"lenght": 3}"#).is_err());
}

#[test]
fn bad_settings_are_errors_with_the_name_of_the_flag() {
    let toy = Toy::new(1);
    let said = |change: fn(&mut DecodeConfig)| {
        let mut config = config();
        change(&mut config);
        message(&toy, config, &prompts())
    };
    assert!(said(|c| c.length = 0).contains("`length` = 0"));
    assert!(said(|c| c.steps = 0).contains("`steps` = 0"));
    assert!(said(|c| c.samples = 0).contains("`samples` = 0"));
    assert!(said(|c| c.temperature = f64::NAN).contains("`temperature` = NaN"));
    assert!(said(|c| c.temperature = -1.0).contains("`temperature` = -1"));
    assert!(said(|c| c.top_p = Some(0.0)).contains("`top-p` = 0"));
    assert!(said(|c| c.top_p = Some(1.5)).contains("`top-p` = 1.5"));
    assert!(said(|c| c.top_p = Some(f64::NAN)).contains("`top-p` = NaN"));
    assert!(said(|c| c.top_k = Some(0)).contains("`top-k` = 0"));
    assert!(
        said(|c| c.plan = LengthConfig::SemiAutoregressive { block: 0 }).contains("`block` = 0")
    );
    assert!(
        said(|c| c.guides = vec![GuideConfig::ClassifierFree { scale: f64::NAN }])
            .contains("`cfg`")
    );
    assert!(said(|c| c.policy = PolicyConfig::Threshold { tau: 2.0 }).contains("`tau`"));
    assert!(said(|c| c.pace = PaceConfig::Expected { eps: 2.0 }).contains("`pace.eps`"));
    assert!(
        said(|c| c.constraints = vec![ConstraintConfig::Bans { ids: vec![99] }])
            .contains("`bans` = 99")
    );
    assert!(said(|c| c.length = 60).contains("65 cells, the model's context has 64"));
    // 5 + (2^64 - 1), which no machine word holds.
    let endless = said(|c| c.length = usize::MAX);
    assert!(
        endless.contains("prompt 0") && endless.contains("18446744073709551620 cells"),
        "{endless}"
    );
    let outside = message(
        &toy,
        config(),
        &[Prompt::new(vec![1]), Prompt::new(vec![12])],
    );
    assert!(outside.contains("prompt 1: token 12"), "{outside}");
}

#[test]
fn any_number_of_steps_may_be_asked_for() {
    let toy = Toy::new(1);
    for steps in [usize::MAX / 2, usize::MAX] {
        let config = DecodeConfig {
            steps,
            plan: LengthConfig::SemiAutoregressive { block: 4 },
            ..config()
        };
        let decoder = Decoder::new(&toy, config).unwrap();
        // One cell in each of the first steps of a block.
        let written = decoder.run(&prompts()[..1], &mut stop_after(3)).unwrap();
        assert_eq!((written[0].steps, written[0].open), (3, 9));
    }
}

#[test]
fn changes_change_what_they_name() {
    let base = DecodeConfig::default();
    let change = |changes: DecodeChanges| base.with(&changes).unwrap();
    let none = DecodeChanges::default;
    assert_eq!(change(none()), base);
    let longer = change(DecodeChanges {
        length: Some(40),
        ..none()
    });
    assert_eq!(
        (longer.length, longer.steps),
        (40, 40),
        "one step a cell stays one"
    );
    let both = change(DecodeChanges {
        length: Some(40),
        steps: Some(10),
        ..none()
    });
    assert_eq!((both.length, both.steps), (40, 10));
    let block = change(DecodeChanges {
        block: Some(8),
        ..none()
    });
    assert_eq!(block.plan, LengthConfig::SemiAutoregressive { block: 8 });
    let guided = change(DecodeChanges {
        cfg: Some(1.5),
        ..none()
    });
    assert_eq!(guided.guides, [GuideConfig::ClassifierFree { scale: 1.5 }]);
    let off = guided
        .with(&DecodeChanges {
            cfg: Some(0.0),
            ..none()
        })
        .unwrap();
    assert_eq!(off, base);
    let rest = change(DecodeChanges {
        policy: Some("factor:f=2".into()),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
        seed: Some(7),
        samples: Some(2),
        ..none()
    });
    assert_eq!(
        (rest.policy, rest.temperature),
        (PolicyConfig::Factor { f: 2.0 }, 0.5)
    );
    assert_eq!(
        (rest.top_p, rest.top_k, rest.seed, rest.samples),
        (Some(0.9), Some(40), 7, 2)
    );
    // The temperature that nobody set is that of the policy.
    let with = |config: &DecodeConfig, policy: &str, temperature| {
        let policy = Some(policy.to_owned());
        let changes = DecodeChanges {
            policy,
            temperature,
            ..none()
        };
        config.with(&changes).unwrap()
    };
    for name in ["ancestral", "analytic", "euler", "first_hitting"] {
        let sampled = with(&base, name, None);
        assert_eq!(sampled.temperature, 1.0, "{name}");
        assert_eq!(with(&sampled, "entropy", None).temperature, 0.0);
        assert_eq!(with(&base, name, Some(0.0)).temperature, 0.0);
        let greedy = with(&base, name, Some(0.0));
        assert_eq!(with(&greedy, name, None), greedy, "0 stays");
    }
    assert_eq!(with(&base, "origin", None).temperature, 0.0);
    assert_eq!(with(&rest, "ancestral", None).temperature, 0.5, "was set");
    let bad = DecodeChanges {
        temperature: Some(f64::NAN),
        ..none()
    };
    assert!(
        base.with(&bad)
            .unwrap_err()
            .to_string()
            .contains("temperature")
    );
}
