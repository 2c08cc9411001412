//! The shared token: operators look at it, and rotate it without downtime.

mod uses;

pub use uses::TokenUses;

use super::body::{self, Fields};
use super::problem::{AuthReason, Problem};
use super::{Answer, Caller, Service, path, reply, rules};
use crate::http::Request;
use crate::object::Object;
use crate::secret::Secret;
use crate::shared_token::{self, SharedToken};
use crate::token::{TOKEN_BYTES_MIN, Token};
use sheratan_core::{
    Caller as Asker, Command, Millis, Name, Origin, Outcome, Principal, Timestamp, TokenChange, TokenConfig,
    TokenOrder, TokenRotation, TokenVerdict, Utc,
};
use std::net::IpAddr;

/// How long a window may be: a year.
const WINDOW_SECS: std::ops::RangeInclusive<u64> = 1..=366 * 86_400;

/// Whoever used the old token so recently still uses it.
const IN_USE: Millis = Millis::from_secs(600);

/// Nodes that were seen so recently are expected to switch.
const SEEN_WITHIN: Millis = Millis::from_secs(86_400);

/// Users and nodes in a list.
const LISTED_MAX: usize = 1_000;

/// The paths of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    Show,
    Rotate,
    Finalize,
    Abort,
}

impl Route {
    pub fn find(path: &str) -> Option<Self> {
        match path {
            "/api/tokens" => Some(Route::Show),
            _ => match path::parameter(path, "/api/tokens/")? {
                "rotate" => Some(Route::Rotate),
                "finalize" => Some(Route::Finalize),
                "abort" => Some(Route::Abort),
                _ => None,
            },
        }
    }

    /// Its label in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Route::Show => "tokens",
            Route::Rotate => "token_rotate",
            Route::Finalize => "token_finalize",
            Route::Abort => "token_abort",
        }
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(&self) -> &'static str {
        match self {
            Route::Show => "GET, HEAD",
            _ => "POST",
        }
    }
}

impl Service {
    /// Takes over the tokens of the configuration. Call it at the start.
    pub fn begin_tokens(&mut self, now: Timestamp) {
        let Some(shared) = &self.settings.token else { return };
        let config = shared.config().clone();
        self.configure_tokens(now, config);
        let (tokens, Some(shared)) = (self.hub.tokens(), &self.settings.token) else { return };
        if let Some(active) = tokens.active()
            && shared.files().is_some()
            && !shared.is_in_file(active)
            && shared.config().active != Some(*active)
        {
            tracing::warn!(
                "the active token is neither in the settings nor in secrets/hub_token: programs on this machine that read that file are refused"
            );
        }
    }

    /// The settings were read again; `shared` has the tokens that they name.
    pub fn set_shared_token(&mut self, now: Timestamp, shared: SharedToken) {
        let config = shared.config().clone();
        if let Some(token) = &mut self.settings.token {
            token.configure(shared);
            self.configure_tokens(now, config);
        }
    }

    fn configure_tokens(&mut self, now: Timestamp, config: TokenConfig) {
        if *self.hub.tokens().configured() != config {
            let asker = Asker { by: Principal::Config, origin: Origin::Loopback };
            let order = TokenOrder::Configure(config.clone());
            if self.execute(now, asker, Command::Tokens(Box::new(order))).is_err() {
                tracing::error!("the tokens stay as they were, since the journal cannot be written: send SIGHUP again");
                return;
            }
        }
        // A start in the middle, or settings that were read again: the files follow the journal.
        if let Some(shared) = &mut self.settings.token {
            let tokens = self.hub.tokens();
            keep(shared.keep(tokens.active(), tokens.window().map(|window| &window.rotation.next)));
        }
        let (at, calendar) = (now.max(self.hub.now()), self.hub.calendar());
        let is_retired =
            config.active.is_some_and(|active| self.hub.tokens().judge(at, calendar, &active) == TokenVerdict::Retired);
        if is_retired && let Some(active) = config.active {
            tracing::warn!(token = %active, "the settings name a token that a rotation has replaced; it stays refused");
            self.audit(now, "TOKEN_CONFIG_REFUSED", |out| _ = out.plain("token", active));
        }
    }

    pub(super) fn handle_tokens(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
        route: Route,
    ) -> Result<Answer, Problem> {
        if route == Route::Show {
            // Whoever sees that a rotation is over may take the old token out.
            if let Some(reason) = self.uncommitted.hidden_because(self.hub.ended_at()) {
                return Err(Problem::not_durable(reason));
            }
            return Ok(Answer::Reply(reply::ok(|out| self.write_tokens(out, now))));
        }
        self.require_local(caller)?;
        let body: &[u8] = if request.body().is_empty() { b"{}" } else { request.body() };
        match route {
            Route::Rotate => self.rotate_token(now, caller, body),
            Route::Finalize => {
                self.check_users(body, self.token_uses.still_old(now, IN_USE), "the old one")?;
                self.order_token(now, caller, TokenOrder::Finish, None)
            }
            _ => {
                let users = self.users_of(TokenVerdict::Next);
                self.check_users(body, users, "the next one")?;
                self.order_token(now, caller, TokenOrder::Abort, None)
            }
        }
    }

