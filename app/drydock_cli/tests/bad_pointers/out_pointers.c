/*
 * Calls what opens, registers or makes something with good arguments and a bad place for the result, twice each, inside a __try. Nothing
 * may be left of it: the names are free afterwards, the files are closed, and the driver unloads.
 */
#include "kernel.h"

typedef struct {
    u64 status, information;
} IO_STATUS_BLOCK;

typedef struct {
    u8 major, minor;
    u16 unused;
    void *name, *power, *bind, *unbind, *add, *remove;
} TDI_CLIENT;

IMPORT void ExQueueWorkItem(void *item, u32 queue);
IMPORT i32 ExCreateCallback(void *callback, OBJECT_ATTRIBUTES *attributes, u8 create, u8 multiple);
IMPORT i32 ExInitializeResourceLite(void *resource);
IMPORT void *IoAllocateIrp(u8 locations, u8 quota);
IMPORT i32 IoAttachDevice(void *device, UNICODE_STRING *name, void *below);
IMPORT i32 IoAttachDeviceToDeviceStackSafe(void *device, void *target, void *below);
IMPORT void *IoBuildDeviceIoControlRequest(u32 code, void *device, void *in, u32 in_bytes, void *out, u32 out_bytes, u8 internal, void *event, void *iosb);
IMPORT i32 IoCreateDevice(void *driver, u32 bytes, UNICODE_STRING *name, u32 type, u32 flags, u8 exclusive, void *device);
IMPORT void *IoCreateNotificationEvent(UNICODE_STRING *name, void *handle);
IMPORT i32 IoEnumerateDeviceObjectList(void *driver, void *list, u32 bytes, u32 *count);
IMPORT void IoFreeIrp(void *irp);
IMPORT i32 IoGetDeviceObjectPointer(UNICODE_STRING *name, u32 access, void *file, void *device);
IMPORT i32 IoRegisterPlugPlayNotification(u32 category, u32 flags, void *data, void *driver, void *routine, void *context, void *entry);
IMPORT i32 IofCallDriver(void *device, void *irp);
IMPORT void IofCompleteRequest(void *irp, u8 boost);
IMPORT i32 ObOpenObjectByPointer(void *object, u32 attributes, void *state, u32 access, void *type, u32 mode, void *handle);
IMPORT i32 ObReferenceObjectByHandle(void *handle, u32 access, void *type, u32 mode, void *object, void *information);
IMPORT i32 ObReferenceObjectByName(UNICODE_STRING *name, u32 attributes, void *state, u32 access, void *type, u32 mode, void *parse, void *object);
IMPORT i32 PsCreateSystemThread(void *handle, u32 access, void *attributes, void *process, void *id, void *routine, void *context);
IMPORT void *PsGetCurrentThreadId(void);
IMPORT i32 PsLookupProcessByProcessId(void *id, void *process);
IMPORT i32 PsLookupThreadByThreadId(void *id, void *thread);
IMPORT i32 RtlDuplicateUnicodeString(u32 flags, UNICODE_STRING *from, void *to);
IMPORT i32 RtlUpcaseUnicodeString(void *to, UNICODE_STRING *from, u8 allocate);
IMPORT i32 ZwCreateEvent(void *handle, u32 access, OBJECT_ATTRIBUTES *attributes, u32 kind, u8 state);
IMPORT i32 ZwCreateFile(void *handle, u32 access, OBJECT_ATTRIBUTES *attributes, void *iosb, void *size, u32 file, u32 share, u32 how, u32 options, void *ea, u32 bytes);
IMPORT i32 ZwCreateSection(void *handle, u32 access, OBJECT_ATTRIBUTES *attributes, u64 *size, u32 protection, u32 kind, void *file);
IMPORT i32 ZwCreateTimer(void *handle, u32 access, OBJECT_ATTRIBUTES *attributes, u32 kind);
IMPORT i32 ZwOpenEvent(void *handle, u32 access, OBJECT_ATTRIBUTES *attributes);
IMPORT i32 ZwOpenKey(void *handle, u32 access, OBJECT_ATTRIBUTES *attributes);
IMPORT i32 ZwQueryInformationFile(void *file, void *iosb, void *into, u32 bytes, u32 kind);
IMPORT i32 ZwReadFile(void *file, void *event, void *apc, void *context, void *iosb, void *into, u32 bytes, u64 *at, void *key);
IMPORT i32 TdiRegisterAddressChangeHandler(void *add, void *remove, void *handle);
IMPORT i32 TdiRegisterDeviceObject(UNICODE_STRING *name, void *handle);
IMPORT i32 TdiRegisterNotificationHandler(void *bind, void *unbind, void *handle);
IMPORT i32 TdiRegisterPnPHandlers(TDI_CLIENT *client, u32 bytes, void *handle);
IMPORT i32 TdiRegisterProvider(UNICODE_STRING *name, void *handle);

