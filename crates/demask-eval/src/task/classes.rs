//! Texts of a class: does a written text belong to the class it was asked for?
//!
//! The judge knows classes by their words (multinomial naive Bayes, McCallum and Nigam 1998, with one
//! added to every count). It is trained on real texts and knows no network, so that it cannot share a
//! model's mistakes.

use std::collections::{HashMap, HashSet};

/// A judge of classes by words.
#[derive(Debug, Clone)]
pub struct WordJudge {
    classes: Vec<Class>,
    /// Different words in all texts.
    vocabulary: usize,
    texts: usize,
}

#[derive(Debug, Clone, Default)]
struct Class {
    name: String,
    texts: usize,
    counts: HashMap<String, usize>,
    words: usize,
}

impl WordJudge {
    /// A judge from texts and their classes.
    pub fn new<'a>(texts: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut judge = Self {
            classes: Vec::new(),
            vocabulary: 0,
            texts: 0,
        };
        let mut seen = HashSet::new();
        for (text, name) in texts {
            judge.texts += 1;
            let known = judge.classes.iter().position(|class| class.name == name);
            let at = known.unwrap_or_else(|| {
                judge.classes.push(Class {
                    name: name.to_owned(),
                    ..Class::default()
                });
                judge.classes.len() - 1
            });
            let class = &mut judge.classes[at];
            class.texts += 1;
            for word in words(text) {
                class.words += 1;
                *class.counts.entry(word.clone()).or_default() += 1;
                seen.insert(word);
            }
        }
        judge.vocabulary = seen.len();
        judge
    }

    /// The class a text most likely belongs to; the first one seen among equals. `None` without any
    /// class.
    pub fn class(&self, text: &str) -> Option<&str> {
        let words: Vec<String> = words(text).collect();
        let mut best: Option<(f64, &str)> = None;
        for class in &self.classes {
            let word = |word: &String| {
                let count = class.counts.get(word).copied().unwrap_or(0) + 1;
                (count as f64 / (class.words + self.vocabulary) as f64).ln()
            };
            let prior = (class.texts as f64 / self.texts as f64).ln();
            let score = prior + words.iter().map(word).sum::<f64>();
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, &class.name));
            }
        }
        best.map(|(_, name)| name)
    }

    /// How many of these texts are of their class.
    pub fn right<'a>(&self, texts: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
        texts
            .filter(|(text, class)| self.class(text) == Some(class))
            .count()
    }
}

/// Runs of letters and digits, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !c.is_alphanumeric());
    parts.filter(|part| !part.is_empty()).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge() -> WordJudge {
        let texts = [
            ("Play a song", "music"),
            ("play jazz", "music"),
            ("rain tomorrow?", "weather"),
        ];
        WordJudge::new(texts.into_iter())
    }

    #[test]
    fn classes_by_hand() {
        let judge = judge();
        // Six different words. "rain": music 2/3 · 1/11, weather 1/3 · 2/8.
        assert_eq!(judge.class("Rain"), Some("weather"));
        // "play rain": music 2/3 · 3/11 · 1/11 = 0.0165, weather 1/3 · 1/8 · 2/8 = 0.0104.
        assert_eq!(judge.class("play, rain"), Some("music"));
        // Without a word that is known, the more frequent class.
        assert_eq!(judge.class(""), Some("music"));
        assert_eq!(WordJudge::new([].into_iter()).class("x"), None);
    }

    #[test]
    fn right_ones_are_counted() {
        let texts = [
            ("jazz", "music"),
            ("a song", "weather"),
            ("rain", "weather"),
        ];
        assert_eq!(judge().right(texts.into_iter()), 2);
    }
}
