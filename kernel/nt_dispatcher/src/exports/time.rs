//! Clocks, timers and deferred procedure calls.

use nt_abi::dispatcher::{DispatcherType, Dpc, Timer};
use nt_abi::{ListEntry, NtStatus};

use super::timeout_of;
use crate::event::signal_state;
use crate::thread::PROCESSORS;
use crate::{clock, dpc, timer, wait};
use std::sync::atomic::Ordering;

gate::exports! {
    /// Time and what happens at its call.
    pub static TABLE in "ntoskrnl.exe";
    "KeDelayExecutionThread" = ke_delay_execution_thread(mode: u8, alertable: u8, interval: *const i64) -> NtStatus, irql <= APC, rules "K-135 K-151";
    "KeQueryTimeIncrement" = ke_query_time_increment() -> u32, rules "K-009";
    "KeQueryInterruptTime" | "KeQueryUnbiasedInterruptTime" = ke_query_interrupt_time() -> u64, rules "K-009";
    "KeQueryInterruptTimePrecise" = ke_query_interrupt_time_precise(counter: *mut u64) -> u64, rules "K-009";
    "KeQuerySystemTime" | "KeQuerySystemTimePrecise" = ke_query_system_time(time: *mut u64), rules "K-009";
    "KeQueryTickCount" = ke_query_tick_count(ticks: *mut u64), rules "K-009";
    "KeQueryPerformanceCounter" = ke_query_performance_counter(frequency: *mut u64) -> u64, rules "K-203";
    "KeStallExecutionProcessor" = ke_stall_execution_processor(microseconds: u32), rules "K-203";
    data "KeTickCount" = tick_count_cell, rules "K-009";
    "KeQueryActiveProcessors" = ke_query_active_processors() -> u64, rules "K-007";
    "KeQueryActiveProcessorCount" = ke_query_active_processor_count(active: *mut u64) -> u32, rules "K-007";
    "KeQueryActiveProcessorCountEx" | "KeQueryMaximumProcessorCountEx" = ke_query_processor_count_ex(group: u16) -> u32, rules "K-007";
    "KeQueryMaximumProcessorCount" = ke_query_maximum_processor_count() -> u32, rules "K-007";
    "KeGetCurrentProcessorNumberEx" = ke_get_current_processor_number_ex(number: *mut ProcessorNumber) -> u32, rules "K-007";
    "KeGetProcessorNumberFromIndex" = ke_get_processor_number_from_index(index: u32, number: *mut ProcessorNumber) -> NtStatus, rules "K-007";
    "KeGetProcessorIndexFromNumber" = ke_get_processor_index_from_number(number: *const ProcessorNumber) -> u32, rules "K-007";
    "KeInitializeTimer" = ke_initialize_timer(timer: *mut Timer), rules "K-128 K-148 K-150";
    "KeInitializeTimerEx" = ke_initialize_timer_ex(timer: *mut Timer, kind: u32), rules "K-128 K-148 K-150";
    "KeSetTimer" = ke_set_timer(timer: *mut Timer, due: i64, dpc: *mut Dpc) -> u8, irql <= DISPATCH, rules "K-128";
    "KeSetTimerEx" = ke_set_timer_ex(timer: *mut Timer, due: i64, period: u32, dpc: *mut Dpc) -> u8, irql <= DISPATCH, rules "K-128 K-130";
    "KeSetCoalescableTimer" = ke_set_coalescable_timer(timer: *mut Timer, due: i64, period: u32, tolerance: u32, dpc: *mut Dpc) -> u8, irql <= DISPATCH, rules "K-128 K-130";
    "KeCancelTimer" = ke_cancel_timer(timer: u64) -> u8, irql <= DISPATCH, rules "K-129";
    "KeReadStateTimer" = ke_read_state_timer(timer: u64) -> u8, rules "K-128";
    "KeInitializeDpc" = ke_initialize_dpc(dpc: *mut Dpc, routine: u64, context: u64), rules "K-133 K-150";
    "KeInitializeThreadedDpc" = ke_initialize_threaded_dpc(dpc: *mut Dpc, routine: u64, context: u64), rules "K-133 K-150";
    "KeInsertQueueDpc" = ke_insert_queue_dpc(dpc: u64, argument1: u64, argument2: u64) -> u8, rules "K-131 K-133";
    "KeRemoveQueueDpc" = ke_remove_queue_dpc(dpc: u64) -> u8, rules "K-132";
    "KeSetImportanceDpc" = ke_set_importance_dpc(dpc: *mut Dpc, importance: u32), rules "K-131";
    "KeSetTargetProcessorDpc" = ke_set_target_processor_dpc(dpc: *mut Dpc, number: u8), rules "K-131";
    "KeSetTargetProcessorDpcEx" = ke_set_target_processor_dpc_ex(dpc: *mut Dpc, number: *const ProcessorNumber) -> NtStatus, rules "K-131";
    "KeFlushQueuedDpcs" = ke_flush_queued_dpcs(), irql <= PASSIVE, rules "K-131";
}

