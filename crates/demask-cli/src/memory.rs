//! How much memory there is, and how much was used.

/// Bytes that can be taken without pushing anything out, where the system says so.
pub fn available() -> Option<f64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// The most bytes that this program had in memory at any time, where the system says so.
pub fn peak() -> Option<f64> {
    field("/proc/self/status", "VmHWM:")
}

/// A number of kB in a file of the system, as bytes.
fn field(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}
