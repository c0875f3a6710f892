//! The checkpoints of the repository do what their cards say.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::Workplace;
use demask::diffusion::Noise;
use demask::eval::task::sudoku::Shape;
use demask::train::Recipe;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../checkpoints")
}

fn checkpoint(name: &str) -> String {
    shipped().join(name).to_str().unwrap().to_owned()
}

#[test]
fn each_opens_has_a_card_and_stands_in_the_readme() {
    let at = Workplace::new();
    let readme = fs::read_to_string(shipped().join("../README.md")).unwrap();
    for folder in fs::read_dir(shipped()).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let report = at.json(["inspect", folder.to_str().unwrap(), "--json"]);
        assert!(report["parameters"].as_u64() > Some(0), "{name}: {report}");
        assert!(folder.join("README.md").exists(), "{name} has no card");
        let recipe = format!("`recipes/{name}.toml`");
        assert!(readme.contains(&recipe), "README has no row for {name}");
    }
}

/// A checkpoint was made by the recipe of its name as it stands now, not by an earlier one.
#[test]
fn each_was_made_by_its_recipe() {
    for folder in fs::read_dir(shipped()).unwrap() {
        let folder = folder.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let config = fs::read_to_string(folder.join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let made_by = config["provenance"]["recipe"].as_str().unwrap();
        let mut made_by = Recipe::parse(made_by, name, &[]).unwrap();
        let file = shipped().join(format!("../recipes/{name}.toml"));
        let mut recipe = Recipe::load(&file, &[]).unwrap();
        // The trainer fills in what is left to the data and the tokenizer.
        for recipe in [&mut made_by, &mut recipe] {
            recipe.network.vocab_size = 0;
            recipe.network.max_length = 0;
        }
        assert_eq!(made_by, recipe, "{name}");
    }
}

/// Puzzles of 14 clues with one solution each; their grids come from another seed than those the
/// model learned from.
#[test]
fn sudoku_solves_puzzles() {
    const SHAPE: Shape = Shape {
        height: 2,
        width: 3,
    };
    let at = Workplace::new();
    let model = checkpoint("sudoku");
    let noise = Noise::new(77);
    let puzzles: Vec<_> = (0..)
        .filter_map(|i| {
            let grid = SHAPE.grid(&noise.child(i).child(0));
            SHAPE.puzzle(&grid, 14, &noise.child(i).child(1))
        })
        .take(20)
        .collect();
    let solved = puzzles.iter().filter(|puzzle| {
        let clue = |digit: &u8| match digit {
            0 => "[[1]]".into(),
            clue => clue.to_string(),
        };
        let rows = |digits: &[u8], cell: &dyn Fn(&u8) -> String| -> String {
            let rows: Vec<String> = digits
                .chunks(SHAPE.side())
                .map(|row| row.iter().map(cell).collect())
                .collect();
            rows.join("\n")
        };
        let template = rows(&puzzle.clues, &clue);
        let text = at.stdout(["infill", "--model", &model, &template]);
        text.trim_end() == rows(&puzzle.solution, &u8::to_string)
    });
    let solved = solved.count();
    assert!(solved >= 18, "{solved} of {} puzzles", puzzles.len());
}

/// Words in their order are likelier than the same words shuffled, by far.
#[test]
fn stories_are_likelier_than_shuffled_words() {
    let at = Workplace::new();
    fs::write(
        at.file("story.txt"),
        "Once upon a time, there was a little girl named Lily. She loved to play outside with her dog. \
         One day, she saw a big red ball in the park. She was very happy and ran to the ball.\n",
    )
    .unwrap();
    fs::write(
        at.file("shuffled.txt"),
        "The ran little a big. Once named she to play ball a dog Lily girl her upon there was. She time, \
         loved outside with very saw One day a red the she park, in and happy to She was ball.\n",
    )
    .unwrap();
    for model in ["story", "story-ar"] {
        let model = checkpoint(model);
        // A bound for the diffusion model, exact for the autoregressive one; both as perplexity.
        let measured = |data: &str| {
            let report = at.json([
                "eval", "--model", &model, "--data", data, "--metric", "ppl", "--json",
            ]);
            let value = report["rows"][0]["value"].as_f64();
            value.unwrap_or_else(|| panic!("{report}")).ln()
        };
        let (story, shuffled) = (measured("story.txt"), measured("shuffled.txt"));
        assert!(
            story < 3.0 && shuffled > story + 1.5,
            "{model}: {story} against {shuffled} nats a token"
        );
    }
}