    fn rotate_token(&mut self, now: Timestamp, caller: &Caller, body: &[u8]) -> Result<Answer, Problem> {
        let known = ["next_token", "rotation_until_utc", "for_sec"];
        let fields = Fields::parse_strict(body, &known)?;
        let until = self.until_of(now, &fields)?;
        let Some(shared) = self.settings.token.clone() else { return Err(Problem::no_token()) };
        let given = fields.text("next_token")?;
        if given.is_none() && self.hub.tokens().window().is_some() {
            return self.order_token(now, caller, TokenOrder::Move(until), None);
        }
        let next = match given {
            Some(text) => given_token(&text)?,
            None => shared_token::generate().map_err(|error| Problem::new(503, "overloaded", error.to_string()))?,
        };
        let made = fields.text("next_token")?.is_none().then(|| next.clone());
        let rotation = TokenRotation { next: shared.digest(next.secret().expose()), until };
        self.settings.redactor.learn([next.secret()].into_iter());
        let was_open = self.hub.tokens().window().is_some();
        let answer = self.order_token(now, caller, TokenOrder::Begin(rotation), made.as_ref())?;
        // Refused orders have left the file alone.
        if let Err(error) = shared.keep_next(&next) {
            if !was_open {
                self.order_token(now, caller, TokenOrder::Abort, None)?;
            }
            let detail = format!("the next token cannot be kept in its file, so nothing was begun: {error}");
            return Err(Problem::new(503, "overloaded", detail));
        }
        Ok(answer)
    }

    /// Until when a request asks both tokens to be accepted.
    fn until_of(&self, now: Timestamp, fields: &Fields) -> Result<Utc, Problem> {
        let utc = self.hub.calendar().utc(now.max(self.hub.now()));
        let by_length = fields.number("for_sec", WINDOW_SECS)?.map(|secs| utc + Millis::from_secs(secs));
        let until = match (fields.instant("rotation_until_utc")?, by_length) {
            (Some(_), Some(_)) => {
                return Err(Problem::bad_request("send one of rotation_until_utc and for_sec, not both"));
            }
            (Some(until), None) | (None, Some(until)) => until,
            (None, None) => return Err(body::missing("rotation_until_utc")),
        };
        if until <= utc {
            return Err(Problem::bad_request("rotation_until_utc must be later than now"));
        }
        Ok(until)
    }

    /// Refuses to take a token from those who still use it, unless the request insists.
    fn check_users(&self, body: &[u8], users: Vec<(Option<Name>, IpAddr)>, which: &str) -> Result<(), Problem> {
        let is_forced = Fields::parse_strict(body, &["force"])?.flag("force")?.unwrap_or(false);
        if is_forced || users.is_empty() || self.hub.tokens().window().is_none() {
            return Ok(());
        }
        Err(Problem::token_in_use(which, |out| write_users(out, &users)))
    }

    fn users_of(&self, verdict: TokenVerdict) -> Vec<(Option<Name>, IpAddr)> {
        let of_token = self.token_uses.iter().filter(|((of, ..), _)| *of == verdict);
        of_token.map(|((_, node, ip), _)| (node, ip)).collect()
    }

    fn order_token(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        order: TokenOrder,
        made: Option<&Token>,
    ) -> Result<Answer, Problem> {
        match self.execute(now, self.asker(caller), Command::Tokens(Box::new(order)))? {
            Outcome::Done => Ok(rules::acknowledgement(reply::ok(|out| {
                if let Some(made) = made {
                    out.text("next_token", &String::from_utf8_lossy(made.secret().expose()));
                }
                self.write_tokens(out, now);
            }))),
            outcome => Err(self.problem_of(now, outcome)),
        }
    }

    fn write_tokens(&self, out: &mut Object, now: Timestamp) {
        let (tokens, calendar) = (self.hub.tokens(), self.hub.calendar());
        out.flag("ok", true).flag("required", self.settings.token.is_some());
        if let Some(active) = tokens.active() {
            out.plain("active", active);
        }
        if let Some(window) = tokens.window() {
            out.object("rotation", |out| {
                out.plain("next", window.rotation.next).time("rotation_until_utc", window.rotation.until);
                out.time("began_utc", calendar.utc(window.began_at)).plain("by", window.by.as_str());
            });
            out.array("not_switched", self.not_switched(now), |out, node| crate::object::write_text(out, &node));
        }
        out.array("retired", tokens.retired(), |out, retired| {
            crate::object::object(out, |out| {
                out.plain("token", retired.digest).time("retired_utc", calendar.utc(retired.at));
            });
        });
        let users = self.token_uses.iter().take(LISTED_MAX);
        out.array("usage", users, |out, ((verdict, node, ip), used)| {
            crate::object::object(out, |out| {
                out.plain("token", word_of(verdict));
                if let Some(node) = node {
                    out.text("node_id", &node);
                }
                out.plain("ip", ip).number("requests", used.count).time("last_utc", calendar.utc(used.last_at));
            });
        });
    }

