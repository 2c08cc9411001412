//! Target: which hub a command talks to, and with which token.
//!
//! An address comes from a flag, else the environment, else the file that a running hub keeps in its data folder, else
//! the default; a token from a named file, the environment, or the data folder. Each keeps its source, so that an error
//! can name it.

use crate::client::integrity::Signer;
use crate::client::{Client, Endpoint, NoToken, Plane, Token};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The default addresses of a hub.
const CONTROL_DEFAULT: &str = "127.0.0.1:8787";
const DATA_DEFAULT: &str = "127.0.0.1:8788";

/// The largest file of a secret that is read; a secret has some dozens of bytes, and a wrong path may lead to a disk
/// image.
const SECRET_BYTES_MAX: u64 = 4_096;

/// The hub to call, and the token.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Which hub")]
pub struct TargetArgs {
    /// Address of the control plane, host:port [default: from the data folder, else 127.0.0.1:8787]
    #[arg(long, value_name = "ADDR", env = "SHERATAN_CONTROL_ADDR", hide_env_values = true)]
    pub control: Option<String>,
    /// Address of the data plane, host:port [default: from the data folder, else 127.0.0.1:8788]
    #[arg(long, value_name = "ADDR", env = "SHERATAN_DATA_ADDR", hide_env_values = true)]
    pub data: Option<String>,
    /// Data folder of a hub on this machine, from which addresses and token are read
    #[arg(long, value_name = "DIR", env = "SHERATAN_DATA_DIR", hide_env_values = true, default_value = ".sheratan")]
    pub data_dir: PathBuf,
    /// File with the hub's token [default: SHERATAN_HUB_TOKEN, else the data folder's token]
    #[arg(long, value_name = "FILE", env = "SHERATAN_HUB_TOKEN_FILE", hide_env_values = true)]
    pub token_file: Option<PathBuf>,
}

/// Why the target cannot be determined.
#[derive(Debug)]
pub enum TargetError {
    /// An invalid address.
    Address {
        /// Where it came from.
        origin: String,
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A named file with a secret cannot be read.
    SecretFile {
        /// What the secret is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The contents of a running hub's `<data-dir>/hub.addr`.
#[derive(Deserialize)]
struct HubAddr {
    control: String,
    data: String,
}

impl TargetArgs {
    /// A client of the target. Nothing is connected yet.
    pub fn client(&self) -> Result<Client, TargetError> {
        let path = self.data_dir.join("hub.addr");
        // A missing or torn file means that no hub of this folder runs; then the default is tried.
        let known: Option<HubAddr> = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let endpoint = |plane: Plane| {
            let (given, flag, variable, default) = match plane {
                Plane::Control => (&self.control, "--control", "SHERATAN_CONTROL_ADDR", CONTROL_DEFAULT),
                Plane::Data => (&self.data, "--data", "SHERATAN_DATA_ADDR", DATA_DEFAULT),
            };
            let known = known.as_ref().map(|known| match plane {
                Plane::Control => known.control.as_str(),
                Plane::Data => known.data.as_str(),
            });
            let (text, origin) = match (given, known) {
                (Some(given), _) => (given.as_str(), format!("{flag} or {variable}")),
                (None, Some(known)) => (known, path.display().to_string()),
                (None, None) => (default, "the default".to_owned()),
            };
            let url = url_of(text).map_err(|reason| (origin.clone(), text.to_owned(), reason));
            let url = url.map_err(|(origin, text, reason)| TargetError::Address { origin, text, reason })?;
            Ok::<_, TargetError>(Endpoint { url, origin })
        };
        Ok(Client::new(endpoint(Plane::Control)?, endpoint(Plane::Data)?, self.token()?))
    }

    fn token(&self) -> Result<Result<Token, NoToken>, TargetError> {
        if let Some(path) = &self.token_file {
            let origin = format!("{} (--token-file or SHERATAN_HUB_TOKEN_FILE)", path.display());
            return match read_secret(path) {
                Ok(text) => Ok(Ok(Token::new(text, origin))),
                Err(reason) => Err(TargetError::SecretFile { what: "token", path: path.clone(), reason }),
            };
        }
        for variable in ["SHERATAN_HUB_TOKEN", "SHERATAN_HUB_TOKEN_ACTIVE"] {
            if let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty()) {
                return Ok(Ok(Token::new(text, variable)));
            }
        }
        let path = self.data_dir.join("secrets").join("hub_token");
        Ok(match read_secret(&path) {
            Ok(text) => Ok(Token::new(text, path.display().to_string())),
            Err(reason) => Err(NoToken {
                searched: format!(
                    "--token-file, SHERATAN_HUB_TOKEN_FILE and SHERATAN_HUB_TOKEN are not set, and {} {reason}",
                    path.display()
                ),
            }),
        })
    }
}

/// Makes checksums or signatures of results, with the key that the environment names, if it names one.
pub fn signer() -> Result<Signer, TargetError> {
    if let Some(path) = std::env::var_os("SHERATAN_RESULT_HMAC_KEY_FILE").map(PathBuf::from) {
        let key = read_secret(&path).map_err(|reason| TargetError::SecretFile { what: "key", path, reason })?;
        return Ok(Signer::new(Some(Zeroizing::new(key))));
    }
    let key = std::env::var("SHERATAN_RESULT_HMAC_KEY").ok().filter(|key| !key.is_empty());
    Ok(Signer::new(key.map(Zeroizing::new)))
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Address { origin, text, reason } => {
                write!(f, "the address {text:?} (from {origin}) {reason}: it must be host:port, as in 127.0.0.1:8788")
            }
            TargetError::SecretFile { what, path, reason } => write!(f, "the {what} file {} {reason}", path.display()),
        }
    }
}

