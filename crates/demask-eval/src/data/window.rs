//! Documents as windows of the model's length.

use demask_models::Frame;
use serde::{Deserialize, Serialize};

use crate::{EvalError, LanguageModel};

/// How documents become windows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Cells of a window; `null` takes the model's greatest length.
    pub length: Option<usize>,
    /// Whether windows cross documents.
    pub packing: Packing,
    /// Where begin and end tokens stand.
    pub wrap: Wrap,
    /// Most windows taken, from the beginning; `null` takes all.
    pub limit: Option<usize>,
}

/// Whether windows cross documents.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// All documents as one stream.
    #[default]
    Stream,
    /// Each document begins a window of its own.
    Documents,
}

/// Where begin and end tokens stand. A token the model does not have is left out.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Wrap {
    /// Around each document, those that stood there when the model was trained.
    ///
    /// See [`LanguageModel::frame`].
    #[default]
    Model,
    /// Nowhere: text only.
    None,
    /// Around each document.
    Documents,
    /// Around each window (the packing of MDLM's OpenWebText runs).
    Windows,
}

/// A row of tokens to be scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Bytes of text behind each token: the bytes of its document shared evenly among the
    /// document's tokens, 0 for begin and end tokens. Their sum over all windows is the number of
    /// bytes of the text.
    pub bytes: Vec<f64>,
}