    /// Nodes that were seen within the last day, and not with the next token.
    fn not_switched(&self, now: Timestamp) -> impl Iterator<Item = Name> {
        let is_expected = move |node: &&sheratan_core::Node| {
            now.since(self.quiet_nodes.seen_at(node)) <= SEEN_WITHIN
                && !self.token_uses.has_used(TokenVerdict::Next, node.name())
        };
        self.hub.registry().iter().filter(is_expected).take(LISTED_MAX).map(|node| node.name().clone())
    }

    /// Notes who uses which token, while a rotation is under way.
    pub(super) fn note_token_use(&mut self, now: Timestamp, caller: &Caller) {
        let (event, verdict) = match self.token_used {
            Some(TokenVerdict::Next) => ("TOKEN_ACCEPTED_NEXT", TokenVerdict::Next),
            Some(TokenVerdict::Old) => ("TOKEN_OLD_ACCEPTED_IN_WINDOW", TokenVerdict::Old),
            _ => return,
        };
        let Some(count) = self.token_uses.note(now, (verdict, None, caller.ip)) else { return };
        let Some(window) = self.hub.tokens().window() else { return };
        let active = self.hub.tokens().active().copied();
        let token = if verdict == TokenVerdict::Next { Some(window.rotation.next) } else { active };
        let until = window.rotation.until;
        self.audit_times(now, event, count, |out| {
            out.plain("ip", caller.ip);
            if let Some(token) = token {
                out.plain("token", token);
            }
            out.time("until_utc", until).number("requests", count);
        });
    }

    /// Notes that the request is in the name of a node.
    pub(super) fn note_token_of_node(&mut self, now: Timestamp, caller: &Caller, node: &Name) {
        if let Some(verdict @ (TokenVerdict::Next | TokenVerdict::Old)) = self.token_used {
            self.token_uses.note(now, (verdict, Some(node.clone()), caller.ip));
        }
    }

    /// The tokens changed: files follow, and whoever waits with a token that is not accepted any more waits no longer.
    pub(super) fn follow_token(&mut self, change: TokenChange) {
        let is_over = |used: TokenVerdict| match change {
            TokenChange::Begun(_) | TokenChange::Moved(_) => false,
            TokenChange::Aborted(_) => used == TokenVerdict::Next,
            TokenChange::Replaced { .. } => true,
            TokenChange::Finalized { .. } => used != TokenVerdict::Next,
        };
        match change {
            TokenChange::Begun(_) => self.token_uses.clear(),
            TokenChange::Finalized { active, .. } => {
                let shared = self.settings.token.as_ref();
                keep(shared.map_or(Ok(false), |shared| shared.promote(&active)).map(|_| ()));
            }
            TokenChange::Aborted(_) => {
                let shared = self.settings.token.as_ref();
                keep(shared.map_or(Ok(()), SharedToken::forget_next));
            }
            TokenChange::Moved(_) | TokenChange::Replaced { .. } => {}
        }
        let reason = match change {
            TokenChange::Finalized { .. } => AuthReason::Retired,
            _ => AuthReason::BadToken,
        };
        self.refuse_polls(is_over, reason);
        let streams: Vec<_> =
            self.token_streams.iter().filter(|(_, used)| is_over(**used)).map(|(id, _)| *id).collect();
        for connection in streams {
            self.token_streams.remove(&connection);
            self.streams().end(connection);
        }
    }
}

/// A file that cannot be written is no reason to stop: what holds is in the journal.
fn keep(kept: std::io::Result<()>) {
    if let Err(error) = kept {
        tracing::error!(%error, "the token cannot be kept in its file; programs on this machine that read it may be refused");
    }
}

/// A token that a request names as the next one.
fn given_token(text: &str) -> Result<Token, Problem> {
    if text.len() < TOKEN_BYTES_MIN {
        let detail = format!("next_token must have at least {TOKEN_BYTES_MIN} bytes: a shorter one can be guessed");
        return Err(Problem::bad_request(detail));
    }
    Token::new(Secret::new(text.as_bytes())).map_err(|error| Problem::bad_request(format!("next_token: {error}")))
}

fn write_users(out: &mut Object, users: &[(Option<Name>, IpAddr)]) {
    out.array("users", users.iter().take(LISTED_MAX), |out, (node, ip)| {
        crate::object::object(out, |out| {
            if let Some(node) = node {
                out.text("node_id", node);
            }
            out.plain("ip", ip);
        });
    });
}

const fn word_of(verdict: TokenVerdict) -> &'static str {
    match verdict {
        TokenVerdict::Active => "active",
        TokenVerdict::Old => "old",
        TokenVerdict::Next => "next",
        TokenVerdict::Retired => "retired",
        TokenVerdict::Unknown => "unknown",
    }
}
