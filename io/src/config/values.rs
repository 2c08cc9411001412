//! Values: the text of each setting and its source; the later source wins.

use super::ConfigError;
use super::spelling;
use super::table::{ALIASES, NOT_SETTINGS, PREFIX, SETTINGS, Setting, ValueType, variable};
use crate::rfc3339;
use crate::secret::Secret;
use crate::service::kind_rules_of_file;
use sheratan_core::limits::RULED_KINDS_MAX;
use sheratan_core::{KindRules, Name, WEIGHT_MAX, Weight};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// The source of a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The built-in default.
    Default,
    /// `hub.toml`, or the file that `--config` names.
    File(PathBuf),
    /// The environment.
    Environment,
    /// A flag.
    Flag,
}

/// The values of all settings.
pub struct Values {
    /// Some are secrets, so all are wiped from memory.
    values: BTreeMap<&'static str, (Zeroizing<String>, Source)>,
    /// What the file says of kinds.
    pub kinds: BTreeMap<Name, ConfiguredKind>,
    /// What the operator should know of the variables.
    pub warnings: Vec<String>,
}

/// What the file says of a kind.
pub struct ConfiguredKind {
    pub rules: KindRules,
    /// Its keys, and their values as the file has them.
    pub shown: Vec<(String, String)>,
    pub source: Source,
}

impl Values {
    /// The built-in values.
    pub fn defaults() -> Self {
        let values =
            SETTINGS.iter().map(|setting| (setting.name, (setting.default.to_owned().into(), Source::Default)));
        Values { values: values.collect(), kinds: BTreeMap::new(), warnings: Vec::new() }
    }

    /// Applies a `hub.toml`.
    pub fn read_toml(&mut self, path: PathBuf, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            // The parser's full message shows the line, which may hold a secret.
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            ConfigError::new(format!("{}: line {line} is no TOML: {}", path.display(), error.message()))
        })?;
        for (key, value) in table {
            let source = Source::File(path.clone());
            if key == "kinds" {
                self.read_kinds(&source, value)?;
                continue;
            }
            let setting = find(&key, &source)?;
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                _ => return Err(invalid(setting, &source)),
            };
            self.set(setting, text, source)?;
        }
        Ok(())
    }

    /// Reads the tables of kinds, such as `[kinds.resize]`.
    fn read_kinds(&mut self, source: &Source, kinds: toml::Value) -> Result<(), ConfigError> {
        let refused =
            |what: &str| ConfigError::new(format!("{source}: {what} must be a table, such as [kinds.resize]"));
        let toml::Value::Table(kinds) = kinds else { return Err(refused("kinds")) };
        for (kind, table) in kinds {
            let toml::Value::Table(table) = table else { return Err(refused(&format!("kinds.{kind}"))) };
            let wrong = |why: String| ConfigError::new(format!("{source}: [kinds.{kind}]: {why}"));
            let (name, rules) = kind_rules_of_file(&kind, &table).map_err(wrong)?;
            let shown = table.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
            let configured = ConfiguredKind { rules, shown, source: source.clone() };
            if self.kinds.insert(name, configured).is_some() {
                return Err(wrong("there is another table of this kind".to_owned()));
            }
        }
        if self.kinds.len() > RULED_KINDS_MAX {
            let kinds = self.kinds.len();
            return Err(ConfigError::new(format!("{source}: {kinds} kinds have rules; at most {RULED_KINDS_MAX} may")));
        }
        Ok(())
    }

    /// Applies the environment; returns warnings. The prefix is shared with other programs of a mesh, and service
    /// discovery puts variables there too: a variable that is none of the hub's is left alone. One that is set and
    /// empty counts as not set.
    pub fn read_environment(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Vec<String>, ConfigError> {
        let mut warnings = Vec::new();
        let mut found: Vec<_> = variables
            .filter_map(|(name, value)| Some((name.to_string_lossy().strip_prefix(PREFIX)?.to_lowercase(), value)))
            .filter(|(key, _)| !NOT_SETTINGS.contains(&&*variable(key)))
            .collect();
        found.sort();
        for (key, value) in found {
            let source = Source::Environment;
            if setting_of(&key).is_none() {
                warnings.extend(near_miss(&key));
                continue;
            }
            let text = Zeroizing::new(value.into_string().map_err(|_| not_utf8(&key))?);
            let setting = match spelling::plain(ValueType::Secret, &text) {
                "" => continue,
                _ => find(&key, &source)?,
            };
            match spelling::plain(setting.value_type, &text) {
                "" => continue,
                plain => self.set(setting, plain.to_owned(), source)?,
            }
        }
        Ok(warnings)
    }

    /// Applies one value. A secret and its file replace each other; both from one source contradict each other.
    pub fn set(&mut self, setting: &'static Setting, text: String, source: Source) -> Result<(), ConfigError> {
        let text = Zeroizing::new(text);
        if !is_well_formed(setting.value_type, &text) {
            let unseen = if setting.is_secret() { String::new() } else { spelling::unseen(&text) };
            return Err(ConfigError::new(format!("{}{unseen}", invalid(setting, &source))));
        }
        let (known, known_source) = &self.values[setting.name];
        if *known_source == source && *known != text {
            // By its own name and by an alias.
            let name = source.spells(setting.name);
            return Err(ConfigError::new(format!(
                "{source}: {name} is set twice, to different values; keep one of them"
            )));
        }
        if let Some(other) = counterpart(setting) {
            let (value, other_source) = &self.values[other.name];
            if !value.is_empty() && *other_source == source {
                let (a, b) = (source.spells(setting.name), source.spells(other.name));
                return Err(ConfigError::new(format!("{source}: {a} and {b} are both set; keep one of them")));
            }
            self.values.insert(other.name, (Zeroizing::default(), Source::Default));
        }
        self.values.insert(setting.name, (text, source));
        Ok(())
    }

    /// A setting's text to be shown; for a secret the start of its digest.
    pub fn shown(&self, setting: &Setting) -> String {
        let (text, _) = self.get(setting.name);
        let is_hidden = setting.is_secret() && !text.is_empty();
        if is_hidden { Secret::new(text.as_bytes()).to_string() } else { text.to_owned() }
    }

    /// The text of a setting; `None` if it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        Some(self.get(name).0).filter(|text| !text.is_empty())
    }

    /// An address.
    pub fn addr(&self, name: &str) -> SocketAddr {
        self.get(name).0.parse().expect("values are well formed")
    }

    /// A number, or a size in bytes.
    pub fn number(&self, name: &str) -> u64 {
        number(self.get(name).0).expect("values are well formed")
    }

    /// The value of a limit: a number or a size, 0 or 1 of a flag, or the place of a word among those allowed.
    pub fn limit(&self, name: &str) -> u64 {
        let setting = SETTINGS.iter().find(|setting| setting.name == name).expect("it is in the table");
        limit_of(setting.value_type, self.get(name).0).expect("values are well formed")
    }

    /// A flag, 0 or 1.
    pub fn flag(&self, name: &str) -> bool {
        flag(self.get(name).0).expect("values are well formed")
    }

    /// The text of a setting, and its source.
    pub fn get(&self, name: &str) -> (&str, &Source) {
        let (text, source) = self.values.get(name).unwrap_or_else(|| panic!("{name} is in the table"));
        (text, source)
    }
}