/// `PROCESSOR_NUMBER`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct ProcessorNumber {
    group: u16,
    number: u8,
    _reserved: u8,
}

/// Writes through an optional out pointer.
///
/// # Safety
/// `to` is null or a driver's place for a value.
unsafe fn give<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: the caller's promise.
        unsafe { to.write_unaligned(value) };
    }
}

unsafe extern "win64" fn ke_delay_execution_thread(_mode: u8, alertable: u8, interval: *const i64) -> NtStatus {
    // SAFETY: see the module above.
    unsafe { timeout_of(interval) }
        .map_or(NtStatus::SUCCESS, |interval| wait::delay_alertable(interval, alertable != 0))
}

unsafe extern "win64" fn ke_query_time_increment() -> u32 {
    clock::TICK_100NS as u32
}

unsafe extern "win64" fn ke_query_interrupt_time() -> u64 {
    clock::read_100ns()
}

unsafe extern "win64" fn ke_query_interrupt_time_precise(counter: *mut u64) -> u64 {
    let now = clock::read_100ns();
    // SAFETY: see the module above.
    unsafe { give(counter, now) };
    now
}

unsafe extern "win64" fn ke_query_system_time(time: *mut u64) {
    clock::read_100ns();
    // SAFETY: see the module above.
    unsafe { give(time, clock::system_time_100ns()) };
}

unsafe extern "win64" fn ke_query_tick_count(ticks: *mut u64) {
    // SAFETY: see the module above.
    unsafe { give(ticks, clock::read_100ns() / clock::TICK_100NS) };
}

/// The counter runs with interrupt time, at the 10 MHz that Windows has settled on.
unsafe extern "win64" fn ke_query_performance_counter(frequency: *mut u64) -> u64 {
    // SAFETY: see the module above.
    unsafe { give(frequency, 10_000_000) };
    clock::read_100ns()
}

unsafe extern "win64" fn ke_stall_execution_processor(microseconds: u32) {
    clock::stall(u64::from(microseconds) * 10);
}

fn tick_count_cell() -> u64 {
    gate::shared_page::tick_count_cell()
}

unsafe extern "win64" fn ke_query_active_processors() -> u64 {
    u64::MAX >> (64 - PROCESSORS)
}

unsafe extern "win64" fn ke_query_active_processor_count(active: *mut u64) -> u32 {
    // SAFETY: see the module above.
    unsafe { give(active, u64::MAX >> (64 - PROCESSORS)) };
    PROCESSORS
}

/// There is one group, 0. 0xFFFF means all groups.
unsafe extern "win64" fn ke_query_processor_count_ex(group: u16) -> u32 {
    if matches!(group, 0 | u16::MAX) { PROCESSORS } else { 0 }
}

unsafe extern "win64" fn ke_query_maximum_processor_count() -> u32 {
    PROCESSORS
}

unsafe extern "win64" fn ke_get_current_processor_number_ex(number: *mut ProcessorNumber) -> u32 {
    // SAFETY: the calling thread's block.
    let current = unsafe { (*gate::current()).processor };
    // SAFETY: see the module above.
    unsafe { give(number, ProcessorNumber { group: 0, number: current as u8, _reserved: 0 }) };
    current.into()
}

