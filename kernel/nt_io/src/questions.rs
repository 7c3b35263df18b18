//! What drivers ask about a request, its sender, an access or a list, without changing anything.

use nt_abi::file::file_flags;
use nt_abi::io::irp_flags;
use nt_abi::{DeviceObject, FileObject, Irp, NtStatus};
use nt_dispatcher::{process, thread};

use crate::{device, ea, native};

gate::exports! {
    /// What ntoskrnl exports of such questions.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "IoGetRequestorProcess" = io_get_requestor_process(irp: *mut Irp) -> u64, irql <= DISPATCH, rules "K-100";
    "IoGetRequestorProcessId" = io_get_requestor_process_id(irp: *mut Irp) -> u32, irql <= DISPATCH, rules "K-100";
    "IoGetRequestorSessionId" = io_get_requestor_session_id(irp: *mut Irp, session: *mut u32) -> NtStatus, irql <= DISPATCH, rules "K-100";
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
            *session = u32::MAX;
            return NtStatus::UNSUCCESSFUL;
        }
        *session = 0;
    }
    NtStatus::SUCCESS
}

/// Paging is asynchronous unless it says that it is not; other requests are what they or their file say.
unsafe extern "win64" fn io_is_operation_synchronous(irp: *mut Irp) -> u8 {
    // SAFETY: the driver's packet, which has been sent and so has a location.
    let (flags, file) = unsafe { ((*irp).flags, (*(*irp).current_stack_location).file_object) };
    if flags & irp_flags::PAGING_IO != 0 {
        return (flags & irp_flags::SYNCHRONOUS_PAGING_IO != 0).into();
    }
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
    unsafe {
        for (generic, specific) in GENERIC {
            if *desired & generic != 0 {
                *desired = *desired & !generic | specific;
            }
        }
        if *desired & !granted != 0 { NtStatus::ACCESS_DENIED } else { NtStatus::SUCCESS }
    }
}

unsafe extern "win64" fn io_check_ea_buffer_validity(buffer: u64, length: u32, bad: *mut u32) -> NtStatus {
    let mut list = vec![0; length as usize];
    if let Err(fault) = gate::memory::read(buffer, &mut list) {
        gate::seh::raise_fault(fault);
        return NtStatus::ACCESS_VIOLATION;
    }
    let checked = ea::check(&list);
    // SAFETY: the driver's result.
    unsafe { *bad = checked.err().unwrap_or(0) as u32 };
    if checked.is_ok() { NtStatus::SUCCESS } else { NtStatus::EA_LIST_INCONSISTENT }
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
                *returned = outcome.information as u32;
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
