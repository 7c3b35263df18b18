//! What drivers ask about a request, its sender, an access or a list, without changing anything.

use gate::memory::{self, Fault, aligned, put};
use nt_abi::file::file_flags;
use nt_abi::io::irp_flags;
use nt_abi::{DeviceObject, FileObject, Irp, MajorFunction, NtStatus};
use nt_dispatcher::{process, thread};

use crate::{device, ea, irp, native};

/// A field that drivers fill in.
const FILE_FIELD: &str = "IO_STACK_LOCATION.FileObject";

gate::exports! {
    /// What ntoskrnl exports of such questions.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoGetRequestorProcess" = io_get_requestor_process(irp: *mut Irp) -> u64, irql <= DISPATCH, rules "K-100";
    "IoGetRequestorProcessId" = io_get_requestor_process_id(irp: *mut Irp) -> u32, irql <= DISPATCH, rules "K-100";
    "IoGetRequestorSessionId" = io_get_requestor_session_id(irp: *mut Irp, session: *mut u32) -> NtStatus, irql <= DISPATCH, rules "K-100";
    "IoValidateDeviceIoControlAccess" = io_validate_device_io_control_access(irp: *mut Irp, required: u32) -> NtStatus, irql <= DISPATCH, rules "K-155";
    "IoIsOperationSynchronous" = io_is_operation_synchronous(irp: *mut Irp) -> u8, irql <= DISPATCH, rules "K-057";
    "IoIsWdmVersionAvailable" = io_is_wdm_version_available(major: u8, minor: u8) -> u8, rules "K-207";
    "IoCheckDesiredAccess" = io_check_desired_access(desired: *mut u32, granted: u32) -> NtStatus, irql <= PASSIVE, rules "K-155";
    "IoCheckEaBufferValidity" = io_check_ea_buffer_validity(buffer: u64, length: u32, bad: *mut u32) -> NtStatus, irql <= PASSIVE, rules "C-033 C-035";
    "IoQueryFileInformation" = io_query_file_information(file: *mut FileObject, class: u32, length: u32, buffer: u64, returned: *mut u32) -> NtStatus, irql <= PASSIVE, rules "K-160";
    "IoSetThreadHardErrorMode" = io_set_thread_hard_error_mode(enable: u8) -> u8, irql <= PASSIVE, rules "K-205";
    "IoAttachDeviceByPointer" = io_attach_device_by_pointer(source: *mut DeviceObject, target: *mut DeviceObject) -> NtStatus, irql <= PASSIVE, rules "K-092";
}

// What drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. That is what every SAFETY note
// below refers to.

/// A request that no thread sent has no process.
unsafe extern "win64" fn io_get_requestor_process(irp: *mut Irp) -> u64 {
    // SAFETY: the driver's packet.
    if unsafe { (*irp).thread } == 0 { 0 } else { process::system() }
}

unsafe extern "win64" fn io_get_requestor_process_id(irp: *mut Irp) -> u32 {
    // SAFETY: the driver's packet.
    if unsafe { (*irp).thread } == 0 { 0 } else { process::SYSTEM_ID as u32 }
}

unsafe extern "win64" fn io_get_requestor_session_id(irp: *mut Irp, session: *mut u32) -> NtStatus {
    // SAFETY: the driver's packet and result.
    unsafe {
        if (*irp).thread == 0 {
            put(session, u32::MAX);
            return NtStatus::UNSUCCESSFUL;
        }
        put(session, 0);
    }
    NtStatus::SUCCESS
}

/// Whether the sender of a control request opened its file for what the request needs. The kernel may always.
unsafe extern "win64" fn io_validate_device_io_control_access(irp: *mut Irp, required: u32) -> NtStatus {
    /// `FILE_READ_ACCESS` and `FILE_WRITE_ACCESS`.
    const READ: u32 = 1;
    const WRITE: u32 = 2;
    // SAFETY: the driver's packet, which has been sent and so has a location.
    let (mode, location) = unsafe { ((*irp).requestor_mode, &*irp::current_location(irp)) };
    let is_control =
        matches!(location.major_function, MajorFunction::DEVICE_CONTROL | MajorFunction::FILE_SYSTEM_CONTROL);
    if !is_control || required & !(READ | WRITE) != 0 {
        return NtStatus::INVALID_PARAMETER;
    }
    if mode == 0 || required == 0 {
        return NtStatus::SUCCESS;
    }
    let file = aligned(location.file_object, FILE_FIELD);
    // SAFETY: the packet's file object, if it has one.
    let (read, write) = if file.is_null() { (0, 0) } else { unsafe { ((*file).read_access, (*file).write_access) } };
    let lacks = |right: u32, has: u8| required & right != 0 && has == 0;
    if lacks(READ, read) || lacks(WRITE, write) { NtStatus::ACCESS_DENIED } else { NtStatus::SUCCESS }
}

