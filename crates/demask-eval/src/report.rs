//! What an evaluation says.

use serde::Serialize;

use crate::{EvalConfig, MetricName};

/// One number of a report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The metric it belongs to.
    pub metric: MetricName,
    /// What it is.
    pub name: String,
    /// The number.
    pub value: f64,
    /// Its standard error, where one is known; 0 where it is exact.
    pub std_error: Option<f64>,
    /// Its unit, empty for a share or a plain score.
    pub unit: &'static str,
    /// What it was measured on.
    pub over: String,
}

/// The numbers of an evaluation and the configuration that gives them again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The numbers, in the order of the metrics.
    pub rows: Vec<Row>,
    /// What a reader should know about the data or the numbers.
    pub notes: Vec<String>,
    /// The whole configuration.
    pub config: EvalConfig,
}

impl Report {
    /// The head of [`Report::table`].
    pub const HEAD: [&'static str; 5] = ["metric", "value", "±", "unit", "over"];

    /// The rows as text, a cell for each column of [`Report::HEAD`].
    pub fn table(&self) -> Vec<[String; 5]> {
        self.rows
            .iter()
            .map(|row| {
                let error = match row.std_error {
                    Some(0.0) => "exact".to_owned(),
                    Some(error) => number(error),
                    None => String::new(),
                };
                [
                    row.name.clone(),
                    number(row.value),
                    error,
                    row.unit.to_owned(),
                    row.over.clone(),
                ]
            })
            .collect()
    }

    /// The value of the row called `name`.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.rows
            .iter()
            .find(|row| row.name == name)
            .map(|row| row.value)
    }
}

/// Four decimals, or two digits after the point of a power of ten where these would say nothing.
fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e6).contains(&size) {
        format!("{value:.4}")
    } else {
        format!("{value:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_cells() {
        let row = |name: &str, value, std_error| Row {
            metric: MetricName::Nelbo,
            name: name.into(),
            value,
            std_error,
            unit: "nats/token",
            over: "9 tokens".into(),
        };
        let report = Report {
            rows: vec![
                row("a", 1.5, Some(0.0)),
                row("b", 2.5e-6, Some(0.25)),
                row("c", 3e7, None),
            ],
            notes: vec![],
            config: EvalConfig::default(),
        };
        let table = report.table();
        assert_eq!(table[0], ["a", "1.5000", "exact", "nats/token", "9 tokens"]);
        assert_eq!(table[1][1..3], ["2.50e-6", "0.2500"]);
        assert_eq!(table[2][1..3], ["3.00e7", ""]);
        assert_eq!(report.value("c"), Some(3e7));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"][0]["metric"], "nelbo");
        let config: EvalConfig = serde_json::from_value(json["config"].clone()).unwrap();
        assert_eq!(config, report.config);
    }
}
