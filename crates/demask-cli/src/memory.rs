//! Memory: the allocator, told what this program does with it, and how much there is.

/// Keeps freed memory for the next step. A training step and a forward pass take and free the same
/// tensors of many MiB again and again; glibc gives each back to the system by default, and the
/// system fills every page with zeros when it is asked for again: a quarter to a third of a training
/// step, on two cores. Other systems' allocators are left as they are.
pub fn keep() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const BIG: libc::c_int = 1 << 30;
        // SAFETY: `mallopt` takes two integers and is called before any thread is started. It returns
        // 0 for a value that it refuses, and then nothing has changed.
        #[allow(unsafe_code)]
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, BIG);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
        }
    }
}

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
