//! Callback objects (`ExCreateCallback`): a name that some drivers register routines with and others notify.
//!
//! The system's own are there from the beginning and are never notified: no clock is set here and no power fails.

use std::collections::BTreeMap;
use std::sync::{Once, PoisonError};

use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::object::attributes;
use nt_abi::{KernelEvent, NtStatus, ObjectAttributes};
use nt_dispatcher::{event, wait};
use nt_object::ObjectType;

use gate::memory::{self, Fault};

use crate::raise::{Failure, finish};

gate::exports! {
    /// Callback objects.
    pub static TABLE in "ntoskrnl.exe";
    "ExCreateCallback" = ex_create_callback(callback: u64, attributes: u64, create: u8, multiple: u8) -> NtStatus, irql <= PASSIVE, rules "K-158 K-177";
    "ExRegisterCallback" = ex_register_callback(callback: u64, routine: u64, context: u64) -> u64, irql <= APC, rules "K-177";
    "ExUnregisterCallback" = ex_unregister_callback(registration: u64), irql <= APC, rules "K-177";
    "ExNotifyCallback" = ex_notify_callback(callback: u64, argument1: u64, argument2: u64), irql <= DISPATCH, rules "K-177";
}

static CALLBACK: ObjectType = ObjectType::simple("Callback", delete);

/// Bytes of an object; drivers read nothing of it.
const BODY_BYTES: u64 = 0x40;

/// Objects that every system has, in `\Callback`.
const SYSTEMS: [&str; 4] = ["PowerState", "SetSystemTime", "ProcessorAdd", "SeImageVerificationDriverInfo"];

#[derive(Debug)]
struct Registration {
    number: u64,
    /// Referenced as long as this is there.
    callback: u64,
    routine: u64,
    context: u64,
    caller: u64,
    /// The threads whose calls of the routine have not returned.
    running: Vec<u64>,
    /// Who unregistered it, if somebody did: it is called no more, and gone when the last call has returned.
    over: Option<Unregistering>,
}

/// Who unregisters a routine waits for its calls, but not for those that it is in itself.
#[derive(Clone, Copy, Debug)]
struct Unregistering {
    thread: u64,
    /// What it waits for, 0 if it does not.
    event: u64,
}

#[derive(Default)]
struct Callbacks {
    /// Whether more than one routine may be registered, by object.
    multiple: BTreeMap<u64, bool>,
    /// In the order in which they are called.
    registered: Vec<Registration>,
    last_number: u64,
}

static CALLBACKS: Mutex<Callbacks> =
    Mutex::new(Callbacks { multiple: BTreeMap::new(), registered: Vec::new(), last_number: 0 });

fn callbacks() -> MutexGuard<'static, Callbacks> {
    CALLBACKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits the routines that are registered, with the driver instruction that registered each.
pub fn for_each_registered(mut visit: impl FnMut(u64, u64)) {
    let all: Vec<_> = callbacks().registered.iter().map(|one| (one.routine, one.caller)).collect();
    all.into_iter().for_each(|(routine, caller)| visit(routine, caller));
}

/// The last reference is gone. Registrations hold one each, so there are none.
fn delete(body: u64) {
    callbacks().multiple.remove(&body);
    if let Some(name) = nt_object::name_of(body) {
        let _ = nt_object::remove(&name);
    }
}

fn create(name: Option<&[u16]>, multiple: bool) -> Result<u64, NtStatus> {
    let body = nt_object::create(&CALLBACK, BODY_BYTES, gate::caller()).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    // Before others can find it.
    callbacks().multiple.insert(body, multiple);
    if let Some(name) = name
        && let Err(status) = nt_object::insert_object(name, body)
    {
        nt_object::dereference(body);
        return Err(status);
    }
    Ok(body)
}

