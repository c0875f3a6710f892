//! What a training needs to go on, bit for bit.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use demask_diffusion::objective::variance::Window;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::{new_folder, replace_folder, sync_folder};
use crate::TrainError;

/// Layout of a state folder; raised when it changes.
const FORMAT: u32 = 1;

/// The state of a training after `step` steps.
///
/// Random numbers and data order are functions of the seed and the step, so that the step stands
/// for them.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainState {
    /// Optimiser steps taken.
    pub step: u64,
    /// Tokens seen.
    pub tokens: u64,
    /// Seconds trained, over all sittings.
    pub seconds: f64,
    /// Hash of the tokenised data.
    pub fingerprint: u64,
    /// Hash of the frozen weights under the adapters, which are not saved: they are those of the
    /// checkpoint that the recipe names.
    pub base: Option<u64>,
    /// The window of times that the variance search chose last.
    pub window: Option<Window>,
    /// The trained parameters, in the order of the network.
    pub params: Vec<ParamState>,
}

/// One parameter with what the optimiser knows about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamState {
    /// Canonical name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// The weights.
    pub weight: Vec<f32>,
    /// First moment.
    pub m: Vec<f32>,
    /// Second moment.
    pub v: Vec<f32>,
    /// Moving average; empty without one.
    pub ema: Vec<f32>,
}

/// `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    step: u64,
    tokens: u64,
    seconds: f64,
    /// Hexadecimal, because JSON numbers are floats elsewhere.
    fingerprint: String,
    /// Hexadecimal too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window: Option<Window>,
    /// Bytes and hash of the tensor file: a torn one is found out before it is used.
    bytes: u64,
    hash: String,
}

impl TrainState {
    /// Writes the state as the folder `path`, which appears only when it is whole on the disk.
    pub(super) fn save(&self, path: &Path) -> Result<(), TrainError> {
        let part = new_folder(path)?;
        let result = self
            .save_into(&part)
            .and_then(|()| replace_folder(&part, path));
        if result.is_err() {
            // The half-written folder only takes space that is short.
            let _ = fs::remove_dir_all(&part);
        }
        result
    }

    fn save_into(&self, folder: &Path) -> Result<(), TrainError> {
        let file = folder.join("tensors.safetensors");
        let fail = |message: String| TrainError::State {
            path: file.clone(),
            message,
        };
        let mut views = Vec::with_capacity(4 * self.params.len());
        for param in &self.params {
            let parts = [
                ("weight", &param.weight),
                ("m", &param.m),
                ("v", &param.v),
                ("ema", &param.ema),
            ];
            for (part, values) in parts {
                if values.is_empty() {
                    continue;
                }
                let view = TensorView::new(
                    Dtype::F32,
                    param.shape.clone(),
                    bytemuck::cast_slice(values),
                )
                .map_err(|e| fail(format!("{}: {e}", param.name)))?;
                views.push((format!("{part}/{}", param.name), view));
            }
        }
        safetensors::serialize_to_file(views, None, &file).map_err(|e| match e {
            safetensors::SafeTensorError::IoError(source) => TrainError::Io {
                action: "write",
                path: file.clone(),
                source,
            },
            other => fail(other.to_string()),
        })?;
        // Read back what was written: a full disk shows here at the latest, and the hash is that of
        // the bytes on the disk.
        File::open(&file)
            .and_then(|f| f.sync_all())
            .map_err(TrainError::io("flush", &file))?;
        let bytes = fs::read(&file).map_err(TrainError::io("read back", &file))?;
        let head = Head {
            format: FORMAT,
            step: self.step,
            tokens: self.tokens,
            seconds: self.seconds,
            fingerprint: format!("{:016x}", self.fingerprint),
            base: self.base.map(|base| format!("{base:016x}")),
            window: self.window,
            bytes: bytes.len() as u64,
            hash: format!("{:016x}", hash(&bytes)),
        };
        let file = folder.join("state.json");
        let json = serde_json::to_vec_pretty(&head).map_err(|e| TrainError::State {
            path: file.clone(),
            message: e.to_string(),
        })?;
        File::create(&file)
            .and_then(|mut f| f.write_all(&json).and_then(|()| f.sync_all()))
            .map_err(TrainError::io("write", &file))?;
        sync_folder(Some(folder))
    }

