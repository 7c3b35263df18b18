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
use nt_abi::tdi::{
    AddressType, ConnectionInformation, QUERY_ACCEPT, RequestKernel, RequestKernelAccept, RequestKernelSetEvent,
    RequestKernelTransfer, TdiEvent, TdiObjectKind, TdiRequest, disconnect_flags, query, receive_flags, send_flags,
    service_flags,
};
use nt_abi::{
    AnsiString, DeviceObject, DispatcherHeader, DriverObject, FileObject, IoStackLocation, IoStatusBlock, Irp,
    KernelEvent, ListEntry, MajorFunction, Mdl, NtStatus, ObjectAttributes, UnicodeString,
};
use proves::proves;

/// Assertions that fail under mingw-w64 although Windows has our value, by what they are about.
const DEVIATIONS: [&str; 1] = [
    // mingw-w64 leaves the alignment of 16 out; its drivers get devices from IoCreateDevice, so they do not notice.
    "sizeof(DEVICE_OBJECT)",
];

/// What is compared: a C expression and our value.
fn expectations() -> Vec<(String, usize)> {
    let mut all = layouts();
    all.extend(parameters_of_tdi());
    all.extend(codes().map(|(name, value)| (format!("(unsigned){name}"), value as usize)));
    all
}

/// The parameter blocks of TDI requests: members by where they lie (C-052 to C-060).
fn parameters_of_tdi() -> Vec<(String, usize)> {
    let mut all = Vec::new();
    let mut at = |c: &str, member: &str, ours: usize| all.push((format!("offsetof({c}, {member})"), ours));
    let parameters = offset_of!(IoStackLocation, parameters);
    at("IO_STACK_LOCATION", "Parameters", parameters);
    at("IO_STACK_LOCATION", "Parameters.Create.SecurityContext", parameters);
    at("IO_STACK_LOCATION", "Parameters.Create.FileAttributes", parameters + 16);
    at("IO_STACK_LOCATION", "Parameters.Create.ShareAccess", parameters + 18);
    at("TDI_REQUEST_KERNEL", "RequestFlags", offset_of!(RequestKernel, request_flags));
    let request = offset_of!(RequestKernel, request_connection_information);
    at("TDI_REQUEST_KERNEL", "RequestConnectionInformation", request);
    at("TDI_REQUEST_KERNEL", "ReturnConnectionInformation", offset_of!(RequestKernel, return_connection_information));
    at("TDI_REQUEST_KERNEL", "RequestSpecific", offset_of!(RequestKernel, request_specific));
    let request = offset_of!(RequestKernelAccept, request_connection_information);
    at("TDI_REQUEST_KERNEL_ACCEPT", "RequestConnectionInformation", request);
    let returned = offset_of!(RequestKernelAccept, return_connection_information);
    at("TDI_REQUEST_KERNEL_ACCEPT", "ReturnConnectionInformation", returned);
    at("TDI_REQUEST_KERNEL_ASSOCIATE", "AddressHandle", 0);
    at("TDI_REQUEST_KERNEL_SEND", "SendLength", offset_of!(RequestKernelTransfer, length));
    at("TDI_REQUEST_KERNEL_SEND", "SendFlags", offset_of!(RequestKernelTransfer, flags));
    at("TDI_REQUEST_KERNEL_RECEIVE", "ReceiveLength", offset_of!(RequestKernelTransfer, length));
    at("TDI_REQUEST_KERNEL_RECEIVE", "ReceiveFlags", offset_of!(RequestKernelTransfer, flags));
    at("TDI_REQUEST_KERNEL_SET_EVENT", "EventType", offset_of!(RequestKernelSetEvent, event_type));
    at("TDI_REQUEST_KERNEL_SET_EVENT", "EventHandler", offset_of!(RequestKernelSetEvent, event_handler));
    at("TDI_REQUEST_KERNEL_SET_EVENT", "EventContext", offset_of!(RequestKernelSetEvent, event_context));
    let information = "TDI_CONNECTION_INFORMATION";
    at(information, "UserDataLength", offset_of!(ConnectionInformation, user_data_length));
    at(information, "UserData", offset_of!(ConnectionInformation, user_data));
    at(information, "OptionsLength", offset_of!(ConnectionInformation, options_length));
    at(information, "Options", offset_of!(ConnectionInformation, options));
    at(information, "RemoteAddressLength", offset_of!(ConnectionInformation, remote_address_length));
    at(information, "RemoteAddress", offset_of!(ConnectionInformation, remote_address));
    all
}

