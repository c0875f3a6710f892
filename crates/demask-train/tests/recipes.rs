//! The recipes of the repository are read, resolve, and find their files.

use std::path::{Path, PathBuf};

use demask_train::Recipe;
use demask_train::recipe::InitConfig;
use demask_train::tokenizer::TokenizerConfig;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The recipes below `folder`.
fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else {
            assert_eq!(path.extension().unwrap(), "toml", "{}", path.display());
            found.push(path);
        }
    }
}

#[test]
fn every_recipe_resolves_and_finds_its_files() {
    let mut recipes = Vec::new();
    below(&root().join("recipes"), &mut recipes);
    assert!(recipes.len() >= 13, "{}", recipes.len());
    for path in recipes {
        let recipe = Recipe::load(&path, &[]).unwrap();
        let again = Recipe::parse(&recipe.resolved().unwrap(), "resolved", &[]).unwrap();
        assert_eq!(recipe, again, "{}", path.display());

        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(recipe.run.name, stem, "the run has the name of its file");
        let mut files: Vec<&PathBuf> = recipe.data.source.iter().map(|s| &s.path).collect();
        if let TokenizerConfig::Checkpoint { path } | TokenizerConfig::File { path } =
            &recipe.tokenizer
        {
            files.push(path);
        }
        if let InitConfig::Checkpoint { path, .. } = &recipe.init {
            files.push(path);
        }
        // A file without a folder is drawn by the proof that runs the recipe.
        for file in files.iter().filter(|f| f.components().count() > 1) {
            let here = root().join(file).exists();
            assert!(here, "{}: {} is not there", path.display(), file.display());
        }
    }
}

/// `--set` gives the recipe that the file would give with the value in it: what is derived follows.
#[test]
fn derived_shapes_follow_an_override() {
    let with = |assignment: &str| {
        let file = root().join("recipes/shakespeare-char.toml");
        Recipe::load(&file, &[assignment.to_owned()])
            .unwrap()
            .network
    };
    let heads = with("network.n_heads=8");
    assert_eq!((heads.n_kv_heads, heads.head_dim), (8, heads.d_model / 8));
    let wide = with("network.d_model=256");
    assert_eq!(wide.head_dim, 256 / wide.n_heads);
}
