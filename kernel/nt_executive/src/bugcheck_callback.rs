//! Routines that drivers want called when the system goes down with a bugcheck.
//!
//! They are called by the thread that ends the run, at HIGH_LEVEL, once the bugcheck is recorded
//! ([`gate::bugcheck::set_callbacks`]): first the plain ones, then those that add data to the dump, each kind in the
//! order of registration. There is no dump to add to, so what a routine gives is counted and told; and the reasons that
//! are about writing one (`KbCallbackDumpIo`, `KbCallbackAddPages` ...) never come up.
//!
//! Invariant: [`call_all`] may run in a signal handler that interrupted anything, so it waits for no lock, allocates
//! nothing, and looks at the driver's record with guards only.

use std::fmt;
use std::mem::offset_of;
use std::sync::PoisonError;

use gate::bugcheck::tell;
use gate::memory::{self, put};
use host_lock::{Mutex, MutexGuard};

gate::exports! {
    /// Bugcheck callbacks.
    pub static TABLE in "ntoskrnl.exe";
    "KeRegisterBugCheckCallback" = ke_register_bug_check_callback(record: u64, routine: u64, buffer: u64, length: u32, component: u64) -> u8, rules "K-177";
    "KeDeregisterBugCheckCallback" = ke_deregister_bug_check_callback(record: u64) -> u8, rules "K-177";
    "KeRegisterBugCheckReasonCallback" = ke_register_bug_check_reason_callback(record: u64, routine: u64, reason: u32, component: u64) -> u8, rules "K-177";
    "KeDeregisterBugCheckReasonCallback" = ke_deregister_bug_check_reason_callback(record: u64) -> u8, rules "K-177";
}

/// `KBUGCHECK_CALLBACK_RECORD` behind its list entry, which only NT would look at.
#[repr(C)]
struct PlainRecord {
    routine: u64,
    buffer: u64,
    length: u32,
    _pad: u32,
    component: u64,
    checksum: u64,
    state: u8,
}

/// `KBUGCHECK_REASON_CALLBACK_RECORD` behind its list entry.
#[repr(C)]
struct ReasonRecord {
    routine: u64,
    component: u64,
    checksum: u64,
    reason: u32,
    state: u8,
}

/// Bytes of a record's list entry.
const ENTRY: u64 = 0x10;

const _: () = assert!(size_of::<PlainRecord>() == 0x30 && offset_of!(PlainRecord, state) == 0x28);
const _: () = assert!(size_of::<ReasonRecord>() == 0x20 && offset_of!(ReasonRecord, state) == 0x1C);

/// `KBUGCHECK_BUFFER_DUMP_STATE`, the state of a record.
mod state {
    pub const EMPTY: u8 = 0;
    pub const INSERTED: u8 = 1;
    pub const STARTED: u8 = 2;
    pub const FINISHED: u8 = 3;
}

/// Of `KBUGCHECK_CALLBACK_REASON`.
mod reason {
    pub const SECONDARY_DUMP_DATA: u32 = 2;
    /// `KbCallbackTriageDumpData`
    pub const LAST: u32 = 7;
}

/// What a routine is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Plain { buffer: u64, length: u32 },
    Reason(u32),
}

impl Call {
    fn is_plain(self) -> bool {
        matches!(self, Self::Plain { .. })
    }
}

/// Where a record's state lies.
fn state_at(record: u64, is_plain: bool) -> u64 {
    let offset = if is_plain { offset_of!(PlainRecord, state) } else { offset_of!(ReasonRecord, state) };
    record + ENTRY + offset as u64
}

/// A registered record: what the driver's says, where that cannot be damaged.
#[derive(Clone, Copy)]
struct Registration {
    record: u64,
    routine: u64,
    call: Call,
    /// Address of a name that ends with a NUL.
    component: u64,
    /// The driver instruction that registered it.
    caller: u64,
}

