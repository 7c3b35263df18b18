/* Looking at the stack, and unwinding it by hand. */
#include "kernel.h"

static void *frames[16];
static u32 hash;

APART u64 capture(u64 skip) { return RtlCaptureStackBackTrace((u32)skip, 16, frames, &hash); }
TEST u64 captured_by_callback(u64 skip) { return capture(skip) + 0 * HostNote(0); }
TEST u64 capture_through_the_host(u64 skip) { return HostCall(captured_by_callback, skip) + 0 * HostNote(0); }
TEST u64 captured_frame(u64 index) { return (u64)frames[index]; }
TEST u64 captured_hash(u64 unused) { return hash; }

/* Unwinds by hand to the frame that called, and compares with what that frame knows of itself. */
APART u64 walk(u64 wanted_return, u64 *steps) {
    CONTEXT context;
    RtlCaptureContext(&context);
    for (*steps = 0; *steps < 10; ++*steps) {
        u64 base = 0, frame = 0;
        void *data = 0, *function = RtlLookupFunctionEntry(context.rip, &base, 0);
        if (!function) return 2;
        RtlVirtualUnwind(0, base, context.rip, function, &context, &data, &frame, 0);
        if (context.rip == wanted_return) return context.rsp;
    }
    return 3;
}

APART u64 between(u64 wanted, u64 *steps) {
    volatile u8 room[300];
    room[7] = 1;
    return walk(wanted, steps) + 0 * room[7];
}

TEST u64 walked_by_hand(u64 unused) {
    u64 steps = 0;
    u64 stack = between((u64)__builtin_return_address(0), &steps);
    u64 own = (u64)__builtin_frame_address(0);
    return steps == 2 && stack > own && stack - own < 0x1000;
}

TEST u64 handler_is_found_by_hand(u64 unused) {
    u64 base = 0, frame = 0, found = 0;
    __try {
        CONTEXT context;
        void *data = 0;
        RtlCaptureContext(&context);
        void *function = RtlLookupFunctionEntry(context.rip, &base, 0);
        void *handler = RtlVirtualUnwind(1, base, context.rip, function, &context, &data, &frame, 0);
        found = handler && (u64)handler > base && *(u32 *)data >= 1;
        HostNote(0);
    } __except (EXECUTE_HANDLER) { found = 2; }
    return found;
}

TEST u64 header_of_own_code(u64 unused) {
    void *base = 0;
    void *same = RtlPcToFileHeader((void *)&header_of_own_code, &base);
    void *none = RtlPcToFileHeader((void *)0x1000, &base);
    return base || none ? 1 : (u64)same;
}

APART u64 callers(void **caller, void **its_caller) { RtlGetCallersAddress(caller, its_caller); return HostNote(0); }

TEST u64 callers_address(u64 unused) {
    void *caller = 0, *its_caller = 0;
    callers(&caller, &its_caller);
    u64 own = (u64)&callers_address;
    return (u64)caller > own && (u64)caller - own < 0x100 && its_caller == 0;
}

/* RtlCaptureContext and RtlRestoreContext as setjmp and longjmp. */
static CONTEXT saved;

APART void jump_back(u64 depth) {
    volatile u8 room[100];
    room[depth] = 1;
    if (depth) jump_back(depth - 1);
    RtlRestoreContext(&saved, 0);
    room[depth] = 2;
}

TEST u64 restored(u64 depth) {
    static volatile u64 turns;
    turns = 0;
    RtlCaptureContext(&saved);
    turns++;
    if (turns < 3) jump_back(depth);
    return turns;
}

static u64 jump_over_the_host(u64 unused) { jump_back(0); return 1; }

TEST u64 restored_over_the_host(u64 unused) {
    RtlCaptureContext(&saved);
    return HostCall(jump_over_the_host, 0);
}

/* An unwinding whose target is no frame. */
TEST u64 unwound_to_nowhere(u64 frame) {
    __try { RtlUnwind((void *)frame, (void *)&unwound_to_nowhere, 0, 0); } __finally { HostNote(1); }
    return 1;
}

/* handlers.S */
extern u64 guarded_by_own_handler(u64 address);
extern u64 unwound_by_own_handler(u64 address);
extern u64 answered_nonsense(u64 address);
extern u64 version_2(u64 address);

static volatile u32 own_handler_calls;
u32 own_handler_called(EXCEPTION_RECORD *record) { own_handler_calls++; HostNote(record->flags); return 0; }

TEST u64 own_handler_calls_the_real_one(u64 address) { return guarded_by_own_handler(address); }
TEST u64 own_handler_unwinds(u64 address) { return unwound_by_own_handler(address); }
TEST u64 version_2_information(u64 address) {
    u64 result = UNHANDLED;
    __try { result = version_2(address); } __except (EXECUTE_HANDLER) { result = CODE; }
    return result;
}
TEST u64 handler_that_answers_nonsense(u64 address) {
    u64 result = UNHANDLED;
    __try { result = answered_nonsense(address); } __except (EXECUTE_HANDLER) { result = CODE; }
    return result;
}
