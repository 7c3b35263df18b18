//! Our layouts against those that mingw-w64's headers give the drivers it builds.
//!
//! The values of our structures become static assertions in a C file, and the cross compiler is asked what fails. Where the
//! two are known to differ, and why ours is right, stands in [`DEVIATIONS`]; a deviation that no longer shows fails too.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::mem::{offset_of, size_of};
use std::path::Path;
use std::process::Command;

use nt_abi::dispatcher::{DeviceQueue, Dpc, FastMutex, Mutant, Semaphore, Timer, WorkQueueItem};
use nt_abi::exception::{Context, ExceptionRecord};
use nt_abi::io::DriverExtension;
use nt_abi::tdi::{ConnectionInformation, RequestKernel};
use nt_abi::{
    AnsiString, DeviceObject, DispatcherHeader, DriverObject, FileObject, IoStackLocation, IoStatusBlock, Irp,
    KernelEvent, ListEntry, Mdl, ObjectAttributes, UnicodeString,
};

/// Assertions that fail under mingw-w64 although Windows has our value, by what they are about.
const DEVIATIONS: [&str; 1] = [
    // mingw-w64 leaves the alignment of 16 out; its drivers get devices from IoCreateDevice, so they do not notice.
    "sizeof(DEVICE_OBJECT)",
];

