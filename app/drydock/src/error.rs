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
    /// A capture was asked for, but there are no wires.
    NothingToCapture,
    /// An output would overwrite what the run reads, or another output.
    WouldOverwrite(PathBuf),
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
            Self::WouldOverwrite(path) => write!(
                f,
                "{} is a driver of this run, or named for two outputs; choose another file",
                path.display()
            ),
            Self::NothingToCapture => f.write_str(
                "only a simulated network has wires to capture from; add --net sim:FILE.toml, or capture with tcpdump",
            ),
            Self::Setup { what, source } => write!(f, "cannot {what}: {source}"),
            Self::Input { what, source } => write!(f, "cannot read {what}: {source}"),
            Self::Output { what, source } => write!(f, "cannot write {what}: {source}; choose another place and run again"),
        }
    }
}

impl std::error::Error for DockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoHostProgram | Self::NothingToCapture | Self::Network(_) | Self::WouldOverwrite(_) => None,
            Self::Setup { source, .. } | Self::Input { source, .. } | Self::Output { source, .. } => Some(source),
        }
    }
}
