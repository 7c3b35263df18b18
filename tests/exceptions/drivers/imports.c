/* Exceptions that imports raise, and exceptions that pass through the host. */
#include "kernel.h"

#define CAUGHT(...) \
    u64 result = UNHANDLED; \
    __try { __VA_ARGS__; } __except (EXECUTE_HANDLER) { result = CODE; } \
    return result

TEST u64 raise_status(u64 status) { CAUGHT(ExRaiseStatus((u32)status); result = 1); }
TEST u64 raise_access_violation(u64 unused) { CAUGHT(ExRaiseAccessViolation()); }
TEST u64 raise_misalignment(u64 unused) { CAUGHT(ExRaiseDatatypeMisalignment()); }
TEST u64 unhandled_status(u64 status) { ExRaiseStatus((u32)status); return 1; }

TEST u64 probe_for_read(u64 address) { CAUGHT(ProbeForRead((void *)address, 16, 4); result = 0); }
TEST u64 probe_for_write(u64 address) { CAUGHT(ProbeForWrite((void *)address, 16, 4); result = 0); }
TEST u64 probe_of_nothing(u64 address) { CAUGHT(ProbeForRead((void *)address, 0, 4); ProbeForWrite((void *)address, 0, 4); result = 0); }

/* A semaphore at 1 of 3 is released by `adjustment`: what that raises, or the counts before and after. */
TEST u64 release_semaphore(u64 adjustment) {
    static KSEMAPHORE semaphore;
    i32 old = -1;
    u64 raised = 0;
    KeInitializeSemaphore(&semaphore, 1, 3);
    __try { old = KeReleaseSemaphore(&semaphore, 0, (i32)adjustment, 0); } __except (EXECUTE_HANDLER) { raised = CODE; }
    HostNote((u64)(i64)old);
    HostNote((u64)KeReadStateSemaphore(&semaphore));
    return raised;
}

/* A copy by the host from or to nowhere. */
APART int which_address(EXCEPTION_POINTERS *pointers, u64 *address) {
    *address = pointers->record->information[1] | pointers->record->information[0] << 32;
    return EXECUTE_HANDLER;
}

TEST u64 fault_in_an_import(u64 is_write) {
    u8 bytes[64];
    u64 address = UNHANDLED;
    __try {
        if (is_write) HostCopy((void *)NOWHERE, bytes, 64);
        else HostCopy(bytes, (void *)NOWHERE, 64);
    } __except (which_address(POINTERS, &address)) { return address; }
    return UNHANDLED;
}

TEST u64 fault_in_an_import_at_dispatch_level(u64 unused) {
    u8 bytes[64];
    HostSetIrql(2);
    CAUGHT(HostCopy(bytes, (void *)NOWHERE, 64));
}

TEST u64 fault_of_a_system_address_in_an_import(u64 address) {
    u8 bytes[64];
    CAUGHT(HostCopy(bytes, (void *)address, 64));
}

/* A raised exception shows where it was raised, and takes its parameters along. */
static EXCEPTION_RECORD own;

APART int compare(EXCEPTION_POINTERS *pointers) {
    EXCEPTION_RECORD *record = pointers->record;
    int is_same = record->code == own.code && record->parameters == 2 && record->information[1] == 0x22;
    int is_here = (u64)record->address == pointers->context->rip;
    HostNote((u64)is_same * 10 + (u64)is_here);
    return record->flags & 1 ? EXECUTE_HANDLER : CONTINUE_EXECUTION;
}

TEST u64 raise_record(u64 flags) {
    u64 result = 1;
    own.code = (i32)0xE0001234;
    own.flags = (u32)flags;
    own.parameters = 2;
    own.information[0] = 0x11;
    own.information[1] = 0x22;
    __try { RtlRaiseException(&own); result = 2; } __except (compare(POINTERS)) { result = CODE; }
    return result;
}


/* To continue what cannot be continued is an exception of its own. */
TEST u64 continued_against_the_rules(u64 unused) {
    u64 result = UNHANDLED;
    __try {
        __try { ExRaiseStatus(NO_MEMORY); } __except (CODE == NO_MEMORY ? CONTINUE_EXECUTION : CONTINUE_SEARCH) { result = 1; }
    } __except (EXECUTE_HANDLER) { result = CODE; }
    return result;
}

/* Callbacks. */
static u64 fault(u64 address) {
    u64 result;
    __try { result = *(volatile u32 *)address; } __finally { HostNote(1); }
    return result;
}

static u64 raise(u64 status) { ExRaiseStatus((u32)status); return 1; }
static u64 catch_inside(u64 address) { CAUGHT(result = *(volatile u32 *)address); }

