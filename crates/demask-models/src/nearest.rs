//! The name that a typo was meant for.

/// The one of `known` that is nearest to `word`, if it is near enough to be meant: by Jaro and
/// Winkler's measure, which favours a common beginning (`lowconf` for `low_confidence`), or one slip
/// away, because two letters changed about in a short name (`tua`) are nothing to that measure. Case
/// does not count.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            let likeness = strsim::jaro_winkler(&word, &lower);
            let near = likeness >= 0.75 || strsim::damerau_levenshtein(&word, &lower) <= 1;
            (near, likeness, candidate)
        })
        .filter(|(near, ..)| *near)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(.., candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_slips_and_case() {
        let known = ["low_confidence", "entropy", "tau", "Dream"];
        let found = |word| nearest(word, known);
        assert_eq!(found("lowconf"), Some("low_confidence"));
        assert_eq!(found("entrpy"), Some("entropy"));
        assert_eq!(found("tua"), Some("tau"));
        assert_eq!(found("DREAM"), Some("Dream"));
        assert_eq!(found("xyz"), None);
        assert_eq!(nearest("a", []), None);
    }
}