/// What is compared: a C expression and our value.
fn expectations() -> Vec<(String, usize)> {
    let mut all = Vec::new();
    let mut size = |c: &str, ours: usize| all.push((format!("sizeof({c})"), ours));
    size("IRP", size_of::<Irp>());
    size("IO_STACK_LOCATION", size_of::<IoStackLocation>());
    size("DEVICE_OBJECT", size_of::<DeviceObject>());
    size("DRIVER_OBJECT", size_of::<DriverObject>());
    size("DRIVER_EXTENSION", size_of::<DriverExtension>());
    size("FILE_OBJECT", size_of::<FileObject>());
    size("MDL", size_of::<Mdl>());
    size("IO_STATUS_BLOCK", size_of::<IoStatusBlock>());
    size("UNICODE_STRING", size_of::<UnicodeString>());
    size("ANSI_STRING", size_of::<AnsiString>());
    size("OBJECT_ATTRIBUTES", size_of::<ObjectAttributes>());
    size("LIST_ENTRY", size_of::<ListEntry>());
    size("DISPATCHER_HEADER", size_of::<DispatcherHeader>());
    size("KEVENT", size_of::<KernelEvent>());
    size("KTIMER", size_of::<Timer>());
    size("KDPC", size_of::<Dpc>());
    size("KMUTEX", size_of::<Mutant>());
    size("KSEMAPHORE", size_of::<Semaphore>());
    size("FAST_MUTEX", size_of::<FastMutex>());
    size("WORK_QUEUE_ITEM", size_of::<WorkQueueItem>());
    size("KDEVICE_QUEUE", size_of::<DeviceQueue>());
    size("EXCEPTION_RECORD", size_of::<ExceptionRecord>());
    size("CONTEXT", size_of::<Context>());
    size("TDI_REQUEST_KERNEL", size_of::<RequestKernel>());
    size("TDI_CONNECTION_INFORMATION", size_of::<ConnectionInformation>());

    let mut at = |c: &str, member: &str, ours: usize| all.push((format!("offsetof({c}, {member})"), ours));
    at("IRP", "MdlAddress", offset_of!(Irp, mdl_address));
    at("IRP", "Flags", offset_of!(Irp, flags));
    at("IRP", "AssociatedIrp", offset_of!(Irp, system_buffer));
    at("IRP", "ThreadListEntry", offset_of!(Irp, thread_list_entry));
    at("IRP", "IoStatus", offset_of!(Irp, io_status));
    at("IRP", "RequestorMode", offset_of!(Irp, requestor_mode));
    at("IRP", "PendingReturned", offset_of!(Irp, pending_returned));
    at("IRP", "StackCount", offset_of!(Irp, stack_count));
    at("IRP", "CurrentLocation", offset_of!(Irp, current_location));
    at("IRP", "Cancel", offset_of!(Irp, cancel));
    at("IRP", "CancelIrql", offset_of!(Irp, cancel_irql));
    at("IRP", "ApcEnvironment", offset_of!(Irp, apc_environment));
    at("IRP", "AllocationFlags", offset_of!(Irp, allocation_flags));
    at("IRP", "UserIosb", offset_of!(Irp, user_iosb));
    at("IRP", "UserEvent", offset_of!(Irp, user_event));
    at("IRP", "Overlay", offset_of!(Irp, overlay));
    at("IRP", "CancelRoutine", offset_of!(Irp, cancel_routine));
    at("IRP", "UserBuffer", offset_of!(Irp, user_buffer));
    at("IRP", "Tail.Overlay.DriverContext", offset_of!(Irp, driver_context));
    at("IRP", "Tail.Overlay.Thread", offset_of!(Irp, thread));
    at("IRP", "Tail.Overlay.AuxiliaryBuffer", offset_of!(Irp, auxiliary_buffer));
    at("IRP", "Tail.Overlay.ListEntry", offset_of!(Irp, list_entry));
    at("IRP", "Tail.Overlay.CurrentStackLocation", offset_of!(Irp, current_stack_location));
    at("IRP", "Tail.Overlay.OriginalFileObject", offset_of!(Irp, original_file_object));

    let parameters = offset_of!(IoStackLocation, parameters);
    at("IO_STACK_LOCATION", "MinorFunction", offset_of!(IoStackLocation, minor_function));
    at("IO_STACK_LOCATION", "Flags", offset_of!(IoStackLocation, flags));
    at("IO_STACK_LOCATION", "Control", offset_of!(IoStackLocation, control));
    at("IO_STACK_LOCATION", "Parameters.Create.Options", parameters + 8);
    at("IO_STACK_LOCATION", "Parameters.Create.EaLength", parameters + 24);
    at("IO_STACK_LOCATION", "Parameters.DeviceIoControl.OutputBufferLength", parameters);
    at("IO_STACK_LOCATION", "Parameters.DeviceIoControl.InputBufferLength", parameters + 8);
    at("IO_STACK_LOCATION", "Parameters.DeviceIoControl.IoControlCode", parameters + 16);
    at("IO_STACK_LOCATION", "Parameters.DeviceIoControl.Type3InputBuffer", parameters + 24);
    at("IO_STACK_LOCATION", "Parameters.Read.ByteOffset", parameters + 16);
    at("IO_STACK_LOCATION", "DeviceObject", offset_of!(IoStackLocation, device_object));
    at("IO_STACK_LOCATION", "FileObject", offset_of!(IoStackLocation, file_object));
    at("IO_STACK_LOCATION", "CompletionRoutine", offset_of!(IoStackLocation, completion_routine));
    at("IO_STACK_LOCATION", "Context", offset_of!(IoStackLocation, context));

    at("FILE_OBJECT", "DeviceObject", offset_of!(FileObject, device_object));
    at("FILE_OBJECT", "FsContext", offset_of!(FileObject, fs_context));
    at("FILE_OBJECT", "FsContext2", offset_of!(FileObject, fs_context2));
    at("FILE_OBJECT", "RelatedFileObject", offset_of!(FileObject, related_file_object));
    at("FILE_OBJECT", "ReadAccess", offset_of!(FileObject, read_access));
    at("FILE_OBJECT", "Flags", offset_of!(FileObject, flags));
    at("FILE_OBJECT", "FileName", offset_of!(FileObject, file_name));
    at("FILE_OBJECT", "Lock", offset_of!(FileObject, lock));
    at("FILE_OBJECT", "Event", offset_of!(FileObject, event));

    at("DEVICE_OBJECT", "ReferenceCount", offset_of!(DeviceObject, reference_count));
    at("DEVICE_OBJECT", "DriverObject", offset_of!(DeviceObject, driver_object));
    at("DEVICE_OBJECT", "NextDevice", offset_of!(DeviceObject, next_device));
    at("DEVICE_OBJECT", "AttachedDevice", offset_of!(DeviceObject, attached_device));
    at("DEVICE_OBJECT", "CurrentIrp", offset_of!(DeviceObject, current_irp));
    at("DEVICE_OBJECT", "Flags", offset_of!(DeviceObject, flags));
    at("DEVICE_OBJECT", "Characteristics", offset_of!(DeviceObject, characteristics));
    at("DEVICE_OBJECT", "DeviceExtension", offset_of!(DeviceObject, device_extension));
    at("DEVICE_OBJECT", "DeviceType", offset_of!(DeviceObject, device_type));
    at("DEVICE_OBJECT", "StackSize", offset_of!(DeviceObject, stack_size));
    at("DEVICE_OBJECT", "AlignmentRequirement", offset_of!(DeviceObject, alignment_requirement));
    at("DEVICE_OBJECT", "DeviceQueue", offset_of!(DeviceObject, device_queue));
    at("DEVICE_OBJECT", "Dpc", offset_of!(DeviceObject, dpc));
    at("DEVICE_OBJECT", "SecurityDescriptor", offset_of!(DeviceObject, security_descriptor));
    at("DEVICE_OBJECT", "DeviceLock", offset_of!(DeviceObject, device_lock));
    at("DEVICE_OBJECT", "DeviceObjectExtension", offset_of!(DeviceObject, device_object_extension));

    at("DRIVER_OBJECT", "DeviceObject", offset_of!(DriverObject, device_object));
    at("DRIVER_OBJECT", "Flags", offset_of!(DriverObject, flags));
    at("DRIVER_OBJECT", "DriverStart", offset_of!(DriverObject, driver_start));
    at("DRIVER_OBJECT", "DriverSize", offset_of!(DriverObject, driver_size));
    at("DRIVER_OBJECT", "DriverExtension", offset_of!(DriverObject, driver_extension));
    at("DRIVER_OBJECT", "DriverName", offset_of!(DriverObject, driver_name));
    at("DRIVER_OBJECT", "FastIoDispatch", offset_of!(DriverObject, fast_io_dispatch));
    at("DRIVER_OBJECT", "DriverInit", offset_of!(DriverObject, driver_init));
    at("DRIVER_OBJECT", "DriverStartIo", offset_of!(DriverObject, driver_start_io));
    at("DRIVER_OBJECT", "DriverUnload", offset_of!(DriverObject, driver_unload));
    at("DRIVER_OBJECT", "MajorFunction", offset_of!(DriverObject, major_function));

    at("MDL", "Size", offset_of!(Mdl, size));
    at("MDL", "MdlFlags", offset_of!(Mdl, flags));
    at("MDL", "MappedSystemVa", offset_of!(Mdl, mapped_system_va));
    at("MDL", "StartVa", offset_of!(Mdl, start_va));
    at("MDL", "ByteCount", offset_of!(Mdl, byte_count));
    at("MDL", "ByteOffset", offset_of!(Mdl, byte_offset));

    at("OBJECT_ATTRIBUTES", "RootDirectory", offset_of!(ObjectAttributes, root_directory));
    at("OBJECT_ATTRIBUTES", "ObjectName", offset_of!(ObjectAttributes, object_name));
    at("OBJECT_ATTRIBUTES", "Attributes", offset_of!(ObjectAttributes, attributes));
    at("KEVENT", "Header.SignalState", offset_of!(DispatcherHeader, signal_state));
    at("KTIMER", "Dpc", offset_of!(Timer, dpc));
    at("KTIMER", "Period", offset_of!(Timer, period_ms));
    at("KDPC", "DeferredRoutine", offset_of!(Dpc, deferred_routine));
    at("KMUTEX", "OwnerThread", offset_of!(Mutant, owner_thread));
    at("KSEMAPHORE", "Limit", offset_of!(Semaphore, limit));
    at("CONTEXT", "Rip", offset_of!(Context, rip));
    all
}

