//! Configuration: built-in defaults, then `hub.toml`, then the environment, then flags; the later wins.
//!
//! Everything is read before anything is done, and an invalid or unknown setting is an error: a hub that starts with a
//! misread setting is worse than one that does not start.

mod known;
mod limit;
mod spelling;
pub mod table;
mod values;

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;

pub use known::{is_secret_variable, known_secrets};
pub use limit::Changes;
use sheratan_core::{KindRules, Millis, Name, Utc, Weight};

use crate::alerts::{self, WebhookUrl};
use crate::audit;
use crate::http;
use crate::logs;
use crate::platform;
use crate::policy_files;
use crate::result_keys::ResultKeys;
use crate::rfc3339;
use crate::secret::{Secret, SecretFileError};
use crate::service::PlaneAddrs;
use crate::token::{TOKEN_BYTES_MIN, Token, TokenError};
use crate::trace;
use sheratan_core::integrity::checksum::Mode;
use sheratan_core::limits::Limits;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use table::{SETTINGS, ValueType};
use values::{Source, Values};
use zeroize::Zeroizing;

/// The file of settings without `--config`.
const FILE: &str = "hub.toml";

/// The flags of `serve`: `--config`, and one for each setting that is not a secret.
#[derive(Clone, Default, Debug)]
pub struct Flags {
    /// The file to read instead of `hub.toml`.
    pub config: Option<PathBuf>,
    /// The settings given as flags.
    pub settings: Vec<(&'static str, String)>,
}

/// The configuration of a hub.
pub struct Config {
    /// The planes' addresses.
    pub addrs: PlaneAddrs,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The token that the operator provides.
    pub token: Option<Token>,
    /// The token that replaces it, and until when both are accepted.
    pub token_rotation: Option<(Token, Utc)>,
    /// Whether a token is required.
    pub is_token_required: bool,
    /// The hub's limits.
    pub limits: Limits,
    /// The rules of kinds that the file has.
    pub kinds: BTreeMap<Name, KindRules>,
    /// Weights of clients or kinds that take turns; none are set if it is empty.
    pub weights: Vec<Weight>,
    /// The status of `backpressure`.
    pub backpressure_status: u16,
    /// The time to live of a job that names none.
    pub job_ttl: Option<Millis>,
    /// Whether idempotency keys are looked at.
    pub is_idempotency_enabled: bool,
    /// How a result's integrity is checked.
    pub integrity_mode: Mode,
    /// Whether a result without integrity is refused.
    pub is_integrity_required: bool,
    /// The keys of results' signatures.
    pub result_keys: ResultKeys,
    /// Authentication failures a minute from one address.
    pub auth_failures_max: u32,
    /// Whether this machine is exempt from that limit: it is, unless the operator sets it.
    pub is_loopback_exempt: bool,
    /// Names of this hub, beside those of this machine, that a request without a token may name.
    pub host_names: Vec<String>,
    /// Whether other machines may read the metrics without the token.
    pub is_metrics_public: bool,
    /// How long a start waits for the machine's clock to be set.
    pub clock_wait: Duration,
    /// Bounds of a connection.
    pub http: http::Limits,
    /// The most connections at a time.
    pub connections_max: usize,
    /// The most connections from one address; a part of all if absent.
    pub connections_per_address_max: Option<usize>,
    /// Bytes that all connections together may hold.
    pub buffered_bytes_max: usize,
    /// Size of the journal's segments.
    pub segment_bytes: u64,
    /// The trace's folder and size, unless it is disabled.
    pub trace: Option<trace::Settings>,
    /// The logs' files and level.
    pub logs: logs::Settings,
    /// The audit log's files.
    pub audit: audit::Settings,
    /// The alerts' files and webhook.
    pub alerts: alerts::Settings,
    /// The file of alert rules, if the operator named one.
    pub alert_rules_file: Option<PathBuf>,
    /// The folder of policies that are added at a start.
    pub policy_dir: PathBuf,
    /// The file of settings that was read.
    pub file: Option<PathBuf>,
    /// Warnings for the operator, a line each.
    pub notices: Vec<String>,
    values: Values,
}

/// A configuration that cannot be used: one line with the source, the setting and the allowed values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

/// One effective setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Described {
    /// Its name; that of a rule of a kind is `kinds.resize.max_inflight`.
    pub name: String,
    /// Its value; for a secret the start of its digest.
    pub value: String,
    /// The source of the value.
    pub source: String,
}

