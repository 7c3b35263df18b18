//! Routines that drivers register to be told of processes, threads, images (K-177) and processors.
//!
//! No process is ever created in a run; images are told by whoever loads them ([`image_loaded`]), threads by the
//! dispatcher ([`thread_changed`]); the processors are all there from the beginning, and stay.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use host_lock::{Mutex, MutexGuard};
use nt_abi::{NtStatus, UnicodeString};
use nt_dispatcher::exports::number_of_processors;
use nt_dispatcher::process::SYSTEM_ID;
use nt_dispatcher::thread::{self, Change};

use crate::tracing;

gate::exports! {
    /// Notifications.
    pub static TABLE in "ntoskrnl.exe";
    "PsSetCreateProcessNotifyRoutine" = ps_set_create_process_notify_routine(routine: u64, remove: u8) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PsSetCreateProcessNotifyRoutineEx" = ps_set_create_process_notify_routine_ex(routine: u64, remove: u8) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PsSetCreateProcessNotifyRoutineEx2" = ps_set_create_process_notify_routine_ex2(kind: u32, routine: u64, remove: u8) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PsSetCreateThreadNotifyRoutine" = ps_set_create_thread_notify_routine(routine: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PsRemoveCreateThreadNotifyRoutine" = ps_remove_create_thread_notify_routine(routine: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PsSetLoadImageNotifyRoutine" = ps_set_load_image_notify_routine(routine: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "PsRemoveLoadImageNotifyRoutine" = ps_remove_load_image_notify_routine(routine: u64) -> NtStatus, irql <= PASSIVE, rules "K-177";
    "KeRegisterProcessorChangeCallback" = ke_register_processor_change_callback(routine: u64, context: u64, flags: u32) -> u64, irql <= APC, rules "K-007";
    "KeDeregisterProcessorChangeCallback" = ke_deregister_processor_change_callback(registration: u64), irql <= APC, rules "K-007";
}

/// What a routine is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Processes, by the first kind of routine.
    Process,
    /// Processes, by the second kind.
    ProcessEx,
    /// Processes, by the third kind, which is told of those of subsystems, too.
    ProcessEx2,
    /// Threads.
    Thread,
    /// Images.
    Image,
    /// Processors. What stands for the routine is the registration that the driver was given.
    Processor,
}

/// A registered routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration {
    /// What it is told of.
    pub subject: Subject,
    /// Its address.
    pub routine: u64,
    /// The driver instruction that registered it.
    pub caller: u64,
}

/// Most routines of one kind.
const ROUTINES_MAX: usize = 64;

static ROUTINES: Mutex<Vec<Registration>> = Mutex::new(Vec::new());

fn routines() -> MutexGuard<'static, Vec<Registration>> {
    ROUTINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits the routines that are still registered.
pub fn for_each_registered(visit: impl FnMut(Registration)) {
    // A copy: the visitor may look at anything.
    let all = routines().clone();
    all.into_iter().for_each(visit);
}

fn add(subject: Subject, routine: u64) -> NtStatus {
    let caller = gate::caller();
    let mut routines = routines();
    let same = routines.iter().filter(|other| other.subject == subject);
    let is_full = same.clone().count() >= ROUTINES_MAX;
    // NT lets thread and image routines be registered more than once.
    let unique = matches!(subject, Subject::Process | Subject::ProcessEx | Subject::ProcessEx2);
    if is_full || (unique && same.clone().any(|other| other.routine == routine)) {
        return NtStatus::INVALID_PARAMETER;
    }
    routines.push(Registration { subject, routine, caller });
    NtStatus::SUCCESS
}

fn remove(subject: Subject, routine: u64) -> NtStatus {
    let mut routines = routines();
    match routines.iter().position(|other| other.subject == subject && other.routine == routine) {
        Some(place) => {
            routines.remove(place);
            NtStatus::SUCCESS
        }
        None => NtStatus::PROCEDURE_NOT_FOUND,
    }
}

fn set(subject: Subject, routine: u64, remove_it: u8) -> NtStatus {
    if remove_it == 0 {
        return add(subject, routine);
    }
    match remove(subject, routine) {
        NtStatus::SUCCESS => NtStatus::SUCCESS,
        _ => NtStatus::INVALID_PARAMETER,
    }
}

unsafe extern "win64" fn ps_set_create_process_notify_routine(routine: u64, remove_it: u8) -> NtStatus {
    set(Subject::Process, routine, remove_it)
}

unsafe extern "win64" fn ps_set_create_process_notify_routine_ex(routine: u64, remove_it: u8) -> NtStatus {
    set(Subject::ProcessEx, routine, remove_it)
}

unsafe extern "win64" fn ps_set_create_process_notify_routine_ex2(kind: u32, routine: u64, remove_it: u8) -> NtStatus {
    /// `PsCreateProcessNotifySubsystems`, the only kind.
    const SUBSYSTEMS: u32 = 0;
    if kind == SUBSYSTEMS { set(Subject::ProcessEx2, routine, remove_it) } else { NtStatus::INVALID_PARAMETER }
}

