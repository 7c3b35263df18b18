//! `ZwQuerySystemInformation`: what a run can say of the system it stands for.
//!
//! Numbers that a machine would give (memory, processor model) are the same in every run; what is counted is the run's own:
//! its threads, handles and images. Classes that would have to be made up are refused.

use std::ptr;
use std::sync::PoisonError;

use arena::PAGE;
use gate::memory;
use host_lock::Mutex;
use nt_abi::NtStatus;
use nt_dispatcher::exports::number_of_processors;
use nt_dispatcher::process::SYSTEM_ID;
use nt_dispatcher::{clock, thread};
use nt_object::{HandleEntry, ObjectType};

use super::kernel_image;
use crate::raise::Failure;

gate::exports! {
    /// System information.
    pub static TABLE in "ntoskrnl.exe";
    "ZwQuerySystemInformation" | "NtQuerySystemInformation" = zw_query_system_information(class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
}

/// Of `SYSTEM_INFORMATION_CLASS`.
mod class {
    pub const BASIC: u32 = 0;
    pub const PROCESSOR: u32 = 1;
    pub const TIME_OF_DAY: u32 = 3;
    pub const PROCESSES: u32 = 5;
    pub const MODULES: u32 = 11;
    pub const HANDLES: u32 = 16;
    pub const KERNEL_DEBUGGER: u32 = 35;
    pub const HANDLES_EXTENDED: u32 = 64;
}

/// An answer as it is put together: fields in the order of the structure, at its own alignment.
#[derive(Default)]
struct Answer(Vec<u8>);

impl Answer {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.align(N);
        self.0.extend(bytes);
        self
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(value.to_le_bytes())
    }

    fn align(&mut self, to: usize) -> &mut Self {
        self.fill(self.0.len().next_multiple_of(to))
    }

    /// Zeros up to a length.
    fn fill(&mut self, length: usize) -> &mut Self {
        self.0.resize(length, 0);
        self
    }
}

/// How long a buffer must be.
enum Fits {
    /// Exactly as long as the structure.
    Exactly,
    /// At least as long.
    AtLeast,
    /// At most as long: what is there is filled.
    AtMost,
}

fn basic() -> Answer {
    /// Four gigabytes, whatever the host has.
    const PHYSICAL_PAGES: u32 = 1 << 20;
    const GRANULARITY: u32 = 0x1_0000;
    let processors = number_of_processors();
    let mut answer = Answer::default();
    answer.u32(0).u32(clock::TICK_100NS as u32).u32(PAGE as u32);
    answer.u32(PHYSICAL_PAGES).u32(1).u32(PHYSICAL_PAGES).u32(GRANULARITY);
    answer.u64(u64::from(GRANULARITY)).u64(memory::USER_PROBE_ADDRESS - 1);
    answer.u64(u64::MAX >> (64 - processors)).put([processors as u8]).align(8);
    answer
}

fn processor() -> Answer {
    const AMD64: u16 = 9;
    /// The family of every processor of the kind, and no model in particular.
    const LEVEL: u16 = 6;
    let mut answer = Answer::default();
    answer.u16(AMD64).u16(LEVEL).u16(0).u16(number_of_processors() as u16).u32(0);
    answer
}

/// The run began when the system did.
fn time_of_day() -> Answer {
    let now = clock::system_time_100ns();
    let mut answer = Answer::default();
    answer.u64(now.saturating_sub(clock::now_100ns())).u64(now);
    // Local time is UTC; nobody has slept.
    answer.u64(0).u32(0).u32(0).u64(0).u64(0);
    answer
}

/// No debugger of the kernel's: not enabled, not present.
fn kernel_debugger() -> Answer {
    let mut answer = Answer::default();
    answer.put([0]).put([1]);
    answer
}

fn open_handles() -> Vec<HandleEntry> {
    let mut all = Vec::new();
    nt_object::for_each_open(|entry| all.push(entry));
    all
}

/// The one process and its threads. Times and states that Linux knows are left zero: they are the host's.
fn processes(buffer: u64) -> Answer {
    const PROCESS_BYTES: usize = 0x100;
    const THREAD_BYTES: usize = 0x50;
    const PRIORITY: u32 = 8;
    /// `Running` of `KTHREAD_STATE`, for the thread that asks, and `Waiting`.
    const RUNNING: u32 = 2;
    const WAITING: u32 = 5;
    let name: Vec<u8> = "System\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut threads = Vec::new();
    nt_object::for_each_live(&thread::THREAD, |body| threads.push(body));
    let behind = PROCESS_BYTES + threads.len() * THREAD_BYTES;
    let mut answer = Answer::default();
    answer.u32(0).u32(threads.len() as u32).fill(0x38);
    answer.u16(name.len() as u16 - 2).u16(name.len() as u16).u64(buffer + behind as u64);
    answer.u32(PRIORITY).u64(SYSTEM_ID).u64(0).u32(open_handles().len() as u32).fill(PROCESS_BYTES);
    for (index, body) in threads.into_iter().enumerate() {
        let state = if body == gate::thread::current_thread_object() { RUNNING } else { WAITING };
        answer.fill(PROCESS_BYTES + index * THREAD_BYTES + 0x28).u64(SYSTEM_ID).u64(thread::id(body));
        answer.u32(thread::priority(body) as u32).u32(PRIORITY).u32(0).u32(state);
    }
    answer.fill(behind).0.extend(name);
    answer
}