impl Registration {
    fn checksum(&self) -> u64 {
        let rest = match self.call {
            Call::Plain { buffer, length } => buffer.wrapping_add(length.into()),
            Call::Reason(reason) => reason.into(),
        };
        self.routine.wrapping_add(self.component).wrapping_add(rest)
    }

    fn state_at(&self) -> u64 {
        state_at(self.record, self.call.is_plain())
    }

    /// Whether the driver's record is as it was left: NT calls nobody whose record was written over.
    fn is_intact(&self) -> bool {
        let offset =
            if self.call.is_plain() { offset_of!(PlainRecord, checksum) } else { offset_of!(ReasonRecord, checksum) };
        memory::read_value(self.state_at()) == Ok(state::INSERTED)
            && memory::read_value(self.record + ENTRY + offset as u64) == Ok(self.checksum())
    }
}

/// Most records.
const RECORDS_MAX: usize = 64;

/// The records, in the order of registration; free places lie at the end. An array, because it is copied where nothing
/// can be allocated.
type Records = [Option<Registration>; RECORDS_MAX];

static RECORDS: Mutex<Records> = Mutex::new([None; RECORDS_MAX]);

fn records() -> MutexGuard<'static, Records> {
    RECORDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits the routines that are still registered, each with the driver instruction that registered it.
pub fn for_each_registered(mut visit: impl FnMut(u64, u64)) {
    // A copy: the visitor may look at anything.
    let all = *records();
    all.iter().flatten().for_each(|one| visit(one.routine, one.caller));
}

/// Registers a record that is empty and not registered yet; whether it was.
///
/// # Safety
/// The record is the driver's to answer for.
unsafe fn register(new: Registration) -> bool {
    // SAFETY: the caller's promise.
    if unsafe { *(new.state_at() as *const u8) } != state::EMPTY {
        return false;
    }
    let mut all = records();
    if all.iter().flatten().any(|one| one.record == new.record) {
        return false;
    }
    let Some(place) = all.iter().position(Option::is_none) else { return false };
    all[place] = Some(new);
    drop(all);
    let Registration { record, routine, component, call, .. } = new;
    let (to, checksum, state) = (record + ENTRY, new.checksum(), state::INSERTED);
    // SAFETY: as above.
    unsafe {
        match call {
            Call::Plain { buffer, length } => {
                put(to as *mut _, PlainRecord { routine, buffer, length, _pad: 0, component, checksum, state });
            }
            Call::Reason(reason) => put(to as *mut _, ReasonRecord { routine, component, checksum, reason, state }),
        }
    }
    true
}

/// Whether there was such a registration; it is over then.
///
/// # Safety
/// As [`register`].
unsafe fn deregister(record: u64, is_plain: bool) -> bool {
    let mut all = records();
    let is_it =
        |one: &Option<Registration>| one.is_some_and(|one| one.record == record && one.call.is_plain() == is_plain);
    let Some(place) = all.iter().position(is_it) else { return false };
    all[place] = None;
    all[place..].rotate_left(1);
    drop(all);
    // SAFETY: the caller's promise.
    unsafe { put(state_at(record, is_plain) as *mut u8, state::EMPTY) };
    true
}

unsafe extern "win64" fn ke_register_bug_check_callback(
    record: u64,
    routine: u64,
    buffer: u64,
    length: u32,
    component: u64,
) -> u8 {
    let call = Call::Plain { buffer, length };
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same holds for
    // every export of this module.
    unsafe { register(Registration { record, routine, call, component, caller: gate::caller() }) }.into()
}

unsafe extern "win64" fn ke_register_bug_check_reason_callback(
    record: u64,
    routine: u64,
    reason: u32,
    component: u64,
) -> u8 {
    if !(reason::SECONDARY_DUMP_DATA..=reason::LAST).contains(&reason) {
        return 0;
    }
    let call = Call::Reason(reason);
    // SAFETY: see `ke_register_bug_check_callback`.
    unsafe { register(Registration { record, routine, call, component, caller: gate::caller() }) }.into()
}

