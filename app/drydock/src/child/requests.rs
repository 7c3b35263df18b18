//! What the plan asks of a driver's devices.

use nt_abi::object::attributes;
use nt_abi::{Handle, NtStatus};
use nt_io::file::{self, Open};

use crate::message::Message;
use crate::plan::Ioctl;

/// `GENERIC_READ | GENERIC_WRITE`.
const ACCESS: u32 = 0xC000_0000;
/// `FILE_OPEN` with `FILE_SYNCHRONOUS_IO_NONALERT`.
const OPTIONS: u32 = 1 << 24 | 0x20;

/// Opens the device, sends a device control request, waits for it, closes the device.
pub fn device_control(index: usize, ioctl: &Ioctl) -> Message {
    let mut output = vec![0; ioctl.output_max as usize];
    let outcome = open(&ioctl.device).and_then(|handle| {
        let outcome = file::device_control(handle, ioctl.code, &ioctl.input, &mut output);
        file::close(handle);
        outcome
    });
    let (status, information) = match outcome {
        Ok(iosb) => (iosb.status, iosb.information),
        Err(status) => (status, 0),
    };
    let filled = if status.is_error() { 0 } else { (information as usize).min(output.len()) };
    Message::Ioctl { index, status: status.0, information, out: hex(&output[..filled]) }
}

fn open(device: &str) -> Result<Handle, NtStatus> {
    let name: Vec<u16> = device.encode_utf16().collect();
    let open = Open {
        name: &name,
        attributes: attributes::KERNEL_HANDLE | attributes::CASE_INSENSITIVE,
        access: ACCESS,
        options: OPTIONS,
        file_attributes: 0,
        share: 7,
        ea: (0, 0),
    };
    let opened = file::open(&open, 0);
    if opened.handle.0 == 0 { Err(opened.status) } else { Ok(opened.handle) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn output_is_told_in_hex() {
        assert_eq!(super::hex(&[0, 0x0A, 0xFF]), "000aff");
    }
}
