//! What can be said on the command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use drydock::{Action, Network, Setting, Value};

/// Time limit of a run.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

const EXAMPLE: &str = "Example:
  drydock run tdi_client.sys --set Host=127.0.0.1 --set Port=8080 --set Path=/ --figure close.svg

'drydock COMMAND --help' shows an example of each command.";

const RUN_EXAMPLE: &str = "Examples:
  drydock run tdi_client.sys --set Host=127.0.0.1 --set Port=8080 --set Path=/ --figure close.svg
  drydock run hello.sys --ioctl '\\Device\\Hello' 0x222000 --in 68656c6c6f
  drydock run hello.sys --gdb

Exit status: 0 clean, 1 findings, 2 bugcheck, driver failure, or a run that the host did not let come about or to its
end, 64 wrong use or a file that cannot be read, 128 + N ended by signal N. With --scenario: 0 as expected, 1 not as expected, 2 and 64 as above.";

const TEST_EXAMPLE: &str = "Example:
  drydock test tests/driver --junit results.xml

A scenario file names drivers, settings, requests and what must come of them; docs/scenario-file.md describes it.
Exit status: 0 all as expected, 1 not all, 2 a scenario could not be run, or the results not be written, 64 wrong use or a
wrong scenario file, 128 + N ended by signal N. Of several, the greatest.";

const INSPECT_EXAMPLE: &str = "Example:
  drydock inspect client.sys
  drydock inspect helper.sys client.sys --json

Images may import from one another, as when they are run. An offset counts from the image's beginning.
Exit status: 0 all can be run, 1 imports are missing, 2 an image cannot be loaded or read, 64 wrong use.";

const COMPLETIONS_EXAMPLE: &str = "Example:
  drydock completions bash > ~/.local/share/bash-completion/completions/drydock";

const MAN_EXAMPLE: &str = "Example:
  drydock man > ~/.local/share/man/man1/drydock.1";

/// Runs unmodified Windows kernel-mode network drivers as Linux processes.
#[derive(Debug, Parser)]
#[command(name = "drydock", version, after_help = EXAMPLE)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load drivers, drive them, unload them, and say what happened.
    #[command(after_help = RUN_EXAMPLE)]
    Run(Box<RunOptions>),
    /// Judge drivers without running them: what they need, what is missing, what they use of TDI.
    #[command(after_help = INSPECT_EXAMPLE)]
    Inspect(InspectOptions),
    /// Run scenario files and say which went as expected.
    #[command(after_help = TEST_EXAMPLE)]
    Test(TestOptions),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLE)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(after_help = MAN_EXAMPLE)]
    Man,
}

#[derive(Debug, Args)]
pub struct InspectOptions {
    /// Images of any kind, in the order in which they would be loaded
    #[arg(value_name = "DRIVER.sys", required = true)]
    pub images: Vec<PathBuf>,

    /// Print the reports as a JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TestOptions {
    /// Scenario files, or folders with scenario files (*.toml)
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,

    /// Write the results as JUnit XML
    #[arg(long, value_name = "FILE.xml", value_parser = OsStringValueParser::new().try_map(output))]
    pub junit: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RunOptions {
    /// Driver images (PE32+, x86-64), loaded in this order
    #[arg(value_name = "DRIVER.sys", required_unless_present_any = ["scenario", "show_policy"])]
    pub drivers: Vec<PathBuf>,

    /// Take drivers, settings, requests and expectations from a scenario file
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["drivers", "net", "settings", "ioctls", "seed", "timeout", "registry", "files"])]
    pub scenario: Option<PathBuf>,

    /// Which network the transport stands on: none, loopback (127.0.0.0/8 and ::1 only), host, or sim:FILE.toml, a simulated
    /// one in virtual time
    #[arg(long, default_value = "loopback", value_name = "NETWORK", value_parser = network)]
    pub net: Network,

    /// A value under each driver's Parameters key; a number becomes a REG_DWORD, anything else a REG_SZ
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<Setting>,

    /// Load a registry file before the settings are written
    #[arg(long, value_name = "FILE.reg")]
    pub registry: Option<PathBuf>,

    /// Let drivers have files in this folder and nowhere else: it is their drive C:, and Windows in it their \SystemRoot
    #[arg(long, value_name = "DIR", value_parser = folder)]
    pub files: Option<PathBuf>,

    /// Guard every pool block with pages of its own: overruns and uses after free are blamed at once
    #[arg(long)]
    pub special_pool: bool,

    /// Send a device control request after loading; may be given several times
    #[arg(long = "ioctl", num_args = 2, value_names = ["DEVICE", "CODE"], action = clap::ArgAction::Append)]
    pub ioctls: Vec<String>,

    /// Input bytes of the --ioctl at the same position
    #[arg(long = "in", value_name = "HEX", requires = "ioctls")]
    pub inputs: Vec<String>,

    /// Room for each --ioctl's output, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4096)]
    pub out_size: u32,

    /// Draw what happened as an SVG sequence diagram
    #[arg(long, value_name = "FILE.svg", value_parser = OsStringValueParser::new().try_map(output))]
    pub figure: Option<PathBuf>,

    /// Print the same diagram as text at the end
    #[arg(long)]
    pub text_figure: bool,

    /// Write every event as JSON Lines
    #[arg(long, value_name = "FILE.jsonl", value_parser = OsStringValueParser::new().try_map(output))]
    pub trace: Option<PathBuf>,

    /// Write what crosses the simulated wires (with --net sim:)
    #[arg(long, value_name = "FILE.pcapng", value_parser = OsStringValueParser::new().try_map(output))]
    pub pcap: Option<PathBuf>,

    /// Where a crash file goes: drydock-crash-1.txt, or the first number after it that is free
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub crash_dir: PathBuf,

    /// Run all driver threads on one host thread, scheduled by this seed
    #[arg(long, value_name = "N", value_parser = seed)]
    pub seed: Option<u64>,

    /// Print the verdict as one JSON object on the last line of stdout; the account goes to stderr
    #[arg(long)]
    pub json: bool,

    /// Print what the process that hosts drivers may ask of Linux, and run nothing
    #[arg(long)]
    pub show_policy: bool,

    /// Wait for a debugger before the first DriverEntry, and print what to say to gdb; no time limit unless --timeout is given,
    /// which then counts for the wait and again from the attach
    #[arg(long)]
    pub gdb: bool,

    /// Do not print the account, only what came of the run (and the figure of --text-figure)
    #[arg(long, short)]
    pub quiet: bool,

    /// Stop the driver after this many seconds; 60 if not given
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub timeout: Option<Duration>,
}