unsafe extern "win64" fn ke_deregister_bug_check_callback(record: u64) -> u8 {
    // SAFETY: see `ke_register_bug_check_callback`.
    unsafe { deregister(record, true) }.into()
}

unsafe extern "win64" fn ke_deregister_bug_check_reason_callback(record: u64) -> u8 {
    // SAFETY: see `ke_register_bug_check_callback`.
    unsafe { deregister(record, false) }.into()
}

/// Calls the registered routines, because the run has ended in a bugcheck.
///
/// IRQL: HIGH_LEVEL. In any context, signal handlers included.
pub fn call_all() {
    // A copy: a routine may register and deregister. If it is locked, it may be half changed.
    let Ok(all) = RECORDS.try_lock().map(|records| *records) else { return };
    for is_plain in [true, false] {
        all.iter().flatten().filter(|one| one.call.is_plain() == is_plain).for_each(call);
    }
}

fn call(registration: &Registration) {
    let name = Name(registration);
    let is_wanted = matches!(registration.call, Call::Plain { .. } | Call::Reason(reason::SECONDARY_DUMP_DATA));
    if !is_wanted {
        return;
    }
    if !registration.is_intact() || memory::write_value(registration.state_at(), state::STARTED).is_err() {
        tell(format_args!("{name} is not called: its record is not as it was registered."));
        return;
    }
    tell(format_args!("{name} is called."));
    match registration.call {
        Call::Plain { buffer, length } => {
            // SAFETY: the driver registered the routine for these arguments.
            unsafe { gate::call::call2(registration.routine, buffer, length.into()) };
        }
        Call::Reason(reason) => {
            let given = add_dump_data(registration, reason);
            tell(format_args!("{name} gave {given} bytes for the dump."));
        }
    }
    // A routine that gave its own record away need not be told.
    let _ = memory::write_value(registration.state_at(), state::FINISHED);
}

/// `KBUGCHECK_SECONDARY_DUMP_DATA`.
#[repr(C)]
struct SecondaryDumpData {
    in_buffer: u64,
    in_length: u32,
    length_max: u32,
    identity: [u32; 4],
    out_buffer: u64,
    out_length: u32,
    _pad: u32,
}

const _: () = assert!(size_of::<SecondaryDumpData>() == 0x30);

/// Lets a routine add data to the dump; how many bytes it gives.
fn add_dump_data(registration: &Registration, reason: u32) -> u32 {
    const ROOM: usize = 4096;
    let mut room = [0u8; ROOM];
    let in_buffer = room.as_mut_ptr() as u64;
    let length = ROOM as u32;
    let mut data = SecondaryDumpData {
        in_buffer,
        in_length: length,
        length_max: length,
        identity: [0; 4],
        out_buffer: 0,
        out_length: 0,
        _pad: 0,
    };
    let arguments = [reason.into(), registration.record, &raw mut data as u64, size_of::<SecondaryDumpData>() as u64];
    // SAFETY: the driver registered the routine for these arguments; they outlive the call.
    unsafe {
        gate::call::driver(registration.routine, arguments);
        // The routine has written to it behind the compiler's back.
        let data = (&raw const data).read_volatile();
        if data.out_buffer == 0 { 0 } else { data.out_length }
    }
}

/// A callback in words: its component and where its routine lies.
struct Name<'a>(&'a Registration);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longest component that is told whole.
        const LETTERS_MAX: u64 = 32;
        f.write_str("The bugcheck callback of '")?;
        for place in 0..LETTERS_MAX {
            match memory::read_value::<u8>(self.0.component.wrapping_add(place)) {
                Ok(0) | Err(_) => break,
                Ok(letter) => write!(f, "{}", letter.escape_ascii())?,
            }
        }
        f.write_str("' at ")?;
        match gate::image::place(self.0.routine) {
            Some((image, offset)) => write!(f, "{}+{offset:#x}", image.name),
            None => write!(f, "{:#x}", self.0.routine),
        }
    }
}
