//! What a run is to do: given to the child by the supervisor as one JSON document.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sim_net::NetworkFile;

/// Which network the transport stands on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// No network at all: every connect fails with STATUS_ACCESS_DENIED.
    None,
    /// The host's sockets, loopback addresses only.
    #[default]
    Loopback,
    /// The host's sockets.
    Host,
    /// A simulated one, in virtual time: the run is seeded then, by the network file's seed or 0 if none was given.
    Simulated(NetworkDescription),
}

/// A simulated network as a network file describes it; see `docs/network-file.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkDescription {
    /// Where it comes from, for messages.
    pub name: String,
    /// The file's text.
    pub text: String,
}

impl Network {
    /// A simulated network from a network file.
    ///
    /// # Errors
    /// What is wrong with the file: the line, the key and what was expected.
    pub fn simulated(path: impl AsRef<Path>) -> Result<Self, NetworkError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let cannot = |error| NetworkError(format!("cannot read the network file {name}: {error}"));
        let text = read_text(path).map_err(cannot)?;
        let description = NetworkDescription { name, text };
        description.parse()?;
        Ok(Self::Simulated(description))
    }

    /// A network by its name on the command line: `none`, `loopback`, `host` or `sim:FILE.toml`, the file being
    /// relative to `folder`.
    ///
    /// # Errors
    /// That there is no such network, or as [`Network::simulated`].
    pub fn named(name: &str, folder: &Path) -> Result<Self, NetworkError> {
        match (name, name.strip_prefix("sim:")) {
            ("none", _) => Ok(Self::None),
            ("loopback", _) => Ok(Self::Loopback),
            ("host", _) => Ok(Self::Host),
            (_, Some(file)) => Self::simulated(folder.join(file)),
            _ => Err(NetworkError(format!("'{name}' is no network; choose none, loopback, host or sim:FILE.toml"))),
        }
    }
}

/// Largest network file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn read_text(path: &Path) -> io::Result<String> {
    let metadata = path.metadata()?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is no text file of at most 16 MiB"));
    }
    std::fs::read_to_string(path)
}

impl Network {
    /// Whether it is made of the host's sockets.
    fn needs_sockets(&self) -> bool {
        matches!(self, Self::Loopback | Self::Host)
    }
}

impl NetworkDescription {
    /// The file, checked.
    pub(crate) fn parse(&self) -> Result<NetworkFile, NetworkError> {
        NetworkFile::parse(&self.text).map_err(|error| NetworkError(format!("{}: {error}", self.name)))
    }
}

/// What is wrong with the choice of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkError(String);

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NetworkError {}

/// One value under each driver's `Parameters` key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Value name.
    pub name: String,
    /// Its data.
    pub value: Value,
}

/// The data of a setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A REG_DWORD.
    Number(u32),
    /// A REG_SZ.
    Text(String),
}

impl Value {
    /// As typed on a command line: a 32-bit number, decimal or 0x, is a number, and anything else is text.
    pub fn typed(text: &str) -> Self {
        let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            // "0x+1" is text.
            Some(digits) if digits.starts_with('+') => None,
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten(),
        };
        number.map_or_else(|| Self::Text(text.into()), Self::Number)
    }
}

/// Which file a step is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A device or symbolic link, such as `\\Device\\Hello` or `\\??\\Hello`, opened for this step alone.
    Device(String),
    /// What [`Action::Open`] opened under this name.
    Opened(String),
}

/// The name of a device as it is asked for, if it can be one.
///
/// # Errors
/// What it should look like: a shell takes backslashes away that are not quoted.
pub fn device_name(text: &str) -> Result<&str, String> {
    match text.strip_prefix('\\') {
        Some(_) => Ok(text),
        None => Err(format!(
            r"'{text}' is no device name, which begins with a backslash; write it quoted, as in '\Device\Hello'"
        )),
    }
}