enum { ACCESS_VIOLATION = (i32)0xC0000005, UNSUCCESSFUL = (i32)0xC0000001, PENDING = 0x103 };
enum { KERNEL_HANDLE = 0x200, CASE_INSENSITIVE = 0x40, SYNCHRONOUS = 0x20, GENERIC_READ = 0x80100000, ALL_EVENT = 0x1F0003 };
enum { CREATE = 0, CLOSE = 2, READ = 3, FUNCTIONS = 28 };

#define BAD ((void *)0x10)
#define NAME(of, of_text) \
    static u16 of##_text[] = of_text; \
    static UNICODE_STRING of = {sizeof of##_text - 2, sizeof of##_text, of##_text}
NAME(device_name, u"\\Device\\OutPointers");
NAME(other_name, u"\\Device\\OutPointers2");
NAME(event_name, u"\\BaseNamedObjects\\OutPointersEvent");
NAME(timer_name, u"\\BaseNamedObjects\\OutPointersTimer");
NAME(callback_name, u"\\Callback\\OutPointers");
NAME(key_name, u"\\Registry\\Machine\\System");

static void *device, *held;
static i32 opens, closes, wrong;

/* The exception, or a status that says the same. */
#define REFUSES(what) \
    do { \
        for (i32 times = 0; times < 2; times++) { \
            i32 came = 0; \
            __try { \
                came = (i32)(what); \
            } __except (1) { \
                came = (i32)_exception_code(); \
            } \
            if (came != ACCESS_VIOLATION) { \
                wrong++; \
                DbgPrint("out_pointers: %08x from " #what "\n", came); \
            } \
        } \
    } while (0)

#define SUCCEEDS(what) \
    do { \
        i32 came = (what); \
        if (came != 0) { \
            wrong++; \
            DbgPrint("out_pointers: %08x afterwards from " #what "\n", came); \
        } \
    } while (0)

static i32 dispatch(void *of, u8 *irp) {
    (void)of;
    /* Of the stack location and its packet: MajorFunction, Control, IoStatus. */
    u8 *location = *(u8 **)(irp + 0xB8);
    if (location[0] == CREATE) opens++;
    if (location[0] == CLOSE) closes++;
    if (location[0] > READ && location[0] != 0x12 && held == 0) {
        location[3] |= 1;
        held = irp;
        return PENDING;
    }
    *(i32 *)(irp + 0x30) = 0;
    *(u64 *)(irp + 0x38) = 0;
    IofCompleteRequest(irp, 0);
    return 0;
}

static void routine(void *context) {
    (void)context;
}

static void open_files(OBJECT_ATTRIBUTES *of_device, IO_STATUS_BLOCK *iosb) {
    void *file = 0, *other;
    u64 buffer, at = 0;
    REFUSES(ZwCreateFile(BAD, GENERIC_READ, of_device, iosb, 0, 0x80, 3, 1, SYNCHRONOUS, 0, 0));
    REFUSES(ZwCreateFile(&file, GENERIC_READ, of_device, BAD, 0, 0x80, 3, 1, SYNCHRONOUS, 0, 0));
    REFUSES(IoGetDeviceObjectPointer(&device_name, 0x80, BAD, &other));
    REFUSES(IoGetDeviceObjectPointer(&device_name, 0x80, &other, BAD));
    SUCCEEDS(ZwCreateFile(&file, GENERIC_READ, of_device, iosb, 0, 0x80, 3, 1, SYNCHRONOUS, 0, 0));
    REFUSES(ZwReadFile(file, 0, 0, 0, BAD, &buffer, 8, &at, 0));
    REFUSES(ObReferenceObjectByHandle(file, 0, 0, 0, BAD, 0));
    REFUSES(ObReferenceObjectByHandle(file, 0, 0, 0, &other, BAD));
    SUCCEEDS(ZwClose(file));
    if (opens != 1 || closes != 1) {
        wrong++;
        DbgPrint("out_pointers: %d opens, %d closes\n", opens, closes);
    }
}

/* Who completes it has no part in what its sender gave. */
static void complete_what_another_sent(void) {
    void *irp = IoBuildDeviceIoControlRequest(0x220003, device, 0, 0, 0, 0, 0, BAD, BAD);
    held = 0;
    if (IofCallDriver(device, irp) != PENDING) wrong++;
    *(i32 *)((u8 *)held + 0x30) = 0;
    __try {
        IofCompleteRequest(held, 0);
    } __except (1) {
        wrong++;
    }
}

static void register_with_tdi(void) {
    TDI_CLIENT client = {2, 0, 0, 0, 0, routine, routine, routine, routine};
    REFUSES(TdiRegisterPnPHandlers(&client, sizeof client, BAD));
    REFUSES(TdiRegisterNotificationHandler(routine, routine, BAD));
    REFUSES(TdiRegisterAddressChangeHandler(routine, routine, BAD));
    REFUSES(TdiRegisterDeviceObject(&device_name, BAD));
    REFUSES(TdiRegisterProvider(&device_name, BAD));
}

static void make_devices(void *driver) {
    void *other, *list[8];
    u32 count;
    REFUSES(IoCreateDevice(driver, 0, &other_name, 0x22, 0, 0, BAD));
    REFUSES(IoCreateDevice(BAD, 0, &other_name, 0x22, 0, 0, &other));
    SUCCEEDS(IoCreateDevice(driver, 0, &other_name, 0x22, 0, 0, &other));
    REFUSES(IoAttachDevice(other, &device_name, BAD));
    REFUSES(IoAttachDeviceToDeviceStackSafe(other, device, BAD));
    REFUSES(IoEnumerateDeviceObjectList(driver, BAD, sizeof list, &count));
    IoDeleteDevice(other);
}

static void send_to_none(void) {
    static const u64 none[] = {0, 1, 7, 0x10, 0xFF, 0xFFFF, 0x7FFFFFFF, ~0ull};
    void *irp = IoAllocateIrp(1, 0);
    for (u32 i = 0; i < sizeof none / sizeof *none; i++) REFUSES(IofCallDriver((void *)none[i], irp));
    IoFreeIrp(irp);
}

static void unload(void *driver) {
    (void)driver;
    IoDeleteDevice(device);
}

i32 DriverEntry(u8 *driver, UNICODE_STRING *path) {
    OBJECT_ATTRIBUTES of_device = {sizeof of_device, 0, &device_name, KERNEL_HANDLE | CASE_INSENSITIVE, 0, 0};
    OBJECT_ATTRIBUTES of_event = of_device, of_timer = of_device, of_callback = of_device, of_key = of_device;
    IO_STATUS_BLOCK iosb;
    void *event, *timer;
    u64 bytes = 4096;
    (void)path;
    of_event.name = &event_name;
    of_timer.name = &timer_name;
    of_callback.name = &callback_name;
    of_key.name = &key_name;
    /* DRIVER_OBJECT.DriverUnload and MajorFunction; the device's flags, without DO_DEVICE_INITIALIZING. */
    *(void **)(driver + 0x68) = unload;
    for (u32 i = 0; i < FUNCTIONS; i++) *(void **)(driver + 0x70 + 8 * i) = dispatch;
    i32 status = IoCreateDevice(driver, 0, &device_name, 0x22, 0, 0, &device);
    if (status < 0) return status;
    *(u32 *)((u8 *)device + 0x30) &= ~0x80u;

    REFUSES((ExQueueWorkItem(BAD, 1), 0));
    REFUSES(ExInitializeResourceLite(BAD));
    make_devices(driver);
    open_files(&of_device, &iosb);
    REFUSES(ZwCreateEvent(BAD, ALL_EVENT, &of_event, 0, 0));
    REFUSES((u64)IoCreateNotificationEvent(&event_name, BAD));
    SUCCEEDS(ZwCreateEvent(&event, ALL_EVENT, &of_event, 0, 0));
    REFUSES(ZwOpenEvent(BAD, ALL_EVENT, &of_event));
    SUCCEEDS(ZwClose(event));
    REFUSES(ZwCreateTimer(BAD, ALL_EVENT, &of_timer, 0));
    SUCCEEDS(ZwCreateTimer(&timer, ALL_EVENT, &of_timer, 0));
    SUCCEEDS(ZwClose(timer));
    REFUSES(ZwCreateSection(BAD, 0xF001F, 0, &bytes, 4, 0x8000000, 0));
    REFUSES(ZwOpenKey(BAD, 0x20019, &of_key));
    REFUSES(ExCreateCallback(BAD, &of_callback, 1, 1));
    REFUSES(ObOpenObjectByPointer(device, KERNEL_HANDLE, 0, 0, 0, 0, BAD));
    REFUSES(ObReferenceObjectByName(&device_name, CASE_INSENSITIVE, 0, 0, 0, 0, 0, BAD));
    REFUSES(PsCreateSystemThread(BAD, 0x1FFFFF, 0, 0, 0, routine, 0));
    REFUSES(PsLookupProcessByProcessId((void *)4, BAD));
    REFUSES(PsLookupThreadByThreadId(PsGetCurrentThreadId(), BAD));
    REFUSES(IoRegisterPlugPlayNotification(1, 0, 0, driver, routine, 0, BAD));
    REFUSES(RtlDuplicateUnicodeString(1, &device_name, BAD));
    REFUSES(RtlUpcaseUnicodeString(BAD, &device_name, 1));
    register_with_tdi();
    send_to_none();
    complete_what_another_sent();
    if (wrong != 0) return UNSUCCESSFUL;
    DbgPrint("out_pointers: nothing is left\n");
    return 0;
}
