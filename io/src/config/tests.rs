//! The configuration's tests: which source wins, and which settings are refused with which message.

use super::*;

struct Given<'a> {
    toml: &'a str,
    variables: &'a [(&'a str, &'a str)],
    flags: &'a [(&'static str, &'a str)],
}

const NOTHING: Given = Given { toml: "", variables: &[], flags: &[] };

fn values(given: &Given) -> Result<Values, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.toml");
    std::fs::write(&path, given.toml).unwrap();
    let variables = given.variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    let settings = given.flags.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let values = Config::read(&Flags { config: None, settings }, variables, &path);
    values.map_err(|error| ConfigError(error.0.replace(path.to_str().unwrap(), "hub.toml")))
}

fn load(given: &Given) -> Result<Config, ConfigError> {
    Config::from_values(values(given)?)
}

fn refusal(given: &Given) -> String {
    load(given).err().expect("it is refused").to_string()
}

#[test]
fn without_settings_the_defaults_are_those_of_the_wire_contract() {
    let config = load(&NOTHING).unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.addrs.control.to_string(), "127.0.0.1:8787");
    assert_eq!(config.addrs.data.to_string(), "127.0.0.1:8788");
    assert_eq!(config.data_dir, Path::new(".sheratan"));
    assert!(config.is_token_required && config.token.is_none() && config.is_integrity_required);
    assert_eq!((config.backpressure_status, config.auth_failures_max), (429, 60));
    assert_eq!(config.http, http::Limits::default());
}

