/* The few declarations that these drivers need: the kernel's headers that mingw-w64 brings do not parse for the msvc target. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define IMPORT __declspec(dllimport)
#define TEST __declspec(dllexport) __declspec(noinline)
#define APART __declspec(noinline) static

typedef struct {
    i32 code;
    u32 flags;
    void *record;
    void *address;
    u32 parameters;
    u64 information[15];
} EXCEPTION_RECORD;

typedef struct {
    u64 home[6];
    u32 context_flags, mx_csr;
    u16 segments[6];
    u32 eflags;
    u64 debug[6];
    u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rip;
    u8 rest[0x4D0 - 0x100];
} __attribute__((aligned(16))) CONTEXT;

typedef struct {
    EXCEPTION_RECORD *record;
    CONTEXT *context;
} EXCEPTION_POINTERS;

_Static_assert(sizeof(EXCEPTION_RECORD) == 0x98 && sizeof(CONTEXT) == 0x4D0, "x64 layouts");

unsigned long _exception_code(void);
void *_exception_info(void);
int _abnormal_termination(void);

#define CODE ((u32)_exception_code())
#define POINTERS ((EXCEPTION_POINTERS *)_exception_info())
enum { CONTINUE_EXECUTION = -1, CONTINUE_SEARCH = 0, EXECUTE_HANDLER = 1 };

#define ACCESS_VIOLATION 0xC0000005u
#define NO_MEMORY 0xC0000017u
#define UNHANDLED 0xDEADu

IMPORT void ExRaiseStatus(u32 status);
IMPORT void ExRaiseAccessViolation(void);
IMPORT void ExRaiseDatatypeMisalignment(void);
IMPORT void RtlRaiseException(EXCEPTION_RECORD *record);
IMPORT void ProbeForRead(const volatile void *address, u64 length, u32 alignment);
IMPORT void ProbeForWrite(volatile void *address, u64 length, u32 alignment);
IMPORT void RtlUnwindEx(void *frame, void *ip, EXCEPTION_RECORD *record, void *value, CONTEXT *context, void *history);
IMPORT void RtlUnwind(void *frame, void *ip, EXCEPTION_RECORD *record, void *value);
IMPORT void *RtlLookupFunctionEntry(u64 pc, u64 *base, void *history);
IMPORT void *RtlVirtualUnwind(u32 type, u64 base, u64 pc, void *function, CONTEXT *context, void **data, u64 *frame, void *pointers);
IMPORT void RtlCaptureContext(CONTEXT *context);
IMPORT void RtlRestoreContext(CONTEXT *context, EXCEPTION_RECORD *record);
IMPORT u16 RtlCaptureStackBackTrace(u32 skip, u32 count, void **frames, u32 *hash);
IMPORT void *RtlPcToFileHeader(void *pc, void **base);
IMPORT void RtlGetCallersAddress(void **caller, void **its_caller);

typedef struct { u64 words[4]; } KSEMAPHORE;
IMPORT void KeInitializeSemaphore(KSEMAPHORE *semaphore, i32 count, i32 limit);
IMPORT i32 KeReleaseSemaphore(KSEMAPHORE *semaphore, i32 increment, i32 adjustment, u8 wait);
IMPORT i32 KeReadStateSemaphore(KSEMAPHORE *semaphore);

/* Routines that call back, and the tables they work on. */
typedef struct { u64 words[13]; } RTL_AVL_TABLE;
enum { LESS, GREATER, EQUAL };
IMPORT void RtlInitializeGenericTableAvl(RTL_AVL_TABLE *table, void *compare, void *allocate, void *free, void *context);
IMPORT void *RtlInsertElementGenericTableAvl(RTL_AVL_TABLE *table, void *element, u32 bytes, u8 *is_new);
IMPORT void *RtlLookupElementGenericTableAvl(RTL_AVL_TABLE *table, void *element);
IMPORT u8 RtlDeleteElementGenericTableAvl(RTL_AVL_TABLE *table, void *element);
IMPORT u32 RtlNumberGenericTableElementsAvl(RTL_AVL_TABLE *table);
IMPORT u32 RtlRunOnceExecuteOnce(u64 *once, void *routine, void *parameter, void **context);
IMPORT void qsort(void *base, u64 count, u64 width, int (*compare)(const void *, const void *));
IMPORT void *bsearch(const void *key, const void *base, u64 count, u64 width, int (*compare)(const void *, const void *));

/* What the test's host offers. */
typedef u64 ROUTINE(u64 context);
IMPORT u64 HostCall(ROUTINE *routine, u64 context);      /* calls the routine with a guard on the host's stack */
IMPORT u64 HostCallApart(ROUTINE *routine, u64 context); /* ... not on the caller's behalf */
IMPORT u64 HostCopy(void *to, const void *from, u64 length);
IMPORT u64 HostNote(u64 note);                           /* appends to the host's list */
IMPORT void HostSetIrql(u8 level);
IMPORT u32 HostPeek(volatile u32 *address);
IMPORT u32 HostPeekHolding(volatile u32 *address);
IMPORT u64 HostCallThenPeek(ROUTINE *routine, u64 context);
IMPORT u32 HostPeekInside(volatile u32 *address);
IMPORT u64 HostStackLeft(void);
IMPORT void KeBugCheckEx(u32 code, u64 a, u64 b, u64 c, u64 d);

/* Memory that cannot be accessed, below the system's half. */
#define NOWHERE ((volatile u32 *)0x5000)
/* The same, hidden from the compiler, which would put it into the instruction. */
static inline volatile u32 *nowhere(void) { volatile u32 *volatile word = NOWHERE; return word; }