/// Codes by their names in C (C-013 to C-024).
fn codes() -> impl Iterator<Item = (&'static str, u32)> {
    let majors = [
        ("IRP_MJ_CREATE", MajorFunction::CREATE),
        ("IRP_MJ_CLOSE", MajorFunction::CLOSE),
        ("IRP_MJ_READ", MajorFunction::READ),
        ("IRP_MJ_WRITE", MajorFunction::WRITE),
        ("IRP_MJ_INTERNAL_DEVICE_CONTROL", MajorFunction::INTERNAL_DEVICE_CONTROL),
        ("IRP_MJ_CLEANUP", MajorFunction::CLEANUP),
    ];
    let minors = [
        ("TDI_ASSOCIATE_ADDRESS", TdiRequest::ASSOCIATE_ADDRESS),
        ("TDI_DISASSOCIATE_ADDRESS", TdiRequest::DISASSOCIATE_ADDRESS),
        ("TDI_CONNECT", TdiRequest::CONNECT),
        ("TDI_LISTEN", TdiRequest::LISTEN),
        ("TDI_ACCEPT", TdiRequest::ACCEPT),
        ("TDI_DISCONNECT", TdiRequest::DISCONNECT),
        ("TDI_SEND", TdiRequest::SEND),
        ("TDI_RECEIVE", TdiRequest::RECEIVE),
        ("TDI_SEND_DATAGRAM", TdiRequest::SEND_DATAGRAM),
        ("TDI_RECEIVE_DATAGRAM", TdiRequest::RECEIVE_DATAGRAM),
        ("TDI_SET_EVENT_HANDLER", TdiRequest::SET_EVENT_HANDLER),
        ("TDI_QUERY_INFORMATION", TdiRequest::QUERY_INFORMATION),
        ("TDI_SET_INFORMATION", TdiRequest::SET_INFORMATION),
        ("TDI_ACTION", TdiRequest::ACTION),
    ];
    let kinds = [
        ("TDI_TRANSPORT_ADDRESS_FILE", TdiObjectKind::TRANSPORT_ADDRESS),
        ("TDI_CONNECTION_FILE", TdiObjectKind::CONNECTION),
        ("TDI_CONTROL_CHANNEL_FILE", TdiObjectKind::CONTROL_CHANNEL),
    ];
    let events = [
        ("TDI_EVENT_CONNECT", TdiEvent::CONNECT),
        ("TDI_EVENT_DISCONNECT", TdiEvent::DISCONNECT),
        ("TDI_EVENT_ERROR", TdiEvent::ERROR),
        ("TDI_EVENT_RECEIVE", TdiEvent::RECEIVE),
        ("TDI_EVENT_RECEIVE_DATAGRAM", TdiEvent::RECEIVE_DATAGRAM),
        ("TDI_EVENT_RECEIVE_EXPEDITED", TdiEvent::RECEIVE_EXPEDITED),
        ("TDI_EVENT_SEND_POSSIBLE", TdiEvent::SEND_POSSIBLE),
    ];
    let types = [
        ("TDI_ADDRESS_TYPE_UNSPEC", AddressType::UNSPEC),
        ("TDI_ADDRESS_TYPE_IP", AddressType::IP),
        ("TDI_ADDRESS_TYPE_NETBIOS", AddressType::NETBIOS),
        ("TDI_ADDRESS_TYPE_IP6", AddressType::IP6),
    ];
    let plain = [
        ("TDI_SEND_EXPEDITED", send_flags::EXPEDITED),
        ("TDI_SEND_PARTIAL", send_flags::PARTIAL),
        ("TDI_SEND_NO_RESPONSE_EXPECTED", send_flags::NO_RESPONSE_EXPECTED),
        ("TDI_SEND_NON_BLOCKING", send_flags::NON_BLOCKING),
        ("TDI_SEND_AND_DISCONNECT", send_flags::AND_DISCONNECT),
        ("TDI_RECEIVE_BROADCAST", receive_flags::BROADCAST),
        ("TDI_RECEIVE_MULTICAST", receive_flags::MULTICAST),
        ("TDI_RECEIVE_PARTIAL", receive_flags::PARTIAL),
        ("TDI_RECEIVE_NORMAL", receive_flags::NORMAL),
        ("TDI_RECEIVE_EXPEDITED", receive_flags::EXPEDITED),
        ("TDI_RECEIVE_PEEK", receive_flags::PEEK),
        ("TDI_RECEIVE_NO_RESPONSE_EXP", receive_flags::NO_RESPONSE_EXPECTED),
        ("TDI_RECEIVE_COPY_LOOKAHEAD", receive_flags::COPY_LOOKAHEAD),
        ("TDI_RECEIVE_ENTIRE_MESSAGE", receive_flags::ENTIRE_MESSAGE),
        ("TDI_RECEIVE_AT_DISPATCH_LEVEL", receive_flags::AT_DISPATCH_LEVEL),
        ("TDI_RECEIVE_CONTROL_INFO", receive_flags::CONTROL_INFO),
        ("TDI_DISCONNECT_WAIT", disconnect_flags::WAIT),
        ("TDI_DISCONNECT_ABORT", disconnect_flags::ABORT),
        ("TDI_DISCONNECT_RELEASE", disconnect_flags::RELEASE),
        ("TDI_QUERY_ACCEPT", QUERY_ACCEPT as u32),
        ("TDI_QUERY_PROVIDER_INFO", query::PROVIDER_INFO),
        ("TDI_QUERY_ADDRESS_INFO", query::ADDRESS_INFO),
        ("TDI_QUERY_CONNECTION_INFO", query::CONNECTION_INFO),
        ("TDI_SERVICE_CONNECTION_MODE", service_flags::CONNECTION_MODE),
        ("TDI_SERVICE_ORDERLY_RELEASE", service_flags::ORDERLY_RELEASE),
        ("TDI_SERVICE_CONNECTIONLESS_MODE", service_flags::CONNECTIONLESS_MODE),
        ("TDI_SERVICE_ERROR_FREE_DELIVERY", service_flags::ERROR_FREE_DELIVERY),
        ("TDI_SERVICE_SECURITY_LEVEL", service_flags::SECURITY_LEVEL),
        ("TDI_SERVICE_BROADCAST_SUPPORTED", service_flags::BROADCAST_SUPPORTED),
        ("TDI_SERVICE_MULTICAST_SUPPORTED", service_flags::MULTICAST_SUPPORTED),
        ("TDI_SERVICE_DELAYED_ACCEPTANCE", service_flags::DELAYED_ACCEPTANCE),
        ("TDI_SERVICE_EXPEDITED_DATA", service_flags::EXPEDITED_DATA),
        ("TDI_SERVICE_INTERNAL_BUFFERING", service_flags::INTERNAL_BUFFERING),
        ("TDI_SERVICE_ROUTE_DIRECTED", service_flags::ROUTE_DIRECTED),
        ("TDI_SERVICE_NO_ZERO_LENGTH", service_flags::NO_ZERO_LENGTH),
        ("TDI_SERVICE_POINT_TO_POINT", service_flags::POINT_TO_POINT),
        ("TDI_SERVICE_MESSAGE_MODE", service_flags::MESSAGE_MODE),
        ("TDI_SERVICE_HALF_DUPLEX", service_flags::HALF_DUPLEX),
        ("TDI_SERVICE_DGRAM_CONNECTION", service_flags::DGRAM_CONNECTION),
        ("TDI_SERVICE_FORCE_ACCESS_CHECK", service_flags::FORCE_ACCESS_CHECK),
        ("TDI_SERVICE_SEND_AND_DISCONNECT", service_flags::SEND_AND_DISCONNECT),
        ("TDI_SERVICE_DIRECT_ACCEPT", service_flags::DIRECT_ACCEPT),
        ("TDI_SERVICE_ACCEPT_LOCAL_ADDR", service_flags::ACCEPT_LOCAL_ADDR),
    ];
    let majors = majors.into_iter().map(|(name, code)| (name, u32::from(code.0)));
    let minors = minors.into_iter().map(|(name, code)| (name, u32::from(code.0)));
    let kinds = kinds.into_iter().map(|(name, kind)| (name, kind.0 as u32));
    let events = events.into_iter().map(|(name, event)| (name, event.0));
    let types = types.into_iter().map(|(name, kind)| (name, u32::from(kind.0)));
    let statuses = STATUSES.into_iter().chain(ALIASES).map(|(name, status)| (name, status.0));
    majors.chain(minors).chain(kinds).chain(events).chain(types).chain(plain).chain(statuses)
}

