//! Exception records, register contexts and bugcheck codes.

use core::mem::{offset_of, size_of};

use crate::{NtStatus, open_enum};

open_enum! {
    /// A bugcheck code ("STOP code") under Windows' own name.
    pub enum BugCheck : u32 {
        #[allow(missing_docs)] IRQL_NOT_LESS_OR_EQUAL = 0x0A,
        #[allow(missing_docs)] MAXIMUM_WAIT_OBJECTS_EXCEEDED = 0x0C,
        #[allow(missing_docs)] SPIN_LOCK_ALREADY_OWNED = 0x0F,
        #[allow(missing_docs)] SPIN_LOCK_NOT_OWNED = 0x10,
        #[allow(missing_docs)] THREAD_NOT_MUTEX_OWNER = 0x11,
        #[allow(missing_docs)] REFERENCE_BY_POINTER = 0x18,
        #[allow(missing_docs)] BAD_POOL_HEADER = 0x19,
        #[allow(missing_docs)] KMODE_EXCEPTION_NOT_HANDLED = 0x1E,
        #[allow(missing_docs)] NO_MORE_IRP_STACK_LOCATIONS = 0x35,
        #[allow(missing_docs)] TARGET_MDL_TOO_SMALL = 0x40,
        #[allow(missing_docs)] MULTIPLE_IRP_COMPLETE_REQUESTS = 0x44,
        #[allow(missing_docs)] CANCEL_STATE_IN_COMPLETED_IRP = 0x48,
        #[allow(missing_docs)] PAGE_FAULT_IN_NONPAGED_AREA = 0x50,
        #[allow(missing_docs)] SYSTEM_THREAD_EXCEPTION_NOT_HANDLED = 0x7E,
        #[allow(missing_docs)] UNEXPECTED_KERNEL_MODE_TRAP = 0x7F,
        #[allow(missing_docs)] INVALID_KERNEL_HANDLE = 0x93,
        #[allow(missing_docs)] ATTEMPTED_SWITCH_FROM_DPC = 0xB8,
        #[allow(missing_docs)] ATTEMPTED_WRITE_TO_READONLY_MEMORY = 0xBE,
        #[allow(missing_docs)] SPECIAL_POOL_DETECTED_MEMORY_CORRUPTION = 0xC1,
        #[allow(missing_docs)] BAD_POOL_CALLER = 0xC2,
        #[allow(missing_docs)] DRIVER_VERIFIER_DETECTED_VIOLATION = 0xC4,
        #[allow(missing_docs)] TIMER_OR_DPC_INVALID = 0xC7,
        #[allow(missing_docs)] DRIVER_VERIFIER_IOMANAGER_VIOLATION = 0xC9,
        #[allow(missing_docs)] PNP_DETECTED_FATAL_ERROR = 0xCA,
        #[allow(missing_docs)] DRIVER_UNLOADED_WITHOUT_CANCELLING_PENDING_OPERATIONS = 0xCE,
        #[allow(missing_docs)] DRIVER_IRQL_NOT_LESS_OR_EQUAL = 0xD1,
        #[allow(missing_docs)] WORKER_THREAD_RETURNED_AT_BAD_IRQL = 0xE1,
        #[allow(missing_docs)] MANUALLY_INITIATED_CRASH = 0xE2,
        #[allow(missing_docs)] RESOURCE_NOT_OWNED = 0xE3,
        #[allow(missing_docs)] WORKER_INVALID = 0xE4,
        #[allow(missing_docs)] ATTEMPTED_EXECUTE_OF_NOEXECUTE_MEMORY = 0xFC,
        #[allow(missing_docs)] DPC_WATCHDOG_VIOLATION = 0x133,
        #[allow(missing_docs)] KERNEL_SECURITY_CHECK_FAILURE = 0x139,
        #[allow(missing_docs)] THREAD_TERMINATE_HELD_MUTEX = 0x4000_008A,
        /// Ours, not Windows': the driver called an import that Drydock does not implement.
        DRYDOCK_UNIMPLEMENTED_IMPORT = 0xD0C0_0001,
        /// Ours: Drydock itself failed an internal check.
        DRYDOCK_INTERNAL_ERROR = 0xD0C0_0002,
        /// Ours: every thread waits for something that nobody is left to do.
        DRYDOCK_DEADLOCK = 0xD0C0_0003,
        /// Ours: the driver made a Linux system call itself.
        DRYDOCK_RAW_SYSTEM_CALL = 0xD0C0_0004,
        /// Ours: Linux, or somebody on it, ended the process; no driver is to blame.
        DRYDOCK_HOST_FAILED = 0xD0C0_0005,
    }
}

