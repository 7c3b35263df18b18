/* __try, __except and __finally, with faults of the driver's own code. */
#include "kernel.h"

int _fltused;

APART u32 read_word(volatile u32 *word) { return *word; }

APART u32 read_deep(volatile u32 *word, u32 depth) {
    volatile u8 room[64];
    room[depth] = (u8)depth;
    return depth ? read_deep(word, depth - 1) + room[depth] : read_word(word);
}

TEST u64 caught_in_the_same_frame(u64 address) {
    volatile u32 *word = (volatile u32 *)address;
    u32 result = UNHANDLED;
    __try { result = *word; } __except (EXECUTE_HANDLER) { result = CODE; }
    return result;
}

static u64 seen[8];

APART int look(u32 code, EXCEPTION_POINTERS *pointers) {
    EXCEPTION_RECORD *record = pointers->record;
    seen[0] = (u32)record->code;
    seen[1] = record->flags;
    seen[2] = record->parameters;
    seen[3] = record->information[0];
    seen[4] = record->information[1];
    seen[5] = (u64)record->address - (u64)&read_word;
    seen[6] = pointers->context->rip - (u64)record->address;
    seen[7] = pointers->context->rcx;
    return code == ACCESS_VIOLATION;
}

/* What a filter saw of a fault in read_word, by index. */
TEST u64 seen_by_a_filter(u64 index) {
    u32 result = UNHANDLED;
    __try { result = read_word(nowhere()); } __except (look(CODE, POINTERS)) { result = 0; }
    return result == 0 ? seen[index] : UNHANDLED;
}

APART u32 with_finally(volatile u32 *word, u64 note) {
    u32 result = 0;
    __try { result = read_deep(word, 5); } __finally { HostNote(note + (u64)_abnormal_termination()); }
    return result;
}

/* Notes 11, then 21: from the inside out. */
TEST u64 finally_runs_from_the_inside_out(u64 address) {
    u32 result = UNHANDLED;
    __try {
        __try { result = with_finally((volatile u32 *)address, 10); } __finally { HostNote(20 + (u64)_abnormal_termination()); }
    } __except (HostNote(1), EXECUTE_HANDLER) { HostNote(2); result = CODE; }
    return result;
}

/* A fault that no filter here wants, in a __try that one outside wants. */
TEST u64 inner_filter_declines(u64 address) {
    u32 result = UNHANDLED;
    __try {
        __try { result = read_word((volatile u32 *)address); } __except (CODE == 1) { result = 1; }
    } __except (CODE == ACCESS_VIOLATION) { result = 2; }
    return result;
}

static u32 good = 0x600D;

APART int repair(EXCEPTION_POINTERS *pointers) {
    CONTEXT *context = pointers->context;
    u64 *registers = &context->rax;
    for (int number = 0; number < 16; number++)
        if (registers[number] == (u64)NOWHERE) registers[number] = (u64)&good;
    return CONTINUE_EXECUTION;
}

TEST u64 continued_after_repair(u64 unused) {
    u32 result = UNHANDLED;
    __try { result = read_word(nowhere()); } __except (repair(POINTERS)) { result = 1; }
    return result;
}

/* Arguments and locals in preserved registers, integer and vector, survive the exception in a callee that uses them too. */
APART u32 use_registers(volatile u32 *word, u32 a, u32 b, u32 c, double d) {
    u32 e = a * 3, f = b * 5, g = c * 7;
    double h = d * 2;
    u32 result = read_deep(word, 3);
    return result + a + b + c + e + f + g + (u32)(d + h);
}

TEST u64 registers_survive(u64 address) {
    u32 total = 0;
    double sum = 0.5;
    for (u32 turn = 1; turn <= 4; turn++) {
        u32 a = turn, b = turn * 10, c = turn * 100;
        double d = turn * 0.25;
        __try { total += use_registers((volatile u32 *)address, a, b, c, d); } __except (EXECUTE_HANDLER) { total += a + b + c; }
        sum += d;
    }
    return total * 100 + (u64)(sum * 10);
}

/* A frame with a frame register: alloca makes the stack pointer useless. */
APART u32 with_alloca(volatile u32 *word, u32 bytes) {
    volatile u8 *room = __builtin_alloca(bytes);
    u32 result = UNHANDLED;
    room[0] = 7;
    room[bytes - 1] = 9;
    __try { result = read_word(word); } __except (CODE == ACCESS_VIOLATION ? EXECUTE_HANDLER : CONTINUE_SEARCH) {
        result = 0x100u * room[0] + room[bytes - 1];
    }
    return result;
}

TEST u64 frame_register_is_followed(u64 bytes) { return with_alloca(NOWHERE, (u32)bytes); }

/* Large frames, which take far codes. */
TEST u64 large_frame_is_unwound(u64 address) {
    volatile u8 room[200000];
    u32 result = UNHANDLED;
    room[0] = 1;
    room[199999] = 2;
    __try { result = with_finally((volatile u32 *)address, 10); } __except (EXECUTE_HANDLER) { result = room[0] + room[199999]; }
    return result;
}

