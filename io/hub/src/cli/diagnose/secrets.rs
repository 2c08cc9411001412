//! The secrets that this process knows, so that none of them gets into the archive: those of the settings and of the
//! environment, even if a hub could not start with them, those in the data folder, and the client's own.

use crate::cli::target::TargetArgs;
use crate::client::Client;
use sheratan_io::config::{Flags, known_secrets};
use sheratan_io::redact::Redactor;
use sheratan_io::secret::Secret;
use std::path::Path;

/// A redactor of all of them.
pub fn redactor(flags: &Flags, target: &TargetArgs, client: Option<&Client>) -> Redactor {
    let mut secrets = known_secrets(flags);
    secrets.extend(in_folder(&target.data_dir().join("secrets")));
    secrets.extend(target.token_file.as_deref().and_then(|path| Secret::read(path).ok()));
    secrets.extend(client.and_then(Client::secret));
    Redactor::new(&secrets.iter().collect::<Vec<_>>())
}

/// The secrets in a folder that holds only secrets. One that cannot be read here cannot get into the archive.
fn in_folder(folder: &Path) -> Vec<Secret> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|path| path.is_file()).filter_map(|path| Secret::read(&path).ok()).collect()
}
