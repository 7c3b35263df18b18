/*
 * Lets exceptions of completion routines pass the transport while it ends what is pending, and prints what else was completed.
 */
#include "kernel.h"

IMPORT void ExRaiseStatus(i32 status);
IMPORT u8 *IoAllocateIrp(u8 locations, u8 quota);
IMPORT u8 *IoAllocateMdl(void *buffer, u32 bytes, u8 secondary, u8 quota, void *irp);
IMPORT u8 *IoBuildDeviceIoControlRequest(u32 control, void *device, void *in, u32 in_bytes, void *out, u32 out_bytes, u8 internal,
                                         void *event, void *status);
IMPORT i32 IoAttachDevice(u8 *source, UNICODE_STRING *target, u8 **attached);
IMPORT i32 IoCreateDevice(void *driver, u32 extension, UNICODE_STRING *name, u32 type, u32 flags, u8 exclusive, u8 **device);
IMPORT void IoDetachDevice(u8 *attached);
IMPORT void IoFreeIrp(u8 *irp);
IMPORT u8 IoCancelIrp(u8 *irp);
IMPORT void IoFreeMdl(u8 *mdl);
IMPORT void *IoGetRelatedDeviceObject(void *file);
IMPORT i32 IofCallDriver(void *device, u8 *irp);
IMPORT void KeInitializeEvent(void *event, u32 type, u8 signalled);
IMPORT long long KeReadStateEvent(void *event);
IMPORT void KeStallExecutionProcessor(u32 microseconds);
IMPORT i32 KeWaitForSingleObject(void *object, u32 reason, u8 mode, u8 alertable, long long *timeout);
IMPORT void MmBuildMdlForNonPagedPool(u8 *mdl);
IMPORT i32 ObReferenceObjectByHandle(void *handle, u32 access, void *type, u8 mode, void **object, void *information);
IMPORT i32 PsCreateSystemThread(void **handle, u32 access, void *attributes, void *process, void *client, void *start, void *context);
IMPORT i32 ZwCreateFile(void **handle, u32 access, OBJECT_ATTRIBUTES *attributes, void *status, void *bytes, u32 file_attributes,
                        u32 share, u32 disposition, u32 options, void *ea, u32 ea_bytes);

enum { MORE_PROCESSING_REQUIRED = (i32)0xC0000016, PENDING = 0x103 };
enum { CASE_INSENSITIVE = 0x40, KERNEL_HANDLE = 0x200, READ_AND_WRITE = (i32)0xC0000000, OPEN = 1 };
enum { INTERNAL_DEVICE_CONTROL = 15, ASSOCIATE = 1, LISTEN = 4, DISCONNECT = 6, RECEIVE_DATAGRAM = 10, WAIT = 1 };
/* Offsets in the driver object, the IRP and its stack locations. */
enum { UNLOAD = 0x68, MAJOR_FUNCTION = 0x70, IRP_MDL = 8, IRP_PENDING_RETURNED = 0x41, IRP_STACK = 0xB8, LOCATION = 0x48, ON_EVERYTHING = 0xE0 };
enum { LOCATION_MINOR = 1, LOCATION_CONTROL = 3, PARAMETERS = 8, LOCATION_FILE = 0x30, LOCATION_ROUTINE = 0x38, LOCATION_CONTEXT = 0x40 };

typedef struct {
    void *handle, *file;
} FILE;

/* What the completion routine is to do. */
typedef enum { RAISES, KEEPS, RETURNS, STAYS } WAY;

static u32 code;
static volatile u32 completed, is_inside, has_raised;
static u8 buffer[16];

static i32 on_end(void *device, u8 *irp, void *way) {
    (void)device, (void)irp;
    completed++;
    if ((u64)way == RAISES) {
        has_raised = 1;
        ExRaiseStatus((i32)(0xE0000000 + completed));
    }
    if ((u64)way == STAYS) {
        is_inside = 1;
        while (!has_raised) KeStallExecutionProcessor(10);
        /* Until the closing thread waits for this routine, if it is not very slow. */
        KeStallExecutionProcessor(50000);
        completed++;
    }
    return (u64)way != RETURNS ? MORE_PROCESSING_REQUIRED : 0;
}

