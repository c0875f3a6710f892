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

/// Cells as they stand in a configuration: `{"2": 5}`. The keys of JSON and TOML are texts, and a
/// tagged value is read before its kind is known, so nobody else turns them back into numbers.
pub(super) mod cells {
    use std::collections::BTreeMap;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(
        cells: &BTreeMap<usize, u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(cells.iter().map(|(cell, token)| (cell.to_string(), token)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<usize, u32>, D::Error> {
        let mut cells = BTreeMap::new();
        for (key, token) in BTreeMap::<String, u32>::deserialize(deserializer)? {
            let cell = key.parse().map_err(|_| {
                D::Error::custom(format!(
                    "`{key}` is no cell of `fixed`: write its number, counted from 0"
                ))
            })?;
            if cells.insert(cell, token).is_some() {
                let message = format!("cell {cell} of `fixed` is given twice");
                return Err(D::Error::custom(message));
            }
        }
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConstraintConfig;

    #[test]
    fn what_is_written_reads_back() {
        let config = ConstraintConfig::Fixed {
            cells: BTreeMap::from([(2, 5), (11, 0)]),
        };
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(json, r#"{"kind":"fixed","cells":{"2":5,"11":0}}"#);
        assert_eq!(
            serde_json::from_str::<ConstraintConfig>(&json).unwrap(),
            config
        );
        let value = serde_json::to_value(&config).unwrap();
        assert_eq!(
            serde_json::from_value::<ConstraintConfig>(value).unwrap(),
            config
        );
        let said = |cells: &str| {
            let json = format!(r#"{{"kind":"fixed","cells":{cells}}}"#);
            let error = serde_json::from_str::<ConstraintConfig>(&json);
            error.unwrap_err().to_string()
        };
        assert!(said(r#"{"first":5}"#).contains("`first` is no cell of `fixed`"));
        assert!(said(r#"{"2":5,"02":6}"#).contains("cell 2 of `fixed` is given twice"));
    }

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