/// Cuts `documents` to windows. The last window of a stream or document may be shorter.
pub fn windows(
    model: &dyn LanguageModel,
    documents: &[String],
    config: &WindowConfig,
) -> Result<Vec<Window>, EvalError> {
    let longest = model.max_length();
    let length = config.length.unwrap_or(longest);
    if length == 0 || length > longest {
        return Err(EvalError::setting(
            "window.length",
            length,
            format!("1 to {longest}, the greatest length of the model"),
        ));
    }
    let frame = match config.wrap {
        Wrap::Model => model.frame(),
        Wrap::None | Wrap::Documents | Wrap::Windows => Frame::default(),
    };
    let bos = model.ids().bos.filter(|_| frame.bos);
    let eos = model.ids().eos.filter(|_| frame.eos);
    let around = |cells: Vec<(u32, f64)>| -> Vec<(u32, f64)> {
        let special = |id: Option<u32>| id.map(|id| (id, 0.0));
        special(bos)
            .into_iter()
            .chain(cells)
            .chain(special(eos))
            .collect()
    };
    let room = match config.wrap {
        Wrap::Windows => length
            .checked_sub(usize::from(bos.is_some()) + usize::from(eos.is_some()))
            .filter(|room| *room > 0)
            .ok_or_else(|| EvalError::setting("window.length", length, "3 or more"))?,
        Wrap::Model | Wrap::None | Wrap::Documents => length,
    };
    let mut done: Vec<Window> = Vec::new();
    let full = |done: &[Window]| config.limit.is_some_and(|limit| done.len() >= limit);
    let mut cut = |cells: &[(u32, f64)]| {
        let cells = match config.wrap {
            Wrap::Windows => around(cells.to_vec()),
            Wrap::Model | Wrap::None | Wrap::Documents => cells.to_vec(),
        };
        let (ids, bytes) = cells.into_iter().unzip();
        done.push(Window { ids, bytes });
        full(&done)
    };
    let mut open: Vec<(u32, f64)> = Vec::new();
    'documents: for document in documents {
        let ids = model.encode(document)?;
        let share = document.len() as f64 / ids.len().max(1) as f64;
        let cells: Vec<(u32, f64)> = ids.into_iter().map(|id| (id, share)).collect();
        open.extend(match config.wrap {
            Wrap::Model | Wrap::Documents => around(cells),
            Wrap::None | Wrap::Windows => cells,
        });
        let mut taken = 0;
        while open.len() - taken >= room {
            let stop = cut(&open[taken..taken + room]);
            taken += room;
            if stop {
                open.clear();
                break 'documents;
            }
        }
        open.drain(..taken);
        if config.packing == Packing::Documents && !open.is_empty() {
            let stop = cut(&open);
            open.clear();
            if stop {
                break;
            }
        }
    }
    if !open.is_empty() {
        cut(&open);
    }
    if done.is_empty() {
        return Err(EvalError::Data(
            "the documents hold no tokens to score".into(),
        ));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::Toy;

    fn cut(documents: &[&str], config: WindowConfig) -> Vec<Vec<u32>> {
        let documents: Vec<String> = documents.iter().map(|d| (*d).to_owned()).collect();
        // Letters a.. are tokens 0..; begin 30, end 31; greatest length 4.
        let model = Toy::letters(4, Some(30), Some(31));
        let cells = windows(&model, &documents, &config).unwrap();
        let bytes: f64 = cells.iter().flat_map(|w| &w.bytes).sum();
        if config.limit.is_none() {
            assert_eq!(
                bytes,
                documents.iter().map(|d| d.len()).sum::<usize>() as f64
            );
        }
        cells.into_iter().map(|w| w.ids).collect()
    }

    #[test]
    fn streams_and_documents() {
        let texts = ["abcdef", "gh"];
        let plain = WindowConfig {
            wrap: Wrap::None,
            ..WindowConfig::default()
        };
        let stream = cut(&texts, plain.clone());
        assert_eq!(stream, [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
        let apart = WindowConfig {
            packing: Packing::Documents,
            ..plain.clone()
        };
        assert_eq!(
            cut(&texts, apart),
            [vec![0, 1, 2, 3], vec![4, 5], vec![6, 7]]
        );
        let three = WindowConfig {
            length: Some(3),
            ..plain.clone()
        };
        assert_eq!(
            cut(&texts, three),
            [vec![0, 1, 2], vec![3, 4, 5], vec![6, 7]]
        );
        let one = WindowConfig {
            limit: Some(1),
            ..plain.clone()
        };
        assert_eq!(cut(&texts, one), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn begin_and_end_tokens() {
        let texts = ["abcde", "f"];
        let windows = WindowConfig {
            wrap: Wrap::Windows,
            ..WindowConfig::default()
        };
        let expected = [vec![30, 0, 1, 31], vec![30, 2, 3, 31], vec![30, 4, 5, 31]];
        assert_eq!(cut(&texts, windows), expected);
        let documents = WindowConfig {
            wrap: Wrap::Documents,
            ..WindowConfig::default()
        };
        let expected = [vec![30, 0, 1, 2], vec![3, 4, 31, 30], vec![5, 31]];
        assert_eq!(cut(&texts, documents), expected);
    }

    #[test]
    fn by_default_documents_stand_as_in_training() {
        let texts = ["abcde".to_owned(), "f".to_owned()];
        let framed = |bos, eos| -> Vec<Vec<u32>> {
            let model = Toy::letters(4, Some(30), Some(31)).framed(Frame { bos, eos });
            let cells = windows(&model, &texts, &WindowConfig::default()).unwrap();
            cells.into_iter().map(|w| w.ids).collect()
        };
        assert_eq!(
            framed(true, true),
            [vec![30, 0, 1, 2], vec![3, 4, 31, 30], vec![5, 31]]
        );
        assert_eq!(framed(true, false), [vec![30, 0, 1, 2], vec![3, 4, 30, 5]]);
        assert_eq!(framed(false, true), [vec![0, 1, 2, 3], vec![4, 31, 5, 31]]);
        assert_eq!(framed(false, false), [vec![0, 1, 2, 3], vec![4, 5]]);
    }

    #[test]
    fn impossible_lengths_are_named() {
        let model = Toy::letters(4, Some(30), Some(31));
        for (length, wrap) in [(5, Wrap::None), (0, Wrap::None), (2, Wrap::Windows)] {
            let config = WindowConfig {
                length: Some(length),
                wrap,
                ..WindowConfig::default()
            };
            let error = windows(&model, &["ab".into()], &config)
                .unwrap_err()
                .to_string();
            assert!(error.contains("window.length"), "{error}");
        }
    }
}
