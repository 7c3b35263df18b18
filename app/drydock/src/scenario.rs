//! Scenario files: a test of a driver as one file in its repository.
//!
//! A TOML file names the drivers, the network, the settings, what is asked of the drivers step by step, and what must come of
//! it. `docs/scenario-file.md` describes it for users. Files are foreign text: whatever is wrong is an error with its
//! line, and with what was expected there.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nt_abi::NtStatus;
use serde::Deserialize;
use toml::Spanned;

use crate::plan::{Action, Network, Setting, Target, Value, device_name};
use crate::{Dock, Outcome, Verdict, names};

/// Largest scenario file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Room for output where a step does not say.
const OUT_SIZE: u32 = 4096;

/// A scenario that was read.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file's name without its ending.
    pub name: String,
    drivers: Vec<PathBuf>,
    network: Network,
    seed: Option<u64>,
    timeout: Duration,
    settings: Vec<Setting>,
    files: Option<PathBuf>,
    actions: Vec<Action>,
    expect: Expectations,
}

/// What must come of a run.
#[derive(Clone, Debug)]
pub struct Expectations {
    outcome: Outcome,
    findings: Option<Vec<String>>,
    prints: Vec<String>,
    steps: Vec<StepExpectation>,
}

/// What must come of one step.
#[derive(Clone, Debug, Default)]
struct StepExpectation {
    /// Where the step stands in the file.
    line: usize,
    status: ExpectedStatus,
    information: Option<u64>,
    out: Option<String>,
}

/// An NTSTATUS that is success unless the file says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ExpectedStatus(u32);

/// What is wrong with a scenario file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(String);

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScenarioError {}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    drivers: Vec<PathBuf>,
    net: Option<Spanned<String>>,
    seed: Option<u64>,
    #[serde(default = "default_timeout")]
    timeout: f64,
    files: Option<PathBuf>,
    #[serde(default)]
    set: std::collections::BTreeMap<String, Written>,
    #[serde(default)]
    step: Vec<Spanned<Step>>,
    #[serde(default)]
    expect: Expect,
}

fn default_timeout() -> f64 {
    60.0
}

/// A setting: text or a number.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text in quotes, or a whole number from 0 to 4294967295")]
enum Written {
    Number(u32),
    Text(String),
}

/// One step: exactly one of the action keys, and what belongs to it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    open: Option<String>,
    close: Option<String>,
    ioctl: Option<u32>,
    read: Option<u32>,
    write: Option<String>,
    wait: Option<f64>,
    #[serde(rename = "as")]
    name: Option<String>,
    device: Option<String>,
    on: Option<String>,
    #[serde(rename = "in")]
    input: Option<String>,
    offset: Option<u64>,
    out_size: Option<u32>,
    status: Option<Status>,
    information: Option<u64>,
    out: Option<String>,
}

/// An NTSTATUS by name or number.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a status by name, such as \"STATUS_SUCCESS\", or by number, such as 0xC000000D"
)]
enum Status {
    Number(u32),
    Name(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    verdict: Option<ExpectedOutcome>,
    findings: Option<Vec<String>>,
    #[serde(default)]
    prints: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpectedOutcome {
    Clean,
    Findings,
    Bugcheck,
    DriverFailed,
}

impl From<ExpectedOutcome> for Outcome {
    fn from(expected: ExpectedOutcome) -> Self {
        match expected {
            ExpectedOutcome::Clean => Self::Clean,
            ExpectedOutcome::Findings => Self::Findings,
            ExpectedOutcome::Bugcheck => Self::Bugcheck,
            ExpectedOutcome::DriverFailed => Self::DriverFailed,
        }
    }
}

impl Scenario {
    /// Reads a scenario file. Names of drivers are relative to the file's folder.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let cannot = |why: &dyn fmt::Display| ScenarioError(format!("cannot read {}: {why}", path.display()));
        let metadata = path.metadata().map_err(|error| cannot(&error))?;
        if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
            return Err(cannot(&"it is no scenario file (a TOML file of at most a megabyte)"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| cannot(&error))?;
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let folder = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, name, folder).map_err(|why| ScenarioError(format!("{}: {why}", path.display())))
    }

    fn parse(text: &str, name: String, folder: &Path) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if file.drivers.is_empty() {
            return Err("'drivers' is empty; name at least one .sys file".into());
        }
        let timeout = Duration::try_from_secs_f64(file.timeout).ok().filter(|timeout| !timeout.is_zero());
        let timeout = timeout.ok_or("'timeout' must be a number of seconds above 0")?;
        let network = file.net.map(|net| {
            let line = line_of(text, net.span().start);
            Network::named(net.get_ref(), folder).map_err(|why| format!("line {line}: {why}"))
        });
        let network = network.transpose()?.unwrap_or_default();
        let mut actions = Vec::new();
        let mut steps = Vec::new();
        for step in file.step {
            let line = line_of(text, step.span().start);
            let (action, expectation) =
                step.into_inner().understand(line).map_err(|why| format!("line {line}: {why}"))?;
            actions.push(action);
            steps.push(expectation);
        }
        let outcome = match file.expect.verdict {
            Some(outcome) => outcome.into(),
            None if file.expect.findings.as_ref().is_some_and(|findings| !findings.is_empty()) => Outcome::Findings,
            None => Outcome::Clean,
        };
        let setting = |(name, value)| match value {
            Written::Number(number) => Setting { name, value: Value::Number(number) },
            Written::Text(text) => Setting { name, value: Value::Text(text) },
        };
        Ok(Self {
            name,
            drivers: file.drivers.iter().map(|driver| folder.join(driver)).collect(),
            network,
            seed: file.seed,
            timeout,
            settings: file.set.into_iter().map(setting).collect(),
            files: file.files.map(|files| folder.join(files)),
            actions,
            expect: Expectations { outcome, findings: file.expect.findings, prints: file.expect.prints, steps },
        })
    }

