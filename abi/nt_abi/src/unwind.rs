//! How x64 images describe their functions to an unwinder (`.pdata`, `.xdata`), and what language handlers get.
//!
//! Addresses in an image are offsets from its base (32 bits).

use core::mem::{offset_of, size_of};

use crate::exception::Context;
use crate::open_enum;

/// `RUNTIME_FUNCTION`: a range of code and its unwind information. Tables of them are ordered by `begin`.
#[doc(alias = "RUNTIME_FUNCTION")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RuntimeFunction {
    /// Offset of the first instruction.
    pub begin: u32,
    /// Offset behind the last one.
    pub end: u32,
    /// Offset of the [`UnwindInfo`]; with [`INDIRECT`](Self::INDIRECT), of another entry.
    pub unwind: u32,
}

impl RuntimeFunction {
    /// Bit of [`unwind`](Self::unwind): the rest is the offset of the entry that counts.
    pub const INDIRECT: u32 = 1;
}

/// The fixed part of `UNWIND_INFO`; its codes follow.
#[doc(alias = "UNWIND_INFO")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct UnwindInfo {
    /// Version in the low three bits, [flags](unwind_flag) above.
    pub version_and_flags: u8,
    /// Bytes of the prolog.
    pub prolog_size: u8,
    /// Number of 16-bit codes. A handler or chained entry follows behind an even number of them.
    pub codes: u8,
    /// Number of the frame register (0: none) in the low four bits, its offset in units of 16 bytes above.
    pub frame: u8,
}

/// Flags of [`UnwindInfo`], and which handlers an unwinder is asked for.
pub mod unwind_flag {
    /// `UNW_FLAG_EHANDLER`: a handler to ask when an exception is searched for.
    pub const EXCEPTION_HANDLER: u8 = 1;
    /// `UNW_FLAG_UHANDLER`: a handler to call when the frame is unwound.
    pub const TERMINATION_HANDLER: u8 = 2;
    /// `UNW_FLAG_CHAININFO`: a [`RuntimeFunction`](super::RuntimeFunction) follows, which goes on.
    pub const CHAINED: u8 = 4;
}

open_enum! {
    /// What an unwind code undoes: the low four bits of its second byte.
    #[doc(alias = "UNWIND_OP_CODES")]
    pub enum UnwindOperation : u8 {
        /// `UWOP_PUSH_NONVOL`
        PUSH_REGISTER = 0,
        /// `UWOP_ALLOC_LARGE`
        ALLOCATE_LARGE = 1,
        /// `UWOP_ALLOC_SMALL`
        ALLOCATE_SMALL = 2,
        /// `UWOP_SET_FPREG`
        SET_FRAME_REGISTER = 3,
        /// `UWOP_SAVE_NONVOL`
        SAVE_REGISTER = 4,
        /// `UWOP_SAVE_NONVOL_FAR`
        SAVE_REGISTER_FAR = 5,
        /// `UWOP_EPILOG`, from version 2 on
        EPILOG = 6,
        /// `UWOP_SAVE_XMM128`
        SAVE_VECTOR = 8,
        /// `UWOP_SAVE_XMM128_FAR`
        SAVE_VECTOR_FAR = 9,
        /// `UWOP_PUSH_MACHFRAME`
        PUSH_MACHINE_FRAME = 10,
    }
}

/// `DISPATCHER_CONTEXT` for x64: what a language handler learns about its frame.
#[doc(alias = "DISPATCHER_CONTEXT")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct DispatcherContext {
    /// Where execution is in the frame.
    pub control_pc: u64,
    /// Base of the image that it lies in.
    pub image_base: u64,
    /// Address of its [`RuntimeFunction`].
    pub function_entry: u64,
    /// The frame.
    pub establisher_frame: u64,
    /// Where unwinding goes on.
    pub target_ip: u64,
    /// Registers of the frame.
    pub context: *mut Context,
    /// The handler that is being called.
    pub language_handler: u64,
    /// What follows the handler's offset in the unwind information.
    pub handler_data: u64,
    /// A look-up cache; not used here.
    pub history_table: u64,
    /// Where in its scope table `__C_specific_handler` goes on.
    pub scope_index: u32,
    /// Unused.
    pub fill: u32,
}

/// An entry of the table that `__C_specific_handler` reads: a `__try` block.
#[doc(alias = "SCOPE_TABLE")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ScopeRecord {
    /// Offset of the first instruction.
    pub begin: u32,
    /// Offset behind the last one.
    pub end: u32,
    /// Offset of the filter, or 1 for "always"; of the `__finally` block where `target` is 0.
    pub handler: u32,
    /// Offset of the `__except` block, or 0.
    pub target: u32,
}

/// `KNONVOLATILE_CONTEXT_POINTERS`: where the registers of an unwound frame were saved, null if they were not.
#[doc(alias = "KNONVOLATILE_CONTEXT_POINTERS")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NonvolatilePointers {
    /// xmm0 to xmm15.
    pub vector: [u64; 16],
    /// rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
    pub integer: [u64; 16],
}

const _: () = assert!(size_of::<RuntimeFunction>() == 12 && size_of::<UnwindInfo>() == 4);
const _: () = assert!(size_of::<DispatcherContext>() == 0x50 && offset_of!(DispatcherContext, scope_index) == 0x48);
const _: () = assert!(size_of::<ScopeRecord>() == 16 && size_of::<NonvolatilePointers>() == 0x100);
