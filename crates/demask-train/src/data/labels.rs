//! Class labels: the names in the training data, in a fixed order.

use std::collections::BTreeSet;
use std::path::Path;

use super::Document;
use crate::TrainError;

/// The classes of a labelled training: the distinct labels of its documents, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Classes(Vec<String>);

impl Classes {
    /// The classes of the documents that are trained on; none where no document has a label.
    pub fn of<'a>(documents: impl Iterator<Item = &'a Document>) -> Self {
        let names: BTreeSet<&str> = documents.filter_map(|d| d.label.as_deref()).collect();
        Self(names.into_iter().map(str::to_owned).collect())
    }

    /// The names, in the order of their numbers.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The number of the class of a document of the file at `path`; `None` where it has no label.
    ///
    /// # Errors
    /// [`TrainError::Corpus`] for a label that no training document has.
    pub fn number(&self, document: &Document, path: &Path) -> Result<Option<u32>, TrainError> {
        let Some(label) = &document.label else {
            return Ok(None);
        };
        match self.0.binary_search(label) {
            Ok(number) => Ok(Some(number as u32)),
            Err(_) => Err(TrainError::Corpus(format!(
                "a validation document of {} has the label `{label}`, which no training document has; the classes are: {}. Leave such lines out with reader.filter, or move some of them to the training data",
                path.display(),
                self.0.join(", ")
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(label: Option<&str>) -> Document {
        Document {
            prompt: String::new(),
            text: "x".into(),
            label: label.map(str::to_owned),
        }
    }

    #[test]
    fn classes_are_sorted_and_counted_once() {
        let documents = ["b", "a", "b", "c"].map(|name| document(Some(name)));
        let classes = Classes::of(documents.iter());
        assert_eq!(classes.names(), ["a", "b", "c"]);
        let number = |d: &Document| classes.number(d, Path::new("v.jsonl"));
        assert_eq!(number(&documents[0]).unwrap(), Some(1));
        assert_eq!(number(&document(None)).unwrap(), None);
        let said = number(&document(Some("d"))).unwrap_err().to_string();
        assert!(said.contains("v.jsonl has the label `d`"), "{said}");
        assert!(said.contains("the classes are: a, b, c."), "{said}");
        assert!(Classes::of([document(None)].iter()).names().is_empty());
    }
}
