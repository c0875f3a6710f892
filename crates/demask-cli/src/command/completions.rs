//! `demask completions SHELL`

use std::io::{self, Write};

use anyhow::Result;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::terminal::on_stdout;

/// Print a completion script for a shell
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  demask completions bash > ~/.local/share/bash-completion/completions/demask
  demask completions zsh > ~/.zfunc/_demask
  demask completions fish > ~/.config/fish/completions/demask.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    /// Writes the script to standard output.
    pub fn run(&self) -> Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "demask", &mut script);
        Ok(io::stdout().lock().write_all(&script).map_err(on_stdout)?)
    }
}