    /// The run that the file describes.
    pub fn dock(&self) -> Dock {
        // A test that passes because its findings were overwritten would be worth nothing.
        let mut dock = Dock::new().network(self.network.clone()).timeout(self.timeout).every_event();
        for driver in &self.drivers {
            dock = dock.load(driver);
        }
        for setting in &self.settings {
            dock = dock.setting(setting.clone());
        }
        for action in &self.actions {
            dock = dock.action(action.clone());
        }
        if let Some(folder) = &self.files {
            dock = dock.files(folder);
        }
        match self.seed {
            Some(seed) => dock.seed(seed),
            None => dock,
        }
    }

    /// How a run differs from what the file expects; nothing if it does not.
    pub fn differences(&self, verdict: &Verdict) -> Vec<String> {
        self.expect.differences(verdict)
    }
}

impl Expectations {
    fn differences(&self, verdict: &Verdict) -> Vec<String> {
        let mut found = Vec::new();
        if verdict.outcome != self.outcome {
            found.push(format!("the verdict is '{}', expected was '{}'", verdict.outcome, self.outcome));
            found.extend(verdict.bugcheck.iter().map(|bugcheck| format!("bugcheck {bugcheck}")));
            found.extend(verdict.failure.iter().map(|failure| format!("failed: {failure}")));
        }
        found.extend(self.findings(verdict));
        let ended_as_expected = verdict.outcome == Outcome::Bugcheck && self.outcome == Outcome::Bugcheck;
        for (index, step) in self.steps.iter().enumerate() {
            match verdict.actions.get(index) {
                Some(result) => found.extend(step.differences(result)),
                // The step that met the bugcheck has no result: the bugcheck is what comes of it.
                None if ended_as_expected && index == verdict.actions.len() => {}
                None => found.push(format!("the step of line {} was not carried out", step.line)),
            }
        }
        let mut printed = verdict.prints.iter();
        for wanted in &self.prints {
            // In this order, with anything in between.
            if !printed.any(|line| line.contains(wanted)) {
                found.push(format!("no driver printed {wanted:?} (in this order)"));
                break;
            }
        }
        found
    }

    /// Every finding must be expected, and every expected rule found.
    fn findings(&self, verdict: &Verdict) -> Vec<String> {
        let Some(expected) = &self.findings else {
            let unexpected = verdict.findings.iter().filter(|_| self.outcome == Outcome::Clean);
            return unexpected.map(|finding| format!("finding {finding}")).collect();
        };
        let unexpected = verdict.findings.iter().filter(|finding| !expected.contains(&finding.rule));
        let mut found: Vec<_> = unexpected.map(|finding| format!("finding {finding}")).collect();
        let missing = expected.iter().filter(|rule| !verdict.findings.iter().any(|finding| finding.rule == **rule));
        found.extend(missing.map(|rule| format!("no finding of rule {rule}")));
        found
    }
}

