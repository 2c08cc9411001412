//! Target: which hub a command talks to, and with which token.
//!
//! An address comes from a flag, else the environment, else the file that a running hub keeps in its data folder, else
//! the default; a token from a named file, the environment, or the data folder. Each keeps its source, so that an error
//! can name it.
//!
//! A token goes only to an address that the user named (a flag, a variable, a folder), or to the hub that runs on the
//! folder it is from. So a folder that somebody else made (`.sheratan` in a repository) leads no token away, nor does
//! the address that a killed hub left behind.

use super::names;
use crate::client::{Access, Client, Credential, Endpoint, NoToken, Plane};
use crate::hub_addr::HubAddr;
use sheratan_io::integrity::Signer;
use sheratan_io::journal;
use sheratan_io::platform;
use sheratan_io::secret::{Secret, SecretFileError};
use sheratan_io::token::Token;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The default addresses of a hub.
const CONTROL_DEFAULT: &str = "127.0.0.1:8787";
const DATA_DEFAULT: &str = "127.0.0.1:8788";

/// The default data folder.
const DATA_DIR_DEFAULT: &str = ".sheratan";

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
    /// Data folder of a hub on this machine, from which addresses and token are read [default: .sheratan, if only you
    /// can write it]
    #[arg(long, value_name = "DIR", env = "SHERATAN_DATA_DIR", hide_env_values = true, value_parser = names::path())]
    pub data_dir: Option<PathBuf>,
    /// File with the hub's token [default: SHERATAN_HUB_TOKEN, else the data folder's token]
    #[arg(long, value_name = "FILE", env = "SHERATAN_HUB_TOKEN_FILE", hide_env_values = true, value_parser = names::path())]
    pub token_file: Option<PathBuf>,
}

/// What the arguments lead to.
pub struct Found {
    /// A client of it. Nothing is connected yet.
    pub client: Client,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
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
    /// A secret cannot be used.
    Secret {
        /// What the secret is, and its source.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The current folder has a data folder that others can write.
    Foreign {
        /// Why it is not used.
        reason: String,
    },
}

/// Where a token is from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A file or a variable that the user named.
    Named,
    /// The data folder.
    Folder,
}

impl TargetArgs {
    /// A client of the target, after warnings about it. Nothing is connected yet.
    pub fn client(&self) -> Result<Client, TargetError> {
        let Found { client, warnings } = self.find()?;
        warnings.iter().for_each(super::terminal::warning);
        Ok(client)
    }

    /// The data folder.
    pub fn data_dir(&self) -> &Path {
        named(&self.data_dir).unwrap_or(Path::new(DATA_DIR_DEFAULT))
    }

    /// Whether the user named the data folder.
    pub fn is_folder_named(&self) -> bool {
        named(&self.data_dir).is_some()
    }

    /// The target as it is now.
    pub fn find(&self) -> Result<Found, TargetError> {
        let mut warnings = Vec::new();
        let given =
            |addr: &Option<String>| addr.as_deref().map(trimmed).filter(|addr| !addr.is_empty()).map(str::to_owned);
        let (control, data) = (given(&self.control), given(&self.data));
        let named_token = self.named_token()?;
        let needs_folder = control.is_none() || data.is_none() || named_token.is_none();
        if needs_folder && let Some(reason) = self.foreign() {
            match self.is_folder_named() {
                true => warnings.push(reason),
                false => return Err(TargetError::Foreign { reason }),
            }
        }
        let running = if control.is_some() && data.is_some() { None } else { self.running() };
        let (token, source) = match named_token {
            Some(token) => (Ok(token), Some(Source::Named)),
            None => match self.folders_token()? {
                Ok(token) => (Ok(token), Some(Source::Folder)),
                Err(none) => (Err(none), None),
            },
        };
        let endpoint = |plane: Plane| {
            let (given, flag, variable, default) = match plane {
                Plane::Control => (&control, "--control", "SHERATAN_CONTROL_ADDR", CONTROL_DEFAULT),
                Plane::Data => (&data, "--data", "SHERATAN_DATA_ADDR", DATA_DEFAULT),
            };
            let running = running.as_ref().map(|running| match plane {
                Plane::Control => running.control.as_str(),
                Plane::Data => running.data.as_str(),
            });
            let (text, origin, access) = match (given, running) {
                (Some(given), _) => (given.as_str(), format!("{flag} or {variable}"), Access::Open),
                (None, Some(running)) => {
                    (running, self.addr_path().display().to_string(), self.access_to_folder(source))
                }
                (None, None) => (default, "the default".to_owned(), self.access_to_default(source)),
            };
            let url = url_of(text).map_err(|reason| (origin.clone(), text.to_owned(), reason));
            let url = url.map_err(|(origin, text, reason)| TargetError::Address { origin, text, reason })?;
            Ok::<_, TargetError>(Endpoint { url, origin, access })
        };
        let client = Client::new(endpoint(Plane::Control)?, endpoint(Plane::Data)?, token);
        Ok(Found { client, warnings })
    }

