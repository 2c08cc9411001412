//! The output: the archive's file. It is written to a temporary file and renamed, so that no half of it is ever
//! visible, and only its owner can read it, since it shows how the hub is configured.

use crate::cli::failure::Failure;
use sheratan_core::Utc;
use sheratan_io::platform;
use sheratan_io::rfc3339::Rfc3339;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the archive goes.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    is_overwriting: bool,
}

impl Output {
    /// The named file, else one in this folder whose name is the time.
    pub fn choose(named: Option<&Path>, is_overwriting: bool, created: Utc) -> Result<Self, Failure> {
        let path = named.map_or_else(|| default_name(created), Path::to_owned);
        if path == Path::new("-") {
            let message = "--output names a file: an archive is searched as a whole before any of it may be seen";
            return Err(Failure::Usage(message.into()));
        }
        if path.is_dir() {
            return Err(Failure::Usage(format!("--output names a file, and {} is a folder", path.display())));
        }
        if !is_overwriting && path.try_exists().unwrap_or(false) {
            return Err(Failure::Local(format!("{} is there already: --force overwrites it", path.display())));
        }
        Ok(Output { path, is_overwriting })
    }

    /// The archive's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the archive.
    pub fn write(&self, archive: &[u8]) -> Result<(), Failure> {
        let failed =
            |error: std::io::Error| Failure::local(format!("{} cannot be written", self.path.display()), error);
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Removed when it is dropped; on Unix its mode is 0600.
        let mut file = tempfile::Builder::new().prefix(".diag_bundle-").tempfile_in(folder).map_err(failed)?;
        file.write_all(archive).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        let kept = if self.is_overwriting { file.persist(&self.path) } else { file.persist_noclobber(&self.path) };
        kept.map_err(|error| failed(error.error))?;
        platform::sync_dir(folder).map_err(failed)
    }
}

/// `diag_bundle_20260115T205203Z.zip`.
fn default_name(created: Utc) -> PathBuf {
    let instant = Rfc3339::new(created).to_string();
    let seconds = instant.split('.').next().unwrap_or(&instant).replace(['-', ':'], "");
    PathBuf::from(format!("diag_bundle_{seconds}Z.zip"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Utc = Utc::from_millis(1_768_510_323_348);

    #[test]
    fn an_archive_is_named_by_its_second() {
        assert_eq!(default_name(NOW), Path::new("diag_bundle_20260115T205203Z.zip"));
    }

    #[test]
    fn an_existing_file_is_overwritten_only_with_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.zip");
        let choose = |is_overwriting| Output::choose(Some(&path), is_overwriting, NOW);
        let early = choose(false).unwrap();
        early.write(b"1").unwrap();
        assert!(choose(false).unwrap_err().to_string().contains("--force"));
        assert!(early.write(b"2").is_err(), "it came meanwhile");
        assert_eq!(std::fs::read(&path).unwrap(), b"1");
        choose(true).unwrap().write(b"3").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"3");
        assert!(!platform::is_open_to_others(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_path_that_is_not_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in [Path::new("-"), folder.path()] {
            assert!(matches!(Output::choose(Some(path), true, NOW), Err(Failure::Usage(_))), "{path:?}");
        }
    }
}