impl RunOptions {
    /// How long the run may take. Who debugs thinks longer than any driver.
    pub fn time_limit(&self) -> Option<Duration> {
        self.timeout.or((!self.gdb).then_some(DEFAULT_TIMEOUT))
    }

    /// The `--ioctl` requests with their inputs.
    pub fn actions(&self) -> Result<Vec<Action>, String> {
        if self.inputs.len() > self.ioctls.len() / 2 {
            return Err("there are more --in than --ioctl".into());
        }
        let request = |(index, pair): (usize, &[String])| {
            let input = self.inputs.get(index).map(|text| hex(text)).transpose()?.unwrap_or_default();
            Ok(Action::ioctl(drydock::device_name(&pair[0])?, number(&pair[1])?, input, self.out_size))
        };
        self.ioctls.chunks_exact(2).enumerate().map(request).collect()
    }
}

fn network(text: &str) -> Result<Network, String> {
    Network::named(text, Path::new("")).map_err(|error| error.to_string())
}

fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("expected a folder that exists".into()) }
}

/// A file that is written. Not `-`, which other programs take for stdout: that belongs to the account.
fn output(text: OsString) -> Result<PathBuf, String> {
    if text == "-" {
        return Err("expected a file; for a pipe say /dev/stdout, for a file of that name ./-".into());
    }
    Ok(text.into())
}

fn setting(text: &str) -> Result<Setting, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Setting { name: name.into(), value: Value::typed(value) }),
        _ => Err("expected NAME=VALUE, for example Port=8080".into()),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number from 0 on, for example 7".into())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_string())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected a number of seconds above 0".into()),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("'{text}' is not a control code; write it as 0x22E004 or in decimal"))
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten()
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    bytes.ok_or_else(|| format!("'{text}' is not a row of hex byte pairs, such as 48656c6c6f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> RunOptions {
        match Arguments::parse_from(line.split_whitespace()).command {
            Command::Run(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ioctl_takes_the_input_at_its_position() {
        let options = parse(r"drydock run a.sys --ioctl \Device\A 0x10 --in 0aFF --ioctl \Device\B 17");
        let actions = options.actions().expect("well formed");
        assert_eq!(actions[0], Action::ioctl(r"\Device\A", 0x10, vec![0x0A, 0xFF], 4096));
        assert_eq!(actions[1], Action::ioctl(r"\Device\B", 17, vec![], 4096));
    }

    #[test]
    fn time_is_limited_unless_a_debugger_is_asked_for() {
        assert_eq!(parse("drydock run a.sys").time_limit(), Some(DEFAULT_TIMEOUT));
        assert_eq!(parse("drydock run a.sys --gdb").time_limit(), None);
        assert_eq!(parse("drydock run a.sys --gdb --timeout 5").time_limit(), Some(Duration::from_secs(5)));
    }

    #[test]
    fn wrong_use_is_refused_with_a_reason() {
        for line in [
            "drydock run",
            "drydock run a.sys --set Port",
            "drydock run a.sys --set =1",
            "drydock run a.sys --timeout 0",
            "drydock run a.sys --net moon",
            "drydock run a.sys --in 00",
            "drydock run a.sys --scenario b.toml",
            "drydock run a.sys --files /no/such/folder",
            "drydock run a.sys --figure -",
            "drydock run a.sys --trace -",
            "drydock test a.toml --junit -",
            "drydock run --scenario b.toml --files /",
            "drydock test",
            "drydock inspect",
        ] {
            assert!(Arguments::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
        assert!(hex("0").is_err() && hex("+1").is_err() && hex("é0").is_err());
        assert!(number("0x1FFFFFFFF").is_err());
    }
}
