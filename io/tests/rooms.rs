//! Rooms: no module of this crate or of the binary uses another that uses it, directly or through others. Parents are
//! left out: they re-export their children, which use what the children share.
//!
//! It reads the source as text. A path that begins with `crate::` or `super::` leads to the longest module that it
//! names, and through a `pub use` of that module to the child that has the name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module's path in its crate.
type Name = Vec<String>;

/// The modules' code, without tests and comments.
type Modules = BTreeMap<Name, String>;

#[test]
fn no_two_modules_use_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (source, modules_min) in [("src", 100), ("hub/src", 50)] {
        let mut modules = Modules::new();
        read(&root.join(source), &Vec::new(), &mut modules);
        assert!(modules.len() > modules_min, "{source} has moved");
        let circles = circles(&modules);
        assert!(circles.is_empty(), "modules of {source} that use each other: {circles:#?}");
    }
}

#[test]
fn circles_are_found_at_each_level_and_through_what_a_module_re_exports() {
    let circles_of = |sources: &[(&str, &str)]| {
        let name = |path: &str| path.split("::").map(str::to_owned).collect();
        circles(&sources.iter().map(|(path, text)| (name(path), code(text))).collect())
    };
    let (a, b) = (("a", "use crate::b::B;"), ("b", "fn f() -> crate::a::A"));
    assert_eq!(circles_of(&[a, b]), [": a, b"]);
    assert_eq!(
        circles_of(&[a, ("b", "use crate::{c, c::D as E};"), ("c", "use crate::{x::y, a::{A, C}};")]),
        [": a, b, c"]
    );
    assert_eq!(
        circles_of(&[("m", "pub use a::{A, X};"), ("m::a", "use super::b::B;"), ("m::b", "use super::{A, C};")]),
        ["m: a, b"]
    );
    // A test may use what it likes, and a comment uses nothing.
    for harmless in ["/// As crate::a.", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}", "use crate::aa::A;"] {
        assert_eq!(circles_of(&[a, ("b", harmless)]), [""; 0], "{harmless}");
    }
}

fn read(folder: &Path, name: &Name, modules: &mut Modules) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let child = [name.as_slice(), std::slice::from_ref(&stem)].concat();
        match stem.as_str() {
            "tests" => {}
            _ if path.is_dir() => read(&path, &child, modules),
            "lib" | "main" => {}
            "mod" => _ = modules.insert(name.clone(), code(&fs::read_to_string(&path).unwrap())),
            _ => _ = modules.insert(child, code(&fs::read_to_string(&path).unwrap())),
        }
    }
}

/// The lines of a file up to its tests, without comments.
fn code(text: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut code = String::new();
    while let Some(line) = lines.next() {
        let is_for_tests = line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
        match lines.peek() {
            Some(next) if is_for_tests && next.starts_with("mod ") && next.ends_with('{') => break,
            Some(next) if is_for_tests && next.starts_with("mod ") => _ = lines.next(),
            _ if line.trim_start().starts_with("//") => {}
            _ => code = code + line + "\n",
        }
    }
    code
}

/// The circles of siblings, each as `parent: a, b`.
fn circles(modules: &Modules) -> Vec<String> {
    let mut uses = BTreeMap::<(Name, String), BTreeSet<String>>::new();
    for (name, code) in modules {
        for used in used_by(name, code, modules) {
            let shared = name.iter().zip(&used).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (name.get(shared), used.get(shared)) {
                uses.entry((name[..shared].to_vec(), from.clone())).or_default().insert(to.clone());
            }
        }
    }
    let reached = |parent: &Name, from: &String| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(at) = next.pop() {
            let used = uses.get(&(parent.clone(), at)).into_iter().flatten();
            next.extend(used.filter(|used| reached.insert((*used).clone())).cloned().collect::<Vec<_>>());
        }
        reached
    };
    let mut circles = BTreeSet::new();
    for (parent, name) in uses.keys() {
        let others = reached(parent, name);
        if others.contains(name) {
            let circle: Vec<_> = others.into_iter().filter(|other| reached(parent, other).contains(name)).collect();
            circles.insert(format!("{}: {}", parent.join("::"), circle.join(", ")));
        }
    }
    circles.into_iter().collect()
}

/// The modules that a module's code names.
fn used_by(name: &Name, code: &str, modules: &Modules) -> BTreeSet<Name> {
    let mut used = BTreeSet::new();
    for start in ["crate::", "super::"].iter().flat_map(|start| code.match_indices(start)).map(|(at, _)| at) {
        // In the middle of a longer path, or of a longer word.
        if code[..start].ends_with(|c: char| c == ':' || c == '_' || c.is_alphanumeric()) {
            continue;
        }
        let mut paths = Vec::new();
        expand(&code[start..], "", &mut paths);
        for path in paths {
            let mut segments = path.split("::").map(str::trim).filter(|segment| !segment.is_empty()).peekable();
            let mut at = name.clone();
            if segments.next_if_eq(&"crate").is_some() {
                at.clear();
            }
            while segments.next_if_eq(&"super").is_some() {
                at.pop();
            }
            for segment in segments {
                let child = [at.as_slice(), &[segment.to_owned()]].concat();
                let Some(next) = Some(child)
                    .filter(|child| modules.contains_key(child))
                    .or_else(|| re_exported(&at, segment, modules))
                else {
                    break;
                };
                at = next;
            }
            used.insert(at);
        }
    }
    used
}

/// Reads a tree of paths, such as `a::{b, c::{d, e}}`; returns what follows it.
fn expand<'a>(text: &'a str, prefix: &str, paths: &mut Vec<String>) -> &'a str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(text.len());
    let (path, mut rest) = (format!("{prefix}{}", &text[..end]), &text[end..]);
    if !path.ends_with("::") || !rest.starts_with('{') {
        paths.push(path);
        return rest;
    }
    rest = &rest[1..];
    loop {
        rest = rest.trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            return rest;
        }
        rest = expand(rest, &path, paths);
        let Some(end) = rest.find([',', '}']) else { return "" };
        rest = rest[end..].strip_prefix(',').unwrap_or(&rest[end..]);
    }
}

/// The child from which a module has a name.
fn re_exported(module: &Name, name: &str, modules: &Modules) -> Option<Name> {
    let code = modules.get(module)?;
    let mut paths = Vec::new();
    for (start, text) in
        code.match_indices("use ").filter(|(start, _)| start == &0 || code[..*start].ends_with(['\n', ' ']))
    {
        expand(&code[start + text.len()..], "", &mut paths);
    }
    let child = paths.iter().find_map(|path| path.strip_suffix(name)?.strip_suffix("::")?.split("::").next())?;
    Some([module.as_slice(), &[child.to_owned()]].concat()).filter(|child| modules.contains_key(child))
}