impl Config {
    /// Reads the configuration of this process.
    ///
    /// # Errors
    /// One line that names the source, the setting and the allowed values; never the value.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        let mut config = Config::from_values(Config::read(flags, std::env::vars_os(), Path::new(FILE))?)?;
        let path = flags.config.clone().unwrap_or_else(|| FILE.into());
        config.file = path.exists().then_some(path);
        Ok(config)
    }

    /// Reads a configuration from the text of a file and from variables, instead of this process's own.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(
        file: &Path,
        text: &str,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut values = Values::defaults();
        values.read_toml(file.to_owned(), text)?;
        values.read_environment(variables)?;
        Config::from_values(values)
    }

    fn read(
        flags: &Flags,
        variables: impl Iterator<Item = (OsString, OsString)>,
        file: &Path,
    ) -> Result<Values, ConfigError> {
        let mut values = Values::defaults();
        let path = flags.config.as_deref().unwrap_or(file);
        if flags.config.is_none() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if path.exists() {
                check_ours(&[path, folder], "--config")?;
            }
        }
        match std::fs::read_to_string(path) {
            Ok(text) => values.read_toml(path.to_owned(), &Zeroizing::new(text))?,
            Err(error) if flags.config.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConfigError::new(format!("{} cannot be read: {error}", path.display()))),
        }
        values.warnings = values.read_environment(variables)?;
        for (name, text) in &flags.settings {
            let setting = SETTINGS.iter().find(|setting| setting.name == *name).expect("flags are made from the table");
            values.set(setting, text.clone(), Source::Flag)?;
        }
        Ok(values)
    }

    /// Whether other machines reach the hub with a token that is shorter than it should be.
    pub fn has_short_token(&self) -> bool {
        self.token.as_ref().is_some_and(|token| is_short(&self.addrs, token))
    }

    /// All effective settings, and the rules of kinds that the file has.
    pub fn describe(&self) -> Vec<Described> {
        let describe = |setting: &table::Setting| {
            let (_, source) = self.values.get(setting.name);
            Described { name: setting.name.to_owned(), value: self.values.shown(setting), source: source.to_string() }
        };
        let rules = self.values.kinds.iter().flat_map(|(name, kind)| {
            kind.shown.iter().map(move |(key, value)| Described {
                name: format!("kinds.{name}.{key}"),
                value: value.clone(),
                source: kind.source.to_string(),
            })
        });
        SETTINGS.iter().map(describe).chain(rules).collect()
    }

    fn from_values(values: Values) -> Result<Self, ConfigError> {
        let addrs = PlaneAddrs { control: values.addr("control_addr"), data: values.addr("data_addr") };
        let token = secret(&values, "hub_token", "hub_token_file")?
            .map(|secret| Token::new(secret).map_err(|error| ConfigError::new(named_token(&values, &error))))
            .transpose()?;
        let token_rotation = token_rotation(&values, token.as_ref())?;
        let is_token_required = values.flag("hub_token_required");
        check_addrs(&addrs)?;
        let tokens = token.iter().chain(token_rotation.iter().map(|(next, _)| next));
        let shortest = tokens.min_by_key(|token| token.secret().len()).filter(|_| token.is_some());
        check_exposure(&addrs, shortest, is_token_required, values.number("hub_token_bytes_min") as usize)?;
        let integrity_mode = Mode::from_word(values.get("result_integrity_mode").0).expect("the word was checked");
        let result_keys = result_keys(&values)?;
        if integrity_mode == Mode::Hmac && result_keys.is_empty() {
            return Err(ConfigError::new(
                "result_integrity_mode is hmac, but there is no key: set SHERATAN_RESULT_HMAC_KEY or result_hmac_key_file".into(),
            ));
        }
        let data_dir = PathBuf::from(values.get("data_dir").0);
        if matches!(values.get("data_dir").1, Source::Default) {
            let secrets = data_dir.join("secrets");
            check_ours(&[&data_dir, &secrets, &secrets.join("hub_token")], "--data-dir")?;
        }
        let notices = notices(&values, &data_dir, &addrs, token.as_ref());
        Ok(Config {
            addrs,
            token,
            token_rotation,
            is_token_required,
            limits: limit::limits(|name| values.limit(name))?,
            backpressure_status: if matches!(values.get("backpressure_mode").0, "503" | "defer") { 503 } else { 429 },
            job_ttl: Some(values.number("queue_item_ttl_sec")).filter(|secs| *secs > 0).map(Millis::from_secs),
            is_idempotency_enabled: values.flag("idempotency_enabled"),
            integrity_mode,
            is_integrity_required: values.flag("result_integrity_required"),
            result_keys,
            auth_failures_max: values.number("auth_fail_limit") as u32,
            clock_wait: Duration::from_secs(values.number("clock_wait_sec")),
            is_loopback_exempt: *values.get("auth_fail_limit").1 == Source::Default,
            host_names: values.get("host_names").0.split(',').map(|name| name.trim().to_ascii_lowercase()).collect(),
            kinds: values.kinds.iter().map(|(name, kind)| (name.clone(), kind.rules.clone())).collect(),
            weights: values::weights(values.get("fair_weights").0).expect("values are well formed"),
            is_metrics_public: values.flag("metrics_public"),
            http: http::Limits {
                body_bytes_max: values.number("max_body_bytes") as usize,
                idle_timeout_ms: Millis::from_secs(values.number("idle_timeout_sec")),
                stream_bytes_max: values.number("event_stream_bytes") as usize,
                ..http::Limits::default()
            },
            connections_max: values.number("max_connections") as usize,
            connections_per_address_max: Some(values.number("max_connections_per_address") as usize)
                .filter(|max| *max > 0),
            buffered_bytes_max: values.number("max_buffered_bytes") as usize,
            segment_bytes: values.number("journal_segment_bytes"),
            trace: Some(values.number("trace_max_bytes"))
                .filter(|bytes_max| *bytes_max > 0)
                .map(|bytes_max| trace::Settings { folder: trace::path(&data_dir), bytes_max }),
            logs: logs::Settings {
                path: data_dir.join("logs").join("hub.jsonl"),
                bytes_max: values.number("log_file_bytes"),
                kept: values.number("log_files_kept") as u32,
                level: values.get("log_level").0.to_owned(),
            },
            audit: audit::Settings {
                path: audit::path(&data_dir),
                bytes_max: values.number("audit_file_bytes"),
                kept: values.number("audit_files_kept") as u32,
            },
            alerts: alerts::Settings {
                path: alerts::path(&data_dir),
                bytes_max: values.number("alert_file_bytes"),
                kept: values.number("alert_files_kept") as u32,
                webhook: webhook(&values)?,
            },
            policy_dir: values.text("policy_dir").map_or_else(|| policy_files::folder_of(&data_dir), PathBuf::from),
            alert_rules_file: values.text("alert_rules_file").map(PathBuf::from),
            notices,
            data_dir,
            file: None,
            values,
        })
    }
}

