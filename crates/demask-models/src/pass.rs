//! Where an objective meets a network: what the network reads of a corrupted batch.
//!
//! An objective knows no network and a network no objective. Training and evaluation bring the two
//! together here, so that a bound is measured on the very passes that were trained.

use demask_diffusion::objective::Attention;
use demask_diffusion::{Corrupted, Objective, Time};
use demask_nn::{Asked, AttentionMask, Input, NoiseLevel, Positions};

/// The pass that `objective` asks for: `corrupted.input` with its positions, attention and noise
/// level. The asked cells are the cells to be predicted; see [`one_earlier`].
pub fn input(objective: &dyn Objective, corrupted: &Corrupted) -> Input<'static> {
    let (rows, length) = (corrupted.input.batch(), corrupted.input.length());
    let mask = match (objective.attention(), &corrupted.blocks) {
        (Attention::Causal, _) => AttentionMask::causal(),
        (_, Some(blocks)) => AttentionMask::bd3(blocks.clone()),
        (_, None) => AttentionMask::full(),
    };
    Input {
        positions: match &corrupted.blocks {
            None => Positions::Sequential,
            Some(blocks) => twice(rows, blocks.len()),
        },
        mask,
        time: corrupted
            .sigma
            .as_ref()
            .map(|sigma| level(sigma, rows, length)),
        asked: Asked::Rows(corrupted.asked.clone()),
        ..Input::ids(corrupted.input.data().to_vec(), rows, length)
    }
}

/// Positions `0..length` twice, for each of `rows` rows: both halves of `[x_t ; x_0]` stand at the
/// same places.
pub fn twice(rows: usize, length: usize) -> Positions {
    let once = 0..length as u32;
    let row: Vec<u32> = once.clone().chain(once).collect();
    Positions::Explicit(row.repeat(rows))
}

/// The rows whose logits predict the asked cells of `[batch, length]` in a network whose row `i`
/// predicts cell `i + 1` and that does not shift by itself. The first cell of a sequence has nothing
/// before it and reads its own row, as in a network that shifts.
pub fn one_earlier(asked: Asked, [batch, length]: [usize; 2]) -> Asked {
    let earlier = |cell: u32| {
        if (cell as usize).is_multiple_of(length) {
            cell
        } else {
            cell - 1
        }
    };
    match asked {
        Asked::None => Asked::None,
        Asked::All => Asked::Rows((0..(batch * length) as u32).map(earlier).collect()),
        Asked::Rows(cells) => Asked::Rows(cells.into_iter().map(earlier).collect()),
    }
}

/// The noise level of every row of the input. In the clean half of `[x_t ; x_0]` it is zero, for that is what stands
/// there; bd3lms gives both halves of a sequence the one level, where its networks have a time input at all.
fn level(sigma: &Time, rows: usize, length: usize) -> NoiseLevel {
    if sigma.is_per_sequence() {
        return NoiseLevel::PerSequence(sigma.data().iter().map(|s| *s as f32).collect());
    }
    let known = sigma.length();
    let cell = |b: usize, l: usize| {
        if l < known {
            sigma.at(b, l) as f32
        } else {
            0.0
        }
    };
    NoiseLevel::PerCell(
        (0..rows)
            .flat_map(|b| (0..length).map(move |l| cell(b, l)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use demask_diffusion::objective::bd3::Bd3Config;
    use demask_diffusion::objective::mdlm::MdlmConfig;
    use demask_diffusion::{Ids, Noise, ObjectiveConfig, Vocabulary};
    use demask_nn::{MaskKind, Rows};

    use super::*;

    /// Two rows of two tokens, corrupted.
    fn corrupted(config: &ObjectiveConfig) -> (Input<'static>, Corrupted) {
        let vocabulary = Vocabulary {
            size: 8,
            mask: Some(7),
        };
        let objective = config.build(vocabulary).unwrap();
        let x0 = Ids::new(2, 2, vec![1, 2, 3, 4]).unwrap();
        let mut corrupted = objective.corrupt(&x0, &[true; 4], &Noise::new(1)).unwrap();
        corrupted.sigma = Some(Time::per_token(2, 2, vec![0.5, 0.25, 2.0, 1.0]).unwrap());
        (input(objective.as_ref(), &corrupted), corrupted)
    }

    #[test]
    fn noisy_and_clean_rows_stand_at_the_same_places_and_only_one_is_noise() {
        let config = ObjectiveConfig::Bd3(Bd3Config {
            block: 1,
            ..Bd3Config::default()
        });
        let (input, corrupted) = corrupted(&config);
        let Rows::Ids { ids, batch, length } = &input.rows else {
            panic!("ids are read")
        };
        assert_eq!((*batch, *length), (2, 4));
        assert_eq!((&ids[2..4], &ids[6..8]), (&[1, 2][..], &[3, 4][..]));
        let positions = vec![0, 1, 0, 1, 0, 1, 0, 1];
        assert_eq!(input.positions, Positions::Explicit(positions));
        assert!(matches!(&input.mask.kind, MaskKind::Bd3 { blocks } if *blocks == [0, 1]));
        let levels = vec![0.5, 0.25, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0];
        assert_eq!(input.time, Some(NoiseLevel::PerCell(levels)));
        assert_eq!(input.asked, Asked::Rows(corrupted.asked));
    }

    #[test]
    fn noisy_rows_alone_have_a_level_a_cell_or_a_row() {
        let (first, mut corrupted) = corrupted(&ObjectiveConfig::Mdlm(MdlmConfig::default()));
        assert_eq!(first.positions, Positions::Sequential);
        assert_eq!(first.mask, AttentionMask::full());
        let levels = vec![0.5, 0.25, 2.0, 1.0];
        assert_eq!(first.time, Some(NoiseLevel::PerCell(levels)));
        corrupted.sigma = Some(Time::per_sequence(vec![0.5, 2.0]));
        let objective = ObjectiveConfig::Mdlm(MdlmConfig::default());
        let vocabulary = Vocabulary {
            size: 8,
            mask: Some(7),
        };
        let objective = objective.build(vocabulary).unwrap();
        let second = input(objective.as_ref(), &corrupted);
        assert_eq!(second.time, Some(NoiseLevel::PerSequence(vec![0.5, 2.0])));
        corrupted.sigma = None;
        assert_eq!(input(objective.as_ref(), &corrupted).time, None);
    }

    #[test]
    fn cells_are_predicted_one_row_earlier_within_their_sequence() {
        let rows = |rows: &[u32]| Asked::Rows(rows.to_vec());
        assert_eq!(
            one_earlier(rows(&[1, 2, 3, 5]), [2, 3]),
            rows(&[0, 1, 3, 4])
        );
        assert_eq!(one_earlier(Asked::All, [2, 3]), rows(&[0, 0, 1, 3, 3, 4]));
        assert_eq!(one_earlier(Asked::None, [2, 3]), Asked::None);
    }
}