unsafe extern "win64" fn ps_set_create_thread_notify_routine(routine: u64) -> NtStatus {
    add(Subject::Thread, routine)
}

unsafe extern "win64" fn ps_remove_create_thread_notify_routine(routine: u64) -> NtStatus {
    remove(Subject::Thread, routine)
}

unsafe extern "win64" fn ps_set_load_image_notify_routine(routine: u64) -> NtStatus {
    add(Subject::Image, routine)
}

unsafe extern "win64" fn ps_remove_load_image_notify_routine(routine: u64) -> NtStatus {
    remove(Subject::Image, routine)
}

/// `KE_PROCESSOR_CHANGE_NOTIFY_CONTEXT`.
#[repr(C)]
struct ProcessorChange {
    state: u32,
    number: u32,
    status: NtStatus,
    group: u16,
    number_in_group: u8,
    _reserved: u8,
}

/// `KE_PROCESSOR_CHANGE_NOTIFY_STATE`
mod change {
    pub const ADD_START: u32 = 0;
    pub const ADD_COMPLETE: u32 = 1;
    pub const ADD_FAILURE: u32 = 2;
}

/// Tells one routine of one processor and gives what it makes of it.
fn tell_processor(routine: u64, context: u64, state: u32, number: u32) -> NtStatus {
    let mut status = NtStatus::SUCCESS;
    let change = ProcessorChange { state, number, status, group: 0, number_in_group: number as u8, _reserved: 0 };
    // SAFETY: the driver registers the routine for these arguments; they outlive the call.
    unsafe { gate::call::call3(routine, context, &raw const change as u64, &raw mut status as u64) };
    // An exception that passes the routine is a refusal, too.
    if gate::seh::is_leaving() { NtStatus::UNSUCCESSFUL } else { status }
}

/// Gives a registration, or 0 if the routine refused a processor that is there: it is told that those it had heard of
/// are not added after all.
unsafe extern "win64" fn ke_register_processor_change_callback(routine: u64, context: u64, flags: u32) -> u64 {
    /// `KE_PROCESSOR_CHANGE_ADD_EXISTING`
    const ADD_EXISTING: u32 = 1;
    static LAST: AtomicU64 = AtomicU64::new(0);
    let caller = gate::caller();
    for number in (0..number_of_processors()).filter(|_| flags & ADD_EXISTING != 0) {
        if tell_processor(routine, context, change::ADD_START, number).is_error() {
            for told in (0..=number).take_while(|_| !gate::seh::is_leaving()) {
                tell_processor(routine, context, change::ADD_FAILURE, told);
            }
            return 0;
        }
        tell_processor(routine, context, change::ADD_COMPLETE, number);
        if gate::seh::is_leaving() {
            // An exception has passed the routine: the driver is not asked again.
            return 0;
        }
    }
    // A number that nobody mistakes for an address that can be touched.
    let registration = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    routines().push(Registration { subject: Subject::Processor, routine: registration, caller });
    registration
}

unsafe extern "win64" fn ke_deregister_processor_change_callback(registration: u64) {
    remove(Subject::Processor, registration);
}

/// The routines that are told of a subject, in the order they were registered. A copy: one may remove itself.
fn told_of(subject: Subject) -> Vec<u64> {
    routines().iter().filter(|one| one.subject == subject).map(|one| one.routine).collect()
}

/// Tells the registered routines of a driver's thread: of its creation in the thread that creates it, of its end in
/// itself.
///
/// IRQL: PASSIVE_LEVEL.
pub fn thread_changed(thread: u64, change: Change) {
    let (id, created) = (thread::id(thread), u64::from(change == Change::Created));
    for routine in told_of(Subject::Thread) {
        // SAFETY: the driver registered the routine for these arguments.
        gate::call::apart(|| unsafe { gate::call::call3(routine, SYSTEM_ID, id, created) });
    }
    if change == Change::Ended {
        // Behind the routines, which may trace.
        tracing::forget_thread(id);
    }
}

/// `IMAGE_INFO`.
#[repr(C)]
struct ImageInfo {
    properties: u32,
    _pad: u32,
    base: u64,
    selector: u32,
    _pad2: u32,
    size: u64,
    section: u32,
    _pad3: u32,
}

const _: () = assert!(size_of::<ImageInfo>() == 0x28);

/// Tells the registered routines that a driver image was mapped, before its entry point runs.
///
/// IRQL: PASSIVE_LEVEL.
pub fn image_loaded(name: &str, base: u64, size: u64) {
    /// `SystemModeImage`, and the version of the addressing mode.
    const SYSTEM_MODE: u32 = 1 << 8 | 3;
    let mut units: Vec<u16> = name.encode_utf16().collect();
    let length = (units.len() * 2) as u16;
    let full_name = UnicodeString { length, maximum_length: length, _pad: 0, buffer: units.as_mut_ptr() };
    let info = ImageInfo { properties: SYSTEM_MODE, _pad: 0, base, selector: 0, _pad2: 0, size, section: 0, _pad3: 0 };
    for routine in told_of(Subject::Image) {
        // SAFETY: the driver registered the routine for these arguments; they outlive the call. Process 0 is the kernel.
        unsafe { gate::call::call3(routine, &raw const full_name as u64, 0, &raw const info as u64) };
    }
}

