//! `cargo xtask lints`: house rules that clippy does not know.
//!
//! - A source file outside of tests has at most [`LINES_MAX`] lines.
//! - Only crates listed in `lints.toml` contain unsafe code; every other forbids it at its root.
//! - Nothing stands in `lints.toml` that is not needed any more.
//! - No tracked text holds a path of somebody's machine or names a private registry.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::Workspace;

/// What one can hold in view.
const LINES_MAX: usize = 800;

/// Text that must not be committed. Written in two parts so that this file passes.
const FOREIGN_TEXT: &[&str] = &[
    concat!("/home", "/"),
    concat!("/root", "/"),
    concat!("/Users", "/"),
    concat!("/work", "/main"),
    concat!("/work", "/shared"),
    concat!("/tmp", "/target"),
    concat!("arti", "factory"),
];

/// The one registry that a lock file may name.
const PUBLIC_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// `lints.toml`.
#[derive(Debug, Deserialize)]
struct Exceptions {
    unsafe_code: BTreeMap<String, String>,
    long_files: BTreeMap<String, String>,
}

/// A tracked text file.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    /// The crate whose root this is.
    fn root_of(&self) -> Option<&str> {
        let is_root = self.path.ends_with("src/lib.rs") || self.path.ends_with("src/main.rs");
        let name = self.path.parent()?.parent()?.file_name()?.to_str();
        name.filter(|_| is_root)
    }

    fn forbids_unsafe_code(&self) -> bool {
        self.text.contains("#![forbid(unsafe_code)]")
    }
}

/// Fails with one line per breach.
pub fn run(workspace: &Workspace) -> Result<()> {
    let exceptions: Exceptions = toml::from_str(&workspace.read("xtask/lints.toml")?).context("xtask/lints.toml")?;
    let files = workspace.tracked_files()?;
    let mut problems = Vec::new();
    for path in &files {
        // What is no text has no lines to look at.
        let Ok(text) = workspace.read(path) else { continue };
        let source = Source { path, text: &text };
        problems.extend(length(&source, &exceptions));
        problems.extend(foreign_text(&source));
        problems.extend(unsafe_code(&source, &exceptions));
        problems.extend(idle_exception(&source, &exceptions));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    println!("    {} files", files.len());
    Ok(())
}

fn length(source: &Source<'_>, exceptions: &Exceptions) -> Option<String> {
    let path = source.path.to_string_lossy();
    let is_test = source.path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("/tests.rs");
    let is_source = source.path.extension().is_some_and(|extension| extension == "rs" || extension == "c");
    let lines = source.text.lines().count();
    let excepted = exceptions.long_files.contains_key(path.as_ref());
    (is_source && !is_test && lines > LINES_MAX && !excepted)
        .then(|| format!("{path} has {lines} lines, {LINES_MAX} are allowed (xtask/lints.toml)"))
}

fn foreign_text(source: &Source<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        let place = || format!("{}:{}", source.path.display(), number + 1);
        if let Some(found) = FOREIGN_TEXT.iter().find(|text| line.contains(**text)) {
            problems.push(format!("{}: {found:?} belongs to one machine", place()));
        }
        if source.path.ends_with("Cargo.lock") && line.starts_with("source = ") && !line.contains(PUBLIC_REGISTRY) {
            problems.push(format!("{}: not from the public registry", place()));
        }
    }
    problems
}

/// Looks at crate roots only: there the compiler can be told, and it looks at the rest.
fn unsafe_code(source: &Source<'_>, exceptions: &Exceptions) -> Option<String> {
    let name = source.root_of()?;
    (!exceptions.unsafe_code.contains_key(name) && !source.forbids_unsafe_code())
        .then(|| format!("{} lacks #![forbid(unsafe_code)]; {name} may not contain unsafe code", source.path.display()))
}

/// An exception for what keeps the rule.
fn idle_exception(source: &Source<'_>, exceptions: &Exceptions) -> Option<String> {
    let idle = |name: &str| format!("{name} needs no exception (xtask/lints.toml)");
    let path = source.path.to_string_lossy();
    if exceptions.long_files.contains_key(path.as_ref()) && source.text.lines().count() <= LINES_MAX {
        return Some(idle(&path));
    }
    let name = source.root_of()?;
    (exceptions.unsafe_code.contains_key(name) && source.forbids_unsafe_code()).then(|| idle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exceptions() -> Exceptions {
        toml::from_str("[unsafe_code]\ngate = \"calls\"\n[long_files]\n\"gate/src/long.rs\" = \"a table\"")
            .expect("well formed")
    }

    fn source<'a>(path: &'a str, text: &'a str) -> Source<'a> {
        Source { path: Path::new(path), text }
    }

    #[test]
    fn file_over_the_limit_is_refused_unless_it_is_a_test_or_excepted() {
        let long = "x\n".repeat(LINES_MAX + 1);
        assert!(length(&source("gate/src/call.rs", &long), &exceptions()).is_some());
        for path in ["gate/src/long.rs", "gate/src/tests.rs", "gate/tests/all.rs", "notes.md"] {
            assert_eq!(length(&source(path, &long), &exceptions()), None, "{path}");
        }
        assert_eq!(length(&source("gate/src/call.rs", &"x\n".repeat(LINES_MAX)), &exceptions()), None);
    }

    #[test]
    fn exception_for_what_keeps_the_rule_is_refused() {
        let check = |path, text: &str| idle_exception(&source(path, text), &exceptions());
        assert_eq!(check("gate/src/long.rs", &"x\n".repeat(LINES_MAX + 1)), None);
        assert!(check("gate/src/long.rs", "short").is_some());
        assert_eq!(check("machine/gate/src/lib.rs", "unsafe {}"), None);
        assert!(check("machine/gate/src/lib.rs", "#![forbid(unsafe_code)]").is_some());
        assert_eq!(check("net/net_api/src/lib.rs", "#![forbid(unsafe_code)]"), None);
    }

    #[test]
    fn path_of_a_machine_is_refused_with_its_line() {
        let text = format!("fine\nsee {}somebody/notes\n", FOREIGN_TEXT[0]);
        let found = foreign_text(&source("README.md", &text));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("README.md:2: "), "{}", found[0]);
    }

    #[test]
    fn lock_file_names_only_the_public_registry() {
        let public = format!("source = \"{PUBLIC_REGISTRY}\"\n");
        assert_eq!(foreign_text(&source("Cargo.lock", &public)), Vec::<String>::new());
        assert_eq!(foreign_text(&source("Cargo.lock", "source = \"registry+https://elsewhere/\"\n")).len(), 1);
    }

    #[test]
    fn crate_without_a_reason_for_unsafe_code_must_forbid_it() {
        let check = |path, text| unsafe_code(&source(path, text), &exceptions());
        assert!(check("net/net_api/src/lib.rs", "").is_some());
        assert_eq!(check("net/net_api/src/lib.rs", "#![forbid(unsafe_code)]"), None);
        assert_eq!(check("machine/gate/src/lib.rs", ""), None);
        assert_eq!(check("net/net_api/src/network.rs", ""), None);
    }
}
