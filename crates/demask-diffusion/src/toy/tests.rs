//! Every bound, at its perfect denoiser, is the entropy.

use super::*;
use crate::objective::bd3::Bd3Config;
use crate::objective::d3pm::D3pmConfig;
use crate::objective::llada_pretrain::LladaPretrainConfig;
use crate::objective::mdlm::MdlmConfig;
use crate::objective::sedd_absorbing::SeddAbsorbingConfig;
use crate::objective::sedd_uniform::SeddUniformConfig;
use crate::objective::udlm::UdlmConfig;
use crate::schedule::{Reshape, TimeSampling};

/// Times whose earliest noise level is at most 1e-4: what lies below is worth less than 1e-3 nats. The square root
/// schedule rises so fast that it must begin earlier than the others.
fn time(schedule: &ScheduleConfig) -> TimeSampling {
    let first = schedule.build().unwrap().time_at(1e-4);
    TimeSampling {
        min: first.min(1e-4),
        ..TimeSampling::default()
    }
}

/// Score and uniform bounds have heavier tails, and must not touch `p = 1`, where `sigma` is infinite: they begin at
/// `p = 0.02`, and are held against the exact value from there on.
fn inner_time(schedule: &ScheduleConfig) -> TimeSampling {
    let first = schedule.build().unwrap().time_at(0.02);
    TimeSampling {
        min: first,
        max: 1.0 - 1e-6,
        ..TimeSampling::default()
    }
}

/// The exact mean of a bound over the times of a window.
fn within(schedule: &ScheduleConfig, time: &TimeSampling, uniform: bool) -> f64 {
    let schedule = schedule.build().unwrap();
    let information = |t| Toy::example().information(schedule.p(t), uniform);
    (information(time.min) - information(time.max)) / (time.max - time.min)
}

/// The bound equals `wanted` within 3 standard errors, and the standard error is small enough to mean something.
fn exact(config: &ObjectiveConfig, wanted: f64, seed: u64) {
    let found = Toy::example()
        .bound(config, 300, 128, &Noise::new(seed))
        .unwrap();
    let off = (found.mean - wanted).abs() / found.standard_error;
    assert!(
        off < 3.0,
        "{config:?}: {found:?} is {off:.2} standard errors from {wanted}"
    );
    assert!(
        found.standard_error < 0.05 * wanted,
        "{config:?}: {found:?}"
    );
}

#[test]
fn the_example_is_a_distribution_with_dependence() {
    let toy = Toy::example();
    assert!((toy.probabilities().iter().sum::<f64>() - 1.0).abs() < 1e-12);
    // Far from both ends: ln 64 = 4.159 would be independence of everything.
    let alone: f64 = (0..3)
        .map(|l| {
            toy.given(l, &[None; 3])
                .iter()
                .map(|p| -p * p.ln())
                .sum::<f64>()
        })
        .sum();
    assert!(
        toy.entropy() < alone - 0.2 && toy.entropy() > 2.0,
        "{} {alone}",
        toy.entropy()
    );
    assert_eq!(
        (toy.letter(27, 0), toy.letter(27, 1), toy.letter(27, 2)),
        (1, 2, 3)
    );
}

#[test]
fn the_exact_bound_in_steps_falls_to_the_entropy() {
    let toy = Toy::example();
    let bounds: Vec<f64> = [1, 2, 4, 16, 64]
        .map(|steps| toy.finite_bound(steps))
        .to_vec();
    assert!(bounds.windows(2).all(|w| w[0] > w[1]), "{bounds:?}");
    assert!(
        bounds[4] > toy.entropy() && bounds[4] < toy.entropy() + 0.02,
        "{bounds:?}"
    );
    // One step predicts every cell alone.
    let alone: f64 = (0..3)
        .map(|l| {
            toy.given(l, &[None; 3])
                .iter()
                .map(|p| -p * p.ln())
                .sum::<f64>()
        })
        .sum();
    assert!((bounds[0] - alone).abs() < 1e-12);
}

#[test]
fn information_runs_from_the_entropy_to_nothing() {
    let toy = Toy::example();
    for uniform in [false, true] {
        assert!((toy.information(0.0, uniform) - toy.entropy()).abs() < 1e-12);
        assert!(toy.information(1.0, uniform).abs() < 1e-12);
        assert!(toy.information(0.3, uniform) > toy.information(0.6, uniform));
    }
    // dI/dp = -g(p)/p for masks: the rate of the bound.
    let slope = (toy.information(0.4 - 1e-5, false) - toy.information(0.4 + 1e-5, false)) / 2e-5;
    assert!((slope - toy.masked_cross_entropy(0.4) / 0.4).abs() < 1e-6);
}

#[test]
fn mdlm_is_exact_for_every_schedule() {
    for (i, schedule) in schedules().into_iter().enumerate() {
        let time = time(&schedule);
        let config = MdlmConfig {
            schedule,
            time,
            ..MdlmConfig::default()
        };
        exact(
            &ObjectiveConfig::Mdlm(config),
            Toy::example().entropy(),
            100 + i as u64,
        );
    }
}

