//! Literals for every schedule, and what must hold for all of them.

use super::*;

fn close(found: f64, wanted: f64) {
    assert!(
        (found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0),
        "{found} is not {wanted}"
    );
}

/// Every kind at its defaults (and the powers of the paper).
fn every() -> Vec<ScheduleConfig> {
    vec![
        ScheduleConfig::loglinear(Convention::Mdlm),
        ScheduleConfig::loglinear(Convention::Bd3lms),
        ScheduleConfig::loglinear(Convention::Llada),
        ScheduleConfig::Geometric {
            sigma_min: 1e-4,
            sigma_max: 20.0,
        },
        ScheduleConfig::Cosine {
            convention: CosineConvention::Mdlm,
            eps: 1e-3,
        },
        ScheduleConfig::Cosine {
            convention: CosineConvention::Bd3lms,
            eps: 1e-3,
        },
        ScheduleConfig::CosineSquared { eps: 1e-3 },
        ScheduleConfig::Linear {
            sigma_min: 0.0,
            sigma_max: 10.0,
        },
        ScheduleConfig::Power {
            exponent: 2.0,
            eps: 1e-3,
        },
        ScheduleConfig::Power {
            exponent: 0.5,
            eps: 1e-3,
        },
        ScheduleConfig::Logarithmic {},
        ScheduleConfig::Clipped {
            min: 0.3,
            max: 0.8,
            schedule: Box::default(),
        },
    ]
}

#[test]
#[expect(
    clippy::approx_constant,
    reason = "the literals are the calculator's, pi and ln 2 among them"
)]
fn hand_computed_values_at_one_half() {
    // (p, sigma, sigma', weight) at t = 1/2, by a pocket calculator from the table in the module's doc.
    let table: [[f64; 4]; 12] = [
        [0.4995, 0.692_147_680_227, 1.996_003_996_004, 2.0],
        [0.5, 0.693_147_180_560, 2.0, 2.0],
        [0.5005, 0.694_147_680_894, 2.0, 1.996_003_996_004],
        [
            0.043_736_101_483,
            0.044_721_359_550,
            0.545_872_163_474,
            11.935_170_841_426,
        ],
        [
            0.292_600_325_595,
            0.346_159_462_480,
            1.568_575_805_096,
            3.792_237_795_874,
        ],
        [
            0.293_600_325_595,
            0.347_574_090_614,
            1.570_796_326_795,
            3.779_321_468_931,
        ],
        [
            0.4995,
            0.692_147_680_227,
            3.135_315_745_191,
            3.141_592_653_590,
        ],
        [0.993_262_053_001, 5.0, 10.0, 0.067_836_549_063],
        [0.25, 0.287_682_072_452, 1.333_333_333_333, 4.0],
        [0.707_106_781_187, 1.227_947_177_300, 2.414_213_562_373, 1.0],
        [
            0.584_962_500_721,
            0.879_386_403_126,
            2.317_372_997_855,
            1.644_202_308_251,
        ],
        [
            0.55,
            0.798_507_696_218,
            1.111_111_111_111,
            0.909_090_909_091,
        ],
    ];
    for (config, row) in every().iter().zip(table) {
        let schedule = config.build().unwrap();
        let found = [
            schedule.p(0.5),
            schedule.sigma(0.5),
            schedule.sigma_rate(0.5),
            schedule.weight(0.5),
        ];
        for (found, wanted) in found.into_iter().zip(row) {
            assert!(
                (found - wanted).abs() < 1e-11 * wanted.max(1.0),
                "{config:?}: {found} {wanted}"
            );
        }
        close(schedule.alpha(0.5), 1.0 - schedule.p(0.5));
        close(schedule.alpha_rate(0.5), -schedule.p_rate(0.5));
    }
}

#[test]
fn rates_are_derivatives() {
    for config in every() {
        let schedule = config.build().unwrap();
        for t in [0.1, 0.37, 0.5, 0.81, 0.95] {
            let h = 1e-5;
            let slope = (schedule.p(t + h) - schedule.p(t - h)) / (2.0 * h);
            let rate = schedule.p_rate(t);
            assert!(
                (slope - rate).abs() < 1e-5 * rate.max(1.0),
                "{config:?} {t}: {slope} {rate}"
            );
            let slope = (schedule.sigma(t + h) - schedule.sigma(t - h)) / (2.0 * h);
            let rate = schedule.sigma_rate(t);
            assert!(
                (slope - rate).abs() < 1e-4 * rate.max(1.0),
                "{config:?} {t}: {slope} {rate}"
            );
            let weight = schedule.sigma_rate(t) / schedule.sigma(t).exp_m1();
            close(schedule.weight(t), weight);
            let again = schedule.time_at(schedule.p(t));
            assert!((again - t).abs() < 1e-7, "{config:?} {t}: {again}");
        }
    }
}

#[test]
fn ends() {
    let p = |config: &ScheduleConfig, t| config.build().unwrap().p(t);
    let all = every();
    assert_eq!((p(&all[0], 0.0), p(&all[0], 1.0)), (0.0, 0.999));
    assert_eq!((p(&all[1], 0.0), p(&all[1], 1.0)), (0.0, 1.0));
    assert_eq!((p(&all[2], 0.0), p(&all[2], 1.0)), (0.001, 1.0));
    close(p(&all[5], 0.0), 1e-3);
    close(p(&all[5], 1.0), 1.0);
    assert_eq!(p(&all[8], 0.0), 1e-3);
    close(p(&all[10], 1.0), 1.0);
}

#[test]
fn configurations_round_trip_and_reject() {
    for config in every() {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<ScheduleConfig>(&text).unwrap(),
            config
        );
    }
    let config: ScheduleConfig = serde_json::from_str(r#"{"kind":"loglinear"}"#).unwrap();
    assert_eq!(config, ScheduleConfig::default());
    assert!(serde_json::from_str::<ScheduleConfig>(r#"{"kind":"cosine","epsilon":1}"#).is_err());
    assert!(serde_json::from_str::<ScheduleConfig>(r#"{"kind":"logarithmic","x":1}"#).is_err());
    for bad in [
        ScheduleConfig::Loglinear {
            convention: Convention::Mdlm,
            eps: 1.0,
        },
        ScheduleConfig::Geometric {
            sigma_min: 0.0,
            sigma_max: 1.0,
        },
        ScheduleConfig::Geometric {
            sigma_min: 1.0,
            sigma_max: f64::NAN,
        },
        ScheduleConfig::Power {
            exponent: -1.0,
            eps: 1e-3,
        },
        ScheduleConfig::Clipped {
            min: 0.5,
            max: 0.5,
            schedule: Box::default(),
        },
    ] {
        assert!(bad.build().is_err(), "{bad:?}");
    }
}
