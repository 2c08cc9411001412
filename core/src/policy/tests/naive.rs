//! The language decided word by word from the document itself: slow, and without any of the module's types.

use serde_json::Value;

/// A request in the words of documents.
#[derive(Clone, Debug)]
pub struct Ask {
    pub operation: &'static str,
    pub roles: Vec<&'static str>,
    pub origin: &'static str,
    pub zone: Option<&'static str>,
    pub node_zone: Option<&'static str>,
    pub capabilities: Vec<&'static str>,
    pub kind: Option<&'static str>,
    pub node: Option<&'static str>,
    pub attestation: Option<&'static str>,
    pub is_signed: bool,
}

/// `allow`, `allow by <id>`, `deny by <id>` or `deny: <what>`.
pub fn decide(document: &Value, ask: &Ask) -> String {
    let matching = |effect| rules(document).iter().filter(move |rule| rule["effect"] == effect && matches(rule, ask));
    let is_heartbeat = ask.operation == "heartbeat";
    if let Some(rule) = matching("deny").next()
        && !is_heartbeat
    {
        return format!("deny by {}", text(&rule["id"]));
    }
    if ask.operation == "admin" && ask.origin != "local" && !matching("allow").any(names_admin_and_origin) {
        return "deny: floor".into();
    }
    if !ask.roles.iter().any(|role| classes_of(role).contains(&ask.operation)) {
        return "deny: roles".into();
    }
    for gate in document["gates"][ask.operation].as_array().into_iter().flatten() {
        let holds = match text(gate) {
            "local" => ask.origin == "local",
            "attestation_ok" => ask.attestation == Some("OK"),
            "signed_identity" => ask.is_signed,
            role => ask.roles.contains(&role.trim_start_matches("role:")),
        };
        if !holds {
            return format!("deny: {}", text(gate));
        }
    }
    if is_heartbeat {
        return "allow".into();
    }
    let is_held_work = ["extend", "result"].contains(&ask.operation);
    match matching("allow").next() {
        Some(rule) => format!("allow by {}", text(&rule["id"])),
        None if document["default"] == "deny" && !is_held_work => "deny: default".into(),
        None => "allow".into(),
    }
}

/// What becomes of a claim of a heartbeat.
pub fn grant(document: &Value, ask: &Ask, zone: &'static str, capability: Option<&'static str>) -> String {
    let claim = Ask { zone: Some(zone), capabilities: capability.into_iter().collect(), ..ask.clone() };
    let find = |effect| {
        rules(document).iter().find(|rule| {
            let mut rule = (*rule).clone();
            // An allow rule grants any one of its capabilities, and its zone with none of them.
            if let Some(listed) = rule["capabilities"].as_array().cloned()
                && effect == "allow"
            {
                let is_listed = capability.is_none_or(|name| listed.iter().any(|glob| globs(text(glob), name)));
                rule.as_object_mut().expect("a rule").remove("capabilities");
                return is_listed && rule["effect"] == effect && matches(&rule, &claim);
            }
            rule["effect"] == effect && matches(&rule, &claim)
        })
    };
    match (find("deny"), find("allow")) {
        (Some(rule), _) => format!("deny by {}", text(&rule["id"])),
        (None, Some(rule)) => format!("allow by {}", text(&rule["id"])),
        (None, None) => if document["default"] == "deny" { "deny: default" } else { "allow" }.into(),
    }
}

fn rules(document: &Value) -> &Vec<Value> {
    document["rules"].as_array().expect("the documents of these tests have rules")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn classes_of(role: &str) -> &'static [&'static str] {
    match role {
        "observer" => &["read"],
        "submitter" => &["submit", "read"],
        "node" => &["heartbeat", "pull", "extend", "result"],
        "operator" => &["read", "operate"],
        _ => &["read", "submit", "pull", "extend", "result", "heartbeat", "operate", "admin"],
    }
}

fn names_admin_and_origin(rule: &Value) -> bool {
    let lists = |member: &Value, word: &str| {
        member == word || member.as_array().is_some_and(|list| list.iter().any(|one| one == word))
    };
    lists(&rule["operations"], "admin") && (lists(&rule["origin"], "lan") || lists(&rule["origin"], "any"))
}

fn matches(rule: &Value, ask: &Ask) -> bool {
    let zones = if ask.operation == "pull" { vec![ask.zone, ask.node_zone] } else { vec![ask.zone] };
    matches_operation(rule, ask.operation)
        && rule["roles"].as_array().is_none_or(|list| list.iter().any(|role| ask.roles.contains(&text(role))))
        && matches_origin(&rule["origin"], ask.origin)
        && matches_list(rule, "zones", &zones)
        && matches_list(rule, "kinds", &[ask.kind])
        && matches_list(rule, "nodes", &[ask.node])
        && matches_list(rule, "attestation", &[ask.attestation])
        && matches_capabilities(rule, &ask.capabilities)
}

fn matches_operation(rule: &Value, operation: &str) -> bool {
    let is_spared = rule["effect"] == "deny" && ["extend", "result"].contains(&operation);
    match rule["operations"].as_array() {
        Some(list) if is_spared => list.iter().any(|one| one == operation),
        Some(list) => list.iter().any(|glob| globs(text(glob), operation)),
        None => !is_spared,
    }
}

fn matches_origin(listed: &Value, origin: &str) -> bool {
    match listed {
        Value::Null => true,
        Value::Array(list) => list.iter().any(|one| matches_origin(one, origin)),
        one => one == "any" || one == origin,
    }
}

fn matches_list(rule: &Value, member: &str, values: &[Option<&str>]) -> bool {
    let Some(list) = rule[member].as_array() else { return true };
    let is_listed = |value: &str| list.iter().any(|glob| globs(text(glob), value));
    if rule["effect"] == "allow" {
        values.iter().all(|value| value.is_some_and(is_listed))
    } else {
        values.iter().any(|value| value.map_or(list.iter().any(|one| one == "none"), is_listed))
    }
}

fn matches_capabilities(rule: &Value, capabilities: &[&str]) -> bool {
    let Some(list) = rule["capabilities"].as_array() else { return true };
    let is_had = |glob: &Value| capabilities.iter().any(|name| globs(text(glob), name));
    if rule["effect"] == "allow" {
        list.iter().all(is_had)
    } else {
        list.iter().any(is_had) || (capabilities.is_empty() && list.iter().any(|one| one == "none"))
    }
}

/// Each `*` tries every length.
fn globs(glob: &str, name: &str) -> bool {
    fn from(glob: &[u8], name: &[u8]) -> bool {
        match glob.first() {
            None => name.is_empty(),
            Some(b'*') => (0..=name.len()).any(|taken| from(&glob[1..], &name[taken..])),
            Some(byte) => name.first().is_some_and(|is| *byte == b'?' || byte == is) && from(&glob[1..], &name[1..]),
        }
    }
    from(glob.as_bytes(), name.as_bytes())
}
