//! Policy files: the documents that a hub finds in a folder when it starts.
//!
//! They are a way to hand policies to a hub, and no more: what holds is in the journal. So a file that is gone, unreadable
//! or changed is a warning and never keeps the hub from starting.

use sheratan_core::policy::Snapshot;
use sheratan_core::policy::limits::DOCUMENT_BYTES_MAX;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Files of a folder that are read: as many as a hub may hold.
const FILES_MAX: usize = sheratan_core::limits::POLICIES_MAX as usize;

/// The documents of a folder, and what is wrong with others.
#[derive(Default, Debug)]
pub struct PolicyFiles {
    /// By version.
    pub documents: Vec<PolicyFile>,
    /// For the operator, a line each.
    pub warnings: Vec<String>,
}

/// A document that is valid, and whose name has its version.
#[derive(Debug)]
pub struct PolicyFile {
    pub path: PathBuf,
    pub version: u64,
    pub bytes: Vec<u8>,
}

/// The folder of policies, unless the operator names another.
pub fn folder_of(data_dir: &Path) -> PathBuf {
    data_dir.join("policies")
}

impl PolicyFiles {
    /// Reads the files `policy_v<N>.json` of a folder, in the order of `N`. A folder that does not exist has none.
    pub fn read(folder: &Path) -> PolicyFiles {
        let mut files = PolicyFiles::default();
        let mut named = match versions_in(folder) {
            Ok(named) => named,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return files,
            Err(error) => {
                files.warnings.push(format!("{}: no policy is read: {error}", folder.display()));
                return files;
            }
        };
        named.sort_unstable();
        if named.len() > FILES_MAX {
            let shown = folder.display();
            files.warnings.push(format!("{shown} has {} policies: only the first {FILES_MAX} are read", named.len()));
        }
        for (version, path) in named.into_iter().take(FILES_MAX) {
            match read_file(&path, version) {
                Ok(bytes) => files.documents.push(PolicyFile { path, version, bytes }),
                Err(why) => files.warnings.push(format!("{}: not a policy that is added: {why}", path.display())),
            }
        }
        files
    }
}

fn versions_in(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut named = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix("policy_v")?.strip_suffix(".json")?.parse().ok());
        named.extend(version.map(|version| (version, path)));
    }
    Ok(named)
}

fn read_file(path: &Path, version: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    // One byte more shows that it is too large.
    let limit = DOCUMENT_BYTES_MAX as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(|error| error.to_string())?;
    let snapshot = Snapshot::parse(&bytes).map_err(|error| error.to_string())?;
    match snapshot.version() == version {
        true => Ok(bytes),
        false => Err(format!("its name says version {version}, and it says {}", snapshot.version())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn documents_are_read_in_the_order_of_their_versions_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("policy_v10.json", r#"{"version":10,"default":"allow"}"#);
        write("policy_v2.json", r#"{"version":2,"default":"allow"}"#);
        write("policy_v3.json", r#"{"version":4,"default":"allow"}"#);
        write("policy_v5.json", "{");
        write("policy_v6.json.bak", "{");
        write("README", "");
        let files = PolicyFiles::read(folder.path());
        let versions: Vec<_> = files.documents.iter().map(|file| file.version).collect();
        assert_eq!((versions, files.warnings.len()), (vec![2, 10], 2), "{:?}", files.warnings);
        assert!(files.warnings[0].contains("says version 3, and it says 4"), "{}", files.warnings[0]);
        let none = PolicyFiles::read(&folder.path().join("none"));
        assert!(none.documents.is_empty() && none.warnings.is_empty());
    }
}
