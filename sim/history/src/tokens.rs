//! Orders about the shared token, as lines. A digest is 64 hex digits, or a number up to 255 that all its bytes have.

use crate::values::{self, HASH_32, UTC};
use crate::words::{Kind, Options, Printed, WordError, Words};
use sheratan_core::{Command, Hub, TokenChange, TokenConfig, TokenDigest, TokenOrder, TokenRefusal, TokenRotation};
use sheratan_core::{TokenVerdict, TokenWindow};

/// The verbs of orders.
pub(crate) const VERBS: &[&str] =
    &["configure_tokens", "rotate_token", "move_rotation", "finish_rotation", "abort_rotation"];

pub(crate) const DIGEST: Kind<TokenDigest> =
    Kind { expected: HASH_32.expected, read: |text| (HASH_32.read)(text).map(TokenDigest::new) };

pub(crate) fn parse(verb: &str, words: &mut Words<'_>) -> Result<Command, WordError> {
    let order = match verb {
        "configure_tokens" => {
            let options = words.options(&["active", "next", "until"], &[])?;
            let rotation = rotation(&options)?;
            TokenOrder::Configure(TokenConfig { active: options.get("active", &DIGEST)?, rotation })
        }
        "rotate_token" => {
            let next = words.take(&DIGEST)?;
            let until = words.options(&["until"], &[])?.get("until", &UTC)?.unwrap_or_default();
            TokenOrder::Begin(TokenRotation { next, until })
        }
        "move_rotation" => TokenOrder::Move(words.take(&UTC)?),
        "finish_rotation" => TokenOrder::Finish,
        "abort_rotation" => TokenOrder::Abort,
        _ => unreachable!("it is one of the verbs of orders"),
    };
    Ok(Command::Tokens(Box::new(order)))
}

fn rotation(options: &Options<'_>) -> Result<Option<TokenRotation>, WordError> {
    let until = options.get("until", &UTC)?.unwrap_or_default();
    Ok(options.get("next", &DIGEST)?.map(|next| TokenRotation { next, until }))
}

pub(crate) fn print(order: &TokenOrder) -> String {
    match order {
        TokenOrder::Configure(TokenConfig { active, rotation }) => {
            let line = Printed::new("configure_tokens").maybe("active", active, digest);
            let next = rotation.map(|rotation| rotation.next);
            let until = rotation.map(|rotation| rotation.until).filter(|until| until.as_millis() > 0);
            line.maybe("next", &next, digest).maybe("until", &until, |until| values::utc(*until)).end()
        }
        TokenOrder::Begin(TokenRotation { next, until }) => {
            let until = Some(*until).filter(|until| until.as_millis() > 0);
            Printed::new("rotate_token").word(digest(next)).maybe("until", &until, |until| values::utc(*until)).end()
        }
        TokenOrder::Move(until) => Printed::new("move_rotation").word(values::utc(*until)).end(),
        TokenOrder::Finish => Printed::new("finish_rotation").end(),
        TokenOrder::Abort => Printed::new("abort_rotation").end(),
    }
}

pub(crate) fn refusal(refusal: &TokenRefusal) -> &'static str {
    match refusal {
        TokenRefusal::NoToken => "no_token",
        TokenRefusal::SameToken => "same_token",
        TokenRefusal::Retired => "retired_token",
        TokenRefusal::WindowOpen(_) => "rotation_open",
        TokenRefusal::NoWindow => "no_rotation",
    }
}

pub(crate) fn change(line: Printed, change: &TokenChange) -> (&'static str, Printed) {
    let of_rotation = |line: Printed, rotation: &TokenRotation| {
        line.option("next", digest(&rotation.next)).option("until", values::utc(rotation.until))
    };
    match change {
        TokenChange::Replaced { active } => ("TOKEN_REPLACED", line.option("active", digest(active))),
        TokenChange::Begun(rotation) => ("TOKEN_ROTATION_BEGUN", of_rotation(line, rotation)),
        TokenChange::Moved(rotation) => ("TOKEN_ROTATION_MOVED", of_rotation(line, rotation)),
        TokenChange::Aborted(rotation) => ("TOKEN_ROTATION_ABORTED", of_rotation(line, rotation)),
        TokenChange::Finalized { active, retired } => {
            let line = line.option("active", digest(active)).option("retired", digest(retired));
            ("TOKEN_ROTATION_FINALIZED", line)
        }
    }
}

/// What a token is now.
pub(crate) fn look(hub: &Hub, token: &TokenDigest) -> String {
    let verdict = match hub.tokens().judge(hub.now(), hub.calendar(), token) {
        TokenVerdict::Active => "active",
        TokenVerdict::Old => "old",
        TokenVerdict::Next => "next",
        TokenVerdict::Retired => "retired",
        TokenVerdict::Unknown => "unknown",
    };
    let until = hub.tokens().window().map(|TokenWindow { rotation, .. }| rotation.until);
    Printed::new(verdict).maybe("until", &until, |until| values::utc(*until)).end()
}

pub(crate) fn digest(digest: &TokenDigest) -> String {
    values::hash(digest.as_bytes())
}
