//! Weights: how many turns in a round the jobs of a client or kind have, where these take turns.

use super::body::{self, Fields};
use super::problem::Problem;
use super::{Answer, Caller, Service, header, reply, rules};
use crate::http::{Method, Reply, Request};
use sheratan_core::integrity::json::Member;
use sheratan_core::limits::WEIGHTS_MAX;
use sheratan_core::{Command, Timestamp, WEIGHT_MAX, Weight};

/// The path of this resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route;

impl Route {
    pub fn find(path: &str) -> Option<Self> {
        (path == "/mesh/weights").then_some(Route)
    }

    /// Its label in the metrics.
    pub const fn name(self) -> &'static str {
        "weights"
    }

    /// Its methods, as `Allow` lists them.
    pub const fn methods(self) -> &'static str {
        "GET, HEAD, PUT"
    }
}

impl Service {
    pub(super) fn handle_weights(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        request: &Request,
    ) -> Result<Answer, Problem> {
        if *request.method() != Method::Put {
            return Ok(self.show_of(now, caller, request));
        }
        let weights = read(request.body())?;
        let version = self.hub.weights_version();
        // Between reading the version and setting the weights nothing else happens.
        if header::if_match(request)?.is_some_and(|expected| expected != version) {
            return Err(Problem::version_mismatch("the weights have", version));
        }
        self.execute(now, self.asker(caller), Command::SetWeights(weights))?;
        Ok(rules::acknowledgement(self.weights_reply()))
    }

    pub(super) fn weights_reply(&self) -> Reply {
        let by = match self.hub.limits().fair_by {
            1 => "client",
            2 => "kind",
            3 => "zone",
            _ => "none",
        };
        let version = self.hub.weights_version();
        let reply = reply::ok(|out| {
            out.flag("ok", true).plain("fair_by", by).number("version", version).object("weights", |out| {
                self.hub.weights().iter().for_each(|(group, weight)| _ = out.number(group, u64::from(*weight)));
            });
        });
        reply.with_header("ETag", format!("\"{version}\""))
    }
}

/// The weights that a body names; they replace all former ones.
fn read(body: &[u8]) -> Result<Vec<Weight>, Problem> {
    let fields = Fields::parse_strict(body, &["weights"])?;
    let object = fields.raw("weights").and_then(|value| value.as_object());
    let object = object.ok_or_else(|| Problem::bad_request("weights must be an object of names with their weights"))?;
    if object.members().len() > WEIGHTS_MAX {
        return Err(Problem::bad_request(format!("weights must have at most {WEIGHTS_MAX} members")));
    }
    let read_one = |(text, value): &Member<'_>| {
        let group = body::name("a name in weights", text)?;
        let weight = value.as_u64().filter(|weight| (1..=u64::from(WEIGHT_MAX)).contains(weight));
        let weight = weight.ok_or_else(|| {
            Problem::bad_request(format!("each weight must be a whole number from 1 to {WEIGHT_MAX}"))
        })?;
        Ok(Weight { group, weight: weight as u32 })
    };
    object.members().iter().map(read_one).collect()
}
