//! The registry as drivers call it.

use gate::memory::read_value;
use nt_abi::{Handle, NtStatus, ObjectAttributes, UnicodeString};
use proves::proves;

use super::*;
use crate::testing::{kernel_thread, service, utf16};

const KERNEL_HANDLE: u32 = 0x240;

fn string(units: &mut [u16]) -> UnicodeString {
    let length = units.len() as u16 * 2;
    UnicodeString { length, maximum_length: length, _pad: 0, buffer: units.as_mut_ptr() }
}

/// Calls a service whose third argument is object attributes for `path`.
fn with_attributes(name: &str, root: Handle, path: &str, rest: &[u64]) -> (NtStatus, Handle) {
    kernel_thread();
    let (mut units, mut handle) = (utf16(path), Handle(0));
    let mut name_string = string(&mut units);
    let attributes = ObjectAttributes {
        length: 0x30,
        _pad: 0,
        root_directory: root,
        object_name: &mut name_string,
        attributes: KERNEL_HANDLE,
        _pad2: 0,
        security_descriptor: 0,
        security_quality_of_service: 0,
    };
    let mut arguments = vec![&raw mut handle as u64, 0xF003F, &raw const attributes as u64];
    arguments.extend(rest);
    (service(name).call(&arguments), handle)
}

fn open(root: Handle, path: &str) -> (NtStatus, Handle) {
    with_attributes("ZwOpenKey", root, path, &[])
}

fn create(root: Handle, path: &str) -> (NtStatus, Handle, u32) {
    let mut disposition = 0u32;
    let (status, handle) = with_attributes("ZwCreateKey", root, path, &[0, 0, 0, &raw mut disposition as u64]);
    (status, handle, disposition)
}

fn close(handle: Handle) {
    assert_eq!(service("ZwClose").call(&[handle.0]), NtStatus::SUCCESS);
}

/// Queries a value's partial information into `room` bytes: status, needed length, bytes.
fn query(key: Handle, name: &str, room: u32) -> (NtStatus, u32, Vec<u8>) {
    let (mut units, mut buffer, mut needed) = (utf16(name), vec![0xEE; 64], 0u32);
    let name = string(&mut units);
    let arguments = [key.0, &raw const name as u64, 2, buffer.as_mut_ptr() as u64, room.into(), &raw mut needed as u64];
    let status = service("ZwQueryValueKey").call(&arguments);
    (status, needed, buffer)
}

const SERVICES_PATH: &str = r"\Registry\Machine\System\CurrentControlSet\Services";

#[proves("K-167")]
#[test]
fn parameters_of_a_service_are_read_through_its_path() {
    set_value("RegA", "Port", &Data::Number(8080)).expect("set");
    let (status, key) = open(Handle(0), &format!(r"{SERVICES_PATH}\rega"));
    assert_eq!(status, NtStatus::SUCCESS);
    let (status, parameters) = open(key, "Parameters");
    assert_eq!(status, NtStatus::SUCCESS);
    let (status, needed, bytes) = query(parameters, "port", 64);
    assert_eq!((status, needed), (NtStatus::SUCCESS, 16));
    assert_eq!(bytes[..16], [0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0x90, 0x1F, 0, 0]);
    close(parameters);
    close(key);
}

#[test]
fn short_buffers_get_the_fixed_part_or_nothing() {
    set_value("RegB", "Port", &Data::Number(1)).expect("set");
    let (_, key) = open(Handle(0), &format!(r"{SERVICES_PATH}\RegB\Parameters"));
    let (status, needed, bytes) = query(key, "Port", 11);
    assert_eq!((status, needed, bytes[0]), (NtStatus::BUFFER_TOO_SMALL, 16, 0xEE));
    let (status, needed, bytes) = query(key, "Port", 14);
    assert_eq!((status, needed), (NtStatus::BUFFER_OVERFLOW, 16));
    assert_eq!(bytes[12..15], [1, 0, 0xEE], "two bytes of data fit");
    assert_eq!(query(key, "Missing", 64).0, NtStatus::OBJECT_NAME_NOT_FOUND);
    close(key);
    assert_eq!(query(key, "Port", 64).0, NtStatus::INVALID_HANDLE);
}

#[test]
fn names_that_lead_nowhere_are_told_apart() {
    assert_eq!(open(Handle(0), r"\Registry\Machine\Nothing").0, NtStatus::OBJECT_NAME_NOT_FOUND);
    assert_eq!(open(Handle(0), r"Machine").0, NtStatus::OBJECT_PATH_SYNTAX_BAD);
    assert_eq!(open(Handle(0x1230), r"Machine").0, NtStatus::INVALID_HANDLE);
}

