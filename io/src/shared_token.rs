//! The shared token as a running hub has it: by digests. A digest is keyed by a secret of the installation, so that the
//! journal and the audit log do not give away a token that can be guessed.
//!
//! The tokens themselves stand in files of `<data-dir>/secrets` alone: `hub_token`, which clients on the hub's machine read,
//! and during a rotation `hub_token_next`, which they read instead, and which takes its place when the rotation ends.

use crate::platform;
use crate::secret::{Secret, SecretFileError};
use crate::token::{self, Token, TokenError};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use sheratan_core::{TokenConfig, TokenDigest, TokenRotation, Utc};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Random bytes of the key.
const KEY_BYTES: usize = 32;

/// What tokens that the hub makes begin with: scanners for secrets find them by it.
const PREFIX: &str = "shr_";

/// Random characters of such a token: 190 bits.
const RANDOM_CHARS: usize = 32;

/// Characters of its checksum.
const CHECKSUM_CHARS: usize = 6;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The key of an installation's digests.
#[derive(Clone)]
pub struct TokenKey(Hmac<Sha256>);

/// The shared token, as far as the configuration and files say.
#[derive(Clone, Debug)]
pub struct SharedToken {
    key: TokenKey,
    config: TokenConfig,
    /// The length of the active one.
    bytes: usize,
    /// Those in files, which may be of a rotation that an operator began.
    in_files: Vec<TokenDigest>,
    files: Option<TokenFiles>,
    /// The next token of the settings where the active one is the hub's own, until it is in its file.
    unkept: Option<Token>,
}

/// The files of tokens in a data folder.
#[derive(Clone, Debug)]
pub struct TokenFiles {
    data_dir: PathBuf,
}

/// What a presented text looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spelling {
    /// A token that the hub makes could be so.
    Made,
    /// It begins like one, and its checksum is wrong: a typing error.
    Mistyped,
    /// Anything else.
    Other,
}

