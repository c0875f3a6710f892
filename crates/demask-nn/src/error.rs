use thiserror::Error;

/// What can go wrong in building or running a network.
#[derive(Debug, Error)]
pub enum NnError {
    /// A configuration value is unusable.
    #[error("network configuration: `{field}` {reason}")]
    Config {
        /// The field, dotted for nested ones.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The input of a forward pass does not fit the network.
    #[error("network input: {0}")]
    Input(String),
    /// A parameter could not be supplied.
    #[error("parameter `{name}`: {message}")]
    Source {
        /// Canonical name of the parameter.
        name: String,
        /// Why it is missing or unusable.
        message: String,
    },
}

impl NnError {
    /// A configuration error on `field`.
    pub fn config(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A parameter that its source could not supply.
    pub fn source(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Source {
            name: name.into(),
            message: message.into(),
        }
    }
}