TEST u64 fault_passes_the_host(u64 address) {
    u64 result = UNHANDLED;
    __try { result = HostCall(fault, address); HostNote(99); } __except (HostNote(0), EXECUTE_HANDLER) { HostNote(3); result = CODE; }
    return result;
}

TEST u64 raised_status_passes_the_host(u64 status) { CAUGHT(result = HostCall(raise, status)); }

TEST u64 fault_is_caught_in_the_callback(u64 address) {
    u64 result = HostCall(catch_inside, address);
    HostNote(5);
    return result;
}

static u64 call_again(u64 address) {
    u64 result = UNHANDLED;
    __try { result = HostCall(fault, address); } __finally { HostNote(10 + (u64)_abnormal_termination()); }
    return result;
}

static u64 call_twice_again(u64 address) { return HostCall(call_again, address) + 1; }

TEST u64 fault_passes_the_host_three_times(u64 address) { CAUGHT(result = HostCall(call_twice_again, address)); }

/* Filters of the outer frame repair what happened in the callback, and the callback goes on. */
static volatile u32 good = 0x600D;
APART u32 read_word(volatile u32 *word) { return *word; }
static u64 read_nowhere(u64 unused) { return read_word(nowhere()) + 1; }

APART int repair(EXCEPTION_POINTERS *pointers) {
    u64 *registers = &pointers->context->rax;
    for (int number = 0; number < 16; number++)
        if (registers[number] == (u64)NOWHERE) registers[number] = (u64)&good;
    return CONTINUE_EXECUTION;
}

TEST u64 callback_goes_on_after_repair_outside(u64 unused) {
    u64 result = UNHANDLED;
    __try { result = HostCall(read_nowhere, 0); } __except (repair(POINTERS)) { result = 1; }
    return result;
}


/* A filter asks the host to call back, and the callback faults: nested, and caught around the filter's call. */
APART int calling_filter(void) {
    int wants = CONTINUE_SEARCH;
    __try { wants = (int)HostCall(fault, (u64)NOWHERE); } __except (EXECUTE_HANDLER) { HostNote(2); wants = EXECUTE_HANDLER; }
    return wants;
}

TEST u64 filter_calls_the_host(u64 address) {
    u64 result = UNHANDLED;
    __try { result = *(volatile u32 *)address; } __except (calling_filter()) { result = CODE; }
    return result;
}

/* The callback's __finally raises while the first exception passes. */
static u64 finally_raises(u64 address) {
    u64 result = 0;
    __try { result = *(volatile u32 *)address; } __finally { HostNote(1); ExRaiseStatus(NO_MEMORY); }
    return result;
}

TEST u64 second_exception_passes_the_host(u64 address) {
    u64 result = UNHANDLED;
    __try {
        __try { result = HostCall(finally_raises, address); } __except (CODE == NO_MEMORY) { result = CODE; }
    } __except (EXECUTE_HANDLER) { result = 98; }
    return result;
}

TEST u64 not_on_my_behalf(u64 address) { CAUGHT(result = HostCallApart(fault, address)); }
TEST u64 callback_is_nothing(u64 address) { CAUGHT(result = HostCall((ROUTINE *)address, 0)); }

/* Preserved registers of the outer frame, integer and vector, come back right by way of the host. */
TEST u64 registers_survive_the_host(u64 address) {
    u64 total = 0;
    double sum = 0.5;
    for (u64 turn = 1; turn <= 4; turn++) {
        double d = (double)turn * 0.25;
        __try { total += HostCall(call_again, address); } __except (EXECUTE_HANDLER) { total += turn * 111; }
        sum += d;
    }
    return total * 100 + (u64)(sum * 10);
}

TEST u64 many_raises(u64 count) {
    u64 caught = 0;
    for (u64 turn = 0; turn < count; turn++) caught += raise_status(NO_MEMORY) == NO_MEMORY;
    return caught;
}

TEST u64 many_raises_pass_the_host(u64 count) {
    u64 caught = 0;
    for (u64 turn = 0; turn < count; turn++) caught += raised_status_passes_the_host(NO_MEMORY) == NO_MEMORY;
    return caught;
}

/* Exceptions that pass a routine which the host calls in turn: its answer is none, and it is not called again. */
static u64 nodes[8][8], nodes_used, is_raising, calls;