#[test]
fn layouts_agree_with_mingw_w64_except_where_it_is_known_to_be_wrong() {
    let headers = ["/usr/share/mingw-w64/include/ddk", "/usr/x86_64-w64-mingw32/sys-root/mingw/include/ddk"];
    let ddk = headers.into_iter().find(|path| Path::new(path).is_dir());
    let ddk = ddk.expect("mingw-w64's kernel headers (apt-get install gcc-mingw-w64-x86-64)");
    let expectations = expectations();
    let mut text = String::from("#include <ntddk.h>\n#include <tdi.h>\n#include <tdikrnl.h>\n#include <stddef.h>\n");
    for (index, (expression, ours)) in expectations.iter().enumerate() {
        writeln!(text, "_Static_assert({expression} == {ours}, \"expectation {index} end\");").expect("a string");
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("layouts.c");
    std::fs::write(&file, text).expect("a C file");
    let mut gcc = Command::new("x86_64-w64-mingw32-gcc");
    gcc.args(["-std=gnu11", "-fsyntax-only", "-fmax-errors=0", "-isystem", ddk]).arg(&file).env("LC_ALL", "C");
    let output = gcc.output().expect("x86_64-w64-mingw32-gcc can be started (apt-get install gcc-mingw-w64-x86-64)");
    let errors = String::from_utf8_lossy(&output.stderr);
    let failed: BTreeSet<&str> = expectations
        .iter()
        .enumerate()
        .filter(|(index, _)| errors.contains(&format!("expectation {index} end")))
        .map(|(_, (expression, _))| expression.as_str())
        .collect();
    assert_eq!(failed, BTreeSet::from(DEVIATIONS), "{errors}");
    let others = errors.lines().filter(|line| line.contains("error:") && !line.contains("static assertion failed"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
}