TEST u64 exception_in_the_handler_goes_outward(u64 address) {
    volatile u32 *word = (volatile u32 *)address;
    u32 result = UNHANDLED;
    __try {
        __try { result = *word; } __except (EXECUTE_HANDLER) { HostNote(1); result = read_word(word); }
    } __except (EXECUTE_HANDLER) { result = CODE ^ 9; }
    return result;
}

/* The inner __finally faults while it cleans up: the unwinding that ran it is given up, and it does not run twice. */
TEST u64 exception_in_finally_takes_over(u64 address) {
    volatile u32 *word = (volatile u32 *)address;
    u32 result = UNHANDLED;
    __try {
        __try {
            __try { result = read_word(word); } __finally { HostNote(1); result = read_word(word + 1); HostNote(99); }
        } __finally { HostNote(2); }
    } __except (EXECUTE_HANDLER) { HostNote(3); result = CODE; }
    return result;
}

/* The unwinding that is given up had its target inside; the new one goes further. */
TEST u64 collided_unwinding_goes_further_out(u64 address) {
    volatile u32 *word = (volatile u32 *)address;
    u32 result = UNHANDLED;
    __try {
        __try {
            __try { result = with_finally(word, 10); } __finally { HostNote(1); ExRaiseStatus(NO_MEMORY); }
        } __except (CODE == ACCESS_VIOLATION) { HostNote(98); result = 98; }
    } __except (CODE == NO_MEMORY) { HostNote(2); result = CODE; }
    return result;
}

APART u32 leave_early(u32 how) {
    for (u32 turn = 0; turn < 3; turn++) {
        __try {
            HostNote(turn);
            if (how == 1 && turn == 1) return 5;
            if (how == 2 && turn == 1) break;
            if (how == 3 && turn == 1) __leave;
            HostNote(50 + turn);
        } __finally { HostNote(100 + 10 * (u64)_abnormal_termination() + turn); }
    }
    return 6;
}

TEST u64 left_early(u64 how) { return leave_early((u32)how); }

static int faults_left;

APART int faulty_filter(u32 code) {
    HostNote(code == ACCESS_VIOLATION ? 1 : 7);
    if (faults_left > 0) {
        faults_left--;
        return (int)read_word(NOWHERE + 1);
    }
    return EXECUTE_HANDLER;
}

/* The filter faults: that is an exception of its own, which the same blocks are asked about. */
TEST u64 fault_in_a_filter_is_nested(u64 faults) {
    u32 result = UNHANDLED;
    faults_left = (int)faults;
    __try { result = read_word(NOWHERE); } __except (faulty_filter(CODE)) { result = 2; }
    return result;
}

APART int always_faulty(void) { return (int)read_word(NOWHERE + 1); }

TEST u64 filter_that_always_faults(u64 unused) {
    u32 result = UNHANDLED;
    __try { result = read_word(NOWHERE); } __except (always_faulty()) { result = 2; }
    return result;
}

APART int nested_flag(EXCEPTION_POINTERS *pointers) {
    HostNote(pointers->record->flags);
    return pointers->record->information[1] == (u64)(NOWHERE + 1);
}

APART int guarded_filter(u32 unused) {
    int wants = CONTINUE_SEARCH;
    __try { wants = (int)read_word(NOWHERE + 1); } __except (HostNote(10), EXECUTE_HANDLER) { HostNote(11); wants = EXECUTE_HANDLER; }
    return wants;
}

/* A filter with a __try of its own. */
TEST u64 filter_may_have_blocks_itself(u64 unused) {
    u32 result = UNHANDLED;
    __try { result = read_word(NOWHERE); } __except (guarded_filter(CODE)) { HostNote(12); result = 2; }
    return result;
}

/* The exception of a filter is shown to the blocks around, marked as nested. */
TEST u64 nested_exception_is_marked(u64 unused) {
    u32 result = UNHANDLED;
    faults_left = 1;
    __try {
        __try { result = read_word(NOWHERE); } __except (CODE == 0 ? 1 : faulty_filter(1) * 0) { result = 1; }
    } __except (nested_flag(POINTERS)) { result = 2; }
    return result;
}

TEST u64 many_exceptions(u64 count) {
    u64 caught = 0;
    for (u64 turn = 0; turn < count; turn++) caught += caught_in_the_same_frame((u64)NOWHERE) == ACCESS_VIOLATION;
    return caught;
}

TEST u64 unhandled_read(u64 address) { return read_deep((volatile u32 *)address, 3); }

APART u32 wanted_elsewhere(volatile u32 *word) {
    u32 result;
    __try { result = read_word(word); } __finally { HostNote(77); }
    return result;
}

/* Nobody wants it: then nothing is unwound either. */
TEST u64 unhandled_with_finally(u64 address) {
    u32 result = UNHANDLED;
    __try { result = wanted_elsewhere((volatile u32 *)address); } __except (CONTINUE_SEARCH) { result = 1; }
    return result;
}