/// The kernel and the drivers that are loaded, in this order.
fn modules() -> Answer {
    /// Bytes of a path, its terminator included.
    const PATH: usize = 256;
    const FOLDER: &str = r"\SystemRoot\system32\";
    const DRIVERS: &str = r"\SystemRoot\system32\drivers\";
    let kernel = kernel_image::base().map(|base| (base, u64::from(kernel_image::SIZE), FOLDER, "ntoskrnl.exe"));
    let drivers = gate::image::all()
        .filter(|image| !image.is_unloaded())
        .map(|image| (image.base, image.size, DRIVERS, image.name));
    let all: Vec<_> = kernel.into_iter().chain(drivers).collect();
    let mut answer = Answer::default();
    answer.u32(all.len() as u32).align(8);
    for (order, (base, size, folder, name)) in all.into_iter().enumerate() {
        let mut path = format!("{folder}{name}").into_bytes();
        path.truncate(PATH - 1);
        path.resize(PATH, 0);
        answer.u64(0).u64(base).u64(base).u32(size as u32).u32(0);
        answer.u16(order as u16).u16(order as u16).u16(1).u16(folder.len() as u16).0.extend(path);
    }
    answer
}

/// A number for each type of object, in the order they are asked for. NT's begin at 2.
fn type_index(body: u64) -> u16 {
    const FIRST: usize = 2;
    static SEEN: Mutex<Vec<&'static ObjectType>> = Mutex::new(Vec::new());
    let Some(kind) = nt_object::type_of(body) else { return 0 };
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let index = seen.iter().position(|other| ptr::eq(*other, kind)).unwrap_or_else(|| {
        seen.push(kind);
        seen.len() - 1
    });
    (index + FIRST) as u16
}

/// All handles; values and processes are cut to 16 bits, which is why there is another class.
fn handles() -> Answer {
    let all = open_handles();
    let mut answer = Answer::default();
    answer.u32(all.len() as u32);
    for entry in &all {
        answer.align(8).u16(SYSTEM_ID as u16).u16(0).put([type_index(entry.body) as u8]).put([0]);
        answer.u16(entry.handle.0 as u16).u64(entry.body).u32(entry.access);
    }
    answer.align(8);
    answer
}

fn handles_extended() -> Answer {
    let all = open_handles();
    let mut answer = Answer::default();
    answer.u64(all.len() as u64).u64(0);
    for entry in &all {
        answer.u64(entry.body).u64(SYSTEM_ID).u64(entry.handle.0).u32(entry.access);
        answer.u16(0).u16(type_index(entry.body)).u32(0).u32(0);
    }
    answer
}

fn query(class: u32, buffer: u64, length: u32, needed: u64) -> Result<NtStatus, Failure> {
    // Made before anything is copied: it may take locks that nobody may hold while a driver's memory faults.
    let (answer, fits) = match class {
        class::BASIC => (basic(), Fits::Exactly),
        class::PROCESSOR => (processor(), Fits::AtLeast),
        class::TIME_OF_DAY => (time_of_day(), Fits::AtMost),
        class::PROCESSES => (processes(buffer), Fits::AtLeast),
        class::MODULES => (modules(), Fits::AtLeast),
        class::HANDLES => (handles(), Fits::AtLeast),
        class::KERNEL_DEBUGGER => (kernel_debugger(), Fits::AtLeast),
        class::HANDLES_EXTENDED => (handles_extended(), Fits::AtLeast),
        _ => return Ok(NtStatus::INVALID_INFO_CLASS),
    };
    let (Answer(mut bytes), length) = (answer, length as usize);
    let is_fit = match fits {
        Fits::Exactly => length == bytes.len(),
        Fits::AtLeast => length >= bytes.len(),
        Fits::AtMost => length <= bytes.len(),
    };
    if matches!(fits, Fits::AtMost) && is_fit {
        bytes.truncate(length);
    }
    if needed != 0 {
        memory::write_value(needed, bytes.len() as u32)?;
    }
    if !is_fit {
        return Ok(NtStatus::INFO_LENGTH_MISMATCH);
    }
    memory::write(buffer, &bytes)?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn zw_query_system_information(class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus {
    // A bad buffer is a status here: the real one guards what it writes.
    match query(class, buffer, length, needed) {
        Ok(status) | Err(Failure::Status(status)) => status,
        Err(Failure::Fault(_)) => NtStatus::ACCESS_VIOLATION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;

    #[test]
    fn structures_are_as_long_as_nts() {
        assert_eq!((basic().0.len(), processor().0.len(), time_of_day().0.len()), (0x40, 12, 0x30));
        assert_eq!(handles().0.len(), 8 + 0x18 * open_handles().len());
        assert_eq!(handles_extended().0.len(), 16 + 0x28 * open_handles().len());
        assert_eq!((modules().0.len() - 8) % 0x128, 0);
    }

    #[test]
    fn unknown_classes_and_wrong_lengths_are_refused() {
        let query = service("ZwQuerySystemInformation");
        let (mut buffer, mut needed) = ([0u8; 0x40], 0u32);
        let (buffer, needed_at) = (buffer.as_mut_ptr() as u64, &raw mut needed as u64);
        assert_eq!(query.call(&[0xFFFF, buffer, 0x40, 0]), NtStatus::INVALID_INFO_CLASS);
        assert_eq!(query.call(&[0, buffer, 0x3F, needed_at]), NtStatus::INFO_LENGTH_MISMATCH);
        assert_eq!(needed, 0x40);
        assert_eq!(query.call(&[0, buffer, 0x40, 0]), NtStatus::SUCCESS);
    }
}
