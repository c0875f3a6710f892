//! The reference: commands, recipes, configurations and the tables of all parts.

use clap::CommandFactory;
use demask::registry::{self, Entry};

use super::keys::{Notation, Writer};
use super::schema;
use crate::cli::Cli;
use crate::terminal::table::Table;

/// The text of `docs/reference.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# Reference\n\nWritten by `demask docs` from the definitions the program runs on; a test \
         holds this file to them.\n\n## Commands\n",
    );
    let mut root = Cli::command().term_width(100);
    root.build();
    for command in root.get_subcommands_mut() {
        if command.is_hide_set() || command.get_name() == "help" {
            continue;
        }
        let name = command.get_name().to_owned();
        let help = command.render_long_help().to_string();
        text += &format!("\n### demask {name}\n\n```text\n{}\n```\n", trimmed(&help));
        for part in command.get_subcommands_mut() {
            if part.get_name() != "help" {
                let title = format!("demask {name} {}", part.get_name());
                let help = part.render_long_help().to_string();
                text += &format!("\n#### {title}\n\n```text\n{}\n```\n", trimmed(&help));
            }
        }
    }
    text += &configurations();
    for (title, table) in tables() {
        text += &format!("\n## {title}\n\n{}", table.markdown());
    }
    text
}

fn tables() -> Vec<(&'static str, Table)> {
    vec![
        (
            "Families of checkpoints",
            crate::command::models::family_table(),
        ),
        ("Policies", crate::command::policies::table()),
        ("Metrics", metrics()),
        ("Processes", entries(registry::processes())),
        ("Schedules", entries(registry::schedules())),
        ("Objectives", entries(registry::objectives())),
        ("Systems", crate::command::systems::table()),
        ("Proofs", crate::command::proof::table()),
    ]
}

fn metrics() -> Table {
    let mut table = Table::new(["name", "what", "needs", "paper"]);
    for metric in demask::eval::registry() {
        table.row([metric.name, metric.summary, metric.needs, metric.paper]);
    }
    table
}

fn entries(list: &[Entry]) -> Table {
    let mut table = Table::new(["name", "what", "paper"]);
    for entry in list {
        table.row([entry.name, entry.summary, entry.paper]);
    }
    table
}

/// Help without the spaces that clap leaves at the ends of lines.
fn trimmed(help: &str) -> String {
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    lines.join("\n").trim().to_owned()
}

/// Every key of a recipe and of the configurations of the commands.
fn configurations() -> String {
    let schemas = schema::schemas();
    let roots = [&schemas.recipe, &schemas.write, &schemas.eval];
    let mut writer = Writer::new(&schemas.types, &roots);
    let sections = schemas.recipe["properties"].as_object();
    let sections: Vec<_> = sections.into_iter().flatten().collect();
    for (name, section) in &sections {
        writer.heading(section, &format!("`[{name}]`"));
    }

    let mut text = String::from(RECIPES);
    let mut table = Table::new(["section", "", "what it holds"]);
    let required = schemas.recipe["required"].as_array();
    for (name, section) in &sections {
        let needed = required.is_some_and(|keys| keys.iter().any(|key| key == *name));
        let needed = if needed { "required" } else { "optional" };
        table.row([
            &format!("[`[{name}]`](#{name})"),
            needed,
            section["description"].as_str().unwrap_or_default(),
        ]);
    }
    text += &table.markdown();
    for (name, section) in &sections {
        let keys = writer.table(section, Notation::Toml);
        text += &format!("\n### `[{name}]`\n\n{keys}");
    }
    text += &writer.shared(Notation::Toml, "");

    text += CONFIGURATION;
    for (title, schema) in [
        ("Configuration of generate and infill", &schemas.write),
        ("Configuration of eval", &schemas.eval),
    ] {
        let keys = writer.table(schema, Notation::Json);
        text += &format!("\n### {title}\n\n{keys}");
        text += &writer.shared(Notation::Json, "decode");
    }
    text
}

const RECIPES: &str = "
## Recipes

A recipe is a TOML file that fully describes a training: `demask train RECIPE.toml`. `--set section.key=value` changes
one value of it. A key that is left out has the default in the table; a recipe with every default written out is kept as
`recipe.toml` in the folder of the run. A key that does not exist is an error that names the nearest one.

Keys are written as they stand below their section, `source.0` is the first of several `[[data.source]]`. A value *by
`kind`* is a table with a `kind`, which decides what else stands in it: `shape = { kind = \"cosine\", floor = 0.05 }`.
Editors complete and check recipes with [recipe.schema.json](recipe.schema.json).

";

const CONFIGURATION: &str = "
## Configuration

`--json` of `demask generate`, `infill` and `eval` prints, beside the result, the `config` that made it. `--config FILE`
reads it back, whole or in part (the output of `--json` itself will do), flags change it, and `--set key=value` changes
one value: `--set decode.eos.early_stop=false`, `--set 'decode.plan={\"kind\": \"blocks\", \"block\": 8}'`. Where
nothing is said, a checkpoint's own recommendation comes before the defaults below (`[generation]` of its recipe;
`demask inspect` shows it), and without a seed each run draws its own. A value with a `kind` is always replaced whole.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::docs::keys::anchor;

    #[test]
    fn every_link_leads_to_one_heading() {
        let text = reference();
        let headings: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(|line| anchor(line.trim_start_matches('#').trim()))
            .collect();
        let links = text.split("](#").skip(1);
        let mut seen = 0;
        for link in links.filter_map(|rest| rest.split(')').next()) {
            let found = headings.iter().filter(|heading| *heading == link).count();
            assert_eq!(found, 1, "#{link}");
            seen += 1;
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn every_key_says_what_it_means() {
        let text = configurations();
        let rows: Vec<&str> = text.lines().filter(|l| l.starts_with("| `")).collect();
        for row in &rows {
            assert!(row.ends_with(". |"), "no sentence: {row}");
        }
        assert!(rows.len() > 200, "{}", rows.len());
        for key in [
            "| `lr` |",
            "| `decode.plan.block` |",
            "| `eval.nelbo.draws` |",
        ] {
            assert!(text.contains(key), "{key}");
        }
        for trace in ["[`", "See `", "`None`", "Self::"] {
            let bad = text
                .lines()
                .find(|line| line.contains(trace) && !line.starts_with("| [`["));
            assert_eq!(bad, None, "{trace}");
        }
    }
}