impl StepExpectation {
    fn differences(&self, result: &crate::ActionResult) -> Vec<String> {
        let mut found = Vec::new();
        let mut differs = |what: &str, got: String, wanted: String| {
            found.push(format!("line {}, {}: {what} is {got}, expected was {wanted}", self.line, result.action));
        };
        if result.status != self.status.0 {
            differs("the status", names::status(result.status), names::status(self.status.0));
        }
        if let Some(information) = self.information.filter(|information| *information != result.information) {
            differs("the information", result.information.to_string(), information.to_string());
        }
        if let Some(out) = self.out.as_ref().filter(|out| **out != result.out) {
            differs("the output", format!("'{}'", result.out), format!("'{out}'"));
        }
        found
    }
}

impl Step {
    fn understand(self, line: usize) -> Result<(Action, StepExpectation), String> {
        let expectation = StepExpectation {
            line,
            status: ExpectedStatus(self.status.as_ref().map_or(Ok(0), Status::number)?),
            information: self.information,
            out: self.out.as_deref().map(|text| bytes(text).map(|bytes| hex(&bytes))).transpose()?,
        };
        let given = [
            ("open", self.open.is_some()),
            ("close", self.close.is_some()),
            ("ioctl", self.ioctl.is_some()),
            ("read", self.read.is_some()),
            ("write", self.write.is_some()),
            ("wait", self.wait.is_some()),
        ];
        let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        let [key] = given[..] else {
            return Err(format!(
                "a step has exactly one of open, close, ioctl, read, write, wait; this one has {given:?}"
            ));
        };
        self.allow(key)?;
        let target = || match (&self.device, &self.on) {
            (Some(device), None) => Ok(Target::Device(device_name(device)?.to_owned())),
            (None, Some(name)) => Ok(Target::Opened(name.clone())),
            _ => Err(format!("'{key}' needs either device = '\\Device\\Name' or on = \"name of an open step\"")),
        };
        let offset = self.offset.unwrap_or(0);
        let action = match (key, self.ioctl, self.read) {
            ("ioctl", Some(code), _) => Action::Ioctl {
                target: target()?,
                code,
                input: self.input.as_deref().map(bytes).transpose()?.unwrap_or_default(),
                output_max: self.out_size.unwrap_or(OUT_SIZE),
            },
            ("read", _, Some(length)) => Action::Read { target: target()?, length, offset },
            ("write", ..) => {
                Action::Write { target: target()?, data: bytes(self.write.as_deref().unwrap_or_default())?, offset }
            }
            ("open", ..) => Action::Open {
                name: self.name.clone().ok_or("'open' needs as = \"name\", so that later steps can name it")?,
                device: device_name(self.open.as_deref().unwrap_or_default())?.to_owned(),
            },
            ("close", ..) => Action::Close { name: self.close.clone().unwrap_or_default() },
            _ => Action::Wait { milliseconds: milliseconds(self.wait.unwrap_or_default())? },
        };
        Ok((action, expectation))
    }

    /// Refuses keys that mean nothing to the step's action, which are mostly slips.
    fn allow(&self, key: &str) -> Result<(), String> {
        let others = [
            ("as", self.name.is_some(), &["open"][..]),
            ("device", self.device.is_some(), &["ioctl", "read", "write"]),
            ("on", self.on.is_some(), &["ioctl", "read", "write"]),
            ("in", self.input.is_some(), &["ioctl"]),
            ("offset", self.offset.is_some(), &["read", "write"]),
            ("out_size", self.out_size.is_some(), &["ioctl"]),
            ("out", self.out.is_some(), &["ioctl", "read"]),
        ];
        match others.iter().find(|(_, given, with)| *given && !with.contains(&key)) {
            Some((other, _, with)) => Err(format!("'{other}' goes with {}, not with '{key}'", with.join(", "))),
            None => Ok(()),
        }
    }
}

impl Status {
    fn number(&self) -> Result<u32, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Name(name) => {
                let known = NtStatus::named(name.strip_prefix("STATUS_").unwrap_or(name));
                known.map(|status| status.0).ok_or(format!(
                    "'{name}' is no status that Drydock knows by name; write its number, such as 0xC000000D"
                ))
            }
        }
    }
}

fn milliseconds(seconds: f64) -> Result<u32, String> {
    let milliseconds = seconds * 1000.0;
    if (0.0..=f64::from(u32::MAX)).contains(&milliseconds) {
        return Ok(milliseconds as u32);
    }
    Err("'wait' must be a number of seconds from 0 on".into())
}

/// Bytes written as hex pairs, with spaces anywhere between pairs.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|c| c.to_digit(16))
        .collect::<Option<_>>()
        .filter(|digits: &Vec<u32>| digits.len().is_multiple_of(2))
        .ok_or(format!("'{text}' is not a row of hex byte pairs, such as \"48 65 6c 6c 6f\""))?;
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line that a byte of the text stands in, from 1 on.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests;
