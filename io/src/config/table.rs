//! The table of settings: each with its name, its default and its type. Flags, environment variables, `hub.toml` and
//! the documentation are generated from it, so that they cannot disagree.

/// The type of a setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// An address with a port.
    Addr,
    /// A path.
    Path,
    /// A path, or nothing.
    OptionalPath,
    /// A whole number in a range.
    Number(u64, u64),
    /// A size in bytes, with an optional KiB, MiB or GiB, in a range.
    Bytes(u64, u64),
    /// 0 or 1, also true or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A level, or a list of targets with levels.
    LogLevel,
    /// A secret: never a flag, since other users can see a process's flags.
    Secret,
    /// The path of a file that holds a secret.
    SecretFile,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in `hub.toml`; the flag has dashes, the variable is `SHERATAN_` and capitals.
    pub name: &'static str,
    /// Its default.
    pub default: &'static str,
    /// Its type.
    pub takes: Takes,
    /// Its description.
    pub help: &'static str,
}

const fn setting(name: &'static str, default: &'static str, takes: Takes, help: &'static str) -> Setting {
    Setting { name, default, takes, help }
}

const YEAR_SEC: u64 = 366 * 86_400;

/// Nodes: 5 GB of records.
const NODES_MANY: u64 = 10_000_000;

const MANY: u64 = 1 << 40;
const GIB: u64 = 1 << 30;

/// All settings, in the order of the documentation.
pub const SETTINGS: &[Setting] = &[
    setting("control_addr", "127.0.0.1:8787", Takes::Addr, "Address of the control plane: nodes and operators"),
    setting("data_addr", "127.0.0.1:8788", Takes::Addr, "Address of the data plane: clients and workers"),
    setting("data_dir", ".sheratan", Takes::Path, "Folder of the journal, the logs and the token"),
    setting(
        "hub_token",
        "",
        Takes::Secret,
        "The token; without one the hub makes its own in <data-dir>/secrets/hub_token",
    ),
    setting("hub_token_file", "", Takes::SecretFile, "File that holds the token"),
    setting("hub_token_required", "1", Takes::Flag, "0 lets anybody in; only where both planes are on loopback"),
    setting("node_ttl_sec", "120", Takes::Number(1, YEAR_SEC), "A node is STALE when it was not heard of for so long"),
    setting("node_dead_sec", "600", Takes::Number(1, YEAR_SEC), "A node is DEAD when it was not heard of for so long"),
    setting(
        "max_queue_depth",
        "100000",
        Takes::Number(1, MANY),
        "Jobs that may wait; then submits are refused with backpressure",
    ),
    setting("max_queue_bytes", "1GiB", Takes::Bytes(1_024, MANY), "Bytes of jobs that are not final"),
    setting("max_inflight", "10000", Takes::Number(1, MANY), "Jobs that may be under lease"),
    setting("max_nodes", "100000", Takes::Number(1, NODES_MANY), "Nodes that may be known"),
    setting("max_node_bytes", "256MiB", Takes::Bytes(1_000, MANY), "Bytes of what nodes say of themselves"),
    setting("max_leases_per_node", "1000", Takes::Number(1, MANY), "Jobs that may be under lease at one node"),
    setting(
        "backpressure_mode",
        "429",
        Takes::Word(&["429", "503"]),
        "Status of a submit that is refused with backpressure",
    ),
    setting(
        "lease_timeout_sec",
        "300",
        Takes::Number(1, 86_400),
        "How long a lease lasts when neither job nor pull says",
    ),
    setting("retry_max_attempts", "5", Takes::Number(1, 100), "Attempts of a job that does not say"),
    setting(
        "retry_backoff_base_ms",
        "500",
        Takes::Number(1, 86_400_000),
        "Delay of the first retry; it doubles with each",
    ),
    setting("retry_backoff_cap_ms", "15000", Takes::Number(1, 86_400_000), "Longest delay of a retry"),
    setting(
        "idempotency_ttl_sec",
        "86400",
        Takes::Number(1, YEAR_SEC),
        "How long a key is remembered after its job ended",
    ),
    setting(
        "idempotency_max_cached_bytes",
        "16384",
        Takes::Bytes(0, GIB),
        "Largest result that is remembered with its key",
    ),
    setting("idempotency_store_max_items", "1000000", Takes::Number(1, MANY), "Keys that are remembered"),
    setting(
        "idempotency_store_max_bytes",
        "512MiB",
        Takes::Bytes(0, MANY),
        "Bytes of keys and of the results remembered with them; beyond it the oldest results are forgotten",
    ),
    setting(
        "idempotency_floor_sec",
        "600",
        Takes::Number(0, YEAR_SEC),
        "How long after its job's end a key makes no room for another, though keys are too many",
    ),
    setting(
        "result_integrity_mode",
        "sha256",
        Takes::Word(&["sha256", "hmac"]),
        "What a result's integrity is checked by",
    ),
    setting("result_integrity_required", "1", Takes::Flag, "Whether a result without integrity is refused"),
    setting("result_hmac_key", "", Takes::Secret, "Key of results' signatures, for mode hmac"),
    setting("result_hmac_key_file", "", Takes::SecretFile, "File that holds the key of results' signatures"),
    setting("job_retention_sec", "86400", Takes::Number(1, YEAR_SEC), "How long a job that ended stays readable"),
    setting("retained_jobs_max", "1000000", Takes::Number(0, MANY), "Jobs that ended and stay readable"),
    setting("retained_bytes_max", "1GiB", Takes::Bytes(0, MANY), "Bytes of jobs that ended and stay readable"),
    setting("dlq_max_items", "100000", Takes::Number(0, MANY), "Dead jobs that stay readable"),
    setting("dlq_max_bytes", "256MiB", Takes::Bytes(0, MANY), "Bytes of dead jobs that stay readable"),
    setting("max_body_bytes", "1MiB", Takes::Bytes(1_000, 32 << 20), "Largest body of a request"),
    setting(
        "auth_fail_limit",
        "60",
        Takes::Number(1, 1_000_000),
        "Failures to authenticate a minute from one address, but loopback",
    ),
    setting("metrics_public", "0", Takes::Flag, "1 lets other machines read the metrics without the token"),
    setting("max_connections", "65536", Takes::Number(1, 1_000_000), "Connections at once"),
    setting("idle_timeout_sec", "75", Takes::Number(1, 86_400), "How long a connection may be idle"),
    setting(
        "event_stream_bytes",
        "256KiB",
        Takes::Bytes(4_096, 64 << 20),
        "Events that may wait for a client of /api/events that reads too slowly; beyond it is dropped",
    ),
    setting("journal_segment_bytes", "64MiB", Takes::Bytes(1 << 20, GIB), "Size of one file of the journal"),
    setting(
        "trace_max_bytes",
        "256MiB",
        Takes::Bytes(0, MANY),
        "Size of <data-dir>/trace: what was refused or found nothing, for `what if`; 0 keeps none",
    ),
    setting("log_level", "info", Takes::LogLevel, "error, warn, info, debug, trace, or a list of targets with levels"),
    setting("log_file_bytes", "16MiB", Takes::Bytes(4_096, GIB), "Size at which <data-dir>/logs/hub.jsonl is rotated"),
    setting(
        "log_files_kept",
        "8",
        Takes::Number(0, 1_000),
        "Older log files that are kept: hub.jsonl.1 and so on, the highest number is the latest",
    ),
    setting("audit_file_bytes", "16MiB", Takes::Bytes(4_096, GIB), "Size at which the audit log is rotated"),
    setting(
        "audit_files_kept",
        "64",
        Takes::Number(0, 10_000),
        "Older files of the audit log that are kept; the highest number is the latest",
    ),
    setting(
        "alert_rules_file",
        "",
        Takes::OptionalPath,
        "File of alert rules; without one <data-dir>/alert_rules.json, if it is there",
    ),
    setting(
        "alert_file_bytes",
        "4MiB",
        Takes::Bytes(4_096, GIB),
        "Size at which <data-dir>/logs/alerts.jsonl is rotated",
    ),
    setting("alert_files_kept", "16", Takes::Number(0, 10_000), "Older files of alerts that are kept"),
    setting(
        "alert_webhook_url",
        "",
        Takes::Secret,
        "URL that alerts are posted to, as an Alertmanager posts or takes them",
    ),
    setting("alert_webhook_url_file", "", Takes::SecretFile, "File that holds the webhook's URL"),
];

