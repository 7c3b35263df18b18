//! What redirectors and file systems ask of a machine without a provider of network names and without a file cache.
//!
//! Nobody opens a UNC name here, so a provider is registered and asked for nothing. No file is cached, so there is
//! nothing to purge; only what a driver itself has put into its file's pointers can be in the way.

use gate::memory::{self, Fault};
use nt_abi::{FileObject, Handle, KernelEvent, NtStatus};
use nt_dispatcher::event;
use nt_object::ObjectType;

use crate::file::close;

gate::exports! {
    /// What ntoskrnl exports to redirectors and file systems.
    pub(crate) static TABLE in "ntoskrnl.exe";
    "FsRtlRegisterUncProvider" = fs_rtl_register_unc_provider(handle: u64, name: u64, mailslots: u8) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "FsRtlRegisterUncProviderEx" = fs_rtl_register_unc_provider_ex(handle: u64, name: u64, device: u64, flags: u32) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "FsRtlDeregisterUncProvider" = fs_rtl_deregister_unc_provider(handle: Handle), irql <= PASSIVE, rules "K-200";
    "CcPurgeCacheSection" = cc_purge_cache_section(pointers: u64, offset: u64, length: u32, flags: u32) -> u8, irql <= APC, rules "K-200";
    "CcUninitializeCacheMap" = cc_uninitialize_cache_map(file: *mut FileObject, size: u64, done: u64) -> u8, irql <= APC, rules "K-200";
}

/// Registrations of providers: what the handle leads to that a driver gets. In NT it is a file of the provider router.
static PROVIDER: ObjectType = ObjectType::simple("UncProvider", |_| {});

const BODY_BYTES: u64 = 16;

/// Registers a provider: what it gets is closed like any handle, and found if it is not.
fn register(handle: u64, name: u64) -> Result<NtStatus, Fault> {
    if memory::read_unicode(name)?.is_empty() {
        return Ok(NtStatus::INVALID_PARAMETER);
    }
    let caller = gate::caller();
    let Some(body) = nt_object::create(&PROVIDER, BODY_BYTES, caller) else {
        return Ok(NtStatus::INSUFFICIENT_RESOURCES);
    };
    let opened = nt_object::insert(body, 0, true, caller);
    nt_object::dereference(body);
    let Some(opened) = opened else { return Ok(NtStatus::INSUFFICIENT_RESOURCES) };
    let written = memory::write_value(handle, opened);
    if written.is_err() {
        // Nobody would ever learn of the handle.
        close(opened);
    }
    written.map(|()| NtStatus::SUCCESS)
}

fn register_or_raise(handle: u64, name: u64) -> NtStatus {
    register(handle, name).unwrap_or_else(|fault| {
        gate::seh::raise_fault(fault);
        NtStatus::ACCESS_VIOLATION
    })
}

unsafe extern "win64" fn fs_rtl_register_unc_provider(handle: u64, name: u64, _mailslots: u8) -> NtStatus {
    register_or_raise(handle, name)
}

unsafe extern "win64" fn fs_rtl_register_unc_provider_ex(
    handle: u64,
    name: u64,
    _device: u64,
    _flags: u32,
) -> NtStatus {
    register_or_raise(handle, name)
}

unsafe extern "win64" fn fs_rtl_deregister_unc_provider(handle: Handle) {
    // The routine says nothing; a handle that leads nowhere is told like any other.
    close(handle);
}

/// Whether nothing is left of the range in memory: always where no section stands behind the file.
unsafe extern "win64" fn cc_purge_cache_section(pointers: u64, _offset: u64, _length: u32, _flags: u32) -> u8 {
    if pointers == 0 {
        return 1;
    }
    // Data section, cache map, image section.
    match memory::read_value::<[u64; 3]>(pointers) {
        Ok([data, map, _]) => (data == 0 && map == 0).into(),
        Err(fault) => {
            gate::seh::raise_fault(fault);
            0
        }
    }
}

/// Whether a cache map was taken down. No file has one, so whoever waits for that is told at once.
unsafe extern "win64" fn cc_uninitialize_cache_map(_file: *mut FileObject, _size: u64, done: u64) -> u8 {
    /// Where the event lies in a `CACHE_UNINITIALIZE_EVENT`.
    const EVENT: u64 = 8;
    if done != 0 {
        // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them.
        unsafe { event::set((done + EVENT) as *mut KernelEvent) };
    }
    0
}