/// Bits of [`ExceptionRecord::flags`].
pub mod exception_flag {
    /// `EXCEPTION_NONCONTINUABLE`: execution cannot go on where it happened.
    pub const NONCONTINUABLE: u32 = 0x01;
    /// Handlers are called to clean up, not to decide.
    pub const UNWINDING: u32 = 0x02;
    /// Unwinding has no target: the thread ends.
    pub const EXIT_UNWIND: u32 = 0x04;
    /// The stack cannot be walked.
    pub const STACK_INVALID: u32 = 0x08;
    /// It happened while a handler of another exception ran.
    pub const NESTED_CALL: u32 = 0x10;
    /// The frame that is being cleaned up is the target.
    pub const TARGET_UNWIND: u32 = 0x20;
    /// This unwinding took over from another.
    pub const COLLIDED_UNWIND: u32 = 0x40;
}

open_enum! {
    /// `EXCEPTION_DISPOSITION`: what a handler answers.
    #[doc(alias = "EXCEPTION_DISPOSITION")]
    pub enum Disposition : u32 {
        #[allow(missing_docs)] CONTINUE_EXECUTION = 0,
        #[allow(missing_docs)] CONTINUE_SEARCH = 1,
        #[allow(missing_docs)] NESTED_EXCEPTION = 2,
        #[allow(missing_docs)] COLLIDED_UNWIND = 3,
    }
}

/// Most entries of [`ExceptionRecord::information`].
pub const EXCEPTION_PARAMETERS_MAX: usize = 15;

/// `EXCEPTION_RECORD`.
#[doc(alias = "EXCEPTION_RECORD")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExceptionRecord {
    /// What happened.
    pub code: NtStatus,
    /// See [`exception_flag`].
    pub flags: u32,
    /// Nested record, or 0.
    pub record: u64,
    /// Where.
    pub address: u64,
    /// Valid entries of `information`.
    pub parameters: u32,
    /// Unused.
    pub _pad: u32,
    /// Code-dependent.
    pub information: [u64; EXCEPTION_PARAMETERS_MAX],
}

/// `EXCEPTION_POINTERS`: what a filter looks at.
#[doc(alias = "EXCEPTION_POINTERS")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExceptionPointers {
    /// What happened.
    pub record: *mut ExceptionRecord,
    /// Registers where it happened.
    pub context: *mut Context,
}

/// `CONTEXT_ALL` without debug registers: control, integer, segments, floating point.
pub const CONTEXT_FULL: u32 = 0x0010_000F;

/// `CONTEXT` for x64. Integer registers in encoding order (rax, rcx, rdx, rbx, rsp, ...).
#[doc(alias = "CONTEXT")]
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
pub struct Context {
    /// Home space for arguments.
    pub home: [u64; 6],
    /// Which parts are valid.
    pub context_flags: u32,
    /// MXCSR.
    pub mx_csr: u32,
    /// Segment registers cs, ds, es, fs, gs, ss.
    pub segments: [u16; 6],
    /// RFLAGS.
    pub eflags: u32,
    /// Debug registers 0 to 3, 6, 7.
    pub debug: [u64; 6],
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub integer: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// FXSAVE area; xmm0 is entry 10.
    pub float_save: [u128; 32],
    /// Vector registers.
    pub vector: [u128; 26],
    /// Vector and debug control, last branch records.
    pub tail: [u64; 6],
}

const _: () = assert!(size_of::<ExceptionRecord>() == 0x98 && size_of::<Context>() == 0x4D0);
const _: () = assert!(offset_of!(Context, rip) == 0xF8 && offset_of!(Context, integer) == 0x78);
