//! The configuration's tests: who wins, and what is refused in which words.

use super::*;

struct Given<'a> {
    toml: &'a str,
    variables: &'a [(&'a str, &'a str)],
    flags: &'a [(&'static str, &'a str)],
}

const NOTHING: Given = Given { toml: "", variables: &[], flags: &[] };

fn load(given: &Given) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, given.toml).unwrap();
    let variables = given.variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let settings = given.flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Config::load_from(&Flags { config: None, settings }, variables, &path)
        .map_err(|error| ConfigError(error.0.replace(path.to_str().unwrap(), "hub.toml")))
}

fn refusal(given: &Given) -> String {
    load(given).err().expect("it is refused").to_string()
}

#[test]
fn without_anything_said_the_defaults_are_those_of_the_wire_contract() {
    let config = load(&NOTHING).unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.addrs.control.to_string(), "127.0.0.1:8787");
    assert_eq!(config.addrs.data.to_string(), "127.0.0.1:8788");
    assert_eq!(config.data_dir, Path::new(".sheratan"));
    assert!(config.is_token_required && config.token.is_none() && config.is_integrity_required);
    assert_eq!((config.backpressure_status, config.auth_failures_max), (429, 60));
    assert_eq!(config.http, http::Limits::default());
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let depth = |given: &Given| {
        let config = load(given).unwrap();
        let described = config.describe().into_iter().find(|setting| setting.name == "max_queue_depth").unwrap();
        (config.limits.queue_depth_max, described.source.replace(char::is_numeric, ""))
    };
    let file = Given { toml: "max_queue_depth = 1", ..NOTHING };
    let environment = Given { variables: &[("SHERATAN_MAX_QUEUE_DEPTH", "2")], ..file };
    let flag = Given { flags: &[("max_queue_depth", "3")], ..environment };
    assert_eq!(depth(&NOTHING).0, 100_000);
    assert_eq!(depth(&file).0, 1);
    assert_eq!(depth(&environment), (2, "environment".into()));
    assert_eq!(depth(&flag), (3, "flag".into()));
}

#[test]
fn sizes_have_units_and_flags_two_spellings() {
    let config = load(&Given {
        toml: "max_queue_bytes = \"2 MiB\"\nmax_body_bytes = 65536\nresult_integrity_required = false",
        ..NOTHING
    });
    let config = config.unwrap();
    assert_eq!((config.limits.queue_bytes_max, config.http.body_bytes_max), (2 << 20, 65_536));
    assert!(!config.is_integrity_required);
}