/// Statuses of requests by their names in C (C-063, C-064).
const STATUSES: [(&str, NtStatus); 50] = [
    ("STATUS_SUCCESS", NtStatus::SUCCESS),
    ("STATUS_TIMEOUT", NtStatus::TIMEOUT),
    ("STATUS_PENDING", NtStatus::PENDING),
    ("STATUS_BUFFER_OVERFLOW", NtStatus::BUFFER_OVERFLOW),
    ("STATUS_EA_LIST_INCONSISTENT", NtStatus::EA_LIST_INCONSISTENT),
    ("STATUS_INVALID_EA_NAME", NtStatus::INVALID_EA_NAME),
    ("STATUS_UNSUCCESSFUL", NtStatus::UNSUCCESSFUL),
    ("STATUS_NOT_IMPLEMENTED", NtStatus::NOT_IMPLEMENTED),
    ("STATUS_INVALID_HANDLE", NtStatus::INVALID_HANDLE),
    ("STATUS_INVALID_PARAMETER", NtStatus::INVALID_PARAMETER),
    ("STATUS_INVALID_DEVICE_REQUEST", NtStatus::INVALID_DEVICE_REQUEST),
    ("STATUS_MORE_PROCESSING_REQUIRED", NtStatus::MORE_PROCESSING_REQUIRED),
    ("STATUS_ACCESS_DENIED", NtStatus::ACCESS_DENIED),
    ("STATUS_BUFFER_TOO_SMALL", NtStatus::BUFFER_TOO_SMALL),
    ("STATUS_OBJECT_TYPE_MISMATCH", NtStatus::OBJECT_TYPE_MISMATCH),
    ("STATUS_SHARING_VIOLATION", NtStatus::SHARING_VIOLATION),
    ("STATUS_NONEXISTENT_EA_ENTRY", NtStatus::NONEXISTENT_EA_ENTRY),
    ("STATUS_INSUFFICIENT_RESOURCES", NtStatus::INSUFFICIENT_RESOURCES),
    ("STATUS_DEVICE_NOT_READY", NtStatus::DEVICE_NOT_READY),
    ("STATUS_IO_TIMEOUT", NtStatus::IO_TIMEOUT),
    ("STATUS_REMOTE_NOT_LISTENING", NtStatus::REMOTE_NOT_LISTENING),
    ("STATUS_BAD_NETWORK_PATH", NtStatus::BAD_NETWORK_PATH),
    ("STATUS_CANCELLED", NtStatus::CANCELLED),
    ("STATUS_FILE_CLOSED", NtStatus::FILE_CLOSED),
    ("STATUS_LOCAL_DISCONNECT", NtStatus::LOCAL_DISCONNECT),
    ("STATUS_REMOTE_DISCONNECT", NtStatus::REMOTE_DISCONNECT),
    ("STATUS_INVALID_CONNECTION", NtStatus::INVALID_CONNECTION),
    ("STATUS_INVALID_ADDRESS", NtStatus::INVALID_ADDRESS),
    ("STATUS_INVALID_DEVICE_STATE", NtStatus::INVALID_DEVICE_STATE),
    ("STATUS_INVALID_BUFFER_SIZE", NtStatus::INVALID_BUFFER_SIZE),
    ("STATUS_INVALID_ADDRESS_COMPONENT", NtStatus::INVALID_ADDRESS_COMPONENT),
    ("STATUS_TOO_MANY_ADDRESSES", NtStatus::TOO_MANY_ADDRESSES),
    ("STATUS_ADDRESS_ALREADY_EXISTS", NtStatus::ADDRESS_ALREADY_EXISTS),
    ("STATUS_ADDRESS_CLOSED", NtStatus::ADDRESS_CLOSED),
    ("STATUS_CONNECTION_DISCONNECTED", NtStatus::CONNECTION_DISCONNECTED),
    ("STATUS_CONNECTION_RESET", NtStatus::CONNECTION_RESET),
    ("STATUS_DATA_NOT_ACCEPTED", NtStatus::DATA_NOT_ACCEPTED),
    ("STATUS_CONNECTION_REFUSED", NtStatus::CONNECTION_REFUSED),
    ("STATUS_GRACEFUL_DISCONNECT", NtStatus::GRACEFUL_DISCONNECT),
    ("STATUS_ADDRESS_ALREADY_ASSOCIATED", NtStatus::ADDRESS_ALREADY_ASSOCIATED),
    ("STATUS_ADDRESS_NOT_ASSOCIATED", NtStatus::ADDRESS_NOT_ASSOCIATED),
    ("STATUS_CONNECTION_INVALID", NtStatus::CONNECTION_INVALID),
    ("STATUS_CONNECTION_ACTIVE", NtStatus::CONNECTION_ACTIVE),
    ("STATUS_NETWORK_UNREACHABLE", NtStatus::NETWORK_UNREACHABLE),
    ("STATUS_HOST_UNREACHABLE", NtStatus::HOST_UNREACHABLE),
    ("STATUS_PROTOCOL_UNREACHABLE", NtStatus::PROTOCOL_UNREACHABLE),
    ("STATUS_PORT_UNREACHABLE", NtStatus::PORT_UNREACHABLE),
    ("STATUS_REQUEST_ABORTED", NtStatus::REQUEST_ABORTED),
    ("STATUS_CONNECTION_ABORTED", NtStatus::CONNECTION_ABORTED),
    ("STATUS_OBJECT_NAME_NOT_FOUND", NtStatus::OBJECT_NAME_NOT_FOUND),
];