impl ConfigError {
    /// An error of one line: keys come from files and from the environment, with whatever is in them.
    fn new(message: String) -> Self {
        let mut line = String::with_capacity(message.len());
        for c in message.chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        ConfigError(line)
    }
}

/// A secret in a setting, or in the file that another setting names.
fn secret(values: &Values, name: &str, file_name: &str) -> Result<Option<Secret>, ConfigError> {
    if let Some(text) = values.text(name) {
        return Ok(Some(Secret::new(text.as_bytes())));
    }
    let Some(path) = values.text(file_name) else { return Ok(None) };
    let secret = Secret::read(Path::new(path));
    secret.map(Some).map_err(|error| ConfigError::new(format!("{file_name}: {path} {error}")))
}

/// The keys of results, and their rotation.
fn result_keys(values: &Values) -> Result<ResultKeys, ConfigError> {
    let active = secret(values, "result_hmac_key", "result_hmac_key_file")?;
    let (next, until) = rotation(values, "result_hmac_key")?;
    ResultKeys::new(active, next, until).map_err(|error| ConfigError::new(error.to_string()))
}

/// The token that replaces the active one, and until when both are accepted.
fn token_rotation(values: &Values, active: Option<&Token>) -> Result<Option<(Token, Utc)>, ConfigError> {
    let refused = |why: &str| Err(ConfigError::new(format!("hub_token_{why}")));
    let (next, until) = match rotation(values, "hub_token")? {
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return refused("next is set, but not until when both tokens are accepted: set hub_token_rotation_until");
        }
        (None, Some(_)) => {
            return refused(
                "rotation_until is set, but there is no next token: set hub_token_next, or take the instant out",
            );
        }
        (Some(next), Some(until)) => (next, until),
    };
    if active.is_some_and(|active| active.is(next.expose())) {
        return refused("next is the same token as hub_token: a rotation needs another one");
    }
    let next = Token::new(next).map_err(|error| ConfigError::new(format!("hub_token_next: {error}")))?;
    Ok(Some((next, until)))
}