    /// Whether requests go to the address of the hub that runs on the folder.
    fn access_to_folder(&self, token: Option<Source>) -> Access {
        if token == Some(Source::Named) && !self.is_folder_named() {
            let folder = self.data_dir().display();
            return Access::Withheld(format!(
                "the token that you named is not sent to an address that you did not name: name the folder with \
                 --data-dir {folder}, or the address with --control and --data"
            ));
        }
        Access::Open
    }

    /// Whether requests go to the default address, where no hub of the folder was found.
    fn access_to_default(&self, token: Option<Source>) -> Access {
        if token == Some(Source::Folder) || self.is_folder_named() {
            return Access::NoHub(format!("no hub runs on {}", self.data_dir().display()));
        }
        Access::Open
    }

    fn addr_path(&self) -> PathBuf {
        HubAddr::path(self.data_dir())
    }

    /// The addresses of the hub that runs on the folder: the one that holds its lock, not one that was killed.
    fn running(&self) -> Option<HubAddr> {
        let addr = HubAddr::read(self.data_dir())?;
        // The lock has the process id of its holder, where a locked file can be read.
        let lock = std::fs::read_to_string(self.data_dir().join("lock")).unwrap_or_default();
        let holder = lock.split_whitespace().next().and_then(|text| text.parse::<u32>().ok());
        let is_holder = holder.is_none() || addr.pid.is_none() || holder == addr.pid;
        (is_holder && journal::is_in_use(self.data_dir())).then_some(addr)
    }

    /// Why the folder, or what is read from it, may be somebody else's work.
    fn foreign(&self) -> Option<String> {
        let folder = self.data_dir();
        let secrets = folder.join("secrets");
        let paths = [folder.to_owned(), self.addr_path(), secrets.clone(), secrets.join("hub_token")];
        let foreign = |path: &PathBuf| Some(format!("{} {}", path.display(), platform::foreign(path)?));
        let reason = paths.iter().find_map(foreign)?;
        Some(match self.is_folder_named() {
            true => format!("{reason}: whoever can write there decides where your token goes"),
            false => format!(
                "{reason}: what is found in the current folder is used only if it is yours and no other can write it; \
                 if you trust it, name it with --data-dir {}",
                folder.display()
            ),
        })
    }

    /// The token in a file or a variable that the user named.
    fn named_token(&self) -> Result<Option<Credential>, TargetError> {
        if let Some(path) = named(&self.token_file) {
            let origin = format!("{} (--token-file or SHERATAN_HUB_TOKEN_FILE)", path.display());
            return credential(secret_file("token", path)?, origin).map(Some);
        }
        for variable in ["SHERATAN_HUB_TOKEN", "SHERATAN_HUB_TOKEN_ACTIVE"] {
            if let Some(secret) = secret_variable("token", variable)? {
                return credential(secret, variable.to_owned()).map(Some);
            }
        }
        Ok(None)
    }

    /// The token in the data folder.
    fn folders_token(&self) -> Result<Result<Credential, NoToken>, TargetError> {
        // During a rotation both are accepted, and the next one still is when it ends.
        let next = Token::next_path(self.data_dir());
        if let Ok(secret) = read_secret(&next) {
            return credential(secret, next.display().to_string()).map(Ok);
        }
        let path = Token::path(self.data_dir());
        match read_secret(&path) {
            Ok(secret) => credential(secret, path.display().to_string()).map(Ok),
            Err(reason) => Ok(Err(NoToken {
                searched: format!(
                    "--token-file, SHERATAN_HUB_TOKEN_FILE and SHERATAN_HUB_TOKEN are not set, and {} {reason}",
                    path.display()
                ),
            })),
        }
    }
}

/// A path that was named: a flag or a variable that is set and empty names nothing.
fn named(path: &Option<PathBuf>) -> Option<&Path> {
    path.as_deref().filter(|path| !path.as_os_str().is_empty())
}