/// The names that tdistat.h gives some of them (C-065).
const ALIASES: [(&str, NtStatus); 31] = [
    ("TDI_NO_RESOURCES", NtStatus::INSUFFICIENT_RESOURCES),
    ("TDI_ADDR_IN_USE", NtStatus::ADDRESS_ALREADY_EXISTS),
    ("TDI_BAD_ADDR", NtStatus::INVALID_ADDRESS_COMPONENT),
    ("TDI_NO_FREE_ADDR", NtStatus::TOO_MANY_ADDRESSES),
    ("TDI_ADDR_INVALID", NtStatus::INVALID_ADDRESS),
    ("TDI_ADDR_DELETED", NtStatus::ADDRESS_CLOSED),
    ("TDI_BAD_EVENT_TYPE", NtStatus::INVALID_PARAMETER),
    ("TDI_BAD_OPTION", NtStatus::INVALID_PARAMETER),
    ("TDI_CONN_REFUSED", NtStatus::CONNECTION_REFUSED),
    ("TDI_INVALID_CONNECTION", NtStatus::CONNECTION_INVALID),
    ("TDI_ALREADY_ASSOCIATED", NtStatus::ADDRESS_ALREADY_ASSOCIATED),
    ("TDI_NOT_ASSOCIATED", NtStatus::ADDRESS_NOT_ASSOCIATED),
    ("TDI_CONNECTION_ACTIVE", NtStatus::CONNECTION_ACTIVE),
    ("TDI_CONNECTION_ABORTED", NtStatus::CONNECTION_ABORTED),
    ("TDI_CONNECTION_RESET", NtStatus::CONNECTION_RESET),
    ("TDI_TIMED_OUT", NtStatus::IO_TIMEOUT),
    ("TDI_GRACEFUL_DISC", NtStatus::GRACEFUL_DISCONNECT),
    ("TDI_NOT_ACCEPTED", NtStatus::DATA_NOT_ACCEPTED),
    ("TDI_MORE_PROCESSING", NtStatus::MORE_PROCESSING_REQUIRED),
    ("TDI_INVALID_STATE", NtStatus::INVALID_DEVICE_STATE),
    ("TDI_DEST_NET_UNREACH", NtStatus::NETWORK_UNREACHABLE),
    ("TDI_DEST_HOST_UNREACH", NtStatus::HOST_UNREACHABLE),
    ("TDI_DEST_PROT_UNREACH", NtStatus::PROTOCOL_UNREACHABLE),
    ("TDI_DEST_PORT_UNREACH", NtStatus::PORT_UNREACHABLE),
    ("TDI_INVALID_QUERY", NtStatus::INVALID_DEVICE_REQUEST),
    ("TDI_INVALID_REQUEST", NtStatus::INVALID_DEVICE_REQUEST),
    ("TDI_REQ_ABORTED", NtStatus::REQUEST_ABORTED),
    ("TDI_BUFFER_TOO_BIG", NtStatus::INVALID_BUFFER_SIZE),
    ("TDI_BUFFER_OVERFLOW", NtStatus::BUFFER_OVERFLOW),
    ("TDI_ITEM_NOT_FOUND", NtStatus::OBJECT_NAME_NOT_FOUND),
    ("TDI_CANCELLED", NtStatus::CANCELLED),
];

