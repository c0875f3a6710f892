//! Every exchangeable part by name, with its paper: the source of the tables in `--help`, in
//! `demask models | policies | systems` and in the reference.
//!
//! Lists are taken from the crate that owns the part; what a crate lists only as the variants of a
//! configuration is described here, and a test holds the description against the configuration.

mod objectives;
mod schedules;
mod systems;

use serde::Serialize;

pub use objectives::objectives;
pub use schedules::{processes, schedules};
pub use systems::{System, systems};

/// One part by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The word in a configuration and on the command line.
    pub name: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
}

const fn entry(name: &'static str, paper: &'static str, summary: &'static str) -> Entry {
    Entry {
        name,
        paper,
        summary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds a tagged configuration knows, as serde lists them when it meets an unknown one.
    pub(crate) fn kinds<T: serde::de::DeserializeOwned + std::fmt::Debug>() -> Vec<String> {
        let unknown = serde_json::json!({ "kind": "no such kind" });
        let message = serde_json::from_value::<T>(unknown)
            .unwrap_err()
            .to_string();
        let (_, known) = message
            .split_once("expected")
            .expect("serde lists what it knows");
        known
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    fn names(entries: &[Entry]) -> Vec<String> {
        entries.iter().map(|entry| entry.name.to_owned()).collect()
    }

    #[test]
    fn every_schedule_and_objective_is_listed() {
        use demask_diffusion::{objective::ObjectiveConfig, schedule::ScheduleConfig};
        assert_eq!(names(schedules()), kinds::<ScheduleConfig>());
        assert_eq!(names(objectives()), kinds::<ObjectiveConfig>());
    }

    #[test]
    fn names_are_unique_and_everything_is_said() {
        for list in [schedules(), objectives(), processes()] {
            let mut seen = names(list);
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), list.len());
            assert!(
                list.iter()
                    .all(|e| !e.paper.is_empty() && e.summary.ends_with('.'))
            );
        }
    }
}
