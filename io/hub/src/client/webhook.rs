//! The webhook's client: posts a body once, with the timeout and without the redirects of a receiver of alerts.

use sheratan_io::alerts::{Post, Posted};
use std::time::Duration;

/// How long a receiver may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Posts alerts.
pub fn post() -> Post {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("sheratan-hub/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(ANSWER_MAX));
    let agent = config.build().new_agent();
    Box::new(move |url, body| {
        let sent = agent.post(url.expose()).header("Content-Type", "application/json").send(body);
        match sent.map(|response| response.status()) {
            Ok(status) if status.is_success() => Posted::Accepted,
            Ok(status) if status.is_server_error() || matches!(status.as_u16(), 408 | 429) => {
                Posted::Failed(format!("status {status}"))
            }
            Ok(status) => Posted::Refused(format!("status {status}")),
            Err(ureq::Error::Io(error)) => Posted::Failed(error.kind().to_string()),
            Err(ureq::Error::Timeout(_)) => Posted::Failed("no answer in time".into()),
            Err(_) => Posted::Failed("no connection".into()),
        }
    })
}