/// The object of a name, made if there is none and it may be. Between a search and an insertion another thread may make the
/// object, or be about to take the name of one away whose last reference is gone; both end by themselves.
///
/// Tells whether it was made now.
fn find_or_create(name: &[u16], may_create: bool, multiple: bool) -> Result<(u64, bool), NtStatus> {
    loop {
        match find(name) {
            Err(NtStatus::OBJECT_NAME_NOT_FOUND) if may_create => match create(Some(name), multiple) {
                Err(NtStatus::OBJECT_NAME_COLLISION) => std::thread::yield_now(),
                made => return made.map(|body| (body, true)),
            },
            found => return found.map(|body| (body, false)),
        }
    }
}

fn make_systems() {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        for name in SYSTEMS {
            let name: Vec<u16> = format!(r"\Callback\{name}").encode_utf16().collect();
            // The reference is the system's, for as long as the run lasts.
            let _ = create(Some(&name), true);
        }
    });
}

/// The callback object of a name, referenced.
fn find(name: &[u16]) -> Result<u64, NtStatus> {
    let found = nt_object::lookup(name)?;
    if !found.rest.is_empty() || !nt_object::try_reference(found.body) {
        return Err(NtStatus::OBJECT_NAME_NOT_FOUND);
    }
    if nt_object::type_of(found.body).is_some_and(|kind| std::ptr::eq(kind, &CALLBACK)) {
        return Ok(found.body);
    }
    nt_object::dereference(found.body);
    Err(NtStatus::OBJECT_TYPE_MISMATCH)
}

/// The name and the flags of object attributes, either of which may be missing.
fn name_and_flags(address: u64) -> Result<(Option<Vec<u16>>, u32), Fault> {
    const NAME: u64 = std::mem::offset_of!(ObjectAttributes, object_name) as u64;
    const FLAGS: u64 = std::mem::offset_of!(ObjectAttributes, attributes) as u64;
    if address == 0 {
        return Ok((None, 0));
    }
    let name: u64 = memory::read_value(address + NAME)?;
    let name = if name == 0 { None } else { Some(memory::read_unicode(name)?) };
    Ok((name.filter(|name| !name.is_empty()), memory::read_value(address + FLAGS)?))
}

/// An object that is there is opened whether or not it might be made; a permanent one outlives its references.
fn open(callback: u64, attributes: u64, may_create: bool, multiple: bool) -> Result<NtStatus, Failure> {
    make_systems();
    let (name, flags) = name_and_flags(attributes)?;
    let (body, is_new) = match name.as_deref() {
        Some(name) => find_or_create(name, may_create, multiple)?,
        None if may_create => (create(None, multiple)?, true),
        // Without a name there is nothing to open.
        None => return Ok(NtStatus::UNSUCCESSFUL),
    };
    if is_new && flags & attributes::PERMANENT != 0 {
        nt_object::reference(body);
    }
    if let Err(fault) = memory::write_value(callback, body) {
        nt_object::dereference(body);
        return Err(fault.into());
    }
    Ok(NtStatus::SUCCESS)
}

unsafe extern "win64" fn ex_create_callback(callback: u64, attributes: u64, create: u8, multiple: u8) -> NtStatus {
    finish(open(callback, attributes, create != 0, multiple != 0))
}

/// Whether it is a callback object; what is none is a finding. The caller holds a reference.
fn is_callback(object: u64) -> bool {
    let is_one = nt_object::type_of(object).is_some_and(|kind| std::ptr::eq(kind, &CALLBACK));
    if !is_one {
        gate::finding("K-177", format_args!("{object:#x} is no callback object."), gate::caller());
    }
    is_one
}

