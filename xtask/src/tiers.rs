//! `cargo xtask tiers`: each crate uses only what `tiers.toml` allows, and every foreign crate has its reason.
//!
//! NT semantics must be testable without sockets, threads or a mapped driver; that holds only as long as no edge points up or
//! sideways, and nobody notices one by reading.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::workspace::Workspace;

/// `tiers.toml`.
#[derive(Debug, Deserialize)]
struct Allowed {
    uses: BTreeMap<String, BTreeSet<String>>,
    tests_use: BTreeMap<String, BTreeSet<String>>,
}

/// What `cargo metadata` says of the workspace, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

/// Fails with one line per edge that is not allowed.
pub fn run(workspace: &Workspace) -> Result<()> {
    let allowed: Allowed = toml::from_str(&workspace.read("xtask/tiers.toml")?).context("xtask/tiers.toml")?;
    let metadata: Metadata = workspace.metadata()?;
    let architecture = workspace.read("ARCHITECTURE.md")?;
    let mut problems = forbidden_edges(&allowed, &metadata);
    problems.extend(unexplained_crates(&metadata, &architecture));
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    println!("    {} crates, no forbidden edge", metadata.packages.len());
    Ok(())
}

fn forbidden_edges(allowed: &Allowed, metadata: &Metadata) -> Vec<String> {
    let ours = names(metadata);
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let Some(uses) = allowed.uses.get(&package.name) else {
            problems.push(format!("{} is not listed in xtask/tiers.toml", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|dependency| ours.contains(dependency.name.as_str())) {
            let in_tests = dependency.kind.as_deref() == Some("dev");
            let test_lists = ["*", package.name.as_str()].map(|key| allowed.tests_use.get(key));
            let test_uses = || test_lists.iter().flatten().any(|list| list.contains(&dependency.name));
            let may = uses.contains(&dependency.name) || (in_tests && test_uses());
            if !may {
                let place = if in_tests { "in tests " } else { "" };
                problems.push(format!("{} may not use {} {place}(xtask/tiers.toml)", package.name, dependency.name));
            }
        }
    }
    problems
}

/// Foreign crates that ARCHITECTURE.md does not name.
fn unexplained_crates(metadata: &Metadata, architecture: &str) -> Vec<String> {
    let ours = names(metadata);
    let dependencies = metadata.packages.iter().flat_map(|package| &package.dependencies);
    let foreign: BTreeSet<&str> = dependencies.map(|dependency| dependency.name.as_str()).collect();
    let unexplained = foreign.difference(&ours).filter(|name| !architecture.contains(&format!("`{name}`")));
    unexplained.map(|name| format!("ARCHITECTURE.md gives no reason for the foreign crate {name}")).collect()
}

fn names(metadata: &Metadata) -> BTreeSet<&str> {
    metadata.packages.iter().map(|package| package.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: &str = r#"
        [uses]
        low = []
        high = ["low"]
        helper = []
        [tests_use]
        "*" = ["helper"]
        low = ["high"]
    "#;

    fn problems(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        let package = |name: &str| {
            let own = edges.iter().filter(|(from, _, _)| *from == name);
            let dependencies = own.map(|(_, to, kind)| Dependency { name: (*to).into(), kind: kind.map(Into::into) });
            Package { name: name.into(), dependencies: dependencies.collect() }
        };
        let metadata = Metadata { packages: ["low", "high", "helper"].map(package).into() };
        forbidden_edges(&toml::from_str(ALLOWED).expect("well formed"), &metadata)
    }

    #[test]
    fn allowed_and_foreign_edges_are_accepted() {
        assert_eq!(problems(&[("high", "low", None), ("low", "libc", None)]), Vec::<String>::new());
    }

    #[test]
    fn edge_that_points_up_is_refused() {
        assert_eq!(problems(&[("low", "high", None)]), ["low may not use high (xtask/tiers.toml)"]);
        assert_eq!(problems(&[("low", "high", Some("build"))]).len(), 1);
    }

    #[test]
    fn tests_may_use_what_only_tests_are_allowed() {
        assert_eq!(problems(&[("low", "high", Some("dev")), ("high", "helper", Some("dev"))]), Vec::<String>::new());
        assert_eq!(problems(&[("helper", "low", Some("dev"))]).len(), 1);
        assert_eq!(problems(&[("high", "helper", None)]).len(), 1);
    }

    #[test]
    fn crate_without_a_line_is_refused() {
        let metadata = Metadata { packages: vec![Package { name: "new".into(), dependencies: Vec::new() }] };
        let allowed = toml::from_str(ALLOWED).expect("well formed");
        assert_eq!(forbidden_edges(&allowed, &metadata), ["new is not listed in xtask/tiers.toml"]);
    }

    #[test]
    fn foreign_crate_without_a_reason_is_refused() {
        let dependencies = ["libc", "low"].map(|name| Dependency { name: name.into(), kind: None }).into();
        let low = Package { name: "low".into(), dependencies: Vec::new() };
        let metadata = Metadata { packages: vec![low, Package { name: "high".into(), dependencies }] };
        assert_eq!(unexplained_crates(&metadata, "| `libc` | mmap |"), Vec::<String>::new());
        assert_eq!(unexplained_crates(&metadata, "").len(), 1);
    }
}