/// What replaces a secret, and until when both are accepted.
fn rotation(values: &Values, name: &str) -> Result<(Option<Secret>, Option<Utc>), ConfigError> {
    // A rotation begins and ends with what is in these files: they may be there before, and empty.
    let named = |what: &str| format!("{name}_{what}");
    let (next_file, until_file) = (named("next_file"), named("rotation_until_file"));
    let next = match values.text(&named("next")) {
        Some(text) => Some(Secret::new(text.as_bytes())),
        None => secret_if_any(values, &next_file)?,
    };
    let in_file = secret_if_any(values, &until_file)?;
    let until = match (values.text(&named("rotation_until")), &in_file) {
        (Some(text), _) => Some(rfc3339::parse(text).expect("values are well formed")),
        (None, Some(text)) => {
            let parsed = std::str::from_utf8(text.expose()).map_err(|_| rfc3339::ParseError).and_then(rfc3339::parse);
            Some(parsed.map_err(|error| ConfigError::new(format!("{until_file}: {error}")))?)
        }
        (None, None) => None,
    };
    Ok((next, until))
}

/// What a file holds, if a setting names one and it is not empty.
fn secret_if_any(values: &Values, file_name: &str) -> Result<Option<Secret>, ConfigError> {
    let Some(path) = values.text(file_name) else { return Ok(None) };
    match Secret::read(Path::new(path)) {
        Err(SecretFileError::Empty) => Ok(None),
        read => read.map(Some).map_err(|error| ConfigError::new(format!("{file_name}: {path} {error}"))),
    }
}

/// A token's error with its source.
fn named_token(values: &Values, error: &TokenError) -> String {
    match values.text("hub_token_file") {
        Some(path) => format!("hub_token_file: {path}: {error}"),
        None => format!("{}: {error}", values.get("hub_token").1),
    }
}

/// Where alerts are posted to.
fn webhook(values: &Values) -> Result<Option<WebhookUrl>, ConfigError> {
    let Some(url) = secret(values, "alert_webhook_url", "alert_webhook_url_file")? else { return Ok(None) };
    let named = |error| ConfigError::new(format!("alert_webhook_url (SHERATAN_ALERT_WEBHOOK_URL) {error}"));
    WebhookUrl::new(url).map(Some).map_err(named)
}

