//! Routines that drivers register to be told of what is done to the registry, before and after, and that may forbid it or do
//! it themselves (`CmRegisterCallback`).
//!
//! They are told of the services that drivers call with keys' handles (`Zw...`), not of what the run-time library does
//! (`RtlQueryRegistryValues` and its like). Left out: contexts of keys (`CmSetCallbackObjectContext`), which are null.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gate::memory::{self, put, touch};
use host_lock::{Mutex, MutexGuard};
use nt_abi::dispatcher::DispatcherType;
use nt_abi::{KernelEvent, NtStatus, UnicodeString};
use nt_dispatcher::{event, wait};

use super::lock;
use crate::pool;
use crate::raise::{Failure, finish};
use crate::rtl::{Altitude, altitude};

gate::exports! {
    /// Registry callbacks.
    pub static TABLE in "ntoskrnl.exe";
    "CmRegisterCallback" = cm_register_callback(routine: u64, context: u64, cookie: *mut u64) -> NtStatus, irql <= APC, rules "K-177";
    "CmRegisterCallbackEx" = cm_register_callback_ex(routine: u64, altitude: u64, driver: u64, context: u64, cookie: *mut u64, reserved: u64) -> NtStatus, irql <= APC, rules "K-177";
    "CmUnRegisterCallback" = cm_unregister_callback(cookie: u64) -> NtStatus, irql <= APC, rules "K-177";
    "CmCallbackGetKeyObjectID" = cm_callback_get_key_object_id(cookie: u64, object: u64, id: *mut u64, name: *mut u64) -> NtStatus, irql <= APC, rules "K-177";
    "CmCallbackGetKeyObjectIDEx" = cm_callback_get_key_object_id_ex(cookie: u64, object: u64, id: *mut u64, name: *mut u64, flags: u32) -> NtStatus, irql <= APC, rules "K-177";
    "CmCallbackReleaseKeyObjectIDEx" = cm_callback_release_key_object_id_ex(name: u64), irql <= APC, rules "K-177";
    "CmGetCallbackVersion" = cm_get_callback_version(major: *mut u32, minor: *mut u32), irql <= APC, rules "K-177";
}

#[derive(Clone)]
struct Registration {
    cookie: u64,
    /// Who stands higher is told first of what is about to happen, and last of what has happened.
    altitude: Altitude,
    routine: u64,
    context: u64,
    caller: u64,
    /// Calls of the routine that have not returned, and operations that will call it yet.
    running: u32,
    /// The event of whoever unregisters it and waits for those; 0 as long as it is registered.
    waiter: u64,
}

/// From the highest to the lowest.
static REGISTERED: Mutex<Vec<Registration>> = Mutex::new(Vec::new());
/// How many, for those who only want to know whether there is any.
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn registered() -> MutexGuard<'static, Vec<Registration>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Visits the callbacks that are registered: cookie, routine, and the driver instruction that registered it.
pub fn for_each_registered(mut visit: impl FnMut(u64, u64, u64)) {
    let all: Vec<_> = registered().iter().map(|one| (one.cookie, one.routine, one.caller)).collect();
    all.into_iter().for_each(|(cookie, routine, caller)| visit(cookie, routine, caller));
}

fn register(routine: u64, altitude: Altitude, context: u64, cookie: *mut u64) -> NtStatus {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let caller = gate::caller();
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    // SAFETY: the driver's pointer; a bad one faults and is blamed on it.
    unsafe { put(cookie, number) };
    let mut all = registered();
    // The altitude of those that name none is nobody's.
    if altitude != Altitude::default() && all.iter().any(|one| one.altitude == altitude) {
        return NtStatus::FLT_INSTANCE_ALTITUDE_COLLISION;
    }
    let place = all.partition_point(|one| one.altitude >= altitude);
    let made = Registration { cookie: number, altitude, routine, context, caller, running: 0, waiter: 0 };
    all.insert(place, made);
    COUNT.store(all.len(), Ordering::Release);
    NtStatus::SUCCESS
}

