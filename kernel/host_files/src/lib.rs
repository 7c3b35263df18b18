//! A volume whose files live in one folder of the host: `\??\C:\...` and `\SystemRoot\...` (C-070, K-160).
//!
//! It is one more driver object with one more device, `\Device\HarddiskVolume1`, so opens, handles, filters and the order of
//! CLEANUP and CLOSE are the I/O manager's as they are for any device. `\??\C:` leads to it, and `\SystemRoot` to its folder
//! `Windows`. Without [`start`] none of these names exist, and an open fails with STATUS_OBJECT_PATH_NOT_FOUND, as on a
//! machine without the drive.
//!
//! Invariants:
//! - Nothing outside of the folder is reached ([`folder`]): every look-up goes through `openat2` with RESOLVE_BENEATH from the
//!   folder's descriptor. The sandbox says the same once more, with Landlock, for drivers that take over the host's code.
//! - Names compare without case and keep the host's spelling; of several that differ by case alone, the exact one counts.
//! - Every request ends before its dispatch routine returns.
//!
//! Left out, and who could notice: oplocks, byte-range locks, streams, links, extended attributes, security, change
//! notification, memory-mapped files and the cache manager (file systems and their filters); short names; `FsContext`, which
//! stays null (filters that tell files apart by it).

mod directory;
mod dispatch;
mod folder;
mod information;
mod name;
mod status;
mod volume;

use std::os::fd::OwnedFd;

use nt_abi::NtStatus;
use nt_abi::io::device_flags;
use nt_io::device::{self, NewDevice};
use nt_io::driver::{self, NewDriver};

/// `FILE_DEVICE_DISK_FILE_SYSTEM`.
const FILE_DEVICE_DISK_FILE_SYSTEM: u32 = 8;
/// The volume's device.
const DEVICE: &str = r"\Device\HarddiskVolume1";
/// Names that lead to the volume.
const LINKS: [(&str, &str); 2] = [(r"\??\C:", DEVICE), (r"\SystemRoot", r"\Device\HarddiskVolume1\Windows")];

/// Makes the volume over the folder behind `folder`, a descriptor of a directory. There is one volume in a process, and it
/// stays to the end.
///
/// # Errors
/// STATUS_OBJECT_NAME_COLLISION if there is one, STATUS_INSUFFICIENT_RESOURCES.
///
/// IRQL: PASSIVE_LEVEL, on a thread of the kernel.
pub fn start(folder: OwnedFd) -> Result<(), NtStatus> {
    let driver = driver::create(&NewDriver { name: "HostFiles", image: (0, 0), entry: 0 })?;
    let utf16 = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    let name = utf16(DEVICE);
    let new = NewDevice {
        driver,
        extension: 0,
        name: Some(&name),
        device_type: FILE_DEVICE_DISK_FILE_SYSTEM,
        characteristics: 0,
        exclusive: false,
    };
    // SAFETY: the driver object just made, and its device.
    unsafe {
        dispatch::install(driver);
        let device = device::create(&new, 0)?;
        volume::set(folder, device);
        (*device).flags &= !device_flags::DEVICE_INITIALIZING;
    }
    for (link, target) in LINKS {
        nt_object::insert_link(&utf16(link), &utf16(target), 0)?;
    }
    Ok(())
}