/// One thing asked of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Opens a device and keeps it open under a name.
    Open {
        /// Device or symbolic link.
        device: String,
        /// What later steps call it.
        name: String,
    },
    /// Closes what was opened.
    Close {
        /// Its name.
        name: String,
    },
    /// Sends a device control request.
    Ioctl {
        /// To whom.
        target: Target,
        /// Control code; its low two bits say how buffers are passed.
        code: u32,
        /// Input bytes.
        #[serde(default)]
        input: Vec<u8>,
        /// Room for output, in bytes.
        output_max: u32,
    },
    /// Reads.
    Read {
        /// From whom.
        target: Target,
        /// Bytes to ask for.
        length: u32,
        /// Byte offset.
        offset: u64,
    },
    /// Writes.
    Write {
        /// To whom.
        target: Target,
        /// The bytes.
        data: Vec<u8>,
        /// Byte offset.
        offset: u64,
    },
    /// Lets time pass, virtual time in a seeded run.
    Wait {
        /// How long.
        milliseconds: u32,
    },
}

impl Action {
    /// A device control request to a device that is opened for it alone.
    pub fn ioctl(device: impl Into<String>, code: u32, input: Vec<u8>, output_max: u32) -> Self {
        Self::Ioctl { target: Target::Device(device.into()), code, input, output_max }
    }
}

impl Action {
    /// Most bytes of output that it can have.
    pub(crate) fn output_max(&self) -> u64 {
        match self {
            Self::Ioctl { output_max: bytes, .. } | Self::Read { length: bytes, .. } => (*bytes).into(),
            Self::Open { .. } | Self::Close { .. } | Self::Write { .. } | Self::Wait { .. } => 0,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(name) | Self::Opened(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { device, name } => write!(f, "open {device} as {name}"),
            Self::Close { name } => write!(f, "close {name}"),
            Self::Ioctl { target, code, .. } => write!(f, "ioctl {target} {code:#010x}"),
            Self::Read { target, length, .. } => write!(f, "read {target}, {length} bytes"),
            Self::Write { target, data, .. } => write!(f, "write {target}, {} bytes", data.len()),
            Self::Wait { milliseconds } => write!(f, "wait {milliseconds} ms"),
        }
    }
}

/// Everything the child needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Driver images, in load order.
    #[serde(with = "paths")]
    pub drivers: Vec<PathBuf>,
    /// See [`Network`].
    pub network: Network,
    /// See [`Setting`].
    pub settings: Vec<Setting>,
    /// What is asked of the drivers once all are started.
    pub actions: Vec<Action>,
    /// A registry file (`.reg`) that is loaded before the settings.
    #[serde(default)]
    pub registry: Option<Vec<u8>>,
    /// The host's folder that drivers know as drive C:. Without one they find no drive.
    #[serde(default)]
    pub files: Option<PathBuf>,
    /// Wait for a debugger before the first `DriverEntry`.
    #[serde(default)]
    pub debugger: bool,
    /// Pool with a guard page behind every block.
    #[serde(default)]
    pub special_pool: bool,
    /// The seeded executor with this seed; the free executor without.
    pub seed: Option<u64>,
    /// How long the whole run may take; the driver is stopped after it.
    pub timeout: Option<Duration>,
}

impl Plan {
    /// What the run needs of Linux.
    pub(crate) fn policy(&self) -> sandbox::Policy {
        sandbox::Policy { sockets: self.network.needs_sockets(), files: self.files.is_some() }
    }

    /// The drivers' file names, for messages.
    pub fn driver_names(&self) -> String {
        let name = |path: &PathBuf| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        self.drivers.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// Paths as bytes: a name need not be UTF-8.
mod paths {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        paths.iter().map(|path| path.as_os_str().as_bytes()).collect::<Vec<_>>().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        let paths = Vec::<Vec<u8>>::deserialize(from)?;
        Ok(paths.into_iter().map(|path| OsString::from_vec(path).into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn typed_numbers_are_numbers_and_everything_else_is_text() {
        let number = |text| match Value::typed(text) {
            Value::Number(number) => Some(number),
            Value::Text(_) => None,
        };
        assert_eq!([number("80"), number("0x1F"), number("0")], [Some(80), Some(31), Some(0)]);
        assert_eq!(["", "+1", "-1", "1.5", "127.0.0.1", "0x", "0x+1", "4294967296"].map(number), [None; 8]);
    }

    #[test]
    fn path_that_is_no_text_survives_the_way_to_the_child() {
        let plan = Plan { drivers: vec![OsStr::from_bytes(b"/tmp/\xFF.sys").into()], ..Plan::default() };
        let text = serde_json::to_vec(&plan).expect("a plan can be written down");
        assert_eq!(serde_json::from_slice::<Plan>(&text).expect("what was written"), plan);
    }
}