fn layouts() -> Vec<(String, usize)> {
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

#[proves(
    "C-013", "C-014", "C-015", "C-016", "C-017", "C-018", "C-020", "C-021", "C-022", "C-063", "C-064", "C-065",
    "C-051", "C-052", "C-053", "C-054", "C-055", "C-057", "C-058", "C-059", "C-060", "D-001", "D-002", "D-003",
    "D-105", "D-110", "D-141"
)]
#[test]
fn layouts_agree_with_mingw_w64_except_where_it_is_known_to_be_wrong() {
    let headers = ["/usr/share/mingw-w64/include/ddk", "/usr/x86_64-w64-mingw32/sys-root/mingw/include/ddk"];
    let ddk = headers.into_iter().find(|path| Path::new(path).is_dir());
    let ddk = ddk.expect("mingw-w64's kernel headers (apt-get install gcc-mingw-w64-x86-64)");
    let expectations = expectations();
    let mut text = String::from(
        "#include <ntddk.h>\n#include <tdi.h>\n#include <tdikrnl.h>\n#include <tdistat.h>\n#include <stddef.h>\n",
    );
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

/// What mingw-w64's headers are too old for, by the numbers of the reference.
#[proves("C-014", "C-015", "C-018", "C-022", "D-002", "D-110", "D-141")]
#[test]
fn newer_codes_are_the_reference_s() {
    assert_eq!(
        [TdiRequest::DIRECT_SEND, TdiRequest::DIRECT_SEND_DATAGRAM, TdiRequest::DIRECT_ACCEPT].map(|code| code.0),
        [0x27, 0x29, 0x2A]
    );
    let events = [
        TdiEvent::CHAINED_RECEIVE,
        TdiEvent::CHAINED_RECEIVE_DATAGRAM,
        TdiEvent::CHAINED_RECEIVE_EXPEDITED,
        TdiEvent::ERROR_EX,
    ];
    assert_eq!(events.map(|event| event.0), [7, 8, 9, 10]);
    assert_eq!([receive_flags::FORCE_INDICATION, receive_flags::NO_PUSH], [0x2000, 0x4000]);
    let services = [service_flags::ADDRESS_SECURITY, service_flags::PREPOST_RECVS, service_flags::NO_PUSH];
    assert_eq!(services, [0x10_0000, 0x20_0000, 0x40_0000]);
    // The others are compared with the headers.
    assert_eq!(codes().filter(|(name, _)| name.starts_with("TDI_EVENT_")).count(), 7);
}

#[proves("C-069")]
#[test]
fn warnings_are_neither_successes_nor_errors_and_a_timeout_is_a_success() {
    for warning in [NtStatus::BUFFER_OVERFLOW, NtStatus::EA_LIST_INCONSISTENT, NtStatus::INVALID_EA_NAME] {
        assert!(!warning.is_success() && !warning.is_error(), "{warning:?}");
    }
    for success in [NtStatus::TIMEOUT, NtStatus::PENDING] {
        assert!(success.is_success() && !success.is_error(), "{success:?}");
    }
}