#[cfg(test)]
mod tests {
    use proves::proves;

    use super::*;
    use crate::testing::{kernel_thread, service};

    #[test]
    fn process_routine_is_registered_once_and_removed_once() {
        kernel_thread();
        let set = |remove| service("PsSetCreateProcessNotifyRoutine").call(&[0x1234, remove]);
        assert_eq!(set(0), NtStatus::SUCCESS);
        assert_eq!(set(0), NtStatus::INVALID_PARAMETER);
        let mut found = false;
        for_each_registered(|one| found |= one.routine == 0x1234 && one.subject == Subject::Process);
        assert!(found);
        assert_eq!(set(1), NtStatus::SUCCESS);
        assert_eq!(set(1), NtStatus::INVALID_PARAMETER);
        assert_eq!(service("PsRemoveCreateThreadNotifyRoutine").call(&[0x99]), NtStatus::PROCEDURE_NOT_FOUND);
    }

    #[test]
    fn image_routine_is_told_base_and_name() {
        static BASE: AtomicU64 = AtomicU64::new(0);
        unsafe extern "win64" fn told(name: *const UnicodeString, process: u64, info: *const ImageInfo) {
            // SAFETY: called with a name and information.
            unsafe {
                assert_eq!(((*name).length, process, (*info).size), (10, 0, 0x3000));
                BASE.store((*info).base, Ordering::Relaxed);
            }
        }
        kernel_thread();
        let routine = told as *const () as u64;
        assert_eq!(service("PsSetLoadImageNotifyRoutine").call(&[routine]), NtStatus::SUCCESS);
        image_loaded("a.sys", 0x7000, 0x3000);
        assert_eq!(BASE.load(Ordering::Relaxed), 0x7000);
        assert_eq!(service("PsRemoveLoadImageNotifyRoutine").call(&[routine]), NtStatus::SUCCESS);
    }

    #[test]
    #[proves("K-177")]
    fn thread_routine_is_told_of_creation_and_end_until_it_is_removed() {
        static TOLD: Mutex<Vec<(u64, u64, u8)>> = Mutex::new(Vec::new());
        unsafe extern "win64" fn told(process: u64, thread: u64, created: u8) {
            TOLD.lock().expect("no panic").push((process, thread, created));
        }
        kernel_thread();
        let (body, id) = (gate::thread::current_thread_object(), service("PsGetCurrentThreadId").call_word(&[]));
        let routine = told as *const () as u64;
        assert_eq!(service("PsSetCreateThreadNotifyRoutine").call(&[routine]), NtStatus::SUCCESS);
        thread_changed(body, Change::Created);
        thread_changed(body, Change::Ended);
        assert_eq!(service("PsRemoveCreateThreadNotifyRoutine").call(&[routine]), NtStatus::SUCCESS);
        thread_changed(body, Change::Created);
        assert_eq!(*TOLD.lock().expect("no panic"), [(4, id, 1), (4, id, 0)]);
    }

    #[test]
    fn processor_routine_is_told_of_those_that_are_there_and_may_refuse_one() {
        /// Processors that were begun, completed, and taken back; the context is the one to refuse.
        static TOLD: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
        unsafe extern "win64" fn told(refused: u64, change: *const ProcessorChange, status: *mut NtStatus) {
            // SAFETY: called with a change and a place for a status.
            unsafe {
                let ProcessorChange { state, number, .. } = *change;
                TOLD[state as usize].fetch_add(1, Ordering::Relaxed);
                if state == change::ADD_START && u64::from(number) == refused {
                    *status = NtStatus::INSUFFICIENT_RESOURCES;
                }
            }
        }
        kernel_thread();
        let register = |refused: u64, flags: u64| {
            let arguments = [told as *const () as u64, refused, flags];
            let registration = service("KeRegisterProcessorChangeCallback").call_word(&arguments);
            (registration != 0, [0, 1, 2].map(|state: usize| TOLD[state].swap(0, Ordering::Relaxed)), registration)
        };
        let all = u64::from(number_of_processors());
        let (is_registered, counts, registration) = register(u64::MAX, 1);
        assert_eq!((is_registered, counts), (true, [all, all, 0]));
        let is_known = || {
            let mut found = false;
            for_each_registered(|one| found |= one.subject == Subject::Processor && one.routine == registration);
            found
        };
        assert!(is_known());
        service("KeDeregisterProcessorChangeCallback").call_word(&[registration]);
        assert!(!is_known());
        let (is_registered, counts, _) = register(1, 1);
        assert_eq!((is_registered, counts), (false, [2, 1, 2]));
        let (is_registered, counts, registration) = register(1, 0);
        assert_eq!((is_registered, counts), (true, [0, 0, 0]), "none comes later");
        service("KeDeregisterProcessorChangeCallback").call_word(&[registration]);
    }
}