/// Below all that name an altitude.
unsafe extern "win64" fn cm_register_callback(routine: u64, context: u64, cookie: *mut u64) -> NtStatus {
    register(routine, Altitude::default(), context, cookie)
}

unsafe extern "win64" fn cm_register_callback_ex(
    routine: u64,
    at: u64,
    _driver: u64,
    context: u64,
    cookie: *mut u64,
    _reserved: u64,
) -> NtStatus {
    let read = || Ok(altitude(&memory::read_unicode(at)?));
    match read() {
        Ok(altitude) => register(routine, altitude, context, cookie),
        Err(fault) => finish(Err(Failure::Fault(fault))),
    }
}

/// Returns when no call of the routine is under way any more.
unsafe extern "win64" fn cm_unregister_callback(cookie: u64) -> NtStatus {
    unregister(cookie)
}

/// Takes a callback back and waits until no call of its routine is under way any more.
pub fn unregister(cookie: u64) -> NtStatus {
    // SAFETY: zeros are initialised on the next line.
    let mut idle: KernelEvent = unsafe { std::mem::zeroed() };
    // SAFETY: an event of our own; it is waited for before this frame ends if anybody learns of it.
    unsafe { event::initialize(&mut idle, DispatcherType::NOTIFICATION_EVENT, false) };
    let mut all = registered();
    let Some(place) = all.iter().position(|one| one.cookie == cookie && one.waiter == 0) else {
        return NtStatus::INVALID_PARAMETER;
    };
    if all[place].running == 0 {
        remove(&mut all, place);
        return NtStatus::SUCCESS;
    }
    all[place].waiter = &raw mut idle as u64;
    drop(all);
    // SAFETY: an initialised event.
    unsafe { wait::wait_single(&raw mut idle as u64, None) };
    NtStatus::SUCCESS
}

fn remove(all: &mut Vec<Registration>, place: usize) {
    all.remove(place);
    COUNT.store(all.len(), Ordering::Release);
}

unsafe extern "win64" fn cm_get_callback_version(major: *mut u32, minor: *mut u32) {
    // Since Windows 8.
    const VERSION: (u32, u32) = (1, 1);
    for (place, number) in [(major, VERSION.0), (minor, VERSION.1)] {
        if !place.is_null() {
            // SAFETY: the driver's pointer; a bad one faults and is blamed on it.
            unsafe { put(place, number) };
        }
    }
}

/// A key's number and full name, for a routine that was told of its object.
fn identity(cookie: u64, object: u64) -> Result<(u64, Vec<u16>), Failure> {
    let cookie: u64 = memory::read_value(cookie)?;
    if !registered().iter().any(|one| one.cookie == cookie) {
        return Err(NtStatus::INVALID_PARAMETER.into());
    }
    let registry = lock();
    let &key = registry.open.get(&object).ok_or(NtStatus::INVALID_PARAMETER)?;
    Ok((key.number(), registry.tree.path(key)))
}

/// A counted string and its text in one block of pool; `caller` is the driver instruction that has to give it back, or 0.
fn string_in_pool(text: &[u16], caller: u64) -> Result<u64, NtStatus> {
    const TAG: pool::Tag = u32::from_le_bytes(*b"CMnm");
    const STRING_BYTES: usize = size_of::<UnicodeString>();
    let bytes = (text.len() * 2) as u16;
    let made = pool::allocate((STRING_BYTES + text.len() * 2) as u64, TAG, pool::Kind::NonPaged, caller);
    let made = made.ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
    let buffer = (made as usize + STRING_BYTES) as *mut u16;
    // SAFETY: a new block with room for both.
    unsafe {
        buffer.copy_from_nonoverlapping(text.as_ptr(), text.len());
        (made as *mut UnicodeString).write(UnicodeString { length: bytes, maximum_length: bytes, _pad: 0, buffer });
    }
    Ok(made)
}