/// Makes checksums or signatures of results, with the key that the environment names, if it names one.
pub fn signer() -> Result<Signer, TargetError> {
    let file = std::env::var_os("SHERATAN_RESULT_HMAC_KEY_FILE").map(PathBuf::from);
    if let Some(path) = named(&file) {
        return Ok(Signer::new(Some(secret_file("key", path)?)));
    }
    Ok(Signer::new(secret_variable("key", "SHERATAN_RESULT_HMAC_KEY")?))
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetError::Address { origin, text, reason } => {
                write!(f, "the address {text:?} (from {origin}) {reason}: it must be host:port, as in 127.0.0.1:8788")
            }
            TargetError::Secret { what, reason } => write!(f, "{what} {reason}"),
            TargetError::Foreign { reason } => f.write_str(reason),
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

/// A token of a secret, if a header can carry it.
fn credential(secret: Secret, origin: String) -> Result<Credential, TargetError> {
    let is_quoted = matches!(secret.expose(), [b'"', .., b'"'] | [b'\'', .., b'\'']);
    let Ok(token) = Token::new(secret.clone()) else {
        let text = String::from_utf8_lossy(secret.expose());
        let letter = text.chars().find(|letter| !letter.is_ascii_graphic()).unwrap_or_default();
        let what = format!("the token (from {origin})");
        let reason = format!("has a character that no token has ({}): is it one line?", letter.escape_unicode());
        return Err(TargetError::Secret { what, reason });
    };
    let origin = if is_quoted { format!("{origin}, with quotes around it") } else { origin };
    Ok(Credential::new(token, origin))
}

/// The secret in a variable; `None` if it is not set, or empty.
fn secret_variable(what: &str, variable: &str) -> Result<Option<Secret>, TargetError> {
    let Some(value) = std::env::var_os(variable) else { return Ok(None) };
    let value = value.into_string().map(Zeroizing::new).map_err(|_| TargetError::Secret {
        what: format!("the {what} (from {variable})"),
        reason: "is not text in UTF-8".to_owned(),
    })?;
    let text = trimmed(&value);
    Ok(if text.is_empty() { None } else { Some(Secret::new(text)) })
}

/// The secret in a file that was named.
fn secret_file(what: &str, path: &Path) -> Result<Secret, TargetError> {
    let what = format!("the {what} file {}", path.display());
    read_secret(path).map_err(|reason| TargetError::Secret { what, reason })
}

/// The secret in a file, or what is wrong with the file, which ends the sentence "the file … ".
fn read_secret(path: &Path) -> Result<Secret, String> {
    Secret::read(path).map_err(|error| match error {
        SecretFileError::Read(error) if error.kind() == ErrorKind::NotFound => "does not exist".to_owned(),
        error => error.to_string(),
    })
}

/// A text without what editors and shells put around it: white space, line ends, a byte order mark.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn args(dir: &Path) -> TargetArgs {
        TargetArgs { control: None, data: None, data_dir: Some(dir.to_owned()), token_file: None }
    }

    /// Holds a folder's lock as a hub of this process does.
    fn hold_lock(dir: &Path) -> File {
        let mut lock = File::create(dir.join("lock")).unwrap();
        lock.lock().unwrap();
        std::io::Write::write_all(&mut lock, format!("{}\n", std::process::id()).as_bytes()).unwrap();
        lock
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
        let addrs = |pid| format!(r#"{{"pid":{pid},"control":"127.0.0.1:1001","data":"0.0.0.0:1002"}}"#);
        std::fs::write(&file, addrs(std::process::id())).unwrap();
        assert_eq!(data(&args).origin, "the default", "no hub holds the lock");
        let _lock = hold_lock(dir.path());
        std::fs::write(&file, addrs(1)).unwrap();
        assert_eq!(data(&args).origin, "the default", "the address is of a hub before");
        std::fs::write(&file, addrs(std::process::id())).unwrap();
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
        std::fs::write(&file, "x".repeat(4_097)).unwrap();
        assert!(reason(&args).contains("is it the right file?"));
    }

    #[test]
    fn a_token_loses_what_was_put_around_it_and_is_refused_with_anything_else_that_no_header_carries() {
        let dir = tempfile::tempdir().unwrap();
        let (mut args, file) = (args(dir.path()), dir.path().join("token"));
        args.token_file = Some(file.clone());
        for bytes in [&b"abc\n"[..], b"\xef\xbb\xbfabc\r\n", b" abc\t\r", b"abc"] {
            std::fs::write(&file, bytes).unwrap();
            let secret = args.client().unwrap().secret().unwrap();
            assert!(secret.is(b"abc"), "{bytes:?}");
        }
        for (bytes, said) in
            [(&b"abc\ndef\n"[..], "u{a}"), (b"abc\0", "u{0}"), (b"\xff\xfea\0b\0", "UTF-16"), (b"\xc3\xa4", "u{e4}")]
        {
            std::fs::write(&file, bytes).unwrap();
            let reason = args.client().err().unwrap().to_string();
            assert!(reason.contains(said) && reason.contains(file.to_str().unwrap()), "{reason}");
        }
    }

    #[test]
    fn a_token_goes_to_the_hub_of_its_folder_and_to_addresses_that_were_named() {
        let open = |access: &Access| *access == Access::Open;
        let mut args = TargetArgs { control: None, data: None, data_dir: None, token_file: None };
        assert!(open(&args.access_to_folder(Some(Source::Folder))));
        assert!(matches!(args.access_to_folder(Some(Source::Named)), Access::Withheld(_)), "nobody named .sheratan");
        assert!(open(&args.access_to_default(Some(Source::Named))) && open(&args.access_to_default(None)));
        assert!(matches!(args.access_to_default(Some(Source::Folder)), Access::NoHub(_)), "its hub does not run");
        args.data_dir = Some("somewhere".into());
        assert!(open(&args.access_to_folder(Some(Source::Named))));
        assert!(matches!(args.access_to_default(None), Access::NoHub(_)));
    }
}