static i32 open(u16 *device, u32 bytes, const char *name, u8 name_bytes, const void *value, u16 value_bytes, FILE *file) {
    UNICODE_STRING text = {(u16)(bytes - 2), (u16)bytes, device};
    OBJECT_ATTRIBUTES attributes = {sizeof attributes, 0, &text, CASE_INSENSITIVE | KERNEL_HANDLE, 0, 0};
    u64 status[2];
    u8 ea[64] = {0};
    u32 i;
    ea[5] = name_bytes;
    *(u16 *)(ea + 6) = value_bytes;
    for (i = 0; i < name_bytes; i++) ea[8 + i] = (u8)name[i];
    for (i = 0; i < value_bytes; i++) ea[9 + name_bytes + i] = ((const u8 *)value)[i];
    i32 opened = ZwCreateFile(&file->handle, (u32)READ_AND_WRITE, &attributes, status, 0, 0, 0, OPEN, 0, ea, 9u + name_bytes + value_bytes);
    return opened < 0 ? opened : ObReferenceObjectByHandle(file->handle, 0, 0, 0, &file->file, 0);
}

/* An address of any interface and port. */
static i32 open_address(u16 *device, u32 bytes, FILE *file) {
    static const u8 any[22] = {1, 0, 0, 0, 14, 0, 2, 0};
    return open(device, bytes, "TransportAddress", 16, any, sizeof any, file);
}

static u8 *next_of(u8 *irp) { return *(u8 **)(irp + IRP_STACK) - LOCATION; }

/* Sends a request whose completion routine goes that way. */
static i32 send(u8 *irp, FILE *to, u8 minor, u64 first, WAY way) {
    u8 *next = next_of(irp);
    next[0] = INTERNAL_DEVICE_CONTROL;
    next[LOCATION_MINOR] = minor;
    next[LOCATION_CONTROL] = ON_EVERYTHING;
    *(u64 *)(next + PARAMETERS) = first;
    *(void **)(next + LOCATION_FILE) = to->file;
    *(void **)(next + LOCATION_ROUTINE) = on_end;
    *(u64 *)(next + LOCATION_CONTEXT) = way;
    return IofCallDriver(IoGetRelatedDeviceObject(to->file), irp);
}

static u8 *pend(FILE *on, u8 minor, u64 first, WAY way) {
    u8 *irp = IoAllocateIrp(2, 0);
    i32 status = send(irp, on, minor, first, way);
    if (status != PENDING) DbgPrint("transport: request %u is not pending but %x\n", minor, status);
    return irp;
}

/* Closes the file, and tells whether the exception came and how many requests were completed. */
static void close(const char *what, FILE *file) {
    __try {
        ZwClose(file->handle);
        code = 0;
    } __except (1) {
        code = (u32)_exception_code();
    }
    DbgPrint("transport: %s raised %x, completed %u at level %u\n", what, code, completed, KeGetCurrentIrql());
    ObfDereferenceObject(file->file);
    completed = 0;
}

/* A datagram address with three receives, the last of which is the I/O manager's to end. */
static void try_datagrams(WAY second) {
    static u16 udp[] = u"\\Device\\Udp";
    u64 event[3], status[2] = {0};
    FILE address;
    u8 *irps[2], *mdls[3];
    u32 i;
    if (open_address(udp, sizeof udp, &address) < 0) return;
    for (i = 0; i < 3; i++) MmBuildMdlForNonPagedPool(mdls[i] = IoAllocateMdl(buffer, sizeof buffer, 0, 0, 0));
    for (i = 0; i < 2; i++) {
        irps[i] = IoAllocateIrp(2, 0);
        *(u8 **)(irps[i] + IRP_MDL) = mdls[i];
        send(irps[i], &address, RECEIVE_DATAGRAM, sizeof buffer, i ? second : RAISES);
    }
    KeInitializeEvent(event, 0, 0);
    u8 *last = IoBuildDeviceIoControlRequest(3, IoGetRelatedDeviceObject(address.file), 0, 0, 0, 0, 1, event, status);
    *(u8 **)(last + IRP_MDL) = mdls[2];
    send(last, &address, RECEIVE_DATAGRAM, sizeof buffer, RETURNS);
    close("datagrams", &address);
    DbgPrint("transport: last %u with %x\n", (u32)KeReadStateEvent(event), (u32)status[0]);
    for (i = 0; i < 2; i++) {
        IoFreeIrp(irps[i]);
        IoFreeMdl(mdls[i]);
    }
}

static void open_endpoint(FILE *endpoint, FILE *address) {
    static u16 tcp[] = u"\\Device\\Tcp";
    u64 context = 0;
    if (open(tcp, sizeof tcp, "ConnectionContext", 17, &context, sizeof context, endpoint) < 0) return;
    u8 *irp = IoAllocateIrp(2, 0);
    send(irp, endpoint, ASSOCIATE, (u64)address->handle, KEEPS);
    IoFreeIrp(irp);
    completed = 0;
}