/// The setting that holds a secret for the one that names its file, and the other way round.
fn counterpart(setting: &Setting) -> Option<&'static Setting> {
    match setting.value_type {
        ValueType::Secret => SETTINGS.iter().find(|other| other.name == format!("{}_file", setting.name)),
        ValueType::SecretFile => SETTINGS.iter().find(|other| setting.name == format!("{}_file", other.name)),
        ValueType::OptionalInstant => SETTINGS.iter().find(|other| other.name == format!("{}_file", setting.name)),
        ValueType::OptionalPath => SETTINGS.iter().find(|other| {
            other.value_type == ValueType::OptionalInstant && setting.name == format!("{}_file", other.name)
        }),
        _ => None,
    }
}

/// The setting of a key.
fn find(key: &str, source: &Source) -> Result<&'static Setting, ConfigError> {
    let refused = |why: String| ConfigError::new(format!("{source}: {}: {why}", source.spells(key)));
    setting_of(key).ok_or_else(|| match nearest(key) {
        Some(name) => refused(format!("there is no such setting (did you mean {}?)", source.spells(name))),
        None if may_be_secret(key) => ConfigError::new(format!(
            "{source}: a name of {} characters: there is no such setting; it is not shown, since it may be a secret",
            key.chars().count()
        )),
        None => refused("there is no such setting".into()),
    })
}

/// Whether a key that no setting has may be a token that was written in the wrong place: it is long, and has what no
/// setting's name has.
fn may_be_secret(key: &str) -> bool {
    key.len() >= 16 && key.bytes().any(|byte| !byte.is_ascii_lowercase() && byte != b'_')
}

/// The setting of a key, by its name or an alias.
fn setting_of(key: &str) -> Option<&'static Setting> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name);
    SETTINGS.iter().find(|setting| setting.name == name)
}

