//! What a run came to.

use std::fmt;

use serde::Serialize;

use trace::printable;

use crate::names;

/// The run in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was done and nothing was found.
    Clean,
    /// Everything was done, and rules were broken or something was left behind.
    Findings,
    /// The driver was stopped by a bugcheck, a time limit, or took its process down.
    Bugcheck,
    /// An image could not be loaded, or DriverEntry returned an error.
    DriverFailed,
    /// The run could not be carried on, by no fault of a driver's: no memory, a limit, a signal from outside.
    HostFailed,
}

impl Outcome {
    /// The process exit status: 0, 1 or 2.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Findings => 1,
            Self::Bugcheck | Self::DriverFailed | Self::HostFailed => 2,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Findings => "findings",
            Self::Bugcheck => "bugcheck",
            Self::DriverFailed => "driver failed",
            Self::HostFailed => "host failed",
        })
    }
}

/// A broken rule, or something left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's id, such as `C-133`; empty if none names it.
    pub rule: String,
    /// What happened and what to do about it.
    pub message: String,
    /// The driver's file name; empty if unknown.
    pub driver: String,
    /// Offset of the instruction in the driver's image; `null` if unknown.
    pub offset: Option<u64>,
    /// Function and line there, if debug information lies beside the image.
    pub source: Option<String>,
    /// Whether `offset` is where a call returns to, not where a routine begins.
    #[serde(skip)]
    pub in_call: bool,
    /// How often the same thing happened at the same place.
    pub times: u64,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Successful opens.
    pub opens: u64,
    /// IRP_MJ_CLEANUP requests.
    pub cleanups: u64,
    /// IRP_MJ_CLOSE requests.
    pub closes: u64,
    /// Requests given to a driver.
    pub irps: u64,
    /// Bytes the network took.
    pub bytes_sent: u64,
    /// Bytes the network gave.
    pub bytes_received: u64,
}

/// What one action came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionResult {
    /// What was asked, in words.
    pub action: String,
    /// Final NTSTATUS.
    pub status: u32,
    /// `IoStatus.Information`.
    pub information: u64,
    /// Output bytes in hex.
    pub out: String,
}

/// The driver's death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bugcheck {
    /// Windows' code, or one of Drydock's own above 0xD0C00000.
    pub code: u32,
    /// Windows' name for it.
    pub name: String,
    /// The four parameters.
    pub parameters: [u64; 4],
    /// The driver to blame; empty if unknown.
    pub driver: String,
    /// Where in it.
    pub offset: Option<u64>,
    /// Function and line there, if debug information lies beside the image.
    pub source: Option<String>,
    /// Whether `offset` is where a call returns to, not an instruction that failed itself.
    #[serde(skip)]
    pub in_call: bool,
    /// What to make of it, in words.
    pub message: String,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// In one word.
    #[serde(rename = "verdict")]
    pub outcome: Outcome,
    /// In the order they were found.
    pub findings: Vec<Finding>,
    /// See [`Counts`].
    pub counts: Counts,
    /// One per action, in order.
    pub actions: Vec<ActionResult>,
    /// Set when the outcome is [`Outcome::Bugcheck`].
    pub bugcheck: Option<Bugcheck>,
    /// Why, when the outcome is [`Outcome::DriverFailed`] or [`Outcome::HostFailed`].
    pub failure: Option<String>,
    /// Events lost because the reader was too slow (never with `--trace`, `--figure` or `--seed`).
    pub events_lost: u64,
    /// What could not be judged or told, and why, in words.
    pub untold: Vec<String>,
    /// The crash file, if one was written.
    pub crash_file: Option<String>,
    /// Outputs that could not be written, in words.
    pub unwritten: Vec<String>,
    /// What the drivers printed, line by line, as far as it is kept.
    #[serde(skip)]
    pub prints: Vec<String>,
}

impl Verdict {
    /// The verdict as one line of JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a verdict holds strings and numbers only")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.rule.is_empty() {
            write!(f, "{}: ", printable(&self.rule))?;
        }
        write!(f, "{}", printable(&self.message))?;
        if self.times > 1 {
            write!(f, " ({} times)", self.times)?;
        }
        write_place(f, &self.driver, self.offset, self.source.as_deref())
    }
}

impl fmt::Display for Bugcheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.parameters;
        write!(f, "{:#010x} {} ({a:#x}, {b:#x}, {c:#x}, {d:#x})", self.code, self.name)?;
        if !self.message.is_empty() {
            write!(f, ": {}", printable(&self.message))?;
        }
        write_place(f, &self.driver, self.offset, self.source.as_deref())
    }
}

impl fmt::Display for ActionResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}, {} bytes", printable(&self.action), names::status(self.status), self.information)?;
        if !self.out.is_empty() {
            write!(f, ": {}", self.out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opens, cleanups, closes, irps, bytes_sent, bytes_received } = self;
        write!(
            f,
            "{opens} opens, {cleanups} cleanups, {closes} closes, {irps} IRPs, {bytes_sent} bytes sent, {bytes_received} received"
        )
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, driver: &str, offset: Option<u64>, source: Option<&str>) -> fmt::Result {
    match (&*printable(driver), offset) {
        ("", _) => return Ok(()),
        (driver, None) => write!(f, " [{driver}")?,
        (driver, Some(offset)) => write!(f, " [{driver}+{offset:#x}")?,
    }
    match source {
        Some(source) => write!(f, ", {}]", printable(source)),
        None => f.write_str("]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_drivers_are_printed_without_what_steers_a_terminal() {
        let hostile = "\u{1b}[2J\r\n\u{202E}";
        let finding = Finding {
            rule: hostile.into(),
            message: hostile.into(),
            driver: hostile.into(),
            offset: Some(1),
            source: Some(hostile.into()),
            in_call: false,
            times: 1,
        };
        let bugcheck = Bugcheck {
            code: 1,
            name: "NAME".into(),
            parameters: [0; 4],
            driver: hostile.into(),
            offset: Some(1),
            source: Some(hostile.into()),
            in_call: false,
            message: hostile.into(),
        };
        for text in [finding.to_string(), bugcheck.to_string()] {
            assert!(!text.contains(|letter: char| letter.is_control() || letter == '\u{202E}'), "{text:?}");
            assert!(text.contains(r"\u{1b}[2J\r\n\u{202e}"), "{text}");
        }
    }
}
