//! Cells of the answer that are given before the first step.

use std::collections::BTreeMap;

use super::Constraint;
use crate::TextError;

/// Fixes cells of the answer; what is written around them sees them from the first step on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// Token by cell of the answer, counted from 0.
    pub cells: BTreeMap<usize, u32>,
}

impl Constraint for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn fix(&mut self, cells: &mut [Option<u32>]) -> Result<(), TextError> {
        let length = cells.len();
        for (&cell, &token) in &self.cells {
            let slot = cells.get_mut(cell).ok_or_else(|| {
                let reason = format!("the answer has only {length} cells, counted from 0");
                TextError::setting("fixed", cell, reason)
            })?;
            *slot = Some(token);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixes_and_refuses_what_lies_outside() {
        let mut fixed = Fixed {
            cells: BTreeMap::from([(1, 7)]),
        };
        let mut cells = [None; 2];
        fixed.fix(&mut cells).unwrap();
        assert_eq!(cells, [None, Some(7)]);
        let message = fixed.fix(&mut [None]).unwrap_err().to_string();
        assert!(
            message.contains("`fixed` = 1") && message.contains("1 cells"),
            "{message}"
        );
    }
}