#[test]
fn what_is_not_understood_is_said_in_one_line_with_what_would_do() {
    let number = "must be a whole number from 1 to 1099511627776";
    let table: &[(Given, String)] = &[
        (
            Given { toml: "max_queue_dept = 1", ..NOTHING },
            "hub.toml: max_queue_dept: there is no such setting (did you mean max_queue_depth?)".into(),
        ),
        (Given { toml: "something = 1", ..NOTHING }, "hub.toml: something: there is no such setting".into()),
        (Given { toml: "max_queue_depth = 0", ..NOTHING }, format!("hub.toml: max_queue_depth {number}")),
        (Given { toml: "max_queue_depth = [1]", ..NOTHING }, format!("hub.toml: max_queue_depth {number}")),
        (Given { toml: "[queue]\nmax = 1", ..NOTHING }, "hub.toml: queue: there is no such setting".into()),
        (
            Given { variables: &[("SHERATAN_MAX_QUEUE_DEPTH", "many")], ..NOTHING },
            format!("environment: SHERATAN_MAX_QUEUE_DEPTH {number}"),
        ),
        (
            Given { variables: &[("SHERATAN_NODE_TTL", "1")], ..NOTHING },
            "environment: SHERATAN_NODE_TTL: there is no such setting".into(),
        ),
        (
            Given { flags: &[("control_addr", "8787")], ..NOTHING },
            "flag: --control-addr must be an address with a port, such as 127.0.0.1:8787".into(),
        ),
        (
            Given { flags: &[("backpressure_mode", "500")], ..NOTHING },
            "flag: --backpressure-mode must be 429 or 503".into(),
        ),
        (
            Given { flags: &[("node_ttl_sec", "700")], ..NOTHING },
            "node_ttl_sec (700) must not be above node_dead_sec (600)".into(),
        ),
        (
            Given { variables: &[("SHERATAN_HUB_TOKEN_NEXT", "x")], ..NOTHING },
            "environment: SHERATAN_HUB_TOKEN_NEXT: this release of the hub does not support it; take it out".into(),
        ),
        (
            Given { variables: &[("SHERATAN_HUB_TOKEN", "a"), ("SHERATAN_HUB_TOKEN_FILE", "b")], ..NOTHING },
            "environment: SHERATAN_HUB_TOKEN_FILE and SHERATAN_HUB_TOKEN are both set; keep one of them".into(),
        ),
        (
            Given { flags: &[("result_integrity_mode", "hmac")], ..NOTHING },
            "result_integrity_mode is hmac, but there is no key: set SHERATAN_RESULT_HMAC_KEY or result_hmac_key_file"
                .into(),
        ),
    ];
    for (given, message) in table {
        assert!(refusal(given).starts_with(message.as_str()), "{}\n{message}", refusal(given));
        assert_eq!(refusal(given).lines().count(), 1);
    }
    let broken = refusal(&Given { toml: "a = 1\nhub_token = \"secret", ..NOTHING });
    assert!(broken.starts_with("hub.toml: line 2 is no TOML") && !broken.contains("secret"), "{broken}");
}

#[test]
fn an_address_that_others_reach_needs_a_token_that_cannot_be_guessed() {
    let flags: &[_] = &[("data_addr", "0.0.0.0:8788")];
    let message = "0.0.0.0:8788 is not a loopback address: set a token of at least 16 bytes";
    assert!(refusal(&Given { flags, ..NOTHING }).starts_with(message));
    let with = |token| Given { flags, variables: token, ..NOTHING };
    assert!(refusal(&with(&[("SHERATAN_HUB_TOKEN", "123456789012345")])).starts_with(message));
    assert!(load(&with(&[("SHERATAN_HUB_TOKEN", "1234567890123456")])).is_ok());
    assert!(load(&with(&[("SHERATAN_HUB_TOKEN_ACTIVE", "1234567890123456")])).is_ok());
    let open = with(&[("SHERATAN_HUB_TOKEN", "1234567890123456"), ("SHERATAN_HUB_TOKEN_REQUIRED", "0")]);
    assert!(refusal(&open).starts_with("hub_token_required is 0, but 0.0.0.0:8788 is not a loopback address"));
    assert!(load(&Given { variables: &[("SHERATAN_HUB_TOKEN_REQUIRED", "0")], ..NOTHING }).is_ok());
}

#[test]
fn a_secret_is_described_by_its_digest() {
    let config = load(&Given { variables: &[("SHERATAN_HUB_TOKEN", "hunter2hunter2hunter2")], ..NOTHING }).unwrap();
    let all: String = config.describe().iter().map(|setting| format!("{setting:?}")).collect();
    assert!(all.contains("sha256:") && !all.contains("hunter2"));
}

#[test]
fn a_secret_in_a_file_is_read_without_the_line_end_and_an_unreadable_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "1234567890123456\n").unwrap();
    let variables = [("SHERATAN_HUB_TOKEN_FILE", path.to_str().unwrap())];
    let config = load(&Given { variables: &variables, ..NOTHING }).unwrap();
    assert!(config.token.unwrap().is(b"1234567890123456"));
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&Given { variables: &variables, ..NOTHING }).starts_with("hub_token_file: "));
}

#[test]
fn every_default_is_what_its_setting_takes() {
    for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
        let mut values = Values::defaults();
        assert!(values.set(setting, setting.default.to_owned(), Source::Flag).is_ok(), "{}", setting.name);
    }
}