/// Paging is asynchronous unless it says that it is not; other requests are what they or their file say.
unsafe extern "win64" fn io_is_operation_synchronous(irp: *mut Irp) -> u8 {
    // SAFETY: the driver's packet, which has been sent and so has a location.
    let (flags, file) = unsafe { ((*irp).flags, (*irp::current_location(irp)).file_object) };
    if flags & irp_flags::PAGING_IO != 0 {
        return (flags & irp_flags::SYNCHRONOUS_PAGING_IO != 0).into();
    }
    let file = aligned(file, FILE_FIELD);
    // SAFETY: the packet's file object, if it has one.
    let waits = !file.is_null() && unsafe { (*file).flags } & file_flags::SYNCHRONOUS_IO != 0;
    (waits || flags & irp_flags::SYNCHRONOUS_API != 0).into()
}

/// Version 6.0 of the driver model, as since Windows Vista.
unsafe extern "win64" fn io_is_wdm_version_available(major: u8, minor: u8) -> u8 {
    ((major, minor) <= (6, 0)).into()
}

/// Replaces generic rights of files by those they stand for, and compares.
unsafe extern "win64" fn io_check_desired_access(desired: *mut u32, granted: u32) -> NtStatus {
    /// What `GENERIC_READ`, `WRITE`, `EXECUTE` and `ALL` mean for files.
    const GENERIC: [(u32, u32); 4] =
        [(1 << 31, 0x0012_0089), (1 << 30, 0x0012_0116), (1 << 29, 0x0012_00A0), (1 << 28, 0x001F_01FF)];
    // SAFETY: the driver's mask.
    let mut wanted = unsafe { desired.read_unaligned() };
    for (generic, specific) in GENERIC {
        if wanted & generic != 0 {
            wanted = wanted & !generic | specific;
        }
    }
    // SAFETY: as above.
    unsafe { put(desired, wanted) };
    if wanted & !granted != 0 { NtStatus::ACCESS_DENIED } else { NtStatus::SUCCESS }
}

/// Touches no more of the buffer than its entries take, whatever its length is said to be.
unsafe extern "win64" fn io_check_ea_buffer_validity(buffer: u64, length: u32, bad: *mut u32) -> NtStatus {
    let checked = copy_entries(buffer, length.into()).map(|list| ea::check(&list));
    match checked {
        Ok(checked) => {
            // SAFETY: the driver's result.
            unsafe { put(bad, checked.err().unwrap_or(0) as u32) };
            if checked.is_ok() { NtStatus::SUCCESS } else { NtStatus::EA_LIST_INCONSISTENT }
        }
        Err(fault) => {
            gate::seh::raise_fault(fault);
            NtStatus::ACCESS_VIOLATION
        }
    }
}

/// The entries of an EA list up to the last one, or to the first that leads out of the buffer.
fn copy_entries(buffer: u64, length: u64) -> Result<Vec<u8>, Fault> {
    /// Next entry's offset, flags, and the lengths of name and value.
    const HEADER: u64 = 8;
    let mut at = 0;
    while at + HEADER <= length {
        let next: u32 = memory::read_value(buffer + at)?;
        if next == 0 || at + u64::from(next) >= length {
            break;
        }
        at += u64::from(next);
    }
    let mut end = length.min(at + HEADER);
    if at + HEADER <= length {
        let name: u8 = memory::read_value(buffer + at + 5)?;
        let value: u16 = memory::read_value(buffer + at + 6)?;
        end = length.min(end + u64::from(name) + 1 + u64::from(value));
    }
    let mut list = vec![0; end as usize];
    memory::read(buffer, &mut list)?;
    Ok(list)
}

unsafe extern "win64" fn io_query_file_information(
    file: *mut FileObject,
    class: u32,
    length: u32,
    buffer: u64,
    returned: *mut u32,
) -> NtStatus {
    // SAFETY: the driver's file object, buffer and result.
    unsafe {
        match native::query_information(file, (buffer, length), class) {
            Ok(outcome) => {
                put(returned, outcome.information as u32);
                outcome.status
            }
            Err(status) => status,
        }
    }
}

/// Nobody sits in front of this machine to be told of hard errors; the thread keeps what was said.
unsafe extern "win64" fn io_set_thread_hard_error_mode(enable: u8) -> u8 {
    thread::set_hard_errors(enable != 0).into()
}

unsafe extern "win64" fn io_attach_device_by_pointer(source: *mut DeviceObject, target: *mut DeviceObject) -> NtStatus {
    // SAFETY: the driver's devices.
    let attached = unsafe { device::attach(source, target, |_| {}) };
    if attached.is_null() { NtStatus::NO_SUCH_DEVICE } else { NtStatus::SUCCESS }
}
