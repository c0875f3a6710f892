//! Whether a request fits the network and itself.

use super::{Transformer, label};
use crate::{Asked, Input, MaskKind, NnError, NoiseLevel, Positions, Rows, Tap, Targets};

impl Transformer {
    /// Refuses a request that does not fit the network or itself.
    pub(super) fn check(&self, input: &Input) -> Result<(), NnError> {
        let [batch, length] = input.rows.dims();
        let refuse = |message: String| Err(NnError::Input(message));
        if batch == 0 || length == 0 {
            return refuse(format!(
                "a batch of {batch} sequences of length {length} is empty"
            ));
        }
        match &input.rows {
            Rows::Ids { ids, .. } => {
                if ids.len() != batch * length {
                    return refuse(format!("{} ids for [{batch}, {length}]", ids.len()));
                }
                let vocabulary = self.config.vocab_size;
                if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                    return refuse(format!(
                        "token {id} is outside the vocabulary of {vocabulary}"
                    ));
                }
            }
            Rows::Vectors(vectors) => {
                let [.., width] = vectors.dims();
                if width != self.config.d_model {
                    let d_model = self.config.d_model;
                    return refuse(format!(
                        "vectors of width {width}, the network has {d_model}"
                    ));
                }
            }
        }
        if let Positions::Explicit(positions) = &input.positions
            && positions.len() != batch * length
        {
            return refuse(format!(
                "{} positions for [{batch}, {length}]",
                positions.len()
            ));
        }
        let levels = match &input.time {
            None => None,
            Some(NoiseLevel::PerSequence(v)) => Some((v.len(), batch)),
            Some(NoiseLevel::PerCell(v)) => Some((v.len(), batch * length)),
        };
        if let Some((found, wanted)) = levels
            && found != wanted
        {
            return refuse(format!("{found} noise levels where {wanted} are needed"));
        }
        if let Some(labels) = &input.labels {
            label::check(labels, batch, self.config.labels)?;
        }
        if let Some(rotary) = &input.rotary {
            rotary.validate(self.config.head_dim)?;
        }
        if !input.caches.is_empty() {
            if input.caches.len() != batch {
                let found = input.caches.len();
                return refuse(format!(
                    "{found} caches for {batch} sequences: each has one of its own"
                ));
            }
            if input.mask.key_lengths.is_some() {
                return refuse("sequences with caches take no padding".into());
            }
            let device = self.device();
            let mut longest = 0;
            for cache in &input.caches {
                cache.check(&self.config, &device, self.precision)?;
                longest = longest.max(cache.length() + length);
            }
            if let MaskKind::BlockCausal { blocks } = &input.mask.kind
                && blocks.len() != longest
            {
                return refuse(format!(
                    "the mask describes {} cells, the longest sequence has {longest}",
                    blocks.len()
                ));
            }
        }
        if let Asked::Rows(cells) = &input.asked
            && let Some(cell) = cells.iter().find(|&&cell| cell as usize >= batch * length)
        {
            return refuse(format!("cell {cell} asked of [{batch}, {length}]"));
        }
        if let Some(targets) = &input.targets {
            self.check_targets(targets, &input.asked, batch * length)?;
            if input.scoring.is_some() {
                return refuse("losses or scores of the asked cells, not both".to_owned());
            }
        }
        if let Some(scoring) = &input.scoring {
            let asked = input.asked.count(batch * length);
            if scoring.rows.len() != asked {
                let found = scoring.rows.len();
                return refuse(format!("scores of {found} cells where {asked} are asked"));
            }
        }
        if let Some(Tap::Block(i)) = input
            .taps
            .iter()
            .find(|t| matches!(t, Tap::Block(i) if *i >= self.config.n_layers))
        {
            return refuse(format!("a tap at block {i} of {}", self.config.n_layers));
        }
        Ok(())
    }

    /// Refuses targets that are not one token of the vocabulary for each asked of `cells` cells.
    fn check_targets(&self, targets: &Targets, asked: &Asked, cells: usize) -> Result<(), NnError> {
        let refuse = |message: String| Err(NnError::Input(message));
        let asked = asked.count(cells);
        if targets.ids.len() != asked {
            let found = targets.ids.len();
            return refuse(format!("{found} targets for {asked} asked cells"));
        }
        let vocabulary = self.config.vocab_size;
        let outside = |id: &&u32| **id as usize >= vocabulary;
        if let Some(id) = targets.ids.iter().chain(&targets.forbidden).find(outside) {
            return refuse(format!(
                "target {id} is outside the vocabulary of {vocabulary}"
            ));
        }
        if let Some(id) = targets.forbidden.filter(|id| targets.ids.contains(id)) {
            return refuse(format!(
                "token {id} is a target and forbidden: its loss would be infinite"
            ));
        }
        Ok(())
    }
}
