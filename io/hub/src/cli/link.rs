//! Link: the hub that a command talks to, looked up again when it does not answer.
//!
//! A hub may start after its clients, and restart with other addresses or another token. Both are in its data folder,
//! so a command that waits reads them again.

use super::target::{TargetArgs, TargetError};
use crate::client::Client;
use std::sync::{Mutex, MutexGuard};

/// The hub that a command talks to; shared by its threads.
pub struct Link {
    /// `None` for a hub that stays where it is.
    target: Option<TargetArgs>,
    client: Mutex<Client>,
}

impl Link {
    /// The hub that the arguments lead to now.
    pub fn new(target: TargetArgs) -> Result<Self, TargetError> {
        let client = Mutex::new(target.client()?);
        Ok(Link { target: Some(target), client })
    }

    /// A hub that stays where it is.
    pub fn fixed(client: Client) -> Self {
        Link { target: None, client: Mutex::new(client) }
    }

    /// A client of the hub as it was last found.
    pub fn client(&self) -> Client {
        self.lock().clone()
    }

    /// Reads addresses and token again; returns whether one of them changed.
    pub fn look_again(&self) -> bool {
        // What cannot be read now stays as it was: a hub that restarts is about to write it.
        let Some(Ok(found)) = self.target.as_ref().map(TargetArgs::find) else { return false };
        let mut client = self.lock();
        let is_new = !client.is_same_target(&found.client);
        if is_new {
            *client = found.client;
        }
        is_new
    }

    fn lock(&self) -> MutexGuard<'_, Client> {
        self.client.lock().expect("no thread panics while it holds the client")
    }
}
