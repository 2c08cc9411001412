//! Mistakes of the disk: syncs that a mutated run skips, selected by the path of the file or folder.
//!
//! The program's sync succeeds, but nothing becomes durable. So a missing sync can be a mutant without a change to the
//! code that calls it.

use sheratan_mutants::{Mutant, is_active};
use std::path::Path;

/// Mutants that forget syncs of files.
const OF_FILES: &[Mutant] =
    &[Mutant::AppendNotSynced, Mutant::SegmentNotSynced, Mutant::AuditFileNotSynced, Mutant::TraceBeginningNotSynced];

/// Mutants that forget syncs of folders.
const OF_FOLDERS: &[Mutant] = &[Mutant::FolderNotSynced, Mutant::TraceBeginningNotSynced];

/// Whether the sync of a file that has these names now is forgotten. The names are not read if no mutant is active.
pub fn forgets_file<'p>(mut paths: impl Iterator<Item = &'p Path>) -> bool {
    let active = OF_FILES.iter().find(|mutant| is_active(**mutant));
    active.is_some_and(|mutant| paths.any(|path| is_file_of(*mutant, path)))
}

/// Whether the sync of a folder is forgotten.
pub fn forgets_folder(path: &Path) -> bool {
    OF_FOLDERS.iter().any(|mutant| is_active(*mutant) && is_folder_of(*mutant, path))
}

fn is_file_of(mutant: Mutant, path: &Path) -> bool {
    let name = name_of(path);
    match mutant {
        Mutant::AppendNotSynced => name.starts_with("journal-") && name.ends_with(".seg"),
        // A segment is renamed once its first records are in it.
        Mutant::SegmentNotSynced => name == "segment.tmp",
        Mutant::AuditFileNotSynced => name.ends_with(".jsonl"),
        Mutant::TraceBeginningNotSynced => name.starts_with("trace-") && name.ends_with(".seg"),
        _ => false,
    }
}

fn is_folder_of(mutant: Mutant, path: &Path) -> bool {
    match mutant {
        Mutant::FolderNotSynced => ["journal", "snapshots"].contains(&name_of(path)),
        Mutant::TraceBeginningNotSynced => name_of(path) == "trace",
        _ => false,
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mutants that forget a sync of this path.
    fn forgetful(is_of: fn(Mutant, &Path) -> bool, path: &str) -> Vec<&'static str> {
        Mutant::ALL.iter().filter(|mutant| is_of(**mutant, Path::new(path))).map(|mutant| mutant.name()).collect()
    }

    #[test]
    fn each_file_is_forgotten_by_the_mutants_of_its_kind_alone() {
        for (path, expected) in [
            ("/hub/journal/journal-00000000000000000001.seg", &["append-not-synced"][..]),
            ("/hub/journal/segment.tmp", &["segment-not-synced"]),
            ("/hub/journal/spare.tmp", &[]),
            ("/hub/snapshots/snapshot-00000000000000000007.tmp", &[]),
            ("/hub/logs/hub_security_audit.jsonl", &["audit-file-not-synced"]),
            ("/hub/trace/trace-00000000000000000001.seg", &["trace-beginning-not-synced"]),
        ] {
            assert_eq!(forgetful(is_file_of, path), expected, "{path}");
        }
    }

    #[test]
    fn each_folder_is_forgotten_by_the_mutants_of_its_kind_alone() {
        for (path, expected) in [
            ("/hub/journal", &["folder-not-synced"][..]),
            ("/hub/snapshots", &["folder-not-synced"]),
            ("/hub/trace", &["trace-beginning-not-synced"]),
            ("/hub", &[]),
            ("/", &[]),
        ] {
            assert_eq!(forgetful(is_folder_of, path), expected, "{path}");
        }
    }

    #[test]
    fn each_mutant_of_the_disk_forgets_something() {
        let forgetful: Vec<_> =
            Mutant::ALL.iter().filter(|mutant| OF_FILES.contains(mutant) || OF_FOLDERS.contains(mutant)).collect();
        let of_disk: Vec<_> =
            Mutant::ALL.iter().filter(|mutant| mutant.place() == sheratan_mutants::Place::Disk).collect();
        assert_eq!(forgetful, of_disk);
    }
}