#[test]
fn mdlm_is_exact_for_reshaped_times() {
    for reshape in [Reshape::Importance, Reshape::ChangeOfVariables] {
        let time = TimeSampling {
            reshape,
            min: 0.0,
            ..time(&ScheduleConfig::default())
        };
        let schedule = ScheduleConfig::Geometric {
            sigma_min: 1e-5,
            sigma_max: 20.0,
        };
        let config = MdlmConfig {
            schedule,
            time,
            ..MdlmConfig::default()
        };
        exact(&ObjectiveConfig::Mdlm(config), Toy::example().entropy(), 7);
    }
}

#[test]
fn llada_is_exact() {
    let config = LladaPretrainConfig {
        eps: 1e-6,
        random_length: 0.0,
        ..LladaPretrainConfig::default()
    };
    exact(
        &ObjectiveConfig::LladaPretrain(config),
        Toy::example().entropy(),
        8,
    );
}

#[test]
fn d3pm_matches_the_exact_bound_in_steps_in_both_forms() {
    for (steps, subs) in [(1, true), (2, true), (8, true), (2, false), (8, false)] {
        let config = D3pmConfig {
            steps,
            subs,
            ..D3pmConfig::default()
        };
        exact(
            &ObjectiveConfig::D3pm(config),
            Toy::example().finite_bound(steps),
            9,
        );
    }
}

#[test]
fn sedd_absorbing_is_exact() {
    for (i, schedule) in schedules().into_iter().enumerate() {
        let time = inner_time(&schedule);
        let wanted = within(&schedule, &time, false);
        let scale_by_sigma = i % 2 == 0;
        let config = SeddAbsorbingConfig {
            schedule,
            time,
            scale_by_sigma,
            ..SeddAbsorbingConfig::default()
        };
        exact(
            &ObjectiveConfig::SeddAbsorbing(config),
            wanted,
            200 + i as u64,
        );
    }
}

#[test]
fn sedd_uniform_is_exact() {
    for (i, schedule) in schedules().into_iter().enumerate() {
        let time = inner_time(&schedule);
        let wanted = within(&schedule, &time, true);
        let config = SeddUniformConfig {
            schedule,
            time,
            ..SeddUniformConfig::default()
        };
        exact(
            &ObjectiveConfig::SeddUniform(config),
            wanted,
            300 + i as u64,
        );
    }
}

#[test]
fn udlm_is_exact() {
    for (i, schedule) in schedules().into_iter().enumerate() {
        let time = inner_time(&schedule);
        let wanted = within(&schedule, &time, true);
        let config = UdlmConfig {
            schedule,
            time,
            ..UdlmConfig::default()
        };
        exact(&ObjectiveConfig::Udlm(config), wanted, 400 + i as u64);
    }
    let schedule = ScheduleConfig::default();
    let time = inner_time(&schedule);
    let wanted = within(&schedule, &time, true);
    let config = UdlmConfig {
        zero_recon_loss: false,
        schedule,
        time,
        ..UdlmConfig::default()
    };
    exact(&ObjectiveConfig::Udlm(config), wanted, 500);
}

#[test]
fn bd3_is_exact_for_every_block_size() {
    for block in [1, 2, 3] {
        let config = Bd3Config {
            block,
            time: time(&ScheduleConfig::default()),
            ignore_bos: false,
            ..Bd3Config::default()
        };
        exact(
            &ObjectiveConfig::Bd3(config),
            Toy::example().entropy(),
            600 + block as u64,
        );
    }
    let time = TimeSampling::window(1.0, 1.0);
    let config = Bd3Config {
        block: 1,
        time,
        ignore_bos: false,
        ..Bd3Config::default()
    };
    exact(&ObjectiveConfig::Bd3(config), Toy::example().entropy(), 610);
}

#[test]
fn autoregression_is_the_entropy_given_the_first_cell() {
    let toy = Toy::example();
    let first: f64 = toy.given(0, &[None; 3]).iter().map(|p| -p * p.ln()).sum();
    exact(
        &ObjectiveConfig::Autoregressive(Default::default()),
        toy.entropy() - first,
        700,
    );
}

#[test]
fn antithetic_times_lower_the_variance() {
    // Only the share that the choice of time adds can fall; it is large where the weight varies most.
    let spread = |draw| {
        let time = TimeSampling {
            draw,
            ..TimeSampling::window(0.05, 1.0)
        };
        let schedule = ScheduleConfig::CosineSquared { eps: 1e-3 };
        let config = ObjectiveConfig::Mdlm(MdlmConfig {
            time,
            schedule,
            ..MdlmConfig::default()
        });
        Toy::example()
            .bound(&config, 400, 128, &Noise::new(1))
            .unwrap()
            .standard_error
    };
    let ratio =
        spread(crate::schedule::Draw::Antithetic) / spread(crate::schedule::Draw::Independent);
    assert!(ratio < 0.95, "{ratio}");
}
