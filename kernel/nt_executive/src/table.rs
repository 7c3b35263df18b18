//! The one table of exports: every name that drivers can import from the kernel.
//!
//! The rows are declared beside the functions, in this crate and in those below it. `ntoskrnl.exe`, its other names
//! and `hal.dll` are one namespace: what lies in which has changed between versions of Windows and differs between
//! import libraries, and no name means two things.

use std::collections::HashMap;
use std::sync::LazyLock;

use gate::export::Export;

/// Names under which drivers import from the kernel.
const KERNEL: [&str; 6] = ["ntoskrnl.exe", "ntkrnlmp.exe", "ntkrnlpa.exe", "ntkrpamp.exe", "hal.dll", "ntoskrnl"];

fn tables() -> impl Iterator<Item = &'static [Export]> {
    let own = [
        crate::bugcheck_callback::TABLE,
        crate::cache_aware::TABLE,
        crate::callback::TABLE,
        crate::debug_print::TABLE,
        crate::mdl::TABLE,
        crate::mm::TABLE,
        crate::mm::copies::TABLE,
        crate::mm::io_space::TABLE,
        crate::notifications::TABLE,
        crate::pool::TABLE,
        crate::power::TABLE,
        crate::process::TABLE,
        crate::process::information::TABLE,
        crate::section::TABLE,
        crate::system::TABLE,
        crate::system::information::TABLE,
        crate::tracing::TABLE,
    ];
    let parts = crate::c_runtime::TABLES
        .into_iter()
        .chain(crate::lists::TABLES)
        .chain(crate::registry::TABLES)
        .chain(crate::rtl::tables())
        .chain(crate::security::TABLES);
    [gate::seh::TABLE, nt_dispatcher::TABLE].into_iter().chain(nt_io::TABLES.iter().copied()).chain(own).chain(parts)
}

/// Every row, in the order of declaration.
pub fn all() -> impl Iterator<Item = &'static Export> {
    tables().flatten()
}

static BY_NAME: LazyLock<HashMap<&'static str, &'static Export>> =
    LazyLock::new(|| all().map(|export| (export.name, export)).collect());

/// Whether drivers import from the kernel under this module name, in any case.
pub fn is_kernel(module: &str) -> bool {
    KERNEL.iter().any(|name| name.eq_ignore_ascii_case(module))
}

/// What `module!name` is bound to; `None` if nobody implements it.
pub fn resolve(module: &str, name: &str) -> Option<&'static Export> {
    if is_kernel(module) { by_name(name) } else { crate::ndis::resolve(module, name) }
}

/// As [`resolve`], for `MmGetSystemRoutineAddress`, which names no module.
pub fn by_name(name: &str) -> Option<&'static Export> {
    BY_NAME.get(name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_declared_twice() {
        let mut seen = HashMap::new();
        for export in all() {
            if let Some(other) = seen.insert(export.name, export) {
                panic!("{} is declared as {other:?} and as {export:?}", export.name);
            }
        }
    }

    #[test]
    fn kernel_names_resolve_in_any_case_of_the_module() {
        for module in ["ntoskrnl.exe", "NTOSKRNL.EXE", "hal.dll", "HAL.dll"] {
            assert!(resolve(module, "IofCallDriver").is_some(), "{module}");
        }
        assert!(resolve("ndis.sys", "IofCallDriver").is_none());
        assert!(resolve("ntoskrnl.exe", "iofcalldriver").is_none(), "names have one case");
    }

    /// What the drivers of `samples` import, except the one that exists nowhere.
    #[test]
    fn every_import_of_the_samples_resolves() {
        let names = "DbgPrint ExAllocatePoolWithTag ExFreePoolWithTag IoAllocateIrp IoAllocateMdl \
            IoBuildDeviceIoControlRequest IoCancelIrp IoCreateDevice IoCreateSymbolicLink IoDeleteDevice \
            IoDeleteSymbolicLink IoFileObjectType IoFreeIrp IoFreeMdl IoGetRelatedDeviceObject IofCallDriver \
            IofCompleteRequest KeAcquireSpinLockRaiseToDpc KeBugCheckEx KeDelayExecutionThread KeInitializeEvent \
            KeReleaseSpinLock KeSetEvent KeWaitForSingleObject MmBuildMdlForNonPagedPool \
            MmMapLockedPagesSpecifyCache ObReferenceObjectByHandle ObfDereferenceObject PsCreateSystemThread \
            PsTerminateSystemThread PsThreadType RtlAppendUnicodeToString RtlInitUnicodeString ZwClose ZwCreateFile \
            ZwOpenKey ZwQueryValueKey _snprintf memcpy memset strcmp strlen";
        let missing: Vec<_> = names.split_whitespace().filter(|name| by_name(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
