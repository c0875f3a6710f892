//! A `config.json` read field by field, with errors that name the field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::ModelError;

/// A `config.json`.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    label: String,
    fields: Map<String, Value>,
}

impl ConfigFile {
    /// Takes a value that must be an object.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it is not.
    pub fn new(label: impl Into<String>, value: Value) -> Result<Self, ModelError> {
        let label = label.into();
        match value {
            Value::Object(fields) => Ok(Self { label, fields }),
            _ => Err(ModelError::config(label, "is not a JSON object")),
        }
    }

    /// Parses the text of a `config.json`.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it is not a JSON object.
    pub fn parse(label: impl Into<String>, text: &[u8]) -> Result<Self, ModelError> {
        let label = label.into();
        match serde_json::from_slice(text) {
            Ok(value) => Self::new(label, value),
            Err(e) => Err(ModelError::config(label, format!("is not JSON: {e}"))),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ModelError::Io`] when it cannot be read, [`ModelError::Config`] when it is no JSON object.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read(path).map_err(|e| ModelError::io("read", path, e))?;
        Self::parse(path.display().to_string(), &text)
    }

    /// The file, as messages name it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What `model_type` says.
    pub fn model_type(&self) -> Option<&str> {
        self.text("model_type")
    }

    /// The whole object.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// A field that is present and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// A string, if there is one.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// A count that must be there.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it is missing or no whole number of at least 0.
    pub fn count(&self, key: &str) -> Result<usize, ModelError> {
        self.count_if(key)?
            .ok_or_else(|| self.error(format!("has no `{key}`, which is needed")))
    }

    /// A count, or `default`.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it is no whole number of at least 0.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize, ModelError> {
        Ok(self.count_if(key)?.unwrap_or(default))
    }

    /// A count, if there is one.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it is no whole number of at least 0.
    pub fn count_if(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(self.error(format!("`{key}` = {value} is not a whole number"))),
        }
    }

    /// A number, or `default`.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it is no number.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .ok_or_else(|| self.error(format!("`{key}` = {value} is not a number"))),
        }
    }

    /// True or false, or `default`.
    ///
    /// # Errors
    /// [`ModelError::Config`] when it is neither.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_bool()
                .ok_or_else(|| self.error(format!("`{key}` = {value} is neither true nor false"))),
        }
    }

    /// Refuses a value that the network does not implement: `key` must be missing or `only`.
    ///
    /// # Errors
    /// [`ModelError::Config`] with the value found and the one that is supported.
    pub fn only(&self, key: &str, only: &Value) -> Result<(), ModelError> {
        match self.get(key) {
            None => Ok(()),
            Some(value) if value == only => Ok(()),
            Some(value) => Err(self.error(format!(
                "`{key}` = {value} is not supported; only {only} is"
            ))),
        }
    }

    /// Base of the rotary embedding, from `rope_theta` or the `rope_parameters` of newer files.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a base that is no number and for rotary scaling, which the network
    /// does not have.
    pub fn rope_base(&self, default: f64) -> Result<f64, ModelError> {
        let mut base = self.number_or("rope_theta", default)?;
        for key in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(key) else {
                continue;
            };
            let object = value.as_object().ok_or_else(|| {
                self.error(format!(
                    "`{key}` = {value} is not an object with `rope_type` and `rope_theta`"
                ))
            })?;
            // The kind names the scaling best, so it is looked at before the numbers that belong to it.
            for name in ["rope_type", "type"] {
                match object.get(name) {
                    None | Some(Value::Null) => {}
                    Some(kind) if kind == "default" => {}
                    Some(kind) => {
                        let kind = kind.as_str().map_or(kind.to_string(), str::to_owned);
                        return Err(self.scaled(key, &format!("asks for `{kind}` scaling")));
                    }
                }
            }
            for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
                match name.as_str() {
                    "rope_type" | "type" => {}
                    "rope_theta" => {
                        base = value.as_f64().ok_or_else(|| {
                            self.error(format!("`{key}.rope_theta` = {value} is not a number"))
                        })?;
                    }
                    _ => return Err(self.scaled(key, &format!("sets `{name}`, a scaling"))),
                }
            }
        }
        Ok(base)
    }

    fn scaled(&self, key: &str, asks: &str) -> ModelError {
        self.error(format!(
            "`{key}` {asks} of the rotary embedding, which is not supported; only `rope_theta` is. \
             Up to the length before scaling the model works without it: put its base in \
             `rope_theta` and remove `{key}` to say so"
        ))
    }

    /// An error about this file.
    pub fn error(&self, problem: impl Into<String>) -> ModelError {
        ModelError::config(&self.label, problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_named_in_errors() {
        let config = ConfigFile::new("c.json", json!({ "a": -1, "b": "x", "n": null })).unwrap();
        let said = |e: ModelError| e.to_string();
        assert_eq!(
            said(config.count("z").unwrap_err()),
            "c.json: has no `z`, which is needed"
        );
        assert_eq!(
            said(config.count("n").unwrap_err()),
            "c.json: has no `n`, which is needed"
        );
        assert_eq!(
            said(config.count("a").unwrap_err()),
            "c.json: `a` = -1 is not a whole number"
        );
        assert!(said(config.number_or("b", 1.0).unwrap_err()).contains("`b` = \"x\""));
        assert!(said(config.flag_or("a", true).unwrap_err()).contains("neither true nor false"));
        assert!(said(config.only("b", &json!("y")).unwrap_err()).contains("only \"y\" is"));
        assert_eq!(config.count_or("n", 3).unwrap(), 3);
        assert!(
            ConfigFile::parse("c.json", b"[]")
                .unwrap_err()
                .to_string()
                .contains("object")
        );
    }

    #[test]
    fn rotary_base_in_old_and_new_files() {
        let base = |value| ConfigFile::new("c.json", value).unwrap().rope_base(10.0);
        assert_eq!(base(json!({})).unwrap(), 10.0);
        assert_eq!(
            base(json!({ "rope_theta": 5e5, "rope_scaling": null })).unwrap(),
            5e5
        );
        let new = json!({ "rope_parameters": { "rope_theta": 1e6, "rope_type": "default" } });
        assert_eq!(base(new).unwrap(), 1e6);
        let plain = json!({ "rope_scaling": { "type": "default", "factor": null } });
        assert_eq!(base(plain).unwrap(), 10.0);
        let said = |value| base(value).unwrap_err().to_string();
        let scaled = json!({ "rope_scaling": { "rope_type": "llama3", "factor": 8.0 } });
        assert!(said(scaled).contains("`llama3` scaling"));
        let number = json!({ "rope_parameters": { "rope_theta": "big" } });
        assert!(said(number).contains("`rope_parameters.rope_theta` = \"big\""));
        assert!(said(json!({ "rope_scaling": 8.0 })).contains("not an object"));
    }

    #[test]
    fn rotary_scaling_without_a_kind_is_not_overlooked() {
        let said = |value| {
            let config = ConfigFile::new("c.json", value).unwrap();
            config.rope_base(10.0).unwrap_err().to_string()
        };
        let factor = said(json!({ "rope_scaling": { "factor": 8.0 } }));
        assert!(
            factor.contains("`rope_scaling` sets `factor`") && factor.contains("not supported"),
            "{factor}"
        );
        let by_layer = said(json!({ "rope_parameters": {
            "full_attention": { "rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6 }
        } }));
        assert!(by_layer.contains("sets `full_attention`"), "{by_layer}");
        let odd = said(json!({ "rope_scaling": { "type": 3 } }));
        assert!(odd.contains("asks for `3` scaling"), "{odd}");
    }
}