/* An endpoint with a TDI_LISTEN and a TDI_DISCONNECT that waits; then an address with two endpoints that listen. */
static void try_connections(void) {
    static u16 tcp[] = u"\\Device\\Tcp";
    FILE address, one, two;
    u8 *irps[4];
    u32 i;
    if (open_address(tcp, sizeof tcp, &address) < 0) return;
    open_endpoint(&one, &address);
    irps[0] = pend(&one, LISTEN, 0, RAISES);
    irps[1] = pend(&one, DISCONNECT, WAIT, KEEPS);
    close("endpoint", &one);
    open_endpoint(&one, &address);
    open_endpoint(&two, &address);
    irps[2] = pend(&one, LISTEN, 0, RAISES);
    irps[3] = pend(&two, LISTEN, 0, KEEPS);
    close("address", &address);
    for (i = 0; i < 4; i++) IoFreeIrp(irps[i]);
    close("first of two", &one);
    close("second of two", &two);
}

static void cancel(void *irp) { IoCancelIrp(irp); }

/* The CLEANUP of an address waits for a completion routine on another thread while one has raised on this. */
static void try_waiting(const char *what) {
    static u16 tcp[] = u"\\Device\\Tcp";
    FILE address, one, two;
    void *handle, *thread;
    if (open_address(tcp, sizeof tcp, &address) < 0) return;
    open_endpoint(&one, &address);
    open_endpoint(&two, &address);
    u8 *stays = pend(&one, LISTEN, 0, STAYS), *raises = pend(&two, LISTEN, 0, RAISES);
    has_raised = 0;
    if (PsCreateSystemThread(&handle, 0x1FFFFF, 0, 0, 0, cancel, stays) < 0) return;
    if (ObReferenceObjectByHandle(handle, 0x100000, 0, 0, &thread, 0) < 0) return;
    ZwClose(handle);
    while (!is_inside) KeStallExecutionProcessor(10);
    close(what, &address);
    KeWaitForSingleObject(thread, 0, 0, 0, 0);
    is_inside = 0;
    completed = 0;
    ObfDereferenceObject(thread);
    IoFreeIrp(stays);
    IoFreeIrp(raises);
    close("waiting's first", &one);
    close("waiting's second", &two);
}

/* A filter above the transport, through whose dispatch routine the exception passes, too. */
static u8 *filter, *lower;

static i32 on_filtered(void *device, u8 *irp, void *context) {
    (void)device, (void)context;
    /* As IoMarkIrpPending does. */
    if (irp[IRP_PENDING_RETURNED]) (*(u8 **)(irp + IRP_STACK))[LOCATION_CONTROL] |= 1;
    return 0;
}

static i32 filter_request(void *device, u8 *irp) {
    u8 *here = *(u8 **)(irp + IRP_STACK), *next = here - LOCATION;
    u32 i;
    (void)device;
    for (i = 0; i < LOCATION_ROUTINE; i++) next[i] = here[i];
    next[LOCATION_CONTROL] = ON_EVERYTHING;
    *(void **)(next + LOCATION_ROUTINE) = on_filtered;
    return IofCallDriver(lower, irp);
}

static u8 attach(void *driver, u16 *device, u32 bytes) {
    UNICODE_STRING name = {(u16)(bytes - 2), (u16)bytes, device};
    return IoCreateDevice(driver, 0, 0, 0x12, 0, 0, &filter) >= 0 && IoAttachDevice(filter, &name, &lower) >= 0;
}

static void detach(void) {
    IoDetachDevice(lower);
    IoDeleteDevice(filter);
}

static void try_below_filter(void *driver) {
    static u16 udp[] = u"\\Device\\Udp", tcp[] = u"\\Device\\Tcp";
    if (!attach(driver, udp, sizeof udp)) return;
    try_datagrams(KEEPS);
    detach();
    if (!attach(driver, tcp, sizeof tcp)) return;
    try_waiting("filtered");
    detach();
}

static void unload(void *driver) {
    (void)driver;
    DbgPrint("transport: unloaded\n");
}

i32 DriverEntry(u8 *driver, void *path) {
    u32 i;
    (void)path;
    *(void **)(driver + UNLOAD) = unload;
    for (i = 0; i < 28; i++) *(void **)(driver + MAJOR_FUNCTION + 8 * i) = filter_request;
    try_datagrams(KEEPS);
    try_datagrams(RAISES);
    try_below_filter(driver);
    try_connections();
    try_waiting("waiting");
    return 0;
}
