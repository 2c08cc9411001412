//! Documents: the answers of the hub to operators, kept as they came.
//!
//! A document is shown to people by the members that a command knows, and passed on whole to programs: numbers keep
//! their digits, and members of a later release are not lost.

use super::{Auth, CallError, Client, Head, Plane, Request};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::time::Duration;
use ureq::http::Method;

/// An answer of the hub: one JSON object.
#[derive(Clone, Debug)]
pub struct Document {
    /// The body as it came.
    pub text: String,
    /// Its members.
    pub members: Members,
}

/// The members of an object, each as the JSON that it came as.
#[derive(Clone, Default, Debug)]
pub struct Members(pub BTreeMap<String, Box<RawValue>>);

/// What an operator does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act<'a> {
    /// A POST of this JSON.
    Post(&'a str),
    /// A PUT of this JSON, with `if_match` only if the resource has this version.
    Put { body: &'a str, if_match: Option<u64> },
    /// A DELETE.
    Delete,
}

impl Client {
    /// Reads a document; `wait` is how long the request asks the hub to wait.
    pub fn read(&self, plane: Plane, path: &str, wait: Duration) -> Result<Document, CallError> {
        self.document(&Request { plane, body: None, path, auth: Auth::Own, wait }, &Head::default())
    }

    /// Does something; returns the hub's answer.
    pub fn act(&self, plane: Plane, path: &str, act: Act) -> Result<Document, CallError> {
        let (method, body, if_match) = match act {
            Act::Post(body) => (Method::POST, Some(body.as_bytes()), None),
            Act::Put { body, if_match } => (Method::PUT, Some(body.as_bytes()), if_match),
            Act::Delete => (Method::DELETE, None, None),
        };
        let request = Request { plane, body, path, auth: Auth::Own, wait: Duration::ZERO };
        self.document(&request, &Head { method: Some(method), if_match, accept: None })
    }

    fn document(&self, request: &Request, head: &Head) -> Result<Document, CallError> {
        let answer = self.exchange_as(request, head)?;
        if answer.status != 200 {
            return Err(self.refusal(self.endpoint(request.plane), &answer));
        }
        Document::parse(answer.body).ok_or_else(|| {
            let path = request.path.split('?').next().unwrap_or_default();
            self.garbled(request.plane, format!("the answer to {path} is not an object of JSON"))
        })
    }
}

impl Document {
    fn parse(body: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(body).ok()?;
        let members = Members::parse(&text)?;
        Some(Document { text, members })
    }
}

impl Members {
    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Members)
    }

    /// A member as JSON; `None` if it is absent or `null`.
    pub fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(|raw| &**raw).filter(|raw| raw.get() != "null")
    }

    /// A member as text: a string without its quotes, anything else as its JSON. Empty if it is absent or `null`.
    pub fn text(&self, name: &str) -> String {
        self.raw(name).map_or_else(String::new, text_of)
    }

    /// Sets a member to a text.
    pub fn set_text(&mut self, name: &str, text: &str) {
        let text = serde_json::value::to_raw_value(text).expect("a text is always JSON");
        self.0.insert(name.to_owned(), text);
    }

    /// A member that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// Whether a member is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|raw| raw.get() == "true")
    }

    /// A member that is an object; empty if it is none.
    pub fn object(&self, name: &str) -> Members {
        self.raw(name).and_then(|raw| Members::parse(raw.get())).unwrap_or_default()
    }

    /// A member that is a list of objects; empty if it is none.
    pub fn objects(&self, name: &str) -> Vec<Members> {
        self.entries(name).iter().filter_map(|raw| Members::parse(raw.get())).collect()
    }

    /// The entries of a member that is a list; empty if it is none.
    pub fn entries(&self, name: &str) -> Vec<Box<RawValue>> {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }
}

/// JSON as text: a string without its quotes, anything else as it is.
fn text_of(raw: &RawValue) -> String {
    match raw.get().starts_with('"') {
        true => serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
        false => raw.get().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_text_and_keep_their_json() {
        let text = r#"{"a":"x\ny","b":1.50,"c":null,"d":[{"e":true},7],"f":{"g":18446744073709551615}}"#;
        let members = Document::parse(text.into()).unwrap().members;
        assert_eq!(["a", "b", "c", "none"].map(|name| members.text(name)), ["x\ny", "1.50", "", ""]);
        assert_eq!(members.raw("d").unwrap().get(), r#"[{"e":true},7]"#);
        assert!(members.objects("d")[0].flag("e") && members.objects("d").len() == 1);
        assert_eq!(members.object("f").number("g"), Some(u64::MAX));
        assert!(members.object("a").0.is_empty() && members.number("a").is_none());
    }

    #[test]
    fn what_is_not_an_object_is_no_document() {
        for body in ["", "[]", "{", "\"ok\"", "<html>"] {
            assert!(Document::parse(body.into()).is_none(), "{body}");
        }
        assert!(Document::parse(vec![b'{', 0xff, b'}']).is_none());
    }
}