    /// Reads a state folder.
    pub(super) fn load(folder: &Path) -> Result<Self, TrainError> {
        let fail = |message: String| TrainError::State {
            path: folder.to_path_buf(),
            message,
        };
        let file = folder.join("state.json");
        let json = fs::read(&file).map_err(TrainError::io("read", &file))?;
        let head: Head =
            serde_json::from_slice(&json).map_err(|e| fail(format!("state.json: {e}")))?;
        if head.format != FORMAT {
            return Err(fail(format!(
                "written in format {}, this build reads {FORMAT}",
                head.format
            )));
        }
        let file = folder.join("tensors.safetensors");
        let bytes = fs::read(&file).map_err(TrainError::io("read", &file))?;
        if bytes.len() as u64 != head.bytes || format!("{:016x}", hash(&bytes)) != head.hash {
            return Err(fail(
                "torn: tensors.safetensors is not what state.json says".into(),
            ));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
        let number = |key: &str, digits: &str| {
            u64::from_str_radix(digits, 16).map_err(|e| fail(format!("{key}: {e}")))
        };
        let fingerprint = number("fingerprint", &head.fingerprint)?;
        let base = (head.base.as_deref())
            .map(|digits| number("base", digits))
            .transpose()?;
        let mut params: Vec<ParamState> = Vec::new();
        let mut index: HashMap<String, usize> = HashMap::new();
        for (full, view) in tensors.tensors() {
            let Some((part, name)) = full.split_once('/') else {
                return Err(fail(format!("unknown tensor `{full}`")));
            };
            let at = *index.entry(name.to_string()).or_insert_with(|| {
                params.push(ParamState {
                    name: name.to_string(),
                    shape: view.shape().to_vec(),
                    weight: Vec::new(),
                    m: Vec::new(),
                    v: Vec::new(),
                    ema: Vec::new(),
                });
                params.len() - 1
            });
            let values = floats(&view).ok_or_else(|| fail(format!("`{full}` is not f32")))?;
            let param = &mut params[at];
            match part {
                "weight" => param.weight = values,
                "m" => param.m = values,
                "v" => param.v = values,
                "ema" => param.ema = values,
                _ => return Err(fail(format!("unknown tensor `{full}`"))),
            }
        }
        Ok(Self {
            step: head.step,
            tokens: head.tokens,
            seconds: head.seconds,
            fingerprint,
            base,
            window: head.window,
            params,
        })
    }
}

fn floats(view: &TensorView) -> Option<Vec<f32>> {
    (view.dtype() == Dtype::F32).then(|| {
        let words = view.data().chunks_exact(4);
        words
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    })
}

/// FNV-1a over 64-bit words (the last one filled with zeros): finds torn files, not forgers.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (hash ^ u64::from_le_bytes(word))
            .wrapping_mul(0x0000_0100_0000_01b3)
            .rotate_left(23)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_dir::RunDir;

    fn state(step: u64) -> TrainState {
        let param = |name: &str, shape: Vec<usize>, x: f32| {
            let n = shape.iter().product();
            ParamState {
                name: name.into(),
                shape,
                weight: (0..n).map(|i| x + i as f32).collect(),
                m: vec![0.1; n],
                v: vec![f32::MIN_POSITIVE; n],
                ema: vec![-0.0; n],
            }
        };
        let params = vec![
            param("a.weight", vec![2, 3], 0.5),
            param("b", vec![1], step as f32),
        ];
        TrainState {
            step,
            tokens: 10 * step,
            seconds: 1.5,
            fingerprint: u64::MAX,
            base: (step > 50).then_some(step),
            window: (step > 50).then_some(Window { min: 0.3, max: 0.8 }),
            params,
        }
    }

    fn sorted(mut state: TrainState) -> TrainState {
        state.params.sort_by(|a, b| a.name.cmp(&b.name));
        state
    }

    #[test]
    fn a_state_comes_back_bit_for_bit_and_the_last_two_stay() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        for step in [3, 20, 100] {
            run.save_state(&state(step)).unwrap();
        }
        assert_eq!(run.saved_steps().unwrap(), [100, 20]);
        let (loaded, torn) = run.load_state().unwrap();
        assert!(torn.is_empty());
        assert_eq!(sorted(loaded), state(100));
    }

    #[test]
    fn a_torn_state_is_found_and_the_one_before_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::open(folder.path()).unwrap();
        run.save_state(&state(1)).unwrap();
        run.save_state(&state(2)).unwrap();
        let file = run.state_path(2).join("tensors.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&file, bytes).unwrap();
        let (loaded, torn) = run.load_state().unwrap();
        assert_eq!((loaded.step, torn.len()), (1, 1));
        assert!(torn[0].to_string().contains("torn"), "{}", torn[0]);
    }

    #[test]
    fn an_empty_run_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = RunDir::open(folder.path())
            .unwrap()
            .load_state()
            .unwrap_err()
            .to_string();
        assert!(error.contains("without --resume"), "{error}");
    }
}
