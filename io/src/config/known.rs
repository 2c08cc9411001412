//! Known secrets: all secrets in the settings of this process and in the files that they name, even if a hub could not
//! start with these settings.
//!
//! [`Config::load`](super::Config::load) stops at the first invalid setting, and uses one of a secret and its file. A
//! redactor needs all secrets.

use super::table::PREFIX;
use super::table::{ALIASES, SETTINGS, ValueType};
use super::{FILE, Flags};
use crate::secret::Secret;
use std::ffi::OsString;
use std::path::Path;
use zeroize::Zeroizing;

/// Whether an environment variable holds a secret, or begins like one that does: `SHERATAN_HUB_TOKEN_NEXT`, or a file's
/// name in `SHERATAN_HUB_TOKEN_FILE`.
pub fn is_secret_variable(variable: &str) -> bool {
    let mut settings = SETTINGS.iter().filter(|setting| setting.is_secret()).map(|setting| setting.name);
    let Some(key) = variable.strip_prefix(PREFIX).map(str::to_lowercase) else { return false };
    let begins = |name: &str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
    settings.any(begins)
}

/// Every secret of the flags, the environment and `hub.toml`.
pub fn known_secrets(flags: &Flags) -> Vec<Secret> {
    read(flags, std::env::vars_os(), Path::new(FILE))
}

fn read(flags: &Flags, variables: impl Iterator<Item = (OsString, OsString)>, file: &Path) -> Vec<Secret> {
    let mut secrets = Vec::new();
    let mut add = |key: &str, value: &[u8]| match value_type(key) {
        Some(ValueType::Secret) => secrets.push(Secret::new(value)),
        // A file that cannot be read holds no known secret.
        Some(ValueType::SecretFile) => {
            let path = std::str::from_utf8(value).map(Path::new);
            secrets.extend(path.ok().and_then(|path| Secret::read(path).ok()));
        }
        _ => {}
    };
    for (name, value) in &flags.settings {
        add(name, value.as_bytes());
    }
    for (name, value) in variables {
        if let Some(key) = name.to_string_lossy().strip_prefix(PREFIX) {
            add(&key.to_lowercase(), value.as_encoded_bytes());
        }
    }
    let path = flags.config.as_deref().unwrap_or(file);
    let text = Zeroizing::new(std::fs::read_to_string(path).unwrap_or_default());
    match text.parse::<toml::Table>() {
        Ok(table) => table.iter().for_each(|(key, value)| {
            if let Some(text) = value.as_str() {
                add(key, text.as_bytes());
            }
        }),
        // The file is not TOML, but its lines may have been meant as settings.
        Err(_) => text.lines().filter_map(|line| line.split_once('=')).for_each(|(key, value)| {
            let is_around = |character: char| character.is_whitespace() || character == '"' || character == '\'';
            add(key.trim(), value.trim_matches(is_around).as_bytes());
        }),
    }
    secrets
}

/// The type of a key's setting, by its name, an alias or an earlier name.
fn value_type(key: &str) -> Option<ValueType> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name);
    SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.value_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known of these variables and this `hub.toml`, as far as it is one of these.
    fn known(variables: &[(&str, &str)], toml: &str, of: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hub.toml");
        std::fs::write(&file, toml).unwrap();
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let secrets = read(&Flags::default(), variables, &file);
        let is_known = |text: &&&str| secrets.iter().any(|secret| secret.is(text.as_bytes()));
        of.iter().filter(is_known).map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn all_secrets_are_known_even_of_contradictory_or_invalid_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "from-a-file\n").unwrap();
        let variables = [
            ("SHERATAN_HUB_TOKEN", "active"),
            ("SHERATAN_HUB_TOKEN_ACTIVE", "by-its-alias"),
            ("SHERATAN_HUB_TOKEN_FILE", path.to_str().unwrap()),
            ("SHERATAN_HUB_TOKEN_NEXT", "the-next-one"),
            ("SHERATAN_RESULT_HMAC_KEY_FILE", "/nowhere"),
            ("SHERATAN_HUB_TOKEN_REQUIRED", "no-secret"),
            ("HUB_TOKEN", "not-ours"),
        ];
        let secrets = ["active", "by-its-alias", "from-a-file", "the-next-one"];
        let others = ["no-secret", "not-ours"];
        assert_eq!(known(&variables, "", &[&secrets[..], &others].concat()), secrets);
    }

    #[test]
    fn the_secrets_of_a_file_are_known_even_if_it_is_not_toml() {
        let toml = "log_level = \"info\"\nhub_token = \"in-the-file\"\nresult_hmac_key='the-key'\n";
        for end in ["", "this = is = no toml", "nonsense = \"x\""] {
            assert_eq!(
                known(&[], &format!("{toml}{end}"), &["in-the-file", "the-key", "info"]),
                ["in-the-file", "the-key"]
            );
        }
    }
}