impl std::error::Error for TargetError {}

/// The URL of an address. A hub that listens on every interface is called on loopback.
fn url_of(text: &str) -> Result<String, &'static str> {
    if text.starts_with("https://") {
        return Err("names TLS, which this release does not speak (use a TLS proxy on the client's side)");
    }
    let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').ok_or("has no port")?;
    if port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err("has no port that can be connected to");
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_host) {
        return Err("has no host");
    }
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Ok(format!("http://{host}:{port}"))
}

/// The secret in a file, or what is wrong with the file, which ends the sentence "the file … ".
fn read_secret(path: &Path) -> Result<String, String> {
    let length = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
    if length > SECRET_BYTES_MAX {
        return Err(format!("has {length} bytes: no secret has more than {SECRET_BYTES_MAX}"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
    match text.trim() {
        "" => Err("is empty".to_owned()),
        secret => Ok(secret.to_owned()),
    }
}

fn unreadable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        _ => format!("cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path) -> TargetArgs {
        TargetArgs { control: None, data: None, data_dir: dir.to_owned(), token_file: None }
    }

    #[test]
    fn an_address_is_read_in_each_usual_form() {
        for (text, url) in [
            ("127.0.0.1:8788", "http://127.0.0.1:8788"),
            ("http://hub.lan:80/", "http://hub.lan:80"),
            ("localhost:1", "http://localhost:1"),
            ("[::1]:8788", "http://[::1]:8788"),
            ("0.0.0.0:8788", "http://127.0.0.1:8788"),
            ("[::]:8788", "http://[::1]:8788"),
        ] {
            assert_eq!(url_of(text).as_deref(), Ok(url), "{text}");
        }
        for text in ["", "host", ":1", "host:0", "host:65536", "host:x", "a b:1", "https://a:1", "a/b:1", "user@a:1"] {
            assert!(url_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_flag_wins_over_the_data_folder_and_the_data_folder_over_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = args(dir.path());
        let data = |args: &TargetArgs| args.client().unwrap().endpoint(Plane::Data).clone();
        assert_eq!(data(&args).url, "http://127.0.0.1:8788");
        assert_eq!(data(&args).origin, "the default");
        let file = dir.path().join("hub.addr");
        std::fs::write(&file, r#"{"pid":1,"control":"127.0.0.1:1001","data":"0.0.0.0:1002"}"#).unwrap();
        assert_eq!(data(&args).url, "http://127.0.0.1:1002");
        assert_eq!(data(&args).origin, file.display().to_string());
        args.data = Some("hub:1003".to_owned());
        assert_eq!(data(&args).url, "http://hub:1003");
        assert_eq!(data(&args).origin, "--data or SHERATAN_DATA_ADDR");
        assert_eq!(args.client().unwrap().endpoint(Plane::Control).url, "http://127.0.0.1:1001");
    }

    #[test]
    fn a_named_token_file_must_be_readable_and_the_folders_own_need_not_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut args = args(dir.path());
        assert!(!args.client().unwrap().has_token());
        let secrets = dir.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        std::fs::write(secrets.join("hub_token"), "abc\n").unwrap();
        assert!(args.client().unwrap().has_token());

        let file = dir.path().join("token");
        args.token_file = Some(file.clone());
        let reason = |args: &TargetArgs| args.client().err().unwrap().to_string();
        assert!(reason(&args).ends_with("does not exist"), "{}", reason(&args));
        std::fs::write(&file, " \n").unwrap();
        assert!(reason(&args).ends_with("is empty"));
        std::fs::write(&file, "x".repeat(SECRET_BYTES_MAX as usize + 1)).unwrap();
        assert!(reason(&args).contains("no secret has more than"));
    }
}