/// What is found in the current folder, and was not named, is used only if others cannot have put it there.
fn check_ours(paths: &[&Path], flag: &str) -> Result<(), ConfigError> {
    let foreign = |path: &&Path| Some(format!("{} {}", path.display(), platform::foreign(path)?));
    let Some(reason) = paths.iter().find_map(foreign) else { return Ok(()) };
    Err(ConfigError::new(format!(
        "{reason}: what is found in the current folder is used only if it is yours and no other can write it; if you trust {}, name it with {flag}",
        paths[0].display()
    )))
}

/// Misspelled variables, files with secrets that others can read, a data folder that others can write, and planes that
/// other machines reach without TLS.
fn notices(values: &Values, data_dir: &Path, addrs: &PlaneAddrs, token: Option<&Token>) -> Vec<String> {
    let secrets = SETTINGS.iter().filter_map(|setting| match (setting.value_type, values.get(setting.name)) {
        (ValueType::Secret, (_, Source::File(path))) => Some((path.as_path(), setting.name)),
        (ValueType::SecretFile, (path, _)) if !path.is_empty() => Some((Path::new(path), setting.name)),
        _ => None,
    });
    // A file that was removed meanwhile was read already.
    let open = secrets.filter(|(path, _)| platform::is_open_to_others(path).unwrap_or(false));
    let open = open
        .map(|(path, name)| format!("others can read {}, which holds a secret ({name}): chmod 600 it", path.display()));
    let foreign = platform::foreign(data_dir);
    let foreign = foreign.map(|reason| format!("the data folder {} {reason}", data_dir.display()));
    let exposed = exposed(addrs).map(|addr| {
        format!(
            "other machines reach {addr} over plain HTTP, which shows the token to the network: put a TLS proxy, a VPN or a tunnel in front"
        )
    });
    let short = token.filter(|token| is_short(addrs, token)).map(|token| {
        format!(
            "the token has {} bytes, and other machines reach this hub: one of less than {TOKEN_BYTES_MIN} can be guessed (hub_token_bytes_min allows it)",
            token.secret().len()
        )
    });
    values.warnings.iter().cloned().chain(open).chain(foreign).chain(exposed).chain(short).collect()
}

/// The addresses that other machines reach.
fn exposed(addrs: &PlaneAddrs) -> impl Iterator<Item = SocketAddr> + use<> {
    [addrs.control, addrs.data].into_iter().filter(|addr| !addr.ip().to_canonical().is_loopback())
}

/// Whether other machines reach a hub with a token that is shorter than it should be.
fn is_short(addrs: &PlaneAddrs, token: &Token) -> bool {
    token.secret().len() < TOKEN_BYTES_MIN && exposed(addrs).next().is_some()
}

/// Each plane needs an address of its own: on a shared one the second could not listen.
fn check_addrs(addrs: &PlaneAddrs) -> Result<(), ConfigError> {
    if addrs.control == addrs.data && addrs.control.port() != 0 {
        let message = format!("control_addr and data_addr are both {}: give each a port of its own", addrs.control);
        return Err(ConfigError::new(message));
    }
    Ok(())
}

/// If other machines can reach the hub, it must require a token that cannot be guessed.
fn check_exposure(
    addrs: &PlaneAddrs,
    token: Option<&Token>,
    is_token_required: bool,
    bytes_min: usize,
) -> Result<(), ConfigError> {
    if let Some(addr) = exposed(addrs).next() {
        if !is_token_required {
            return Err(ConfigError::new(format!(
                "hub_token_required is 0, but {addr} is not a loopback address: others could reach the hub without a token"
            )));
        }
        if token.is_none_or(|token| token.secret().len() < bytes_min) {
            return Err(ConfigError::new(format!(
                "{addr} is not a loopback address: set a token of at least {bytes_min} bytes with SHERATAN_HUB_TOKEN or --hub-token-file"
            )));
        }
    }
    Ok(())
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
