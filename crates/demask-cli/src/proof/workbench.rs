//! Where proofs are run: what they say on stderr, and the models they train.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use demask::models::{Model, OpenOptions};
use demask::train::trainer::Silent;
use demask::train::{Recipe, RunDir, TrainOptions};

use crate::error::Interrupted;
use crate::terminal::progress::TrainProgress;
use crate::terminal::{interrupt, note};

/// Says on stderr what is being done, hears Ctrl-C, and keeps the models that proofs train: a proof
/// that was interrupted goes on where it was, and one that is run again trains nothing.
#[derive(Debug)]
pub struct Workbench {
    /// Nothing is said.
    pub quiet: bool,
    /// Folder of the run folders.
    pub work: PathBuf,
}

impl Workbench {
    /// A bench for tests, which says nothing and keeps nothing.
    #[cfg(test)]
    pub fn quiet() -> Self {
        Self {
            quiet: true,
            work: PathBuf::new(),
        }
    }

    /// The usual folder of the models that proofs train.
    pub const WORK: &'static str = "runs/proofs";

    /// # Errors
    /// The user asked to stop.
    pub fn listen(&self) -> Result<()> {
        if interrupt::pressed() {
            return Err(stopped());
        }
        Ok(())
    }

    /// One line about what is done next.
    ///
    /// # Errors
    /// The user asked to stop.
    pub fn step(&mut self, text: impl std::fmt::Display) -> Result<()> {
        self.listen()?;
        if !self.quiet {
            note(format!("  {text}"));
        }
        Ok(())
    }

    /// Where data files are looked for: this folder and those above it, then the work folder, where
    /// proofs put the data that they draw.
    pub fn roots(&self) -> Vec<PathBuf> {
        let mut roots = vec![PathBuf::from(".")];
        if let Ok(here) = std::env::current_dir() {
            roots.extend(here.ancestors().skip(1).map(Path::to_path_buf));
        }
        roots.push(self.work.clone());
        roots
    }

    /// The folder of the run `name`.
    pub fn run(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// The model that `recipe` gives, trained as the run `name`, gone on with, or taken as it is.
    ///
    /// # Errors
    /// The training failed, was stopped, or the run folder belongs to another recipe.
    pub fn trained(&mut self, name: &str, recipe: &Recipe) -> Result<Model> {
        let run = self.run(name);
        let begun = RunDir::open(&run)?.saved_steps()?.first().copied();
        match begun {
            Some(step) if step >= recipe.run.steps => self.step(format!("{name}: trained"))?,
            Some(step) => self.step(format!("{name}: training goes on from step {step}"))?,
            None => self.step(format!("{name}: training"))?,
        }
        let options = TrainOptions {
            resume: begun.is_some(),
            roots: self.roots(),
            ..Default::default()
        };
        let summary = if self.quiet {
            demask::train::train(recipe, &run, options, &mut Silent)
        } else {
            demask::train::train(recipe, &run, options, &mut TrainProgress::new())
        };
        let summary = summary.with_context(|| format!("training {name} in {}", run.display()))?;
        if summary.stopped {
            note("the same command goes on from here");
            return Err(Interrupted.into());
        }
        Ok(Model::open(&summary.checkpoint, &OpenOptions::default())?)
    }
}

/// Says that the proof was stopped.
pub fn stopped() -> anyhow::Error {
    note("stopped; the same command goes on with the models that are trained");
    Interrupted.into()
}

/// A recipe of the repository, changed by `overrides`.
///
/// # Errors
/// An override that does not fit.
pub fn recipe(text: &str, name: &str, overrides: &[String]) -> Result<Recipe> {
    Ok(Recipe::parse(
        text,
        &format!("recipes/proofs/{name}.toml"),
        overrides,
    )?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A bench in `folder`, and the recipe of a training of a second on a text in it.
    pub(in crate::proof) fn tiny(folder: &Path) -> (Workbench, Recipe) {
        let text: String = (0..60)
            .map(|i| format!("the cat {} sat on mat {}.\n", i % 7, i * i % 11))
            .collect();
        std::fs::write(folder.join("text.txt"), text).unwrap();
        let bench = Workbench {
            quiet: true,
            work: folder.to_path_buf(),
        };
        let recipe = recipe(include_str!("../../tests/data/tiny.toml"), "tiny", &[]).unwrap();
        (bench, recipe)
    }

    #[test]
    fn a_model_is_trained_once_and_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let (mut bench, mut recipe) = tiny(folder.path());
        let metrics = || std::fs::read_to_string(folder.path().join("a/metrics.jsonl")).unwrap();
        bench.trained("a", &recipe).unwrap();
        let first = metrics();
        assert_eq!(first.lines().count(), 5);
        bench.trained("a", &recipe).unwrap();
        assert_eq!(metrics(), first);
        recipe.run.steps = 7;
        bench.trained("a", &recipe).unwrap();
        assert_eq!(metrics().lines().count(), 7);
        recipe.run.seed += 1;
        let error = format!("{:#}", bench.trained("a", &recipe).unwrap_err());
        assert!(
            error.contains("training a in") && error.contains("run.seed"),
            "{error}"
        );
    }
}