/// Aliases of settings, which the wire contract defines.
pub const ALIASES: &[(&str, &str)] = &[("hub_token_active", "hub_token"), ("hub_token_active_file", "hub_token_file")];

/// Settings of the wire contract that this release does not support. They are refused rather than ignored, since an
/// operator who sets one relies on it.
pub const LATER: &[&str] = &[
    "hub_token_next",
    "hub_token_next_file",
    "hub_token_rotation_until",
    "hub_token_rotation_until_file",
    "dlq_enabled",
    "attestation_flip_window_sec",
    "attestation_flip_threshold",
];

/// Those of [`LATER`] that hold a secret or name a file of one: they may be set, so they must not be shown.
pub const LATER_SECRETS: &[(&str, Takes)] =
    &[("hub_token_next", Takes::Secret), ("hub_token_next_file", Takes::SecretFile)];

/// Variables with the hub's prefix that are not settings: those that a worker sets for the command of a job, which may
/// start a hub, and the one by which the scripts find the binary.
pub const NOT_SETTINGS: &[&str] = &["SHERATAN_JOB_ID", "SHERATAN_JOB_KIND", "SHERATAN_ATTEMPT", "SHERATAN_HUB"];

impl Setting {
    /// The flag, without its dashes in front.
    pub fn flag(&self) -> Option<String> {
        (self.takes != Takes::Secret).then(|| self.name.replace('_', "-"))
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        super::values::variable(self.name)
    }

    /// Whether its value is never shown.
    pub fn is_secret(&self) -> bool {
        self.takes == Takes::Secret
    }
}

impl Takes {
    /// The allowed values, in words.
    pub fn words(self) -> String {
        match self {
            Takes::Addr => "an address with a port, such as 127.0.0.1:8787".into(),
            Takes::Path | Takes::SecretFile | Takes::OptionalPath => "a path, not empty".into(),
            Takes::Number(min, max) => format!("a whole number from {min} to {max}"),
            Takes::Bytes(min, max) => format!("a size from {min} to {max} bytes, such as 65536, 64KiB, 16MiB or 1GiB"),
            Takes::Flag => "0 or 1".into(),
            Takes::Word(words) => words.join(" or "),
            Takes::LogLevel => {
                "error, warn, info, debug or trace, or a list such as info,sheratan_io::journal=debug".into()
            }
            Takes::Secret => "of visible ASCII characters, at least one".into(),
        }
    }

    /// The name of a flag's value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Takes::Addr => "ADDR",
            Takes::Path => "FOLDER",
            Takes::OptionalPath => "FILE",
            Takes::Number(..) => "N",
            Takes::Bytes(..) => "BYTES",
            Takes::Flag => "0|1",
            Takes::Word(["429", _]) => "429|503",
            Takes::Word(_) => "WORD",
            Takes::LogLevel => "LEVEL",
            Takes::Secret => "SECRET",
            Takes::SecretFile => "FILE",
        }
    }
}
