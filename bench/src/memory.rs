//! Memory of a process, as the kernel counts it.

use std::fs;

/// Bytes of a process's memory that are resident; `None` where the system has no `/proc` or the process is gone.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    parse_resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// Reads the line `VmRSS:     1234 kB` (proc(5)).
fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_size_is_read_from_its_line_in_kibibytes() {
        assert_eq!(parse_resident("VmHWM:\t 9 kB\nVmRSS:\t   1234 kB\nRssAnon:\t 5 kB\n"), Some(1234 * 1024));
        assert_eq!(parse_resident("VmHWM:\t 9 kB\n"), None);
        assert_eq!(parse_resident("VmRSS:\t many kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_is_written_is_resident() {
        let before = resident_bytes(std::process::id()).expect("this process has a status");
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = resident_bytes(std::process::id()).expect("this process has a status");
        assert!(after >= before + (60 << 20), "{before} to {after} with {} bytes more", block.len());
    }
}