/// Three values of a setting besides its default, the third equal to the first if it only has two.
fn three_values(setting: &table::Setting) -> [&'static str; 3] {
    match setting.value_type {
        ValueType::Addr => ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"],
        ValueType::Path | ValueType::OptionalPath | ValueType::SecretFile => ["/a", "/b", "/c"],
        ValueType::Number(..) => ["11", "12", "13"],
        ValueType::Bytes(..) => ["1048577", "2MiB", "3 MiB"],
        ValueType::Flag => ["0", "1", "0"],
        ValueType::Word([a, b, ..]) => [b, a, b],
        ValueType::Word(_) => unreachable!("each has two words"),
        ValueType::Names => ["hub.example", "a, b", "[::1]"],
        ValueType::Weights => ["a=1", "a=3, b c=100", "ä=2"],
        ValueType::LogLevel => ["warn", "error", "debug"],
        ValueType::OptionalInstant => ["2026-01-01T00:00:00Z", "2026-01-02T01:00:00+01:00", "2026-01-03T00:00:00.5Z"],
        ValueType::Secret => ["a-secret-of-the-file", "a-secret-of-the-environment", "never a flag"],
    }
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default_for_each_setting() {
    for setting in SETTINGS {
        let [in_file, in_environment, in_flag] = three_values(setting);
        let variables = [(&*setting.variable(), in_environment)];
        let flags = [(setting.name, in_flag)];
        let toml = format!("{} = \"{in_file}\"", setting.name);
        let file = Given { toml: &toml, ..NOTHING };
        let environment = Given { variables: &variables, ..file };
        let mut table = vec![(&NOTHING, setting.default, "default"), (&file, in_file, "hub.toml")];
        table.push((&environment, in_environment, "environment"));
        let flag = Given { flags: &flags, ..environment };
        if setting.flag().is_some() {
            table.push((&flag, in_flag, "flag"));
        }
        for (given, text, source) in table {
            let values = values(given).unwrap();
            let (held, held_source) = values.get(setting.name);
            assert_eq!(held, text, "{}", setting.name);
            assert!(held_source.to_string().ends_with(source), "{}: {held_source}", setting.name);
        }
    }
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
fn an_invalid_setting_is_reported_in_one_line_with_the_allowed_values() {
    let number = "must be a whole number from 1 to 1099511627776";
    let table: &[(Given, String)] = &[
        (
            Given { toml: "max_queue_dept = 1", ..NOTHING },
            "hub.toml: max_queue_dept: there is no such setting (did you mean max_queue_depth?)".into(),
        ),
        (Given { toml: "something = 1", ..NOTHING }, "hub.toml: something: there is no such setting".into()),
        (
            Given { toml: "x-token-of-1234567 = 0", ..NOTHING },
            "hub.toml: a name of 18 characters: there is no such setting; it is not shown, since it may be a secret"
                .into(),
        ),
        (Given { toml: "max_queue_depth = 0", ..NOTHING }, format!("hub.toml: max_queue_depth {number}")),
        (Given { toml: "max_queue_depth = [1]", ..NOTHING }, format!("hub.toml: max_queue_depth {number}")),
        (Given { toml: "[queue]\nmax = 1", ..NOTHING }, "hub.toml: queue: there is no such setting".into()),
        (
            Given { variables: &[("SHERATAN_MAX_QUEUE_DEPTH", "many")], ..NOTHING },
            format!("environment: SHERATAN_MAX_QUEUE_DEPTH {number}"),
        ),
        (
            Given { toml: "hub_token = \"\"", ..NOTHING },
            "hub.toml: hub_token must be of visible ASCII characters, at least one".into(),
        ),
        (
            Given { variables: &[("SHERATAN_MAX_QUEUE_DEPTH", "5\u{200b}00")], ..NOTHING },
            format!("environment: SHERATAN_MAX_QUEUE_DEPTH {number} (character 2 is \\u{{200b}})"),
        ),
        (
            Given { toml: "hub_token_next = \"x\"", ..NOTHING },
            "hub_token_next is set, but not until when both tokens are accepted: set hub_token_rotation_until".into(),
        ),
        (
            Given { variables: &[("SHERATAN_HUB_TOKEN", "a"), ("SHERATAN_HUB_TOKEN_ACTIVE", "b")], ..NOTHING },
            "environment: SHERATAN_HUB_TOKEN is set twice, to different values; keep one of them".into(),
        ),
        (
            Given { flags: &[("log_level", "verbose")], ..NOTHING },
            "flag: --log-level must be error, warn, info, debug or trace, or a list such as".into(),
        ),
        (
            Given { flags: &[("control_addr", "127.0.0.1:8788")], ..NOTHING },
            "control_addr and data_addr are both 127.0.0.1:8788: give each a port of its own".into(),
        ),
        (
            Given { flags: &[("control_addr", "8787")], ..NOTHING },
            "flag: --control-addr must be an address with a port, such as 127.0.0.1:8787".into(),
        ),
        (
            Given { flags: &[("backpressure_mode", "500")], ..NOTHING },
            "flag: --backpressure-mode must be 429 or 503 or drop or defer".into(),
        ),
        (
            Given { flags: &[("node_ttl_sec", "700")], ..NOTHING },
            "node_ttl_sec (700) must not be above node_dead_sec (600)".into(),
        ),
        (
            Given { variables: &[("SHERATAN_HUB_TOKEN_NEXT", "x")], ..NOTHING },
            "hub_token_next is set, but not until when both tokens are accepted: set hub_token_rotation_until".into(),
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
fn an_address_that_other_machines_can_reach_needs_a_token_that_cannot_be_guessed() {
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
    for (addr, is_taken) in [("127.9.9.9:1", true), ("[::1]:1", true), ("[::]:1", false), ("192.0.2.1:1", false)] {
        assert_eq!(load(&Given { flags: &[("control_addr", addr)], ..NOTHING }).is_ok(), is_taken, "{addr}");
    }
}

#[test]
fn a_shorter_token_is_allowed_by_a_setting_and_warned_about() {
    let flags: &[_] = &[("data_addr", "0.0.0.0:8788")];
    let token = |text| ("SHERATAN_HUB_TOKEN", text);
    let with =
        |min, text| load(&Given { flags, variables: &[("SHERATAN_HUB_TOKEN_BYTES_MIN", min), token(text)], ..NOTHING });
    let config = with("8", "12345678").unwrap();
    assert!(config.has_short_token());
    assert!(config.notices.iter().any(|notice| notice.starts_with("the token has 8 bytes")), "{:?}", config.notices);
    assert!(with("8", "1234567").map(|_| ()).unwrap_err().to_string().contains("set a token of at least 8 bytes"));
    assert!(with("7", "12345678").map(|_| ()).unwrap_err().to_string().contains("SHERATAN_HUB_TOKEN_BYTES_MIN"));
    assert!(!with("8", "1234567890123456").unwrap().has_short_token());
    let local = load(&Given { variables: &[token("short")], ..NOTHING }).unwrap();
    assert!(!local.has_short_token() && local.notices.is_empty(), "no other machine reaches it");
}

#[test]
fn the_time_to_live_of_jobs_and_idempotency_are_set_by_the_names_in_use() {
    let with = |variables: &[_]| load(&Given { variables, ..NOTHING }).unwrap();
    let config = with(&[("SHERATAN_QUEUE_ITEM_TTL_SEC", "3600"), ("SHERATAN_IDEMPOTENCY_ENABLED", "0")]);
    assert_eq!((config.job_ttl, config.is_idempotency_enabled), (Some(Millis::from_secs(3_600)), false));
    let config = with(&[("SHERATAN_QUEUE_ITEM_TTL_SEC", "0"), ("SHERATAN_IDEMPOTENCY_ENABLED", "1")]);
    assert_eq!((config.job_ttl, config.is_idempotency_enabled), (None, true));
}

#[test]
fn a_secret_is_always_shown_by_its_digest() {
    let given = Given {
        toml: "result_hmac_key = \"hunter2-key\"",
        variables: &[("SHERATAN_HUB_TOKEN", "hunter2hunter2hunter2")],
        ..NOTHING
    };
    let config = load(&given).unwrap();
    let described: String = config.describe().iter().map(|setting| format!("{setting:?}")).collect();
    let debugged = format!("{:?} {:?} {:?}", config.values, config.token, config.result_keys);
    for shown in [described, debugged] {
        assert!(shown.matches("sha256:").count() >= 2 && !shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_refusal_never_shows_the_value_it_refuses() {
    let table: &[Given] = &[
        Given { variables: &[("SHERATAN_HUB_TOKEN", "hunter2 with a space")], ..NOTHING },
        Given { toml: "hub_token = \"hunter2 \\u0000\"", ..NOTHING },
        Given { toml: "hub_token = [\"hunter2\"]", ..NOTHING },
        Given { toml: "hub_token = \"hunter2\" hunter2", ..NOTHING },
        Given { toml: "hub_token = hunter2", ..NOTHING },
        Given { toml: "hub_token = \"hunter2\"\nhub_token = \"hunter2\"", ..NOTHING },
        Given { variables: &[("SHERATAN_HUB_TOKEN", "hunter2")], flags: &[("data_addr", "0.0.0.0:1")], ..NOTHING },
        Given { variables: &[("SHERATAN_HUB_TOKEN", "a"), ("SHERATAN_HUB_TOKEN_ACTIVE", "hunter2")], ..NOTHING },
        Given { variables: &[("SHERATAN_HUB_TOKEN_NEXT", "hunter2")], ..NOTHING },
    ];
    for given in table {
        assert!(!refusal(given).contains("hunter2"), "{}", refusal(given));
    }
}

#[test]
fn the_variables_that_a_worker_sets_for_a_jobs_command_are_not_settings() {
    let variables =
        [("SHERATAN_JOB_ID", "job_1"), ("SHERATAN_JOB_KIND", "k"), ("SHERATAN_ATTEMPT", "1"), ("PATH", "/")];
    assert!(load(&Given { variables: &variables, ..NOTHING }).is_ok());
}

#[test]
fn variables_of_other_programs_are_left_alone_and_a_near_miss_is_noticed() {
    let notices = |name: &str| load(&Given { variables: &[(name, "tcp://10.0.0.7:8787")], ..NOTHING }).unwrap().notices;
    for name in [
        "SHERATAN_HUB_SERVICE_HOST",
        "SHERATAN_HUB_SERVICE_PORT_DATA",
        "SHERATAN_HUB_PORT",
        "SHERATAN_HUB_PORT_8787_TCP_ADDR",
        "SHERATAN_DATA_PORT",
        "SHERATAN_CORE_URL",
        "SHERATAN_BUILD_ID",
        "SHERATAN_HOME",
        "SHERATAN_VERSION",
        "SHERATAN_CONFIG",
    ] {
        assert_eq!(notices(name), Vec::<String>::new(), "{name}");
    }
    for (name, meant) in [
        ("SHERATAN_NODE_TTL", "SHERATAN_NODE_TTL_SEC"),
        ("SHERATAN_TOKEN", "SHERATAN_HUB_TOKEN"),
        ("SHERATAN_MAX_QUEUE_DEPT", "SHERATAN_MAX_QUEUE_DEPTH"),
        ("SHERATAN_JOB_RETENTION", "SHERATAN_JOB_RETENTION_SEC"),
    ] {
        let notices = notices(name);
        assert!(notices.len() == 1 && notices[0].ends_with(&format!("did you mean {meant}?")), "{notices:?}");
    }
}

#[test]
fn a_variable_that_is_set_and_empty_is_not_set() {
    for setting in SETTINGS {
        for empty in ["", " ", "\r"] {
            let values = values(&Given { variables: &[(&setting.variable(), empty)], ..NOTHING }).unwrap();
            assert_eq!(values.get(setting.name), (setting.default, &Source::Default), "{}", setting.name);
        }
    }
    assert!(load(&Given { variables: &[("SHERATAN_HUB_TOKEN_NEXT", "")], ..NOTHING }).is_ok());
}

#[test]
fn variables_are_read_as_files_of_other_systems_and_other_releases_spell_them() {
    let variables = [
        ("SHERATAN_MAX_QUEUE_DEPTH", "\"500\"\r"),
        ("SHERATAN_RETRY_BASE_DELAY_MS", "700"),
        ("SHERATAN_LEASE_TIMEOUT", "'60'"),
        ("SHERATAN_RESULT_INTEGRITY", "sha256\r\n"),
        ("SHERATAN_BACKPRESSURE_MODE", "defer"),
        ("SHERATAN_RESULT_INTEGRITY_REQUIRED", "No"),
        ("SHERATAN_METRICS_PUBLIC", "Yes"),
        ("SHERATAN_HUB_TOKEN", "\u{feff}1234567890123456\r\n"),
    ];
    let config = load(&Given { variables: &variables, ..NOTHING }).unwrap();
    assert_eq!(config.limits.queue_depth_max, 500);
    assert_eq!(config.limits.retry_delay_ms_base, Millis::new(700));
    assert_eq!(config.limits.lease_duration_ms, Millis::from_secs(60));
    assert_eq!(
        (config.backpressure_status, config.is_integrity_required, config.is_metrics_public),
        (503, false, true)
    );
    assert!(config.token.unwrap().is(b"1234567890123456"));
    for (word, status) in [("drop", 429), ("429", 429), ("503", 503)] {
        let given = Given { variables: &[("SHERATAN_BACKPRESSURE_MODE", word)], ..NOTHING };
        assert_eq!(load(&given).unwrap().backpressure_status, status);
    }
}

#[test]
fn loopback_is_exempt_from_the_limit_of_failures_unless_it_is_set_and_plain_planes_are_noticed() {
    assert!(load(&NOTHING).unwrap().is_loopback_exempt);
    let set = Given { variables: &[("SHERATAN_AUTH_FAIL_LIMIT", "60")], ..NOTHING };
    assert!(!load(&set).unwrap().is_loopback_exempt);
    let exposed = Given {
        variables: &[("SHERATAN_HUB_TOKEN", "1234567890123456")],
        flags: &[("data_addr", "[::]:8788")],
        ..NOTHING
    };
    let notices = load(&exposed).unwrap().notices;
    assert!(
        notices.len() == 1 && notices[0].starts_with("other machines reach [::]:8788 over plain HTTP"),
        "{notices:?}"
    );
}

#[test]
fn a_level_is_a_word_or_a_list_of_targets() {
    for (level, is_taken) in [
        ("info", true),
        ("WARN", true),
        ("off", true),
        ("info,sheratan_io::journal=debug", true),
        ("sheratan_io=trace, warn", true),
        ("", false),
        ("warning", false),
        ("info,sheratan_io", false),
        ("sheratan_io=loud", false),
    ] {
        assert_eq!(load(&Given { flags: &[("log_level", level)], ..NOTHING }).is_ok(), is_taken, "{level}");
    }
}

#[test]
fn the_same_token_under_both_of_its_names_is_one_token() {
    let variables = [("SHERATAN_HUB_TOKEN", "1234567890123456"), ("SHERATAN_HUB_TOKEN_ACTIVE", "1234567890123456")];
    assert!(load(&Given { variables: &variables, ..NOTHING }).unwrap().token.unwrap().is(b"1234567890123456"));
}

#[test]
fn a_secret_of_a_later_source_displaces_the_file_of_an_earlier_one() {
    let given = Given { toml: "hub_token_file = \"/none\"", variables: &[("SHERATAN_HUB_TOKEN", "abc")], flags: &[] };
    assert!(load(&given).unwrap().token.unwrap().is(b"abc"));
    let toml = "hub_token = \"abc\"";
    assert!(refusal(&Given { toml, flags: &[("hub_token_file", "/none")], ..NOTHING }).starts_with("hub_token_file: "));
}

#[cfg(unix)]
#[test]
fn a_file_with_a_secret_that_others_can_read_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (token, toml) = (folder.path().join("token"), folder.path().join("hub.toml"));
    std::fs::write(&token, "1234567890123456").unwrap();
    std::fs::write(&toml, format!("hub_token_file = {token:?}\nresult_hmac_key = \"k\"")).unwrap();
    for (mode, notices) in [(0o644, 2), (0o640, 2), (0o600, 0)] {
        for path in [&token, &toml] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let values = Config::read(&Flags::default(), [].into_iter(), &toml).unwrap();
        assert_eq!(Config::from_values(values).unwrap().notices.len(), notices, "{mode:o}");
    }
}

#[test]
fn a_named_file_must_exist_and_the_default_one_need_not() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.toml");
    assert!(Config::read(&Flags::default(), [].into_iter(), &none).is_ok());
    let flags = Flags { config: Some(none.clone()), settings: Vec::new() };
    let error = Config::read(&flags, [].into_iter(), &none).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} cannot be read: ", none.display())), "{error}");
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
fn every_default_is_a_valid_value() {
    for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
        let mut values = Values::defaults();
        assert!(values.set(setting, setting.default.to_owned(), Source::Flag).is_ok(), "{}", setting.name);
    }
}

#[test]
fn a_refusal_is_one_line_whatever_the_key_is() {
    for toml in ["\"a\\nb\" = 1", "\"\\u001b[31m\" = 1"] {
        let message = refusal(&Given { toml, ..NOTHING });
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn the_keys_of_results_come_from_the_environment_or_from_files_and_rotate_only_as_a_pair_with_an_instant() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (next, empty) = (file("next", "in-a-file\n"), file("empty", " \n"));
    let (until, nonsense) = (file("until", "2030-01-01T00:00:00Z\n"), file("nonsense", "tomorrow"));
    let key = ("SHERATAN_RESULT_HMAC_KEY", "in-the-environment");
    let until_variable = ("SHERATAN_RESULT_HMAC_KEY_ROTATION_UNTIL", "2030-01-01T01:00:00+01:00");
    let until_file = "SHERATAN_RESULT_HMAC_KEY_ROTATION_UNTIL_FILE";
    let next_file = "SHERATAN_RESULT_HMAC_KEY_NEXT_FILE";
    let keys = |variables: &[(&str, &str)]| load(&Given { variables, ..NOTHING }).map(|config| config.result_keys);
    for variables in [[key, (next_file, &next), until_variable], [key, (next_file, &next), (until_file, &until)]] {
        let keys = keys(&variables).unwrap();
        let window = keys.window().unwrap();
        assert!(window.new.is(b"in-a-file") && window.old.is_some_and(|key| key.is(b"in-the-environment")));
        assert_eq!(window.until.as_millis(), 1_893_456_000_000);
    }
    let not_yet = keys(&[key, (next_file, &empty), (until_file, &empty)]).unwrap();
    assert!(not_yet.window().is_none() && !not_yet.is_empty());

    let refused = |variables: &[(&str, &str)]| keys(variables).unwrap_err().to_string();
    let other = ("SHERATAN_RESULT_HMAC_KEY_NEXT", "another");
    assert!(refused(&[key, other]).contains("set result_hmac_key_rotation_until"));
    assert!(refused(&[key, until_variable]).contains("there is no next key"));
    assert!(refused(&[key, (other.0, key.1), until_variable]).contains("is the same key"));
    assert!(refused(&[key, other, (until_file, &nonsense)]).contains("RFC 3339"));
    assert!(refused(&[key, other, (until_variable.0, "tomorrow")]).contains("must be an instant"));
    assert!(refused(&[key, other, until_variable, (until_file, &until)]).contains("are both set"));
    assert!(refused(&[key, other, (next_file, &next), until_variable]).contains("are both set"));
    let none = folder.path().join("none");
    assert!(
        refused(&[key, (next_file, none.to_str().unwrap()), until_variable]).starts_with("result_hmac_key_next_file")
    );
}

#[test]
fn the_next_key_alone_is_a_key_for_signed_results() {
    let variables = [
        ("SHERATAN_RESULT_INTEGRITY_MODE", "hmac"),
        ("SHERATAN_RESULT_HMAC_KEY_NEXT", "next"),
        ("SHERATAN_RESULT_HMAC_KEY_ROTATION_UNTIL", "2030-01-01T00:00:00Z"),
    ];
    assert!(load(&Given { variables: &variables, ..NOTHING }).is_ok());
}
