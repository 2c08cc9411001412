//! Paths: their parameters, and patterns of them.

/// The part of a path after `prefix`, if it is one segment.
pub fn parameter<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| !rest.is_empty() && !rest.contains('/'))
}

/// Whether a path is the pattern, or begins with what is before the `*` at its end.
pub fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')),
        None => pattern == path,
    }
}