/// Both may be bad pointers: found out before there is a name to give.
fn touch_both(id: *mut u64, name: *mut u64) {
    for place in [id, name] {
        if !place.is_null() {
            // SAFETY: the driver's pointer; a bad one faults and is blamed on it.
            unsafe { touch(place) };
        }
    }
}

/// Gives what a routine asks for of both; either place may be null.
fn give(id: *mut u64, number: u64, name: *mut u64, string: u64) {
    for (place, value) in [(id, number), (name, string)] {
        if !place.is_null() {
            // SAFETY: the driver's pointer; a bad one faults and is blamed on it.
            unsafe { put(place, value) };
        }
    }
}

/// The name is good for as long as the object is.
unsafe extern "win64" fn cm_callback_get_key_object_id(
    cookie: u64,
    object: u64,
    id: *mut u64,
    name: *mut u64,
) -> NtStatus {
    let find = || {
        touch_both(id, name);
        let (number, text) = identity(cookie, object)?;
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        let string = match names.get(&object) {
            Some(&string) => string,
            None => string_in_pool(&text, 0)?,
        };
        names.insert(object, string);
        drop(names);
        give(id, number, name, string);
        Ok(NtStatus::SUCCESS)
    };
    finish(find())
}

/// Names that were given out for the lives of key objects.
static NAMES: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());

/// A key object is gone, and its name with it.
pub(super) fn forget_name(object: u64) {
    let name = NAMES.lock().unwrap_or_else(PoisonError::into_inner).remove(&object);
    if let Some(name) = name {
        pool::free(name, None, 0);
    }
}

/// The name is the routine's until it gives it back.
unsafe extern "win64" fn cm_callback_get_key_object_id_ex(
    cookie: u64,
    object: u64,
    id: *mut u64,
    name: *mut u64,
    flags: u32,
) -> NtStatus {
    let find = || {
        if flags != 0 {
            return Err(NtStatus::INVALID_PARAMETER.into());
        }
        touch_both(id, name);
        let (number, text) = identity(cookie, object)?;
        let string = if name.is_null() { 0 } else { string_in_pool(&text, gate::caller())? };
        give(id, number, name, string);
        Ok(NtStatus::SUCCESS)
    };
    finish(find())
}

unsafe extern "win64" fn cm_callback_release_key_object_id_ex(name: u64) {
    pool::free(name, None, gate::caller());
}

/// `REG_NOTIFY_CLASS` of an operation: before and after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classes(u32, u32);

impl Classes {
    pub const DELETE_KEY: Self = Self(0, 15);
    pub const SET_VALUE: Self = Self(1, 16);
    pub const DELETE_VALUE: Self = Self(2, 17);
    pub const ENUMERATE_KEY: Self = Self(5, 20);
    pub const ENUMERATE_VALUE: Self = Self(6, 21);
    pub const QUERY_KEY: Self = Self(7, 22);
    pub const QUERY_VALUE: Self = Self(8, 23);
    pub const CLOSE: Self = Self(14, 25);
    pub const CREATE: Self = Self(26, 27);
    pub const OPEN: Self = Self(28, 29);
    pub const FLUSH: Self = Self(30, 31);
}

/// Most words of a `REG_xxx_INFORMATION`.
const WORDS_MAX: usize = 14;
/// The field of `REG_CREATE_KEY_INFORMATION` that says where the opened key object's address goes.
const RESULT_OBJECT: usize = 9;

/// What routines are told of an operation.
#[derive(Debug)]
pub(super) struct Notice {
    classes: Classes,
    /// A `REG_xxx_INFORMATION`.
    words: [u64; WORDS_MAX],
    /// Where in it a routine leaves what it wants to be given back afterwards.
    call_context: usize,
}

impl Notice {
    /// `fields` are those in front of the context, the object's being the first but for creating and opening.
    pub fn new(classes: Classes, fields: &[u64]) -> Self {
        let mut words = [0; WORDS_MAX];
        words[..fields.len()].copy_from_slice(fields);
        Self { classes, words, call_context: fields.len() }
    }