impl TokenKey {
    /// The key of a data folder; made if there is none. Without it the digests in the journal name nothing.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, TokenError> {
        let path = data_dir.join("secrets").join("token_key");
        match Secret::read(&path) {
            Ok(secret) => return Ok(TokenKey::new(secret.expose())),
            Err(SecretFileError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(TokenError::Read(path, error)),
        }
        let mut bytes = zeroize::Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *bytes).map_err(TokenError::Randomness)?;
        let text = zeroize::Zeroizing::new(hex::encode(*bytes));
        token::write(&path, &text).map_err(|error| TokenError::Write(path, error))?;
        Ok(TokenKey::new(text.as_bytes()))
    }

    /// The key of these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        TokenKey(Hmac::new_from_slice(bytes).expect("a key may have any length"))
    }

    /// The digest of a token: HMAC-SHA-256 (RFC 2104).
    pub fn digest(&self, token: &[u8]) -> TokenDigest {
        TokenDigest::new(self.0.clone().chain_update(token).finalize().into_bytes().into())
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

impl SharedToken {
    /// The active token, and the rotation that the configuration asks for.
    pub fn new(key: TokenKey, active: &Token, rotation: Option<(&Token, Utc)>) -> Self {
        let digest = |token: &Token| key.digest(token.secret().expose());
        let rotation = rotation.map(|(next, until)| TokenRotation { next: digest(next), until });
        let config = TokenConfig { active: Some(digest(active)), rotation };
        SharedToken { config, bytes: active.secret().len(), in_files: Vec::new(), files: None, unkept: None, key }
    }

    /// A token alone, of a hub that keeps no files.
    pub fn single(token: &Token) -> Self {
        SharedToken::new(TokenKey::new(b""), token, None)
    }

    /// Keeps the tokens of rotations in these files.
    pub fn with_files(mut self, files: TokenFiles) -> Self {
        let tokens = [files.active(), files.next()].into_iter().flatten();
        self.in_files = tokens.map(|token| self.digest(token.secret().expose())).collect();
        self.files = Some(files);
        self
    }

    /// The active token is the hub's own: clients on this machine read it from its file, so this one has to be in a file as
    /// well, once it is the next one.
    pub fn with_unkept(mut self, next: Token) -> Self {
        self.unkept = Some(next);
        self
    }

    /// Takes over the configuration of one that was read again.
    pub fn configure(&mut self, other: SharedToken) {
        (self.config, self.bytes, self.unkept) = (other.config, other.bytes, other.unkept);
    }

    pub fn config(&self) -> &TokenConfig {
        &self.config
    }

    /// The length of the active token.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn files(&self) -> Option<&TokenFiles> {
        self.files.as_ref()
    }

    pub fn digest(&self, token: &[u8]) -> TokenDigest {
        self.key.digest(token)
    }

    /// Whether a token is one of the configuration or of the files: all that is known before the journal is read.
    pub fn is_known(&self, digest: &TokenDigest) -> bool {
        let next = self.config.rotation.as_ref().map(|rotation| &rotation.next);
        self.config.active.iter().chain(next).chain(&self.in_files).fold(false, |known, one| known | (one == digest))
    }

    /// Writes the next token of a rotation to its file.
    pub fn keep_next(&self, token: &Token) -> io::Result<()> {
        self.files.as_ref().map_or(Ok(()), |files| files.write(&files.next_path(), token))
    }

    /// Brings the files in line with what the journal says of the tokens.
    pub fn keep(&mut self, active: Option<&TokenDigest>, next: Option<&TokenDigest>) -> io::Result<()> {
        if let Some(unkept) = self.unkept.take() {
            let digest = self.digest(unkept.secret().expose());
            if Some(&digest) == next {
                self.keep_next(&unkept)?;
            } else if Some(&digest) == active && !self.is_in_file(&digest) {
                self.files.as_ref().map_or(Ok(()), |files| files.write(&Token::path(&files.data_dir), &unkept))?;
            }
        }
        if let Some(active) = active {
            self.promote(active)?;
        }
        if self.is_next_in_file(next) { Ok(()) } else { self.forget_next() }
    }

    /// Removes the file of a next token that is none any more.
    pub fn forget_next(&self) -> io::Result<()> {
        let Some(files) = &self.files else { return Ok(()) };
        match std::fs::remove_file(files.next_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the file of the next token holds this one, or there is none.
    fn is_next_in_file(&self, digest: Option<&TokenDigest>) -> bool {
        let next = self.files.as_ref().and_then(TokenFiles::next);
        next.is_none_or(|next| digest == Some(&self.digest(next.secret().expose())))
    }

    /// The next token of a rotation became the active one: its file takes the place of the other. `false` if that file
    /// holds another token, or there is none.
    pub fn promote(&self, active: &TokenDigest) -> io::Result<bool> {
        let Some(files) = &self.files else { return Ok(false) };
        match files.next() {
            Some(next) if self.digest(next.secret().expose()) == *active => files.promote().map(|()| true),
            _ => Ok(false),
        }
    }

    /// Whether the file that clients on this machine read holds a token.
    pub fn is_in_file(&self, digest: &TokenDigest) -> bool {
        let active = self.files.as_ref().and_then(TokenFiles::active);
        active.is_some_and(|token| self.digest(token.secret().expose()) == *digest)
    }
}

impl TokenFiles {
    pub fn new(data_dir: &Path) -> Self {
        TokenFiles { data_dir: data_dir.to_owned() }
    }

    /// The token in `hub_token`.
    pub fn active(&self) -> Option<Token> {
        Token::read(&Token::path(&self.data_dir)).ok()
    }

    /// The token in `hub_token_next`.
    pub fn next(&self) -> Option<Token> {
        Token::read(&self.next_path()).ok()
    }

    fn next_path(&self) -> PathBuf {
        Token::next_path(&self.data_dir)
    }

    fn write(&self, path: &Path, token: &Token) -> io::Result<()> {
        let text = zeroize::Zeroizing::new(String::from_utf8_lossy(token.secret().expose()).into_owned());
        token::write(path, &text)
    }

    fn promote(&self) -> io::Result<()> {
        let path = Token::path(&self.data_dir);
        platform::rename(&self.next_path(), &path)?;
        platform::sync_dir(path.parent().expect("a token lies in a folder"))
    }
}

/// A new token: `shr_`, random characters, and a checksum by which a typing error is told from a guess.
pub fn generate() -> Result<Token, TokenError> {
    let mut text = zeroize::Zeroizing::new(Vec::from(PREFIX));
    while text.len() < PREFIX.len() + RANDOM_CHARS {
        let mut bytes = zeroize::Zeroizing::new([0; 64]);
        getrandom::fill(&mut *bytes).map_err(TokenError::Randomness)?;
        // Of 256 values those above the last whole multiple are left out: each character is as likely.
        let fair = bytes.iter().filter(|byte| usize::from(**byte) < 256 / ALPHABET.len() * ALPHABET.len());
        let missing = PREFIX.len() + RANDOM_CHARS - text.len();
        text.extend(fair.take(missing).map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()]));
    }
    let checksum = checksum(&text);
    text.extend(checksum);
    Token::new(Secret::new(text.as_slice()))
}

