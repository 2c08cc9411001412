//! The shared token of a hub, by digests, as the settings name it: at a start, and when they are read again.

use sheratan_io::config::Config;
use sheratan_io::shared_token::{SharedToken, TokenFiles, TokenKey};
use sheratan_io::token::Token;

/// The active token, and the rotation that the configuration asks for.
pub fn of(config: &Config, key: &TokenKey, active: &Token) -> SharedToken {
    let rotation = config.token_rotation.as_ref().map(|(next, until)| (next, *until));
    let token = SharedToken::new(key.clone(), active, rotation).with_files(TokenFiles::new(&config.data_dir));
    match &config.token_rotation {
        Some((next, _)) if config.token.is_none() => token.with_unkept(next.clone()),
        _ => token,
    }
}
