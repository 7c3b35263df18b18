//! `cargo xtask rules`: the table of rules in `docs/rules.md`.
//!
//! A rule is *proven* if a test marked `#[proves("...")]` with its id ran and passed, *different* or *not applicable* if
//! `docs/rule-exceptions.toml` says so with a reason, and *open* otherwise. In the chapters of [`REQUIRED`] nothing shall be open;
//! in those that the exceptions file lists as `enforced`, nothing may. A rule that is proven and excepted at once is a mistake
//! in one of the two. The page may lag behind what is proven, but it must not claim what no test shows any more.
//!
//! The reference the rules stand in is no part of the product: `docs/rule-index.txt` lists ids, chapters and titles.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::workspace::Workspace;
use crate::{prerequisites, test};

/// The environment variable that marked tests read; see the crate `proves`.
pub const PROOFS_VARIABLE: &str = "DRYDOCK_PROOFS";

const INDEX: &str = "docs/rule-index.txt";
const EXCEPTIONS: &str = "docs/rule-exceptions.toml";
const TABLE: &str = "docs/rules.md";

/// Chapters in which every rule shall be proven or excepted; shown in full.
const REQUIRED: &[(char, u32)] = &[('C', 5), ('C', 6), ('C', 8), ('C', 11), ('C', 12)];

/// What `cargo xtask rules` can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// Change nothing; fail if docs/rules.md claims what no test shows, or a rule that must not be open is
    #[arg(long)]
    check: bool,

    /// Take what this file says instead of running the tests
    #[arg(long, value_name = "FILE")]
    proofs: Option<std::path::PathBuf>,
}

/// Runs the tests, if need be, and writes or checks the table.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let proofs = match &options.proofs {
        Some(file) => file.clone(),
        None => run_tests(workspace)?,
    };
    if options.check {
        return check(workspace, &proofs);
    }
    let table = Table::read(workspace, &proofs)?;
    fs::write(workspace.path(TABLE), table.render()).with_context(|| format!("cannot write {TABLE}"))?;
    println!("{TABLE}: {}", table.summary());
    report(&table.problems())
}

/// Fails if `docs/rules.md` claims what `proofs` does not give, or a rule is open that must not be.
pub fn check(workspace: &Workspace, proofs: &Path) -> Result<()> {
    let table = Table::read(workspace, proofs)?;
    let mut problems = table.problems();
    let page = workspace.read(TABLE)?;
    problems.extend(table.false_claims(&page));
    println!("    {}", table.summary());
    if problems.is_empty() && page != table.render() {
        println!("    {TABLE} lags behind; run cargo xtask rules");
    }
    report(&problems)
}

fn report(problems: &[String]) -> Result<()> {
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

fn run_tests(workspace: &Workspace) -> Result<std::path::PathBuf> {
    prerequisites::install(prerequisites::TESTS)?;
    let (proofs, sums) = test::record(workspace)?;
    // Rules of tests that failed are open, and the table says so.
    println!("{sums}{}", if sums.is_success() { "" } else { ": the table shows what passed" });
    Ok(proofs)
}

/// Where a rule stands, and what it is about.
#[derive(Debug)]
struct Rule {
    id: String,
    chapter: u32,
    title: String,
}

impl Rule {
    fn file(&self) -> char {
        self.id.chars().next().unwrap_or_default()
    }

    /// File and chapter, as `C-5`.
    fn place(&self) -> String {
        format!("{}-{}", self.file(), self.chapter)
    }

    fn is_required(&self) -> bool {
        REQUIRED.contains(&(self.file(), self.chapter))
    }
}

/// `docs/rule-exceptions.toml`.
#[derive(Debug, Default, Deserialize)]
struct ExceptionFile {
    /// Chapters in which no rule may be open, as `C-5`.
    #[serde(default)]
    enforced: BTreeSet<String>,
    #[serde(default)]
    rules: BTreeMap<String, Exception>,
}

/// A reasoned exception.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    verdict: Exempt,
    reason: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Exempt {
    NotApplicable,
    Different,
}

impl Exempt {
    fn words(self) -> &'static str {
        match self {
            Self::NotApplicable => "not applicable",
            Self::Different => "different",
        }
    }
}

/// Rules with what is known of each.
#[derive(Debug)]
struct Table {
    rules: Vec<Rule>,
    exceptions: BTreeMap<String, Exception>,
    enforced: BTreeSet<String>,
    /// Tests by the rule they prove, as `crate::path` or `crate: path`.
    proofs: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    fn read(workspace: &Workspace, proofs: &Path) -> Result<Self> {
        let recorded = fs::read_to_string(proofs).with_context(|| format!("cannot read {}", proofs.display()))?;
        Self::parse(&workspace.read(INDEX)?, &workspace.read(EXCEPTIONS)?, &recorded)
    }

