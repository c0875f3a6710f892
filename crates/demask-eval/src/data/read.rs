//! Reading evaluation files.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};

use crate::EvalError;

/// A prompt and the answer whose likelihood is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// What is given. May be empty.
    pub prompt: String,
    /// What is scored.
    pub answer: String,
}

/// The documents of a file: the whole of a `.txt`, or `field` of each line of a `.jsonl`; either
/// may be compressed as `.gz`. Empty documents are left out; a file without any other is an error.
pub fn read_documents(path: &Path, field: &str) -> Result<Vec<String>, EvalError> {
    let documents = match kind(path)? {
        Kind::Text => {
            let mut bytes = Vec::new();
            open(path)?
                .read_to_end(&mut bytes)
                .map_err(|source| read_error(path, source))?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let line = 1 + error.as_bytes()[..at]
                    .iter()
                    .filter(|b| **b == b'\n')
                    .count();
                line_error(path, line, "is not UTF-8 text".into())
            })?;
            vec![text]
        }
        Kind::Lines => {
            let mut documents = Vec::new();
            for_each_object(path, &mut |line, object| {
                documents.push(text_field(path, line, &object, field)?.to_owned());
                Ok(())
            })?;
            documents
        }
    };
    non_empty(path, documents, |document| document.trim().is_empty())
}

/// The pairs of a `.jsonl` file (`.gz` or not): `prompt` and `answer` of each line. Pairs with an
/// empty answer are left out; a file without any other is an error.
pub fn read_pairs(path: &Path, prompt: &str, answer: &str) -> Result<Vec<Pair>, EvalError> {
    if kind(path)? != Kind::Lines {
        return Err(EvalError::Data(format!(
            "{}: prompts and answers are read from .jsonl or .jsonl.gz files",
            path.display()
        )));
    }
    let mut pairs = Vec::new();
    for_each_object(path, &mut |line, object| {
        pairs.push(Pair {
            prompt: text_field(path, line, &object, prompt)?.to_owned(),
            answer: text_field(path, line, &object, answer)?.to_owned(),
        });
        Ok(())
    })?;
    non_empty(path, pairs, |pair| pair.answer.is_empty())
}

#[derive(PartialEq, Eq)]
enum Kind {
    Text,
    Lines,
}

fn kind(path: &Path) -> Result<Kind, EvalError> {
    // That a file does not exist is more useful than what its name would mean.
    let about = std::fs::metadata(path).map_err(|source| read_error(path, source))?;
    if about.is_dir() {
        return Err(read_error(path, std::io::ErrorKind::IsADirectory.into()));
    }
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let stem = name.strip_suffix(".gz").unwrap_or(&name);
    if stem.ends_with(".txt") {
        Ok(Kind::Text)
    } else if stem.ends_with(".jsonl") {
        Ok(Kind::Lines)
    } else {
        Err(EvalError::Format {
            path: path.to_owned(),
        })
    }
}

fn open(path: &Path) -> Result<Box<dyn Read>, EvalError> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let zipped = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    Ok(if zipped {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    })
}

type OnObject<'a> = dyn FnMut(usize, Map<String, Value>) -> Result<(), EvalError> + 'a;

fn for_each_object(path: &Path, use_object: &mut OnObject<'_>) -> Result<(), EvalError> {
    let mut reader = BufReader::new(open(path)?);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let read = reader
            .read_until(b'\n', &mut bytes)
            .map_err(|source| read_error(path, source))?;
        if read == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let object = serde_json::from_slice(&bytes)
            .map_err(|error| line_error(path, line, format!("is no JSON object: {error}")))?;
        use_object(line, object)?;
    }
    Ok(())
}

fn text_field<'a>(
    path: &Path,
    line: usize,
    object: &'a Map<String, Value>,
    field: &str,
) -> Result<&'a str, EvalError> {
    match object.get(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => {
            let kind = match other {
                Value::Null => "null",
                Value::Bool(_) => "a truth value",
                Value::Number(_) => "a number",
                Value::Array(_) => "a list",
                _ => "an object",
            };
            Err(line_error(
                path,
                line,
                format!("field `{field}` is {kind}, not a text"),
            ))
        }
        None => {
            let fields: Vec<String> = object.keys().map(|key| format!("`{key}`")).collect();
            let fields = if fields.is_empty() {
                "none".to_owned()
            } else {
                fields.join(", ")
            };
            Err(line_error(
                path,
                line,
                format!("has no field `{field}`; its fields: {fields}"),
            ))
        }
    }
}