APART u32 compare_elements(RTL_AVL_TABLE *table, u64 *a, u64 *b) {
    calls++;
    if (is_raising) ExRaiseStatus(NO_MEMORY);
    return *a < *b ? LESS : *a > *b ? GREATER : EQUAL;
}
APART void *allocate_node(RTL_AVL_TABLE *table, u32 bytes) {
    if (is_raising) ExRaiseStatus(NO_MEMORY);
    return nodes[nodes_used++];
}
APART void free_node(RTL_AVL_TABLE *table, void *node) { HostNote((u64)node); }

/* `step`: which call meets the exception. Gives how many elements are left, ten times, and whether it was caught. */
TEST u64 table_routine_raises(u64 step) {
    RTL_AVL_TABLE table;
    u64 caught = 0;
    nodes_used = is_raising = 0;
    RtlInitializeGenericTableAvl(&table, compare_elements, allocate_node, free_node, 0);
    for (u64 element = step == 3 ? 3 : 1; element <= 3; element++) RtlInsertElementGenericTableAvl(&table, &element, 8, 0);
    if (step == 3) {
        u64 only = 3;
        RtlDeleteElementGenericTableAvl(&table, &only);
    }
    is_raising = 1;
    __try {
        u64 element = 3;
        if (step == 0) RtlDeleteElementGenericTableAvl(&table, &element);
        if (step == 1) RtlLookupElementGenericTableAvl(&table, &element);
        if (step == 2 || step == 3) RtlInsertElementGenericTableAvl(&table, &element, 8, 0);
    } __except (CODE == NO_MEMORY) { caught = 1; }
    return RtlNumberGenericTableElementsAvl(&table) * 10 + caught;
}

APART int compare_words(const void *a, const void *b) {
    if (++calls == 3) ExRaiseStatus(NO_MEMORY);
    return *(const i32 *)a - *(const i32 *)b;
}

TEST u64 sort_routine_raises(u64 is_search) {
    i32 words[32], key = 99;
    u64 caught = 0;
    for (i32 place = 0; place < 32; place++) words[place] = is_search ? place : 32 - place;
    calls = 0;
    __try {
        if (is_search) bsearch(&key, words, 32, sizeof(i32), compare_words);
        else qsort(words, 32, sizeof(i32), compare_words);
    } __except (CODE == NO_MEMORY) { caught = 1; }
    return calls * 10 + caught;
}

APART u32 run_once(u64 *once, void *parameter, void **context) {
    if (++calls == 1) ExRaiseStatus(NO_MEMORY);
    return 1;
}

TEST u64 once_routine_raises(u64 unused) {
    u64 once = 0, caught = 0;
    calls = 0;
    __try { RtlRunOnceExecuteOnce(&once, run_once, 0, 0); } __except (CODE == NO_MEMORY) { caught = 1; }
    RtlRunOnceExecuteOnce(&once, run_once, 0, 0);
    return calls * 10 + caught;
}

/* Where no block is: the frames between are those that the report must list. */
APART u64 third(u64 address) { return *(volatile u32 *)address + HostNote(0); }
APART u64 second(u64 address) { return third(address) + 1; }
TEST u64 callback_of_first(u64 address) { return second(address) + 1; }
TEST u64 first(u64 address) { return HostCall(callback_of_first, address) + 1; }

/* While the host lets go, it calls the driver again, which has an exception of its own and handles it. */
TEST u64 let_go(u64 address) { return catch_inside(address); }

/* Host functions that read without a guard: one that holds nothing, one that holds a lock, one whose call into a routine is open. */
TEST u64 host_reads(u64 address) {
    u64 total = 0;
    double sum = 0.5;
    for (u64 turn = 1; turn <= 4; turn++) {
        double d = (double)turn * 0.25;
        __try { total += HostPeek((volatile u32 *)address); } __except (CODE == ACCESS_VIOLATION && POINTERS->record->information[1] == address) { total += turn * 111; }
        sum += d;
    }
    return total * 100 + (u64)(sum * 10);
}
/* And one that goes on as if the routine had returned, whose exception passes it, and reads at null: the first one counts. */
TEST u64 host_reads_while_leaving(u64 address) {
    u64 total = 0;
    double sum = 0.5;
    for (u64 turn = 1; turn <= 4; turn++) {
        double d = (double)turn * 0.25;
        __try { total += HostCallThenPeek(call_again, address); } __except (CODE == ACCESS_VIOLATION && POINTERS->record->information[1] == address) { total += turn * 111; }
        sum += d;
    }
    return total * 100 + (u64)(sum * 10);
}
TEST u64 host_reads_holding(u64 address) { CAUGHT(result = HostPeekHolding((volatile u32 *)address)); }
TEST u64 host_reads_inside(u64 address) { CAUGHT(result = HostPeekInside((volatile u32 *)address)); }