/// A warning for a variable that is none of the hub's, if it may be a misspelling of one. What the service discovery of
/// Kubernetes and Docker sets is none: `…_SERVICE_HOST`, `…_PORT`, `…_PORT_8787_TCP_ADDR`.
fn near_miss(key: &str) -> Option<String> {
    let mut words = key.split('_');
    if words.any(|word| matches!(word, "service" | "port")) {
        return None;
    }
    let name = variable(nearest(key)?);
    Some(format!("the variable {} is none of the hub's and is ignored; did you mean {name}?", variable(key)))
}

fn not_utf8(key: &str) -> ConfigError {
    ConfigError::new(format!("{}: {} is not UTF-8", Source::Environment, variable(key)))
}

/// The setting that `key` may be a misspelling of: one that differs in few letters, or has more words.
fn nearest(key: &str) -> Option<&'static str> {
    let names = SETTINGS.iter().map(|setting| setting.name);
    let (distance, name) = names.clone().map(|name| (strsim::levenshtein(key, name), name)).min()?;
    let with_more_words = |name: &&str| {
        let mut words = name.split('_');
        key.split('_').all(|word| words.any(|other| other == word))
    };
    if distance <= 3 { Some(name) } else { names.clone().find(with_more_words) }
}

fn invalid(setting: &Setting, source: &Source) -> ConfigError {
    ConfigError::new(format!("{source}: {} must be {}", source.spells(setting.name), setting.value_type.words()))
}

fn is_well_formed(value_type: ValueType, text: &str) -> bool {
    match value_type {
        ValueType::Addr => text.parse::<SocketAddr>().is_ok(),
        ValueType::Path | ValueType::OptionalPath => !text.is_empty(),
        ValueType::Number(min, max) => text.parse::<u64>().is_ok_and(|number| (min..=max).contains(&number)),
        ValueType::Bytes(min, max) => number(text).is_some_and(|bytes| (min..=max).contains(&bytes)),
        ValueType::Flag => flag(text).is_some(),
        ValueType::Word(words) => words.contains(&text),
        ValueType::Names => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_, []:".contains(&byte)),
        ValueType::Weights => weights(text).is_some(),
        ValueType::LogLevel => is_log_level(text),
        // An empty one is a key that was forgotten: its operator believes that the hub has the token.
        ValueType::Secret => !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()),
        ValueType::SecretFile => !text.is_empty(),
        ValueType::OptionalInstant => rfc3339::parse(text).is_ok(),
    }
}

/// A single word must be a level: the logging library treats any other as a target, and would log nothing else.
fn is_log_level(text: &str) -> bool {
    let is_lone_level = |part: &str| {
        part.contains('=') || part.parse::<tracing_subscriber::filter::LevelFilter>().is_ok_and(|_| !part.is_empty())
    };
    text.split(',').all(|part| is_lone_level(part.trim())) && crate::logs::filter(text).is_ok()
}

/// A number, perhaps with a unit.
pub(super) fn number(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim_start() {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// The value of a limit whose setting has this type.
pub(super) fn limit_of(value_type: ValueType, text: &str) -> Option<u64> {
    match value_type {
        ValueType::Number(..) | ValueType::Bytes(..) => number(text),
        ValueType::Flag => flag(text).map(u64::from),
        ValueType::Word(words) => words.iter().position(|word| *word == text).map(|place| place as u64),
        _ => unreachable!("limits are numbers, sizes, flags or words"),
    }
}

/// Names with their weights.
pub(super) fn weights(text: &str) -> Option<Vec<Weight>> {
    let items = text.split(',').map(str::trim).filter(|_| !text.trim().is_empty());
    let weights = items.map(|item| {
        let (group, weight) = item.rsplit_once('=')?;
        let weight = weight.trim().parse().ok().filter(|weight| (1..=WEIGHT_MAX).contains(weight))?;
        Some(Weight { group: Name::new(group.trim()).ok()?, weight })
    });
    weights.collect()
}

fn flag(text: &str) -> Option<bool> {
    match &*text.to_ascii_lowercase() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

impl Source {
    /// How a key is spelled in this source.
    fn spells(&self, key: &str) -> String {
        match self {
            Source::Environment => variable(key),
            Source::Flag => format!("--{}", key.replace('_', "-")),
            Source::Default | Source::File(_) => key.to_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Environment => f.write_str("environment"),
            Source::Flag => f.write_str("flag"),
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(SETTINGS.iter().map(|setting| (setting.name, self.shown(setting)))).finish()
    }
}
