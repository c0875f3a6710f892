//! The adapters of a run in the layout of PEFT: `adapter_config.json` and
//! `adapter_model.safetensors` with `base_model.model.<module>.lora_A.weight`.

use std::fs;
use std::path::PathBuf;

use burn::tensor::TensorData;
use demask_models::format::write_safetensors;
use demask_models::{ModelSpec, SaveDtype, family};
use demask_nn::LoraConfig;
use serde_json::json;

use super::{RunDir, write_atomic};
use crate::TrainError;

/// Names of the modules of a network, as the files of its family have them.
struct Modules<'a> {
    spec: &'a ModelSpec,
}

impl Modules<'_> {
    /// The module of the linear `name`, where it has one of its own.
    fn own(&self, linear: &str) -> Option<String> {
        let family = family::by_name(&self.spec.family)?;
        match family.source(self.spec, &format!("{linear}.weight")) {
            family::Source::Take(tensor) => tensor.strip_suffix(".weight").map(str::to_owned),
            family::Source::Part { .. } => None,
        }
    }
}

impl RunDir {
    /// The folder of the adapters.
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// Writes the adapters `params` (canonical names) on the checkpoint `base` with `spec`.
    ///
    /// Modules have the names of the base checkpoint's family, or our own where the family fuses
    /// projections that have separate adapters here.
    pub(crate) fn write_adapter(
        &self,
        lora: &LoraConfig,
        base: &str,
        spec: &ModelSpec,
        params: Vec<(String, TensorData)>,
    ) -> Result<(), TrainError> {
        let folder = self.adapter();
        let modules = Modules { spec };
        let linears: Vec<&str> = params.iter().map(|(name, _)| linear_of(name)).collect();
        let own: Option<Vec<String>> = linears.iter().map(|l| modules.own(l)).collect();
        let names = own.unwrap_or_else(|| linears.iter().map(|l| (*l).to_owned()).collect());
        let mut targets = names.clone();
        targets.dedup();
        let tensors: Vec<_> = names
            .iter()
            .zip(params)
            .map(|(module, (name, data))| {
                let part = &name[linear_of(&name).len()..];
                let shape = data.shape().to_vec();
                let values = data.iter::<f32>().collect();
                (format!("base_model.model.{module}{part}"), shape, values)
            })
            .collect();
        let config = json!({
            "peft_type": "LORA",
            "task_type": null,
            "base_model_name_or_path": base,
            "inference_mode": true,
            "r": lora.rank,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "target_modules": targets,
            "bias": "none",
            "fan_in_fan_out": false,
            "init_lora_weights": true,
            "use_rslora": false,
            "modules_to_save": null,
        });
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        write_atomic(
            &folder.join("adapter_config.json"),
            format!("{config:#}\n").as_bytes(),
        )?;
        let file = folder.join("adapter_model.safetensors");
        Ok(write_safetensors(&file, &tensors, SaveDtype::F32)?)
    }
}

/// The linear that an adapter's parameter belongs to.
fn linear_of(name: &str) -> &str {
    name.split_once(".lora_").map_or(name, |(linear, _)| linear)
}
