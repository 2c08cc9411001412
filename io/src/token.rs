//! The token that a caller must present. The hub generates one at its first start unless the operator provides one.

use crate::platform;
use crate::secret::{Secret, SecretFileError};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The fewest bytes of a token if other machines can reach the hub.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Random bytes of a generated token; as hex it has twice as many characters.
const RANDOM_BYTES: usize = 32;

/// The hub's token.
#[derive(Clone, Debug)]
pub struct Token(Secret);

/// The origin of the hub's own token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It did not exist and was generated.
    Made,
    /// It existed.
    Found,
    /// It existed, and other users could read it until now.
    FoundOpen,
    /// It existed, other users may read it, and the file system does not let the hub change that.
    StaysOpen,
}

/// Why a token cannot be read or generated.
#[derive(Debug)]
pub enum TokenError {
    /// The file holds no token.
    Read(PathBuf, SecretFileError),
    /// The file cannot be written.
    Write(PathBuf, io::Error),
    /// The token has a character that no header can carry.
    Characters,
    /// The system provides no randomness.
    Randomness(getrandom::Error),
}

impl Token {
    /// A token that the operator provides.
    pub fn new(secret: Secret) -> Result<Self, TokenError> {
        let is_visible = secret.expose().iter().all(u8::is_ascii_graphic);
        if is_visible { Ok(Token(secret)) } else { Err(TokenError::Characters) }
    }

    /// The path of the generated token in a data folder.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("secrets").join("hub_token")
    }

    /// The path of the next token of a rotation in a data folder.
    pub fn next_path(data_dir: &Path) -> PathBuf {
        data_dir.join("secrets").join("hub_token_next")
    }

    /// The token in a file, without the white space around it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        Token::new(Secret::read(path).map_err(|error| TokenError::Read(path.to_owned(), error))?)
    }

    /// The hub's own token; generated if it does not exist.
    pub fn load_or_create(data_dir: &Path) -> Result<(Self, Origin), TokenError> {
        let path = Token::path(data_dir);
        match Token::read(&path) {
            Err(TokenError::Read(_, SecretFileError::Read(error))) if error.kind() == io::ErrorKind::NotFound => {}
            token => {
                let token = token?;
                let origin = match platform::make_private(&path) {
                    Ok(true) => Origin::FoundOpen,
                    Ok(false) => Origin::Found,
                    // Mounts without permissions of their own: the token is there and right.
                    Err(error) if is_fixed(&error) => Origin::StaysOpen,
                    Err(error) => return Err(TokenError::Write(path, error)),
                };
                return Ok((token, origin));
            }
        }
        let mut bytes = zeroize::Zeroizing::new([0; RANDOM_BYTES]);
        getrandom::fill(&mut *bytes).map_err(TokenError::Randomness)?;
        let text = zeroize::Zeroizing::new(hex::encode(*bytes));
        write(&path, &text).map_err(|error| TokenError::Write(path, error))?;
        Ok((Token(Secret::new(text.as_bytes())), Origin::Made))
    }

    /// Whether `presented` is the token, in constant time.
    pub fn is(&self, presented: &[u8]) -> bool {
        self.0.is(presented)
    }

    /// The token itself, for a client to send.
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// Whether an error says that permissions cannot be changed here.
fn is_fixed(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, Unsupported};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | Unsupported)
}

/// Writes a temporary file first and renames it: a half-written token would lock out every client.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().expect("the token lies in a folder");
    platform::create_private_dir(folder)?;
    let temporary = path.with_extension("new");
    let mut file = platform::create_new_private(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    platform::rename(&temporary, path)?;
    platform::sync_dir(folder)
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Read(path, SecretFileError::Empty) => {
                write!(f, "{} is empty: remove it, and the hub makes a new token", path.display())
            }
            TokenError::Read(path, error) => write!(f, "the token's file {} {error}", path.display()),
            TokenError::Write(path, error) => write!(f, "the token cannot be kept in {}: {error}", path.display()),
            TokenError::Characters => f.write_str("a token must be of visible ASCII characters, without spaces"),
            TokenError::Randomness(error) => write!(f, "the system gives no random bytes for a token: {error}"),
        }
    }
}

impl std::error::Error for TokenError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_first_start_generates_a_token_and_the_second_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let (token, origin) = Token::load_or_create(folder.path()).unwrap();
        assert_eq!(origin, Origin::Made);
        let text = fs::read_to_string(Token::path(folder.path())).unwrap();
        assert_eq!(text.trim().len(), 2 * RANDOM_BYTES);
        assert!(token.is(text.trim().as_bytes()));
        let (again, origin) = Token::load_or_create(folder.path()).unwrap();
        assert!(origin == Origin::Found && again.is(text.trim().as_bytes()));
        let other = tempfile::tempdir().unwrap();
        let (other, _) = Token::load_or_create(other.path()).unwrap();
        assert!(!other.is(text.trim().as_bytes()));
    }

    #[test]
    fn a_file_without_a_token_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        fs::write(&path, " \n").unwrap();
        assert!(
            Token::read(&path).unwrap_err().to_string().ends_with("is empty: remove it, and the hub makes a new token")
        );
        fs::write(&path, "a b").unwrap();
        assert!(matches!(Token::read(&path), Err(TokenError::Characters)));
        assert!(matches!(Token::read(&folder.path().join("none")), Err(TokenError::Read(..))));
    }
}