/// What a presented text looks like.
pub fn spelling(text: &[u8]) -> Spelling {
    if !text.starts_with(PREFIX.as_bytes()) {
        return Spelling::Other;
    }
    match text.split_last_chunk::<CHECKSUM_CHARS>() {
        Some((rest, checked)) if rest.len() == PREFIX.len() + RANDOM_CHARS && checksum(rest) == *checked => {
            Spelling::Made
        }
        _ => Spelling::Mistyped,
    }
}

/// CRC-32 (IEEE 802.3) in base 62.
fn checksum(text: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(text);
    let mut chars = [0; CHECKSUM_CHARS];
    for place in chars.iter_mut().rev() {
        *place = ALPHABET[rest as usize % ALPHABET.len()];
        rest /= ALPHABET.len() as u32;
    }
    chars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> Token {
        Token::new(Secret::new(text.as_bytes())).unwrap()
    }

    #[test]
    fn a_token_that_the_hub_makes_is_told_from_one_with_a_typing_error() {
        let made = generate().unwrap();
        let text = made.secret().expose().to_vec();
        assert_eq!((text.len(), spelling(&text)), (42, Spelling::Made));
        assert_ne!(generate().unwrap().secret().expose(), text, "another one each time");
        for at in 4..text.len() {
            let mut mistyped = text.clone();
            mistyped[at] = if mistyped[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(spelling(&mistyped), Spelling::Mistyped, "{at}");
        }
        assert_eq!(spelling(&text[..41]), Spelling::Mistyped);
        assert_eq!(spelling(b"shared-secret"), Spelling::Other);
    }

    #[test]
    fn digests_depend_on_the_installation() {
        let folder = tempfile::tempdir().unwrap();
        let key = TokenKey::load_or_create(folder.path()).unwrap();
        let again = TokenKey::load_or_create(folder.path()).unwrap();
        assert_eq!(key.digest(b"shared-secret"), again.digest(b"shared-secret"));
        let other = TokenKey::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert_ne!(key.digest(b"shared-secret"), other.digest(b"shared-secret"));
    }

    #[test]
    fn the_next_token_s_file_takes_the_place_of_the_other_once_it_is_the_active_one() {
        let folder = tempfile::tempdir().unwrap();
        let (old, _) = Token::load_or_create(folder.path()).unwrap();
        let shared = SharedToken::new(TokenKey::new(b"k"), &old, None).with_files(TokenFiles::new(folder.path()));
        let next = token("the-next-one");
        shared.keep_next(&next).unwrap();
        let digest = shared.digest(b"the-next-one");
        assert!(!shared.promote(&shared.digest(b"another")).unwrap());
        assert!(shared.is_in_file(&shared.config().active.unwrap()));
        assert!(shared.promote(&digest).unwrap());
        assert!(shared.is_in_file(&digest) && shared.files().unwrap().next().is_none());
        assert!(!shared.promote(&digest).unwrap(), "once");
    }
}
