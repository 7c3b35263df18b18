//! What the plan asks of drivers' devices.

use std::collections::BTreeMap;

use gate::fault::Stage;
use nt_abi::object::attributes;
use nt_abi::{Handle, IoStatusBlock, MajorFunction, NtStatus};
use nt_dispatcher::wait;
use nt_io::file::{self, Open};

use crate::message::Message;
use crate::plan::{Action, Target};

/// `GENERIC_READ | GENERIC_WRITE | SYNCHRONIZE`.
const ACCESS: u32 = 0xC010_0000;
/// `FILE_OPEN` with `FILE_SYNCHRONOUS_IO_NONALERT`.
const OPTIONS: u32 = 1 << 24 | 0x20;
/// Units of 100 ns in a millisecond.
const MILLISECOND_100NS: i64 = 10_000;

/// The devices that steps opened by name.
#[derive(Default)]
pub struct Opened(BTreeMap<String, Handle>);

/// What a request came to: its status block and its output.
type Outcome = Result<(IoStatusBlock, Vec<u8>), NtStatus>;

impl Opened {
    /// Does what is asked and waits for it.
    pub fn carry_out(&mut self, index: usize, action: &Action) -> Message {
        let outcome = match action {
            Action::Open { device, name } => self.open(device, name),
            Action::Close { name } => self.close(name),
            Action::Ioctl { target, code, input, output_max } => {
                self.on(target, MajorFunction::DEVICE_CONTROL, |handle| {
                    let mut output = vec![0; *output_max as usize];
                    let iosb = file::device_control(handle, *code, input, &mut output)?;
                    Ok((iosb, output))
                })
            }
            Action::Read { target, length, offset } => self.on(target, MajorFunction::READ, |handle| {
                let mut output = vec![0; *length as usize];
                let iosb = file::read(handle, &mut output, *offset)?;
                Ok((iosb, output))
            }),
            Action::Write { target, data, offset } => {
                self.on(target, MajorFunction::WRITE, |handle| Ok((file::write(handle, data, *offset)?, Vec::new())))
            }
            Action::Wait { milliseconds } => {
                wait::delay(-i64::from(*milliseconds) * MILLISECOND_100NS);
                succeeded()
            }
        };
        gate::fault::set_stage(Stage::Between, 0);
        let (iosb, output) = outcome.unwrap_or_else(|status| (IoStatusBlock::new(status, 0), Vec::new()));
        let filled = if iosb.status.is_error() { 0 } else { (iosb.information as usize).min(output.len()) };
        Message::Done { index, status: iosb.status.0, information: iosb.information, out: hex(&output[..filled]) }
    }

    /// Closes what is still open.
    pub fn close_all(self) {
        for handle in self.0.into_values() {
            file::close(handle);
        }
    }

    fn open(&mut self, device: &str, name: &str) -> Outcome {
        if self.0.contains_key(name) {
            return Err(NtStatus::OBJECT_NAME_COLLISION);
        }
        self.0.insert(name.into(), open(device)?);
        succeeded()
    }

    fn close(&mut self, name: &str) -> Outcome {
        let handle = self.0.remove(name).ok_or(NtStatus::INVALID_HANDLE)?;
        match file::close(handle) {
            NtStatus::SUCCESS => succeeded(),
            status => Err(status),
        }
    }

    fn on(&self, target: &Target, major: MajorFunction, request: impl FnOnce(Handle) -> Outcome) -> Outcome {
        let request = |handle| {
            gate::fault::set_stage(Stage::Request, file::dispatch_routine(handle, major));
            request(handle)
        };
        match target {
            Target::Opened(name) => request(*self.0.get(name).ok_or(NtStatus::INVALID_HANDLE)?),
            Target::Device(device) => {
                let handle = open(device)?;
                let outcome = request(handle);
                file::close(handle);
                outcome
            }
        }
    }
}

fn succeeded() -> Outcome {
    Ok((IoStatusBlock::new(NtStatus::SUCCESS, 0), Vec::new()))
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
