//! The disk's own speed: how many appends of 4 KiB a second become durable.
//!
//! A hub without group commit could not acknowledge more often than that, so it is what rates are compared with. It is
//! measured in the same folder and between the slices of the load, because disks that are shared change their pace.

use crate::failure::Failure;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// A file that is appended to.
pub struct Probe {
    file: File,
}

/// What one append writes.
const BLOCK: [u8; 4096] = [0x5a; 4096];

impl Probe {
    /// A file without a name in the folder, which the system removes however the run ends.
    pub fn create(folder: &Path) -> Result<Self, Failure> {
        let what = format!("create a file in {}", folder.display());
        Ok(Probe { file: tempfile::tempfile_in(folder).map_err(Failure::system(what))? })
    }

    /// Appends and syncs (fdatasync) for a while; returns syncs a second.
    pub fn rate(&mut self, time: Duration) -> Result<f64, Failure> {
        let start = Instant::now();
        let mut appends = 0u32;
        while start.elapsed() < time {
            self.file.write_all(&BLOCK).map_err(Failure::system("append to the probe's file"))?;
            self.file.sync_data().map_err(Failure::system("sync the probe's file"))?;
            appends += 1;
        }
        Ok(f64::from(appends) / start.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_append_grows_the_file_by_a_block() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut probe = Probe::create(folder.path()).expect("a file");
        let rate = probe.rate(Duration::from_millis(20)).expect("the disk takes it");
        let appends = probe.file.metadata().expect("it is open").len() / BLOCK.len() as u64;
        assert!(appends > 0 && rate > 0.0);
        assert!(rate <= appends as f64 / 0.02, "{rate} a second are not more than {appends} in 20 ms");
    }
}
