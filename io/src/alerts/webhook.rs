//! The webhook: posts alerts as JSON in the formats of Prometheus' Alertmanager, so that receivers for that accept
//! them.
//!
//! A URL whose path ends with `/api/v2/alerts` is an Alertmanager itself and gets a list of alerts
//! (<https://prometheus.io/docs/alerting/latest/clients/>); any other gets what an Alertmanager would post to a
//! webhook, version 4 (<https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>). One thread posts,
//! in order; a failed post is retried with backoff for some minutes, and changes that do not fit into the queue are
//! dropped and counted.

use crate::backoff::Backoff;
use crate::rfc3339::Rfc3339;
use crate::secret::Secret;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::{Value, json};
use sheratan_core::alerts::{Change, State};
use sheratan_core::{Calendar, Millis};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Changes that wait to be posted: an hour of a burst in each of some twenty groups.
const QUEUE_MAX: usize = 256;

/// How long one change is retried; then it is dropped, since a later one is more useful.
const TRY_FOR: Duration = Duration::from_secs(300);

/// How long the end of the process waits for changes that are not posted yet.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// Each post names the instant at which the Alertmanager resolves the alert if no update arrives, so that a hub that
/// died leaves no alert open for ever. It is the longest time between two posts of an open alert (its window and its
/// cool-down, at least 10 s) plus this margin for late posts.
const FIRING_MARGIN: Millis = Millis::from_secs(60 + 10);

/// Where alerts are posted to. The URL often is a secret itself: it is never shown.
#[derive(Clone)]
pub struct WebhookUrl(Secret);

/// Why a text is not a URL that can be posted to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WebhookUrlError {
    /// It is not of the form `http://host:port/path`.
    Form,
    /// It names TLS.
    Tls,
}

impl WebhookUrl {
    /// The URL that the secret holds.
    pub fn new(url: Secret) -> Result<Self, WebhookUrlError> {
        let text = std::str::from_utf8(url.expose()).map_err(|_| WebhookUrlError::Form)?;
        let uri: ::http::Uri = text.parse().map_err(|_| WebhookUrlError::Form)?;
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), _) => Err(WebhookUrlError::Tls),
            (Some("http"), Some(host)) if !host.is_empty() => Ok(WebhookUrl(url)),
            _ => Err(WebhookUrlError::Form),
        }
    }

    /// The URL as a secret, for the redactor.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// The URL itself, for the client that posts to it.
    pub fn expose(&self) -> &str {
        std::str::from_utf8(self.0.expose()).expect("it was read as text when it was made")
    }

    fn is_alertmanager(&self) -> bool {
        self.expose().split('?').next().is_some_and(|url| url.trim_end_matches('/').ends_with("/api/v2/alerts"))
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({})", self.0)
    }
}

impl fmt::Display for WebhookUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WebhookUrlError::Form => "must be a URL such as http://127.0.0.1:9093/api/v2/alerts",
            WebhookUrlError::Tls => {
                "names TLS, which this release does not speak: post to an Alertmanager or a proxy on this machine"
            }
        })
    }
}

impl std::error::Error for WebhookUrlError {}

/// Posts a body once: the HTTP client of whoever starts the hub.
pub type Post = Box<dyn Fn(&WebhookUrl, &[u8]) -> Posted + Send>;

/// The result of one post. Reasons never contain the URL.
pub enum Posted {
    /// It was accepted.
    Accepted,
    /// It was refused, and would be again.
    Refused(String),
    /// It may be accepted later.
    Failed(String),
}

/// The handle to the posting thread.
#[derive(Debug)]
pub struct Webhook {
    source: String,
    is_alertmanager: bool,
    bodies: Sender<Vec<u8>>,
    lost: Arc<AtomicU64>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Webhook {
    /// Starts the thread. `source` is a URL that identifies the hub in alerts; `lost` counts changes that are not
    /// posted.
    pub fn start(url: WebhookUrl, source: &str, lost: Arc<AtomicU64>, post: Post) -> io::Result<Self> {
        let (bodies, receiver) = bounded(QUEUE_MAX);
        let (stop, stopped) = bounded(1);
        let is_alertmanager = url.is_alertmanager();
        let poster = Poster { post, url, lost: lost.clone(), stopped, is_failing: false };
        let thread = std::thread::Builder::new().name("webhook".into()).spawn(move || poster.run(&receiver))?;
        Ok(Webhook { source: source.to_owned(), is_alertmanager, bodies, lost, stop, thread })
    }

    /// Queues a change to be posted; never blocks.
    pub fn post(&self, change: &Change, calendar: Calendar) {
        let body = match self.is_alertmanager {
            true => json!([alert(change, calendar, &self.source)]),
            false => notification(change, calendar, &self.source),
        };
        if self.bodies.try_send(body.to_string().into_bytes()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            tracing::error!("an alert is not posted: {QUEUE_MAX} wait for the webhook already");
        }
    }

    /// Ends the thread; waits at most [`FINISH_MAX`] for queued changes.
    pub fn finish(self) {
        let Webhook { bodies, stop, thread, .. } = self;
        drop(bodies);
        let until = Instant::now() + FINISH_MAX;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        // A thread that waits between two tries ends at once; one that is posting ends with the process.
        _ = stop.try_send(());
        if thread.is_finished() && thread.join().is_err() {
            tracing::error!("the webhook's thread has panicked");
        }
    }
}

struct Poster {
    post: Post,
    url: WebhookUrl,
    lost: Arc<AtomicU64>,
    stopped: Receiver<()>,
    is_failing: bool,
}

impl Poster {
    fn run(mut self, bodies: &Receiver<Vec<u8>>) {
        for body in bodies {
            if !self.deliver(&body) {
                return;
            }
        }
    }

