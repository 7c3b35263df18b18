//! Processes by handle, and what is asked of the one there is.

use gate::memory;
use nt_abi::object::attributes;
use nt_abi::{Handle, NtStatus, ObjectAttributes};
use nt_dispatcher::exports::number_of_processors;
use nt_dispatcher::process::{SYSTEM_ID, system};

use super::by_handle;
use crate::handles;
use crate::raise::{Failure, finish};

gate::exports! {
    /// Processes by handle, and identifiers that no two have.
    pub static TABLE in "ntoskrnl.exe";
    "ZwOpenProcess" | "NtOpenProcess" = zw_open_process(handle: u64, access: u32, attributes: u64, id: u64) -> NtStatus, irql <= PASSIVE, rules "K-100 K-159";
    "ZwQueryInformationProcess" | "NtQueryInformationProcess" = zw_query_information_process(process: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> NtStatus, irql <= PASSIVE, rules "K-100";
    "ZwAllocateLocallyUniqueId" | "NtAllocateLocallyUniqueId" = zw_allocate_locally_unique_id(id: u64) -> NtStatus, irql <= PASSIVE, rules "K-200";
}

/// By its id; processes have no names.
fn open(handle: u64, access: u32, attributes: u64, id: u64) -> Result<NtStatus, Failure> {
    const NAME: u64 = std::mem::offset_of!(ObjectAttributes, object_name) as u64;
    const FLAGS: u64 = std::mem::offset_of!(ObjectAttributes, attributes) as u64;
    let name: u64 = memory::read_value(attributes + NAME)?;
    let flags: u32 = memory::read_value(attributes + FLAGS)?;
    if name != 0 {
        return Ok(NtStatus::INVALID_PARAMETER_MIX);
    }
    if id == 0 {
        return Ok(NtStatus::INVALID_PARAMETER_4);
    }
    if memory::read_value::<u64>(id)? != SYSTEM_ID {
        return Ok(NtStatus::INVALID_CID);
    }
    let opened = nt_object::insert(system(), access, flags & attributes::KERNEL_HANDLE != 0, gate::caller());
    handles::store(handle, opened.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?)
}

unsafe extern "win64" fn zw_open_process(handle: u64, access: u32, attributes: u64, id: u64) -> NtStatus {
    finish(open(handle, access, attributes, id))
}

/// Of `PROCESSINFOCLASS`.
mod class {
    pub const BASIC: u32 = 0;
    pub const DEBUG_PORT: u32 = 7;
    pub const HANDLE_COUNT: u32 = 20;
    pub const SESSION: u32 = 24;
    pub const WOW64: u32 = 26;
    pub const IMAGE_FILE_NAME: u32 = 27;
}

/// The answer of a class: the system process runs, has no parent, no debugger, no image and no part of 32 bits.
fn answer(class: u32) -> Option<Vec<u8>> {
    const PRIORITY: u64 = 8;
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Some(match class {
        class::BASIC => {
            let processors = u64::MAX >> (64 - number_of_processors());
            words(&[NtStatus::PENDING.0.into(), 0, processors, PRIORITY, SYSTEM_ID, 0])
        }
        class::DEBUG_PORT | class::WOW64 => words(&[0]),
        class::IMAGE_FILE_NAME => words(&[0, 0]),
        class::SESSION => vec![0; 4],
        class::HANDLE_COUNT => {
            let mut count = 0u32;
            nt_object::for_each_open(|_| count += 1);
            count.to_le_bytes().to_vec()
        }
        _ => return None,
    })
}

fn query(process: Handle, class: u32, buffer: u64, length: u32, needed: u64) -> Result<NtStatus, Failure> {
    let Some(bytes) = answer(class) else { return Ok(NtStatus::INVALID_INFO_CLASS) };
    nt_object::dereference(by_handle(process)?);
    // A name may be longer than its structure, so more room than that is no mistake.
    let fits =
        if class == class::IMAGE_FILE_NAME { length as usize >= bytes.len() } else { length as usize == bytes.len() };
    if needed != 0 {
        memory::write_value(needed, bytes.len() as u32)?;
    }
    if !fits {
        return Ok(NtStatus::INFO_LENGTH_MISMATCH);
    }
    memory::write(buffer, &bytes)?;
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn zw_query_information_process(
    process: Handle,
    class: u32,
    buffer: u64,
    length: u32,
    needed: u64,
) -> NtStatus {
    finish(query(process, class, buffer, length, needed))
}

unsafe extern "win64" fn zw_allocate_locally_unique_id(id: u64) -> NtStatus {
    use std::sync::atomic::{AtomicU64, Ordering};
    /// Behind those that are well known.
    static NEXT: AtomicU64 = AtomicU64::new(1001);
    finish(
        memory::write_value(id, NEXT.fetch_add(1, Ordering::Relaxed))
            .map(|()| NtStatus::SUCCESS)
            .map_err(Failure::from),
    )
}