fn non_empty<T>(
    path: &Path,
    mut items: Vec<T>,
    is_empty: impl Fn(&T) -> bool,
) -> Result<Vec<T>, EvalError> {
    items.retain(|item| !is_empty(item));
    if items.is_empty() {
        return Err(EvalError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(items)
}

fn read_error(path: &Path, source: std::io::Error) -> EvalError {
    EvalError::Read {
        path: path.to_owned(),
        source,
    }
}

fn line_error(path: &Path, line: usize, message: String) -> EvalError {
    EvalError::Line {
        path: path.to_owned(),
        line,
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn write(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        let mut file = File::create(&path).unwrap();
        if name.ends_with(".gz") {
            let mut encoder = GzEncoder::new(&mut file, Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap();
        } else {
            file.write_all(bytes).unwrap();
        }
        path
    }

    #[test]
    fn plain_and_compressed_text_and_lines_read_alike() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.txt", "a.txt.gz"] {
            let path = write(folder.path(), name, "one\n\ntwo é".as_bytes());
            assert_eq!(read_documents(&path, "text").unwrap(), ["one\n\ntwo é"]);
        }
        let lines = b"{\"text\":\"x\",\"id\":1}\n\n{\"text\":\"\"}\n{\"text\":\"y\"}";
        for name in ["a.jsonl", "A.JSONL.gz"] {
            let path = write(folder.path(), name, lines);
            assert_eq!(read_documents(&path, "text").unwrap(), ["x", "y"]);
        }
    }

    #[test]
    fn pairs_name_their_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(
            folder.path(),
            "p.jsonl",
            b"{\"question\":\"1+1\",\"answer\":\"2\"}\n",
        );
        let pairs = read_pairs(&path, "question", "answer").unwrap();
        assert_eq!(
            pairs,
            [Pair {
                prompt: "1+1".into(),
                answer: "2".into()
            }]
        );
        let error = read_pairs(&path, "prompt", "answer")
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("has no field `prompt`; its fields: `question`, `answer`"),
            "{error}"
        );
        let text = write(folder.path(), "p.txt", b"x");
        assert!(
            read_pairs(&text, "a", "b")
                .unwrap_err()
                .to_string()
                .contains(".jsonl")
        );
    }

    #[test]
    fn errors_say_where_and_what() {
        let folder = tempfile::tempdir().unwrap();
        let message = |name: &str, bytes: &[u8]| {
            let path = write(folder.path(), name, bytes);
            read_documents(&path, "text").unwrap_err().to_string()
        };
        assert!(message("e.txt", b" \n").ends_with("the file holds no text to evaluate on"));
        assert!(message("e.jsonl", b"").ends_with("the file holds no text to evaluate on"));
        assert!(message("e.csv", b"x").contains("unknown kind of file"));
        assert!(message("u.txt", b"a\nb\xff").contains("line 2: is not UTF-8"));
        assert!(message("o.jsonl", b"{\"text\":1}").contains("line 1: field `text` is a number"));
        assert!(message("j.jsonl", b"{\"text\":\"a\"}\n[1]").contains("line 2: is no JSON object"));
        assert!(message("g.jsonl", b"{\"text\":\"a\"}\n{\"text").contains("line 2"));
        // A file that lies about being compressed.
        let path = folder.path().join("z.txt.gz");
        std::fs::write(&path, b"plain").unwrap();
        assert!(matches!(
            read_documents(&path, "text"),
            Err(EvalError::Read { .. })
        ));
        // A name without an ending that says what it is may be a slip of the key.
        for missing in ["missing.txt", "missing", ""] {
            let missing = folder.path().join(missing);
            assert!(matches!(
                read_documents(&missing, "text"),
                Err(EvalError::Read { .. })
            ));
        }
    }
}
