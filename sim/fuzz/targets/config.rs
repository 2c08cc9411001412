//! Configuration: no file and no environment makes the hub panic; a refusal is one line that never shows a secret.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sheratan_fuzz::{Input, planted};
use sheratan_io::config::Config;
use std::ffi::OsString;
use std::path::Path;

const SECRET: &str = "a-token-that-nobody-may-see-1234";

fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut variables = vec![(OsString::from("SHERATAN_HUB_TOKEN"), OsString::from(SECRET))];
    for _ in 0..input.byte() % 3 {
        let (name_len, value_len) = (usize::from(input.byte() % 32), usize::from(input.byte() % 32));
        let name = format!("SHERATAN_{}", String::from_utf8_lossy(input.bytes(name_len)));
        // Files that are named would be read.
        if !name.to_ascii_uppercase().contains("FILE") {
            variables.push((name.into(), String::from_utf8_lossy(input.bytes(value_len)).into_owned().into()));
        }
    }
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    if text.contains("_file") {
        return;
    }
    match Config::parse(Path::new("hub.toml"), text, variables.into_iter()) {
        Ok(config) => {
            let changed = config.describe().into_iter().filter(|setting| setting.source.contains("hub.toml"));
            // A file with two settings.
            planted(changed.count() >= 2);
            assert!(config.describe().iter().all(|setting| !setting.value.contains(SECRET)), "a secret is shown");
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty() && !message.contains('\n'), "{message:?}");
            assert!(!message.contains(SECRET), "a secret is shown");
        }
    }
});
