//! Parsers of flag values: what cannot work is refused before anything is loaded.

use std::num::IntErrorKind;

use demask::kernels::threads::MAX as MAX_THREADS;

/// A finite number, 0 or larger.
pub fn non_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        Ok(_) => Err("must be a finite number, 0 or larger".into()),
        Err(_) => Err("is not a number".into()),
    }
}

/// A finite number.
pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        Ok(_) => Err("must be a finite number".into()),
        Err(_) => Err("is not a number".into()),
    }
}

/// A probability above 0.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 1.0 => Ok(x),
        Ok(_) => Err("must be above 0 and at most 1".into()),
        Err(_) => Err("is not a number".into()),
    }
}

/// A whole number, 1 or larger.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(_) if text.parse::<i64>().is_ok_and(|n| n < 0) => Err("must be at least 1".into()),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Err("is too large".into()),
        Err(_) => Err("is not a whole number".into()),
    }
}

/// A whole number, 0 or larger.
pub fn cells(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| "must be a whole number, 0 or larger".into())
}

/// A seed.
pub fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("must be a whole number from 0 to {}", u64::MAX))
}

/// A number of threads that a machine can have.
pub fn threads(text: &str) -> Result<usize, String> {
    match count(text)? {
        n if n > MAX_THREADS => Err(format!("must be at most {MAX_THREADS}")),
        n => Ok(n),
    }
}

/// `key=value`.
pub fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("is not of the form key=value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(non_negative("0.5"), Ok(0.5));
        for bad in ["NaN", "-1", "inf", "x", ""] {
            assert!(non_negative(bad).is_err(), "{bad}");
        }
        assert_eq!(finite("-1.5"), Ok(-1.5));
        assert!(finite("nan").is_err());
        assert_eq!(share("1"), Ok(1.0));
        for bad in ["0", "1.1", "NaN"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!(count("3"), Ok(3));
        for bad in ["0", "-1", "2.5"] {
            assert!(count(bad).is_err(), "{bad}");
        }
        assert_eq!(count("-1"), Err("must be at least 1".into()));
        assert_eq!(count(&"9".repeat(30)), Err("is too large".into()));
        assert_eq!(cells("0"), Ok(0));
        assert!(cells("-1").is_err() && cells("x").is_err());
        assert_eq!(seed("0"), Ok(0));
        assert!(seed("-1").is_err_and(|said| said.contains("from 0 to")));
        assert_eq!(threads("2"), Ok(2));
        for bad in ["0", "1000000"] {
            assert!(threads(bad).is_err(), "{bad}");
        }
        assert!(assignment("a.b = 3").is_ok());
        assert!(assignment("=3").is_err());
    }
}
