//! Text from an argument or from standard input.

use std::io::{self, IsTerminal, Read};

use anyhow::{Context, Result};

use crate::error::{Advise, usage};

/// The text of an argument: itself, standard input for `-`, and standard input as well when there
/// is no argument and something is piped in. `None`: no text at all.
pub fn text(argument: Option<&str>) -> Result<Option<String>> {
    match argument {
        Some("-") => standard_input().map(Some),
        Some(text) => Ok(Some(text.to_owned())),
        None if io::stdin().is_terminal() => Ok(None),
        None => standard_input().map(|text| Some(text).filter(|text| !text.is_empty())),
    }
}

/// All of standard input, without its last line break.
fn standard_input() -> Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    let mut text = utf8(bytes)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let byte = error.as_bytes()[at];
            usage(format!(
                "standard input is not UTF-8: byte 0x{byte:02x} at offset {at}"
            ))
        })
        .advise(|| "convert it first, for example with `iconv -f latin1 -t utf-8`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bad_byte_is_named() {
        let error = utf8(b"ab\xff".to_vec()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "standard input is not UTF-8: byte 0xff at offset 2"
        );
    }
}
