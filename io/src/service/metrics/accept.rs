//! Accept: which form of the metrics a client accepts (RFC 9110, section 12.5.1).

/// A form of the metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// JSON, the default.
    Json,
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Form {
    /// The reply's `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The form with the greatest weight among those that the headers name: several are one list. JSON wins a tie: web libraries that want JSON
/// name `text/plain` as well. Wildcards mean the default, JSON.
pub fn form<'a>(accept: impl Iterator<Item = &'a [u8]>) -> Form {
    let mut best = (0, Form::Json);
    let texts = accept.filter_map(|value| std::str::from_utf8(value).ok());
    for range in texts.flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let form = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "application/json" => Form::Json,
            "application/openmetrics-text" => Form::OpenMetrics,
            "text/plain" => Form::Prometheus,
            _ => continue,
        };
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q="))).map_or(1_000, thousandths);
        // On equal weights: JSON, then OpenMetrics, which holds more.
        let rank = |form| match form {
            Form::Json => 2,
            Form::OpenMetrics => 1,
            Form::Prometheus => 0,
        };
        if weight > 0 && (weight, rank(form)) > (best.0, if best.0 == 0 { -1 } else { rank(best.1) }) {
            best = (weight, form);
        }
    }
    best.1
}

/// A weight of `0` to `1` in thousandths; an invalid one counts as 1.
fn thousandths(weight: &str) -> u32 {
    weight.parse::<f32>().map_or(1_000, |weight| (weight.clamp(0.0, 1.0) * 1_000.0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_names_a_text_form_gets_it_and_all_others_get_json() {
        let table = [
            ("", Form::Json),
            ("*/*", Form::Json),
            ("application/json", Form::Json),
            ("application/json, text/plain, */*", Form::Json),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Form::Json),
            ("text/plain", Form::Prometheus),
            ("TEXT/PLAIN; version=0.0.4", Form::Prometheus),
            ("text/plain;q=0", Form::Json),
            ("text/plain;q=0.2, application/json;q=0.5", Form::Json),
            ("text/plain;version=0.0.4;q=0.5,application/json;q=0.3", Form::Prometheus),
            ("application/openmetrics-text", Form::OpenMetrics),
            ("text/plain, application/openmetrics-text", Form::OpenMetrics),
            // Prometheus 2.42 and 3.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Form::OpenMetrics,
            ),
            ("text/plain;version=0.0.4;q=0.6,*/*;q=0.1", Form::Prometheus),
        ];
        for (accept, expected) in table {
            assert_eq!(form([accept.as_bytes()].into_iter()), expected, "{accept}");
        }
        assert_eq!(form([].into_iter()), Form::Json);
        assert_eq!(form([b"\xff".as_slice()].into_iter()), Form::Json);
        assert_eq!(form([b"text/html".as_slice(), b"text/plain"].into_iter()), Form::Prometheus);
    }
}