    fn parse(index: &str, exceptions: &str, proofs: &str) -> Result<Self> {
        let is_data = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let rules = index.lines().filter(is_data).map(parse_rule).collect::<Result<_>>()?;
        let ExceptionFile { enforced, rules: exceptions } = toml::from_str(exceptions).context(EXCEPTIONS)?;
        let mut table = Self { rules, exceptions, enforced, proofs: BTreeMap::new() };
        for line in proofs.lines() {
            let mut fields = line.split('\t');
            let (Some(rule), Some(package), Some(test), None) =
                (fields.next(), fields.next(), fields.next(), fields.next())
            else {
                bail!("a proof has not three fields: {line:?}");
            };
            // Number 000 is left to the tests of the attribute itself.
            if !rule.contains("-000") {
                // The path of a unit test begins with its crate, that of others with the file they stand in.
                let in_crate = test.strip_prefix(package).is_some_and(|rest| rest.starts_with("::"));
                let test = if in_crate { test.into() } else { format!("{package}: {test}") };
                table.proofs.entry(rule.into()).or_default().insert(test);
            }
        }
        Ok(table)
    }

    /// One line per thing that must not be.
    fn problems(&self) -> Vec<String> {
        let known: BTreeSet<&str> = self.rules.iter().map(|rule| rule.id.as_str()).collect();
        let mut problems = Vec::new();
        for rule in self.rules.iter().filter(|rule| self.enforced.contains(&rule.place())) {
            if !self.proofs.contains_key(&rule.id) && !self.exceptions.contains_key(&rule.id) {
                problems.push(format!("{} ({}) is neither proven nor excepted", rule.id, rule.title));
            }
        }
        for id in self.exceptions.keys() {
            if let Some(tests) = self.proofs.get(id) {
                let tests: Vec<&str> = tests.iter().map(String::as_str).collect();
                problems.push(format!("{id} is excepted in {EXCEPTIONS}, yet proven by {}", tests.join(", ")));
            }
        }
        let unknown = self.exceptions.keys().chain(self.proofs.keys()).filter(|id| !known.contains(id.as_str()));
        problems.extend(unknown.map(|id| format!("no rule has the id {id}")));
        problems
    }

    /// Rules that a page says are proven and that are not.
    fn false_claims(&self, page: &str) -> Vec<String> {
        let claimed = page.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let (id, verdict) = (cells.next()?, cells.nth(1)?);
            (verdict == "proven" && !self.proofs.contains_key(id)).then_some(id)
        });
        claimed.map(|id| format!("{TABLE} says {id} is proven; no test that passed proves it")).collect()
    }

    fn summary(&self) -> String {
        let of = |rules: &[&Rule]| {
            let proven = rules.iter().filter(|rule| self.proofs.contains_key(&rule.id)).count();
            let excepted = rules.iter().filter(|rule| self.exceptions.contains_key(&rule.id)).count();
            format!("{proven} proven, {excepted} excepted of {}", rules.len())
        };
        let required: Vec<&Rule> = self.rules.iter().filter(|rule| rule.is_required()).collect();
        let all: Vec<&Rule> = self.rules.iter().collect();
        format!("required chapters: {}; all: {}", of(&required), of(&all))
    }

    fn render(&self) -> String {
        let mut page = String::from(
            "# Rules and what shows that they hold\n\n\
             Written by `cargo xtask rules`; do not edit. *Proven*: a test marked with the rule's id ran and passed. *Different* and\n\
             *not applicable*: see the reason, from `rule-exceptions.toml`. Rules of chapters that are not required are listed\n\
             once they are proven or excepted.\n",
        );
        let _ = writeln!(page, "\n{}\n", self.summary());
        let mut chapters: BTreeMap<(char, u32), Vec<&Rule>> = BTreeMap::new();
        for rule in &self.rules {
            chapters.entry((rule.file(), rule.chapter)).or_default().push(rule);
        }
        for ((file, chapter), rules) in chapters {
            let shown: Vec<&Rule> = rules.iter().copied().filter(|rule| self.is_shown(rule)).collect();
            if shown.is_empty() {
                continue;
            }
            let _ = writeln!(
                page,
                "## {file}, chapter {chapter}\n\n| rule | about | verdict | shown by, or reason |\n|---|---|---|---|"
            );
            for rule in shown {
                let _ = writeln!(page, "{}", self.row(rule));
            }
            let hidden = rules.iter().filter(|rule| !self.is_shown(rule)).count();
            if hidden > 0 {
                let _ = writeln!(page, "\n{hidden} more are open.");
            }
            page.push('\n');
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
        page
    }

    fn is_shown(&self, rule: &Rule) -> bool {
        rule.is_required() || self.proofs.contains_key(&rule.id) || self.exceptions.contains_key(&rule.id)
    }

    fn row(&self, rule: &Rule) -> String {
        let (verdict, shown) = match (self.proofs.get(&rule.id), self.exceptions.get(&rule.id)) {
            (Some(tests), _) => {
                ("proven", tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join("<br>"))
            }
            (None, Some(exception)) => (exception.verdict.words(), exception.reason.replace('\n', " ")),
            (None, None) => ("**open**", String::new()),
        };
        format!("| {} | {} | {verdict} | {} |", rule.id, rule.title, shown.replace('|', "\\|"))
    }
}

/// `id <tab> chapter [<tab> title]`.
fn parse_rule(line: &str) -> Result<Rule> {
    let mut fields = line.splitn(3, '\t');
    let (Some(id), Some(chapter)) = (fields.next(), fields.next()) else {
        bail!("{INDEX}: a line has not two fields: {line:?}");
    };
    let chapter = chapter.parse().with_context(|| format!("{INDEX}: no chapter: {line:?}"))?;
    Ok(Rule { id: id.into(), chapter, title: fields.next().unwrap_or_default().into() })
}

#[cfg(test)]
mod tests;
