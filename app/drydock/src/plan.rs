//! What a run is to do: given to the child by the supervisor as one JSON document.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which network the transport stands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// No network at all: every connect fails with STATUS_NETWORK_UNREACHABLE.
    None,
    /// The host's sockets, loopback addresses only.
    #[default]
    Loopback,
    /// The host's sockets.
    Host,
}

/// One value under each driver's `Parameters` key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Value name.
    pub name: String,
    /// As typed: a decimal or 0x number becomes a REG_DWORD, anything else a REG_SZ.
    pub value: String,
}

/// A device control request sent after all drivers are loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ioctl {
    /// Device or symbolic link, such as `\Device\Hello` or `\??\Hello`.
    pub device: String,
    /// Control code; its low two bits say how buffers are passed.
    pub code: u32,
    /// Input bytes.
    #[serde(default)]
    pub input: Vec<u8>,
    /// Room for output, in bytes.
    pub output_max: u32,
}

/// Everything the child needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Driver images, in load order.
    pub drivers: Vec<PathBuf>,
    /// See [`Network`].
    pub network: Network,
    /// See [`Setting`].
    pub settings: Vec<Setting>,
    /// See [`Ioctl`].
    pub ioctls: Vec<Ioctl>,
    /// The seeded executor with this seed; the free executor without.
    pub seed: Option<u64>,
    /// How long the whole run may take; the driver is stopped after it.
    pub timeout: Option<Duration>,
}