#[test]
fn created_key_is_found_counted_and_deleted() {
    create_service_key("RegC", "").expect("a key");
    let (_, service_key) = open(Handle(0), &format!(r"{SERVICES_PATH}\RegC"));
    let (status, key, disposition) = create(service_key, "New");
    assert_eq!((status, disposition), (NtStatus::SUCCESS, 1));
    let (status, again, disposition) = create(service_key, "NEW");
    assert_eq!((status, disposition), (NtStatus::SUCCESS, 2));
    assert_eq!(create(service_key, r"a\b").0, NtStatus::OBJECT_NAME_NOT_FOUND);

    let (mut name, data) = (utf16("V"), [1u8, 2, 3]);
    let name = string(&mut name);
    let arguments = [key.0, &raw const name as u64, 0, 3, data.as_ptr() as u64, 3];
    assert_eq!(service("ZwSetValueKey").call(&arguments), NtStatus::SUCCESS);
    assert_eq!(query(again, "v", 64).1, 15);

    let (mut buffer, mut needed) = ([0u8; 64], 0u32);
    let mut enumerate = |index: u64| {
        let arguments = [service_key.0, index, 0, buffer.as_mut_ptr() as u64, 64, &raw mut needed as u64];
        service("ZwEnumerateKey").call(&arguments)
    };
    assert_eq!(enumerate(0), NtStatus::SUCCESS);
    assert_eq!(enumerate(1), NtStatus::NO_MORE_ENTRIES);
    assert_eq!((needed, &buffer[12..22]), (22, &[6, 0, 0, 0, b'N', 0, b'e', 0, b'w', 0][..]));

    assert_eq!(service("ZwDeleteKey").call(&[service_key.0]), NtStatus::CANNOT_DELETE);
    assert_eq!(service("ZwDeleteKey").call(&[key.0]), NtStatus::SUCCESS);
    assert_eq!(query(again, "v", 64).0, NtStatus::KEY_DELETED);
    [key, again, service_key].into_iter().for_each(close);
}

#[test]
fn open_key_is_an_object_with_a_handle() {
    create_service_key("RegD", "").expect("a key");
    let (_, key) = open(Handle(0), &format!(r"{SERVICES_PATH}\RegD"));
    let mut found = None;
    nt_object::for_each_open(|entry| {
        if entry.handle == key {
            found = nt_object::type_of(entry.body).map(|kind| kind.name);
        }
    });
    assert_eq!(found, Some("Key"));
    close(key);
}

#[test]
fn routines_with_well_known_roots_write_and_delete() {
    kernel_thread();
    let (path, name, value) = (utf16("RegE\\Made\0"), utf16("N\0"), 5u32);
    let (path, name) = (path.as_ptr() as u64, name.as_ptr() as u64);
    assert_eq!(service("RtlCheckRegistryKey").call(&[1, path]), NtStatus::OBJECT_NAME_NOT_FOUND);
    let arguments = [1, path, name, 4, &raw const value as u64, 4];
    assert_eq!(service("RtlWriteRegistryValue").call(&arguments), NtStatus::SUCCESS);
    let (_, key) = open(Handle(0), &format!(r"{SERVICES_PATH}\RegE\Made"));
    let (_, _, bytes) = query(key, "N", 64);
    assert_eq!(read_value::<u32>(bytes.as_ptr() as u64 + 12), Ok(5));
    assert_eq!(service("RtlDeleteRegistryValue").call(&[0x4000_0000, key.0, name]), NtStatus::SUCCESS);
    assert_eq!(query(key, "N", 64).0, NtStatus::OBJECT_NAME_NOT_FOUND);
    assert_eq!(service("RtlWriteRegistryValue").call(&[9, path, name, 4, 0, 0]), NtStatus::INVALID_PARAMETER);
    close(key);
}

#[test]
fn registry_file_changes_what_drivers_read() {
    let file = "REGEDIT4\n[HKEY_LOCAL_MACHINE\\System\\ControlSet001\\Services\\RegF\\Parameters]\n\"N\"=dword:7\n\
                [HKLM\\Software\\RegF\\Deep]\n[-HKLM\\Software\\RegF]\n";
    assert_eq!(load(file.as_bytes()), Ok(4));
    let (status, key) = open(Handle(0), &format!(r"{SERVICES_PATH}\RegF\Parameters"));
    assert_eq!((status, query(key, "N", 64).1), (NtStatus::SUCCESS, 16));
    close(key);
    assert_eq!(open(Handle(0), r"\Registry\Machine\Software\RegF").0, NtStatus::OBJECT_NAME_NOT_FOUND);
}
