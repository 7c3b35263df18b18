/* Exceptions of the processor, and of instructions with a meaning on Windows. */
#include "kernel.h"

#define CAUGHT(...) \
    u64 result = UNHANDLED; \
    __try { __VA_ARGS__; } __except (EXECUTE_HANDLER) { result = CODE; } \
    return result

static volatile u32 zero;

TEST u64 divide_by_zero(u64 unused) { CAUGHT(result = 10 / zero); }
TEST u64 breakpoint(u64 unused) { CAUGHT(__asm__ volatile("int3")); }
TEST u64 assertion(u64 unused) { CAUGHT(__asm__ volatile("int $0x2C")); }
TEST u64 debug_service(u64 unused) { CAUGHT(__asm__ volatile("int $0x2D; nop")); }
TEST u64 no_such_instruction(u64 unused) { CAUGHT(__asm__ volatile("ud2")); }
TEST u64 write_to_control_register(u64 unused) { CAUGHT(__asm__ volatile("movq %%rax, %%cr3" ::: "memory")); }
TEST u64 read_of_model_specific_register(u64 unused) {
    CAUGHT(u32 low; u32 high; __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0x1B)); result = low);
}
TEST u64 fast_fail(u64 code) {
    CAUGHT(__asm__ volatile("int $0x29" :: "c"((u32)code)));
}
TEST u64 unaligned_vector(u64 unused) {
    static u8 bytes[64] __attribute__((aligned(16)));
    CAUGHT(__asm__ volatile("movaps %0, %%xmm0" :: "m"(bytes[1]) : "xmm0"));
}
TEST u64 no_pointer_at_all(u64 address) { CAUGHT(result = *(volatile u32 *)address); }
TEST u64 trap_flag(u64 unused) {
    CAUGHT(__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop" ::: "memory", "cc"));
}

/* Whatever is misaligned after this, in the driver, the host and the handlers of faults. */
TEST u64 alignment_check_flag(u64 unused) {
    static u8 bytes[72], copy[72];
    u64 result = UNHANDLED;
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq" ::: "memory", "cc");
    __try { result = 10 / zero; } __except (EXECUTE_HANDLER) { result = CODE; }
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq" ::: "memory", "cc");
    HostCopy(copy + 1, bytes + 1, 64);
    __asm__ volatile("pushfq; orq $0x40000, (%%rsp); popfq" ::: "memory", "cc");
    *(volatile u32 *)(bytes + 1) = 7;
    __asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
    return result + bytes[1];
}

static u64 floating(u32 mask) {
    u32 control = 0x1F80 & ~mask, normal = 0x1F80;
    volatile double one = 1, none = 0, large = 1e300;
    u64 result = UNHANDLED;
    __try {
        __asm__ volatile("ldmxcsr %0" :: "m"(control));
        one = mask == 0x200 ? one / none : large * large;
        result = (u64)one;
    } __except (EXECUTE_HANDLER) { result = CODE; }
    __asm__ volatile("ldmxcsr %0" :: "m"(normal));
    return result;
}

TEST u64 floating_divide_by_zero(u64 unused) { return floating(0x200); }

TEST u64 execution_goes_on_behind_a_breakpoint(u64 unused) {
    u64 result = 1;
    __try { __asm__ volatile("int3"); result = 2; } __except (POINTERS->context->rip++, CONTINUE_EXECUTION) { result = 3; }
    return result;
}

typedef u64 FUNCTION(void);

TEST u64 call_of_nothing(u64 address) {
    FUNCTION *volatile function = (FUNCTION *)address;
    CAUGHT(result = function());
}

TEST u64 write_to_own_code(u64 unused) { CAUGHT(*(volatile u8 *)&divide_by_zero = 0x90); }

static u8 data[16] = { 0xC3 };
TEST u64 execute_own_data(u64 unused) { CAUGHT(result = ((FUNCTION *)data)()); }

TEST u64 read_at_dispatch_level(u64 address) {
    HostSetIrql(2);
    CAUGHT(result = *(volatile u32 *)address);
}

TEST u64 divide_at_dispatch_level(u64 unused) {
    HostSetIrql(2);
    u64 result = UNHANDLED;
    __try { result = 10 / zero; } __except (EXECUTE_HANDLER) { result = CODE; }
    HostSetIrql(0);
    return result;
}

APART u64 deeper(u64 depth) {
    volatile u8 room[512];
    room[depth & 511] = 1;
    return deeper(depth + 1) + room[depth & 511];
}

TEST u64 stack_overflow(u64 unused) { CAUGHT(result = deeper(0)); }

TEST u64 lost_stack_pointer(u64 unused) {
    CAUGHT(__asm__ volatile("movq $0x5000, %%rsp; movq %%rax, (%%rcx)" :: "c"(0x6000ull) : "memory"));
}

APART u64 dive(u64 left) {
    volatile u8 room[256];
    room[left & 255] = 1;
    if (HostStackLeft() > left) return dive(left) + room[left & 255];
    KeBugCheckEx(0xE2, 1, 2, 3, 4);
    return room[left & 255];
}

/* So little stack is left that whoever looks at it runs out of it. */
TEST u64 bugcheck_near_the_end_of_the_stack(u64 left) { return dive(left); }