    /// Retries until the body is accepted, refused or too old; `false` if the hub stops.
    fn deliver(&mut self, body: &[u8]) -> bool {
        let (started, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            match (self.post)(&self.url, body) {
                Posted::Accepted => {
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("the webhook accepts alerts again");
                    }
                    return true;
                }
                Posted::Refused(reason) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(reason, "the webhook refused an alert");
                    return true;
                }
                Posted::Failed(reason) if started.elapsed() > TRY_FOR => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(reason, "an alert was not posted: the webhook accepted none for {TRY_FOR:?}");
                    return true;
                }
                Posted::Failed(reason) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!(reason, "an alert could not be posted to the webhook; it is retried");
                    }
                }
            }
            match self.stopped.recv_timeout(backoff.next_wait(None)) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
}

/// One alert in the Alertmanager's API format.
fn alert(change: &Change, calendar: Calendar, source: &str) -> Value {
    let Change { at, state, alert } = change;
    let ends_at = match state {
        State::Resolved => *at,
        State::Opened | State::Updated => *at + alert.window + alert.cooldown + FIRING_MARGIN,
    };
    let mut labels = json!({
        "alertname": format!("BURST_{}", alert.event), "rule": alert.rule, "severity": "warning", "service": "sheratan-hub",
    });
    if let Some((member, value)) = &alert.group {
        // A label with a prefix: a group's member may have the name of another label.
        labels[format!("group_{}", member.replace(['-', '.'], "_"))] = json!(value);
    }
    let window_sec = alert.window.as_secs_ceil();
    let top: Vec<_> = alert.top.iter().map(|(ip, count)| format!("{ip} ({count})")).collect();
    json!({
        "labels": labels,
        "annotations": {
            "summary": format!("{} {} events in {window_sec} s (threshold {})", alert.count, alert.event, alert.threshold),
            "description": format!("{} events since it opened; most from {}", alert.total, match top.is_empty() {
                true => "no known address".to_owned(),
                false => top.join(", "),
            }),
            "count": alert.count.to_string(), "total": alert.total.to_string(),
        },
        "startsAt": Rfc3339::new(calendar.utc(alert.opened_at)).to_string(),
        "endsAt": Rfc3339::new(calendar.utc(ends_at)).to_string(),
        "generatorURL": source,
    })
}

/// A change as an Alertmanager posts it to a webhook.
fn notification(change: &Change, calendar: Calendar, source: &str) -> Value {
    let status = if change.state == State::Resolved { "resolved" } else { "firing" };
    let mut alert = alert(change, calendar, source);
    let fingerprint = format!("{:016x}", change.alert.id);
    alert["status"] = json!(status);
    alert["fingerprint"] = json!(fingerprint);
    if status == "firing" {
        // An Alertmanager does the same: the end of an open alert is not known.
        alert["endsAt"] = json!("0001-01-01T00:00:00Z");
    }
    json!({
        "version": "4", "groupKey": format!("{{}}:{{alert_id=\"alert_{fingerprint}\"}}"), "truncatedAlerts": 0,
        "status": status, "receiver": "sheratan-hub", "groupLabels": {"alertname": alert["labels"]["alertname"]},
        "commonLabels": alert["labels"], "commonAnnotations": alert["annotations"], "externalURL": source,
        "alerts": [alert],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<WebhookUrl, WebhookUrlError> {
        WebhookUrl::new(Secret::new(text.as_bytes()))
    }

    #[test]
    fn changes_that_do_not_fit_into_the_queue_are_counted_and_never_block() {
        // A receiver that does not answer before the test's end.
        let (_end, ended) = bounded::<()>(0);
        let post = move |_: &WebhookUrl, _: &[u8]| Posted::Failed(format!("{:?}", ended.recv()));
        let lost = Arc::new(AtomicU64::new(0));
        let webhook =
            Webhook::start(url("http://receiver/").unwrap(), "http://hub/", lost.clone(), Box::new(post)).unwrap();
        let alert = sheratan_core::alerts::Alert {
            id: 1,
            rule: "r".into(),
            event: "E".into(),
            threshold: 1,
            window: Millis::from_secs(1),
            cooldown: Millis::ZERO,
            group: None,
            opened_at: sheratan_core::Timestamp::ZERO,
            count: 2,
            total: 2,
            top: Vec::new(),
        };
        let change = Change { at: alert.opened_at, state: State::Opened, alert };
        (0..QUEUE_MAX + 10).for_each(|_| webhook.post(&change, Calendar::UNSET));
        // The thread may hold one besides those in the queue.
        assert!((9..=10).contains(&lost.load(Ordering::Relaxed)), "{lost:?}");
    }

    #[test]
    fn a_url_is_checked_before_anything_is_posted_and_never_shown() {
        for (text, is_alertmanager) in [
            ("http://127.0.0.1:9093/api/v2/alerts", true),
            ("http://am/prefix/api/v2/alerts/?x=1", true),
            ("http://127.0.0.1:5001/", false),
            ("http://hooks.lan/services/T0/B0/secret", false),
        ] {
            let url = url(text).unwrap();
            assert_eq!(url.is_alertmanager(), is_alertmanager, "{text}");
            assert!(!format!("{url:?}").contains("http"), "{url:?}");
        }
        assert_eq!(url("https://a/").err(), Some(WebhookUrlError::Tls));
        for text in ["", "a", "/x", "ftp://a/", "http://"] {
            assert_eq!(url(text).err(), Some(WebhookUrlError::Form), "{text}");
        }
    }
}