    fn object(&self) -> u64 {
        if self.call_context > RESULT_OBJECT {
            // SAFETY: a word of the frame that opens the key.
            unsafe { *(self.words[RESULT_OBJECT] as *const u64) }
        } else {
            self.words[0]
        }
    }
}

/// `REG_POST_OPERATION_INFORMATION`
#[repr(C)]
struct PostOperation {
    object: u64,
    status: NtStatus,
    _pad: u32,
    before: u64,
    return_status: NtStatus,
    _pad2: u32,
    call_context: u64,
    object_context: u64,
    _reserved: u64,
}

const _: () = assert!(size_of::<PostOperation>() == 0x38);

/// Whether anybody is to be told.
pub(super) fn is_any() -> bool {
    COUNT.load(Ordering::Acquire) != 0
}

/// Does an operation and tells the registered routines before and after it. One that fails the notice before stops it:
/// the operation is not done, and only those that let it pass are told of its end. `STATUS_CALLBACK_BYPASS` stops it, too,
/// and is a success, or, given afterwards, replaces its status.
pub(super) fn around(
    mut notice: Notice,
    operation: impl FnOnce() -> Result<NtStatus, Failure>,
) -> Result<NtStatus, Failure> {
    let all = begin();
    let (mut told, mut stopped) = (Vec::new(), None);
    for one in &all {
        notice.words[notice.call_context] = 0;
        let words = notice.words.as_mut_ptr() as u64;
        // SAFETY: the driver registered the routine for these arguments; they outlive the call.
        let answer = unsafe { gate::call::call3(one.routine, one.context, notice.classes.0.into(), words) };
        let answer = if gate::seh::is_leaving() { NtStatus::UNSUCCESSFUL } else { NtStatus(answer as u32) };
        if !answer.is_success() {
            stopped = Some(if answer == NtStatus::CALLBACK_BYPASS { NtStatus::SUCCESS } else { answer });
            break;
        }
        told.push((one, notice.words[notice.call_context]));
    }
    let mut outcome = match stopped {
        Some(status) => Ok(status),
        None => operation(),
    };
    for (one, call_context) in told.into_iter().rev().take_while(|_| !gate::seh::is_leaving()) {
        let status = match outcome {
            Ok(status) | Err(Failure::Status(status)) => status,
            Err(Failure::Fault(_)) => NtStatus::ACCESS_VIOLATION,
        };
        let mut after = PostOperation {
            object: notice.object(),
            status,
            _pad: 0,
            before: notice.words.as_ptr() as u64,
            return_status: status,
            _pad2: 0,
            call_context,
            object_context: 0,
            _reserved: 0,
        };
        let after_at = &raw mut after as u64;
        // SAFETY: as above.
        let answer = unsafe { gate::call::call3(one.routine, one.context, notice.classes.1.into(), after_at) };
        if NtStatus(answer as u32) == NtStatus::CALLBACK_BYPASS {
            outcome = Ok(after.return_status);
        }
    }
    end(&all);
    outcome
}

/// Who is to be told of an operation: they count as running until [`end`].
fn begin() -> Vec<Registration> {
    let mut all = registered();
    let standing = all.iter_mut().filter(|one| one.waiter == 0);
    standing
        .map(|one| {
            one.running += 1;
            one.clone()
        })
        .collect()
}

fn end(told: &[Registration]) {
    let mut waiters = Vec::new();
    let mut all = registered();
    for cookie in told.iter().map(|one| one.cookie) {
        let Some(place) = all.iter().position(|one| one.cookie == cookie) else { continue };
        all[place].running -= 1;
        if all[place].running == 0 && all[place].waiter != 0 {
            waiters.push(all[place].waiter);
            remove(&mut all, place);
        }
    }
    drop(all);
    for waiter in waiters {
        // SAFETY: the event of a thread that waits for it.
        unsafe { event::set(waiter as *mut KernelEvent) };
    }
}
