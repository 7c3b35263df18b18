//! Why a run could not be carried out. What a *driver* did wrong is never an error: it is the verdict.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::plan::NetworkError;

/// The supervisor could not set the run up, or could not write down what happened.
#[derive(Debug)]
pub enum DockError {
    /// `host_entry` was not called at the start of `main`, so there is no program to start the child with.
    NoHostProgram,
    /// The network file is wrong.
    Network(NetworkError),
    /// The network file gives a host a driver that is not loaded.
    NoSuchDriver {
        /// The host.
        host: String,
        /// What it names.
        driver: String,
        /// What is loaded.
        loaded: String,
    },
    /// A capture was asked for, but there are no wires.
    NothingToCapture,
    /// An output would overwrite what the run reads, or another output.
    WouldOverwrite(PathBuf),
    /// An output would lie among the drivers' files.
    InDriversFolder(PathBuf),
    /// The registry file makes no sense.
    Registry(String),
    /// Setting up the child failed.
    Setup {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A file that was named could not be read.
    Input {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// An output file could not be written.
    Output {
        /// Which.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl DockError {
    /// An output that could not be written.
    pub fn output(what: impl Into<String>, source: io::Error) -> Self {
        Self::Output { what: what.into(), source }
    }

    pub(crate) fn input(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Input { what: path.display().to_string(), source }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::output(path.display().to_string(), source)
    }

    pub(crate) fn setup(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Setup { what, source }
    }
}

impl fmt::Display for DockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHostProgram => f.write_str(
                "no host program: call drydock::host_entry() first thing in main(), or name one with Dock::host_program",
            ),
            Self::Network(error) => write!(f, "{error}"),
            Self::NoSuchDriver { host, driver, loaded } => write!(
                f,
                "the network file's host '{host}' names the driver '{driver}', which this run does not load (it loads {loaded})"
            ),
            Self::WouldOverwrite(path) => write!(
                f,
                "{} is what this run is made of, or named for two outputs; choose another file",
                path.display()
            ),
            Self::InDriversFolder(path) => write!(
                f,
                "{} lies in the folder of --files, which is the drivers' to write in; choose another place",
                path.display()
            ),
            Self::Registry(why) => write!(f, "the registry file makes no sense: {why}"),
            Self::NothingToCapture => f.write_str(
                "only a simulated network has wires to capture from; add --net sim:FILE.toml, or capture with tcpdump",
            ),
            Self::Setup { what, source } => write!(f, "cannot {what}: {source}{}", hint(source)),
            Self::Input { what, source } => write!(f, "cannot read {what}: {source}"),
            Self::Output { what, source } => write!(f, "cannot write {what}: {source}; choose another place and run again"),
        }
    }
}

/// What to do about a limit of the host's.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::FileTooLarge => "; raise the limit of file size ('ulimit -f')",
        io::ErrorKind::OutOfMemory => {
            "; raise the limit of memory ('ulimit -v', the container's or cgroup's) or free some"
        }
        _ => "",
    }
}

impl std::error::Error for DockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoHostProgram
            | Self::NothingToCapture
            | Self::Network(_)
            | Self::NoSuchDriver { .. }
            | Self::WouldOverwrite(_)
            | Self::InDriversFolder(_)
            | Self::Registry(_) => None,
            Self::Setup { source, .. } | Self::Input { source, .. } | Self::Output { source, .. } => Some(source),
        }
    }
}
