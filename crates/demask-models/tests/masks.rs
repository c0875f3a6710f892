//! The mask that networks of block diffusion run with is the published one. The fixtures are those of
//! `demask-diffusion`, whose objectives ask for the mask and know no network.

use std::path::Path;

use demask_nn::AttentionMask;
use serde_json::Value;

/// Compares every case of a fixture that has an attention matrix, and counts them.
fn compare(file: &str, cases: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../demask-diffusion/tests/fixtures")
        .join(file);
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut compared = 0;
    for case in fixture[cases].as_array().unwrap() {
        let (Some(blocks), Some(rows)) = (case["blocks"].as_array(), case["attention"].as_array())
        else {
            continue;
        };
        let blocks: Vec<u32> = blocks.iter().map(|b| b.as_u64().unwrap() as u32).collect();
        assert_eq!(rows.len(), 2 * blocks.len());
        let mask = AttentionMask::bd3(blocks);
        for (q, row) in rows.iter().enumerate() {
            let row = row.as_array().unwrap();
            assert_eq!(row.len(), rows.len());
            for (k, sees) in row.iter().enumerate() {
                let wanted = sees.as_u64() == Some(1);
                assert_eq!(mask.sees(0, 0, q, k), wanted, "{mask:?}: {q} to {k}");
            }
        }
        compared += 1;
    }
    compared
}

#[test]
fn the_three_part_mask_is_the_published_one() {
    assert_eq!(compare("published.json", "objectives"), 9);
}

#[test]
fn the_three_part_mask_is_the_derived_one() {
    assert_eq!(compare("objectives.json", "cases"), 4);
}