unsafe extern "win64" fn ke_get_processor_number_from_index(index: u32, number: *mut ProcessorNumber) -> NtStatus {
    if index >= PROCESSORS {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: see the module above.
    unsafe { give(number, ProcessorNumber { group: 0, number: index as u8, _reserved: 0 }) };
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ke_get_processor_index_from_number(number: *const ProcessorNumber) -> u32 {
    // SAFETY: see the module above.
    let number = unsafe { number.read_unaligned() };
    let is_one = number.group == 0 && u32::from(number.number) < PROCESSORS;
    if is_one { number.number.into() } else { u32::MAX }
}

unsafe extern "win64" fn ke_initialize_timer(timer: *mut Timer) {
    // SAFETY: see the module above.
    unsafe { timer::initialize(timer, DispatcherType::NOTIFICATION_TIMER, gate::caller()) };
}

unsafe extern "win64" fn ke_initialize_timer_ex(timer: *mut Timer, kind: u32) {
    let kind = match kind {
        0 => DispatcherType::NOTIFICATION_TIMER,
        _ => DispatcherType::SYNCHRONIZATION_TIMER,
    };
    // SAFETY: see the module above.
    unsafe { timer::initialize(timer, kind, gate::caller()) };
}

unsafe extern "win64" fn ke_set_timer(timer: *mut Timer, due: i64, dpc: *mut Dpc) -> u8 {
    // SAFETY: see the module above.
    unsafe { timer::set(timer, due, 0, dpc, gate::caller()) }.into()
}

unsafe extern "win64" fn ke_set_timer_ex(timer: *mut Timer, due: i64, period: u32, dpc: *mut Dpc) -> u8 {
    // SAFETY: see the module above.
    unsafe { timer::set(timer, due, period, dpc, gate::caller()) }.into()
}

/// The tolerance allows a timer to be late, which this clock makes no use of.
unsafe extern "win64" fn ke_set_coalescable_timer(
    timer: *mut Timer,
    due: i64,
    period: u32,
    _tolerance: u32,
    dpc: *mut Dpc,
) -> u8 {
    // SAFETY: see the module above.
    unsafe { timer::set(timer, due, period, dpc, gate::caller()) }.into()
}

unsafe extern "win64" fn ke_cancel_timer(timer: u64) -> u8 {
    timer::cancel(timer).into()
}

unsafe extern "win64" fn ke_read_state_timer(timer: u64) -> u8 {
    // SAFETY: see the module above.
    (unsafe { signal_state(timer) }.load(Ordering::Acquire) > 0).into()
}

unsafe extern "win64" fn ke_initialize_dpc(dpc: *mut Dpc, routine: u64, context: u64) {
    // SAFETY: see the module above.
    unsafe { initialize_dpc(dpc, dpc::KIND, routine, context) };
}

unsafe extern "win64" fn ke_initialize_threaded_dpc(dpc: *mut Dpc, routine: u64, context: u64) {
    // SAFETY: see the module above.
    unsafe { initialize_dpc(dpc, dpc::KIND_THREADED, routine, context) };
}

/// # Safety
/// `dpc` is a driver's place for a KDPC.
unsafe fn initialize_dpc(dpc: *mut Dpc, kind: u8, routine: u64, context: u64) {
    dpc::expect_not_queued(dpc as u64, gate::caller());
    let link = ListEntry { flink: std::ptr::null_mut(), blink: std::ptr::null_mut() };
    let made = Dpc {
        kind,
        importance: dpc::MEDIUM_IMPORTANCE,
        number: 0,
        _pad: 0,
        dpc_list_entry: link,
        deferred_routine: routine,
        deferred_context: context,
        system_argument1: 0,
        system_argument2: 0,
        dpc_data: 0,
    };
    // SAFETY: the caller's promise.
    unsafe { dpc.write(made) };
}

unsafe extern "win64" fn ke_insert_queue_dpc(dpc: u64, argument1: u64, argument2: u64) -> u8 {
    dpc::insert(dpc, argument1, argument2, gate::caller()).into()
}

unsafe extern "win64" fn ke_remove_queue_dpc(dpc: u64) -> u8 {
    dpc::remove(dpc).into()
}

unsafe extern "win64" fn ke_set_importance_dpc(dpc: *mut Dpc, importance: u32) {
    // SAFETY: see the module above.
    unsafe { (*dpc).importance = importance as u8 };
}

/// The number is kept, but a DPC runs where it was queued: every thread here has a processor of its own, and none
/// of them can be interrupted for another's sake.
unsafe extern "win64" fn ke_set_target_processor_dpc(dpc: *mut Dpc, number: u8) {
    // SAFETY: see the module above.
    unsafe { (*dpc).number = number.into() };
}

unsafe extern "win64" fn ke_set_target_processor_dpc_ex(dpc: *mut Dpc, number: *const ProcessorNumber) -> NtStatus {
    // SAFETY: see the module above.
    let number = unsafe { number.read_unaligned() };
    if number.group != 0 || u32::from(number.number) >= PROCESSORS {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: see the module above.
    unsafe { (*dpc).number = number.number.into() };
    NtStatus::SUCCESS
}

unsafe extern "win64" fn ke_flush_queued_dpcs() {
    dpc::flush();
}