/// NULL if the object takes one routine and has it, or is no callback object.
unsafe extern "win64" fn ex_register_callback(callback: u64, routine: u64, context: u64) -> u64 {
    let caller = gate::caller();
    nt_object::reference(callback);
    if !is_callback(callback) {
        nt_object::dereference(callback);
        return 0;
    }
    let mut callbacks = callbacks();
    let has_one = callbacks.registered.iter().any(|one| one.callback == callback && one.over.is_none());
    if has_one && !callbacks.multiple.get(&callback).copied().unwrap_or(false) {
        drop(callbacks);
        nt_object::dereference(callback);
        return 0;
    }
    callbacks.last_number += 1;
    let number = callbacks.last_number;
    let running = Vec::new();
    callbacks.registered.push(Registration { number, callback, routine, context, caller, running, over: None });
    number
}

/// Returns when no call of the routine is under way any more, but those that it is called from itself.
unsafe extern "win64" fn ex_unregister_callback(registration: u64) {
    let thread = gate::thread::current_thread_object();
    // SAFETY: zeros are initialised on the next line.
    let mut idle: KernelEvent = unsafe { std::mem::zeroed() };
    // SAFETY: an event of our own; it is waited for before this frame ends if anybody learns of it.
    unsafe { event::initialize(&mut idle, DispatcherType::NOTIFICATION_EVENT, false) };
    let mut all = callbacks();
    let Some(one) = all.registered.iter_mut().find(|one| one.number == registration && one.over.is_none()) else {
        drop(all);
        gate::finding("K-177", format_args!("{registration:#x} is no registration of a callback."), gate::caller());
        return;
    };
    let is_to_wait = one.running.iter().any(|&running| running != thread);
    let event = if is_to_wait { &raw mut idle as u64 } else { 0 };
    one.over = Some(Unregistering { thread, event });
    drop(all);
    if is_to_wait {
        // SAFETY: an initialised event.
        unsafe { wait::wait_single(event, None) };
    }
    remove_if_idle(registration);
}

/// Takes a registration away that is over and that no call is under way for.
fn remove_if_idle(number: u64) {
    let mut all = callbacks();
    let is_idle = |one: &Registration| one.number == number && one.over.is_some() && one.running.is_empty();
    let Some(place) = all.registered.iter().position(is_idle) else { return };
    let callback = all.registered.remove(place).callback;
    drop(all);
    nt_object::dereference(callback);
}

/// The number, routine and context of the first registration behind the one of a number, which counts as running from now on.
fn begin_next(callback: u64, behind: u64) -> Option<(u64, u64, u64)> {
    let mut all = callbacks();
    let is_next = |one: &&mut Registration| one.callback == callback && one.number > behind && one.over.is_none();
    let next = all.registered.iter_mut().find(is_next)?;
    next.running.push(gate::thread::current_thread_object());
    Some((next.number, next.routine, next.context))
}

fn end(number: u64) {
    let thread = gate::thread::current_thread_object();
    let mut all = callbacks();
    let Some(one) = all.registered.iter_mut().find(|one| one.number == number) else { return };
    if let Some(place) = one.running.iter().position(|&running| running == thread) {
        one.running.swap_remove(place);
    }
    let mut idle = 0;
    if let Some(over) = &mut one.over
        && one.running.iter().all(|&running| running == over.thread)
    {
        idle = std::mem::take(&mut over.event);
    }
    drop(all);
    if idle == 0 {
        remove_if_idle(number);
    } else {
        // SAFETY: the event of a thread that waits for it, and then takes the registration away.
        unsafe { event::set(idle as *mut KernelEvent) };
    }
}

/// In the order of their registration, at the caller's level; an exception that passes a routine keeps the rest from being
/// called. The object stays meanwhile, whatever the routines do.
unsafe extern "win64" fn ex_notify_callback(callback: u64, argument1: u64, argument2: u64) {
    nt_object::reference(callback);
    if is_callback(callback) {
        let mut behind = 0;
        while let Some((number, routine, context)) = begin_next(callback, behind) {
            // SAFETY: the driver asked for this routine to be called so.
            unsafe { gate::call::call3(routine, context, argument1, argument2) };
            end(number);
            if gate::seh::is_leaving() {
                break;
            }
            behind = number;
        }
    }
    nt_object::dereference(callback);
}
