//! Versions of the engines, as they are locked.

/// The locked version of a package, or nothing if it is not locked.
pub fn of(package: &str) -> &'static str {
    let mut lines = include_str!("../../Cargo.lock").lines();
    let name = format!("name = \"{package}\"");
    lines.find(|line| *line == name);
    let version = lines
        .next()
        .and_then(|line| line.strip_prefix("version = \""));
    version
        .and_then(|line| line.strip_suffix('"'))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_locked() {
        assert_eq!(of("demask-bench-peer"), env!("CARGO_PKG_VERSION"));
        assert_eq!(of("no-such-package"), "");
        for engine in ["candle-core", "burn"] {
            assert!(of(engine).starts_with("0."), "{engine}");
        }
    }
}
